//! A first-in-first-out memory of keys: what VTDL and MoCo compare against.

use reelflow_api::bank::BankSettings;
use reelflow_api::spec::{Kind, Output, Spec, read, schema_of};
use reelflow_api::stage::Stage;

/// How `queue` describes itself.
pub const SPEC: Spec = Spec {
    name: "queue",
    kind: Kind::Bank,
    summary: "Remembers the newest keys, first in, first out.",
    accepts: &[],
    output: Output::Nothing,
    example: "rows = 4096\ndim = 128",
    schema: schema_of::<BankSettings>,
    build: |table| Ok(Stage::Bank(read::<BankSettings>(table)?)),
};
