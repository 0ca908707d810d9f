//! Remembers keys in shards with an owner each.
//!
//! A shard's rows belong to one thread and are touched by no other, so there are no locks here: the
//! [`Bank`] handle sends events over bounded channels. A read brings only the rows that changed since the
//! one before; whoever reads keeps a copy of all rows and brings it up to date. A shard may live in another
//! process, behind a [`Link`]. Nothing in this folder knows tensors; `train` converts at its border.

mod ages;
mod handle;
pub mod instance;
mod places;
pub mod queue;
mod remote;
mod rows;
pub mod sealed;
mod shard;
pub mod snapshot;
pub mod softmax;
mod wire;

pub use ages::Ages;
pub use handle::Bank;
use reelflow_api::spec::Spec;
pub use remote::{Answer, Hosted, Link, Request};
pub use rows::{Changes, NO_SEGMENT, Rows};
pub use wire::{Threads, Wire};

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&queue::SPEC, &instance::SPEC];

#[cfg(test)]
mod tests;
