//! Remembers keys in shards with an owner each.
//!
//! A shard's rows belong to one thread and are touched by no other, so there are no locks here: the
//! [`Bank`] handle sends events over bounded channels. Nothing in this folder knows tensors; `train`
//! converts at its border.

mod parts;
pub mod queue;
pub mod sealed;
mod shard;
pub mod softmax;

pub use queue::{Bank, Rows};
use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&queue::SPEC];
