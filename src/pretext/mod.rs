//! Lists what can be learnt from a batch; each task is a plugin crate.

use reelflow_api::pretext::PretextSpec;

/// In the order the manual lists them.
pub const ALL: &[&PretextSpec] = &[];
