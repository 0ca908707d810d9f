//! The wish to stop: the first SIGINT, SIGTERM or SIGHUP asks, the second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reelflow_api::error::StageError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// Becomes true with the first signal.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on. A SIGHUP that is ignored (`nohup`) stays so.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn on_signals() -> Result<Self, StageError> {
        let stop = Self::default();
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up) {
            // Order matters: the conditional exit must see the flag as it was before this signal.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop.0)))
                .map_err(|error| refused(&error))?;
        }
        Ok(stop)
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Asks for a stop, as a signal would.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Has a write beyond the limit on file sizes (`ulimit -f`) fail with an error, instead of SIGXFSZ ending the
/// process without a word.
///
/// # Errors
/// If the system refuses a handler.
pub fn report_full_files() -> Result<(), StageError> {
    // The flag is of no interest: that there is a handler is what counts.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop).map_err(|error| refused(&error))
}

fn refused(error: &std::io::Error) -> StageError {
    StageError::unavailable("signals", format!("no signal handler: {error}"))
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

/// Whether the text of `/proc/PID/status` says that `signal` is ignored: bit n - 1 of `SigIgn` is signal n.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\treelflow\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
    }
}
