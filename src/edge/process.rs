//! What this process has taken of the machine so far, for reports only.

use rustix::time::{ClockId, clock_gettime};

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
    fn work_takes_processor_time_and_memory() {
        let before = cpu_secs();
        let sum: u64 = (0..20_000_000u64).fold(1, |sum, number| std::hint::black_box(sum ^ number));
        assert!(cpu_secs() > before, "{sum}");
        // A test binary takes at least a megabyte; where the system does not tell there is nothing to test.
        assert!(peak_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
