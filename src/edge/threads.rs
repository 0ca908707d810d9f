//! Every thread that is not a timely worker starts here and has a name.

use std::thread::JoinHandle;

use reelflow_api::error::StageError;

/// Starts a thread called `name` (at most 15 bytes are visible in system tools).
///
/// # Errors
/// If the system refuses another thread.
#[expect(clippy::disallowed_methods, reason = "this is the door for threads")]
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StageError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        StageError::unavailable(name, format!("the system starts no further thread: {error}"))
    })
}

/// Cores this process may use, at least 1.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads a trainer computes with on a CPU unless told otherwise: half the cores. The other half is for
/// decoding and augmenting; OpenMP threads that wait for a core spin, so more of them are slower, not
/// faster (two on two busy cores: 0.6 times the steps of one).
#[must_use]
pub fn for_training() -> usize {
    (cores() / 2).max(1)
}
