//! Every stage there is, from the lists of the folders.

use reelflow_api::spec::{Kind, Spec};

/// Stages that only some builds have, with the feature that brings them.
const FEATURED: &[(Kind, &str, &str)] = &[(Kind::Sink, "train", "torch")];

/// All specs in flow order.
#[must_use]
pub fn all() -> Vec<&'static Spec> {
    let lists = [
        crate::source::ALL,
        crate::sample::ALL,
        crate::augment::ALL,
        crate::batch::ALL,
        crate::bank::ALL,
        #[cfg(feature = "torch")]
        crate::train::ALL,
    ];
    lists.concat()
}

/// The spec called `name` among those of `kind`.
#[must_use]
pub fn find(kind: Kind, name: &str) -> Option<&'static Spec> {
    all().into_iter().find(|spec| spec.kind == kind && spec.name == name)
}

/// The feature that would bring the stage `name`, if this build lacks it for that reason.
#[must_use]
pub fn missing_feature(kind: Kind, name: &str) -> Option<&'static str> {
    let known = FEATURED.iter().find(|(k, n, _)| *k == kind && *n == name)?;
    find(kind, name).is_none().then_some(known.2)
}
