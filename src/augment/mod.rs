//! Turns clips into views: one draw of parameters a clip, shared by all its frames.

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[];
