//! Owns the networks and learns: batches into a better encoder.
//!
//! * `settings` - what a pipeline file says; `sink` - one step after the other; `state` - checkpoints.
//! * `store`, `layers`, `encoder`, `network` - tensors by name, and the networks made of them; `pretrained` -
//!   first weights from a file.
//! * `optimizer`, `schedule` - how weights change.
//! * `memory` - a bank and its rows on the device. `embed` - clips into features for evaluation; `export` - weights for other tools.
//! * `device` - CPU or GPU.
//!
//! Everything is computed by libtorch through tch; nothing draws from libtorch's own generators.

pub mod device;
pub mod embed;
pub mod encoder;
mod export;
pub mod layers;
mod memory;
pub mod network;
pub mod optimizer;
pub mod pretrained;
#[cfg(test)]
mod published_tests;
pub mod schedule;
pub mod settings;
pub mod sink;
pub mod state;
pub mod store;

pub use device::doctor;
pub use embed::{Embedder, embedder};
use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&settings::SPEC];
