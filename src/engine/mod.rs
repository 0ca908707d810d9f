//! A plan into a running dataflow; the only folder that names timely.
//!
//! ```text
//! every worker:  plans ─▶ decode and augment ─▶ views ─▶ ┐ by step
//!                                                        ├─▶ gather ─▶ views ─▶ ┐ to worker 0
//!                                                        ┘                      ├─▶ deliver ─▶ queue ─▶ sinks
//! ```
//!
//! Logical time is the step. [`clips`] holds credits: it hands out a step only when the step `ahead`
//! before it has been consumed, which it reads from a probe behind [`deliver`]. So memory is bounded end
//! to end, and nothing but the frontier is back-pressure.

pub mod arena;
pub mod bank_bridge;
pub mod bench;
mod blame;
pub mod blind;
pub mod changes;
pub mod checkpoint;
pub mod clips;
pub mod crew;
pub mod decode;
pub mod deliver;
pub mod driver;
pub mod feeds;
pub mod flow;
pub mod gather;
pub mod jobs;
pub mod keeper;
pub mod known;
pub mod layout;
pub mod making;
pub mod parcel;
pub mod pixels;
pub mod publisher;
pub mod registry;
pub mod run;
pub mod run_dir;
pub mod scan;
pub mod shared;
pub mod tally;
pub mod timeline;
