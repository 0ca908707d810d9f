//! `reelflow doctor`: Says whether this machine has what reelflow needs.

use std::process::ExitCode;

use crate::edge::{files, threads};

/// Exit code if something is missing.
const EXIT_UNAVAILABLE: u8 = 69;

/// A decoder and its file, sockets, checkpoints: a worker has some ten files open at once.
const FILES_OPEN_MIN: u64 = 256;

/// Below this a small encoder with its batches does not fit.
const MEMORY_MIB_MIN: u64 = 1024;

/// Arguments of `reelflow doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
struct Check {
    name: String,
    is_ok: bool,
    found: String,
    /// What helps; empty if nothing is wrong or `found` says it.
    remedy: String,
}

impl Check {
    fn new(name: &str, is_ok: bool, found: impl Into<String>, remedy: &str) -> Self {
        let remedy = if is_ok { String::new() } else { remedy.to_owned() };
        Self { name: name.to_owned(), is_ok, found: found.into(), remedy }
    }
}

/// Runs the command: 0, or 69 if a needed thing is missing.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    let checks = checks();
    print!("{}", table(&checks));
    let missing = checks.iter().filter(|check| !check.is_ok).count();
    if missing == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: doctor: {missing} of {} checks failed (see the lines marked NO)", checks.len());
    ExitCode::from(EXIT_UNAVAILABLE)
}

fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check::new("reelflow", true, format!("{}, features: {}", env!("CARGO_PKG_VERSION"), features()), ""),
        Check::new("cores", true, threads::cores().to_string(), ""),
        memory(),
        open_files(),
        writable(),
    ];
    let said =
        |(name, is_ok, found): (String, bool, String)| Check { name, is_ok, found, remedy: String::new() };
    #[cfg(feature = "gst")]
    checks.extend(crate::decode::doctor().into_iter().map(said));
    #[cfg(feature = "torch")]
    checks.extend(crate::train::doctor().into_iter().map(said));
    #[cfg(not(any(feature = "gst", feature = "torch")))]
    let _ = (said, &mut checks);
    checks
}

fn features() -> String {
    let names = [("gst", cfg!(feature = "gst")), ("torch", cfg!(feature = "torch"))];
    let names: Vec<&str> = names.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if names.is_empty() { "none (no real media, no training)".to_owned() } else { names.join(", ") }
}

fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(mib) = available_mib(&text) else {
        return Check::new("memory", true, "unknown: /proc/meminfo does not say", "");
    };
    let remedy = "close other programs, or use a smaller batch, encoder or `run.ahead`";
    Check::new("memory", mib >= MEMORY_MIB_MIN, format!("{mib} MiB available"), remedy)
}

/// `MemAvailable` of Linux' `/proc/meminfo`, in MiB.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

fn open_files() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let found = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("at most {limit}"));
    Check::new("open files", limit.is_none_or(|limit| limit >= FILES_OPEN_MIN), found, "ulimit -n 4096")
}

/// Runs write below the current folder unless told otherwise.
fn writable() -> Check {
    let probe = std::path::Path::new(".reelflow-doctor");
    let result = files::make_dir(probe).and_then(|()| files::remove_dir(probe));
    let remedy = "go to a folder that you may write to, or give runs another with --out";
    match result {
        Ok(()) => Check::new("current folder", true, "can be written", ""),
        Err(error) => Check::new("current folder", false, error.message, remedy),
    }
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for Check { name, is_ok, found, remedy } in checks {
        let mark = if *is_ok { "ok" } else { "NO" };
        let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
        out.push_str(&format!("{mark}  {name:width$}  {found}{remedy}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_shows_its_remedy() {
        let checks = [Check::new("a", true, "3", "never shown"), Check::new("bcd", false, "0", "buy one")];
        assert_eq!(table(&checks), "ok  a    3\nNO  bcd  0; buy one\n");
    }

    #[test]
    fn available_memory_is_read_from_linux() {
        let text = "MemTotal:       16000000 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(available_mib(text), Some(2048));
        assert_eq!(available_mib("nothing"), None);
    }
}
