//! A memory with one row a segment that follows the segment's keys: what InstDisc compares against.

use reelflow_api::bank::InstanceSettings;
use reelflow_api::spec::{Kind, Output, Spec, read, schema_of};
use reelflow_api::stage::Stage;

/// How `instance` describes itself.
pub const SPEC: Spec = Spec {
    name: "instance",
    kind: Kind::Bank,
    summary: "Remembers a row for each segment, which follows its keys; negatives are drawn from all rows.",
    accepts: &[],
    output: Output::Nothing,
    example: "rows = 10000\ndim = 128\nnegatives = 4096",
    schema: schema_of::<InstanceSettings>,
    build: |table| Ok(Stage::Bank(read::<InstanceSettings>(table)?.into())),
};
