//! Chooses windows: a pure function of (catalogue, seed, step, slot).

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[];
