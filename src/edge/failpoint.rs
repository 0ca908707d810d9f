//! Places where a test can have the program fail; nothing at all in builds without the feature `failpoints`.
//!
//! ```text
//! FAILPOINTS='op::batch=5*off->panic;ckpt::before_fsync=return' reelflow run …
//! ```
//!
//! An action is one of the crate `fail`'s: `off`, `panic`, `sleep(ms)`, `delay(ms)`, `print(text)`, each with a
//! share or a count before it. `return` ends the process on the spot, as a power cut would; where a point is a
//! number, `return(nan)` puts that one in its place.
//!
//! | point | where |
//! | --- | --- |
//! | `scan::after` | the catalogue is known, nothing flows yet |
//! | `source::open`, `source::frame` | a medium is opened; each decoded picture |
//! | `op::sample`, `op::augment`, `op::batch` | a step's plans; a job's views; a step's slots are joined |
//! | `train::step`, `train::loss`, `train::grad` | a step begins; the loss and the gradient's norm (numbers) |
//! | `bank::apply` | a key goes into its row (number) |
//! | `PART::tmp_created`, `::half_written`, `::before_fsync` | a file of `bank`, `ckpt`, `manifest` or `file` is written |
//! | `PART::before_rename`, `::before_dirsync`, `::after_dirsync` | what was written becomes known by its name |
//! | `purge::before_unlink` | an old checkpoint has lost its name and is about to go |

/// Reads `FAILPOINTS`; to be called once, before anything else.
#[inline]
pub fn arm() {
    #[cfg(feature = "failpoints")]
    // The points stay armed as long as the process lives.
    std::mem::forget(fail::FailScenario::setup());
}

/// A place that a test may fail at.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    // `fail` has no action that ends the process; `return` is free for it.
    fail::fail_point!(name, |_| std::process::abort());
}

/// A place that a test may fail at.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_: &str) {}

/// A place in one of several parts that go the same way: the point is `PART::PLACE`.
#[inline]
pub fn hit_in(part: &str, place: &str) {
    #[cfg(feature = "failpoints")]
    hit(&format!("{part}::{place}"));
    #[cfg(not(feature = "failpoints"))]
    let _ = (part, place);
}

/// A number that a test may replace: `Some` if it does.
#[cfg(feature = "failpoints")]
pub fn number(name: &str) -> Option<f64> {
    fail::fail_point!(name, |text: Option<String>| {
        Some(text.and_then(|text| text.parse().ok()).unwrap_or_else(|| std::process::abort()))
    });
    None
}

/// A number that a test may replace: `Some` if it does.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[must_use]
pub fn number(_: &str) -> Option<f64> {
    None
}
