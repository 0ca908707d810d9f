//! What a person sees: progress, metrics, quarantine, contact sheets, the closing summary.
//!
//! Nothing here changes what a run computes. Lines for people go to standard error; files go below the
//! run directory.

pub mod bench;
pub mod canvas;
pub mod confusion;
pub mod contact_sheet;
pub mod events;
pub mod letters;
pub mod loss;
pub mod map;
pub mod metrics;
pub mod progress;
pub mod quarantine;
pub mod recorder;
pub mod summary;

pub use quarantine::Quarantine;
pub use recorder::{Learnt, Recorder, RecorderOptions, StepReport};
pub use summary::{Counters, Ending, Summary};
