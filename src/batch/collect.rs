//! Collects the slots of a step into one batch, in slot order whatever order they came in.

use reelflow_api::item::Batch;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{BatchSize, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `batch` describes itself.
pub const SPEC: Spec = Spec {
    name: "batch",
    kind: Kind::Operator,
    summary: "Collects the slots of a step into one batch, in slot order.",
    accepts: &[Port::Views],
    output: Output::Carries(Port::Batches),
    example: "size = 8",
    schema: schema_of::<BatchSettings>,
    build: |table| Ok(Stage::Batch(BatchSize(read::<BatchSettings>(table)?.size))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct BatchSettings {
    /// Slots (samples) of every step.
    #[schemars(range(min = 1, max = 65536))]
    size: u32,
}

impl Settings for BatchSettings {}

/// Joins the one-slot batches of a step into one, sorted by slot.
///
/// Shapes agree by construction: the augment stage has one output shape. Parts of one block are joined where
/// they lie.
#[must_use]
pub fn collect(step: u64, mut parts: Vec<Batch>) -> Batch {
    parts.sort_by_key(|part| part.slots[0].slot);
    let mut parts = parts.into_iter();
    let Some(mut whole) = parts.next() else {
        return Batch { step, slots: Vec::new(), views: Vec::new() };
    };
    for part in parts {
        whole.slots.extend(part.slots);
        for (into, from) in whole.views.iter_mut().zip(part.views) {
            debug_assert_eq!(into.shape, from.shape, "one augment stage has one shape");
            debug_assert_eq!(into.normalize, from.normalize, "one augment stage normalises one way");
            into.pixels.join(from.pixels);
        }
    }
    whole
}
