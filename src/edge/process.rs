//! What this process has taken of the machine so far, for reports only; and how much it may take.

use reelflow_api::error::StageError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Files that may be open at once if the system allows it; many tools start programs with 1024.
const FILES_WISHED: u64 = 4096;

/// Raises the limit on open files, where the system lets this process do so.
///
/// # Errors
/// If fewer than `needed` are allowed: media would be left out for want of a descriptor, and it would look as if
/// they were bad.
pub fn allow_files(needed: u64) -> Result<(), StageError> {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if allowed < needed {
        return Err(StageError::unavailable("run", too_few(needed, allowed)));
    }
    let wished = FILES_WISHED.max(needed).min(allowed);
    if limit.current.is_some_and(|current| current < wished) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wished), maximum: limit.maximum });
        let message =
            |error| StageError::unavailable("run", format!("{}: {error}", too_few(needed, allowed)));
        return raised.map_err(message);
    }
    Ok(())
}

fn too_few(needed: u64, allowed: u64) -> String {
    format!(
        "up to {needed} open files are needed, the system allows {allowed}; raise the limit (`ulimit -n {needed}`)"
    )
}

/// An empty vector with room for `count` elements.
///
/// # Panics
/// If memory has run out, with a message that says so: a run ends in words then (exit code 75), where the allocator
/// would end the process without any.
#[must_use]
pub fn room<T>(count: usize) -> Vec<T> {
    let mut empty = Vec::new();
    if empty.try_reserve_exact(count).is_err() {
        panic!("out of memory: {count} values of {} bytes", size_of::<T>());
    }
    empty
}

/// Processor time of all threads, living and ended, in user and system mode, in seconds.
#[must_use]
pub fn cpu_secs() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// The most memory that was resident at once, in bytes; `None` where the system does not tell.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_open_files_than_allowed_are_refused_with_both_numbers() {
        allow_files(1).unwrap();
        let Some(allowed) = getrlimit(Resource::Nofile).maximum else { return };
        let error = allow_files(allowed + 1).unwrap_err();
        assert_eq!(error.code, 69);
        assert!(error.message.contains(&format!("up to {} open files", allowed + 1)), "{error}");
        assert!(getrlimit(Resource::Nofile).current >= Some(FILES_WISHED.min(allowed)));
    }

    #[test]
    fn memory_that_is_not_there_is_said_so() {
        let panic = std::panic::catch_unwind(|| room::<u64>(usize::MAX / 16)).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().starts_with("out of memory: "));
        assert_eq!(room::<u8>(7).capacity(), 7);
    }

    #[test]
    fn work_takes_processor_time_and_memory() {
        let before = cpu_secs();
        let sum: u64 = (0..20_000_000u64).fold(1, |sum, number| std::hint::black_box(sum ^ number));
        assert!(cpu_secs() > before, "{sum}");
        // A test binary takes at least a megabyte; where the system does not tell there is nothing to test.
        assert!(peak_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
