//! Owns the networks and learns: batches into a better encoder.

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[];
