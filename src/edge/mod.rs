//! Everything that is not repeatable, each behind one door.
//!
//! | door | what goes through it |
//! | --- | --- |
//! | [`clock`] | monotonic and wall time, for logs and rates only |
//! | [`files`] | write-to-temporary, sync, rename; checksums; locks |
//! | [`process`] | processor time and memory taken, for reports only |
//! | [`secrets`] | passwords, and the masks over them |
//! | [`threads`] | every thread that is not a timely worker |
//! | [`signal`] | the wish to stop |

pub mod clock;
pub mod files;
pub mod process;
pub mod secrets;
pub mod signal;
pub mod threads;
