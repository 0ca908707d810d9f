//! The only place that reads the wall clock; everything else gets times as arguments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This moment, for measuring how long something took.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970-01-01 00:00 UTC; 0 if the clock stands before that.
#[must_use]
pub fn unix_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
