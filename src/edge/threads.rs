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
