//! Monotonic and wall time, for logs and rates only: no result depends on them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, on a clock that never goes back.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door for time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, UTC; 0 on a clock set before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door for time")]
pub fn unix_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
