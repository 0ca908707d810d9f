//! Everything that is not repeatable, each behind one door.
//!
//! | door | what goes through it |
//! | --- | --- |
//! | [`clock`] | monotonic and wall time, for logs and rates only |
//! | [`failpoint`] | faults that tests ask for; empty in builds for use |
//! | [`files`] | write-to-temporary, sync, rename; checksums; locks |
//! | [`peers`] | sockets between the processes of a run, loopback only |
//! | [`process`] | processor time and memory taken, for reports only; the limit on open files |
//! | [`secrets`] | passwords, and the masks over them |
//! | [`threads`] | every thread that is not a timely worker |
//! | [`signal`] | the wish to stop |

pub mod clock;
pub mod failpoint;
pub mod files;
pub mod peers;
pub mod process;
pub mod secrets;
pub mod signal;
pub mod threads;
