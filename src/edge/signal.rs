//! The wish to stop: the first SIGINT or SIGTERM asks, the second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reelflow_api::error::StageError;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Becomes true with the first signal.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn on_signals() -> Result<Self, StageError> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the conditional exit must see the flag as it was before this signal.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop.0)))
                .map_err(|error| StageError::unavailable("signals", format!("no signal handler: {error}")))?;
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
