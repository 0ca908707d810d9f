//! Lists what can be learnt from a batch; each task is a plugin crate.

use reelflow_api::pretext::PretextSpec;

/// In the order the manual lists them.
pub const ALL: &[&PretextSpec] = &[&reelflow_vtdl::SPEC, &reelflow_classify::SPEC];

/// The task called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static PretextSpec> {
    ALL.iter().copied().find(|spec| spec.name == name)
}
