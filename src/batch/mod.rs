//! Collects the slots of a step, and holds the sinks that need no tensors.

pub mod collect;
pub mod digest;
pub mod null;
pub mod preview;

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&collect::SPEC, &null::SPEC, &digest::SPEC, &preview::SPEC];
