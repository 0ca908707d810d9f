//! What a pipeline file says about a memory bank.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of `[banks.ID]` with `type = "queue"`: a first-in-first-out memory of keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BankSettings {
    /// Length of an embedding.
    #[serde(default = "dim")]
    #[schemars(range(min = 1, max = 65536))]
    pub dim: u32,
    /// How many keys it remembers.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub rows: u32,
    /// Parts with an owner each; at most `rows`.
    #[serde(default = "shards")]
    #[schemars(range(min = 1, max = 256))]
    pub shards: u32,
    /// Steps between a write and the first read that sees it. At least 1: a step never sees its own keys.
    #[serde(default = "staleness")]
    #[schemars(range(min = 1, max = 64))]
    pub staleness: u32,
    /// First rows: `sphere` (uniform values, unit length) or `uniform` (as released VTDL, mean square length 1).
    #[serde(default)]
    pub init: BankInit,
}

/// How the rows are filled before the first key arrives.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BankInit {
    /// Uniform values scaled to unit length.
    #[default]
    Sphere,
    /// Uniform in plus/minus `1/sqrt(dim/3)`, not normalised (VTDL, `src/NCE/NCEAverage.py`).
    Uniform,
}

fn dim() -> u32 {
    128
}

fn shards() -> u32 {
    4
}

fn staleness() -> u32 {
    1
}
