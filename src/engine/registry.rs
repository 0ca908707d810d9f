//! Every stage there is, from the lists of the folders.

use reelflow_api::spec::{Kind, Spec};

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
