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
    /// Steps between a write and the first read that sees it: 1 to 64, or `"any"` for a reader that never waits.
    #[serde(default)]
    pub staleness: Staleness,
    /// How a number is stored, in memory and in checkpoints.
    #[serde(default)]
    pub dtype: RowType,
    /// First rows: `sphere` (uniform values, unit length) or `uniform` (as released VTDL, mean square length 1).
    #[serde(default)]
    pub init: BankInit,
    /// What becomes of a key; the `type` in TOML says it.
    #[serde(skip)]
    pub kind: BankKind,
}

impl BankSettings {
    /// A queue with the defaults of a pipeline file.
    #[must_use]
    pub fn queue(rows: u32, dim: u32) -> Self {
        Self {
            dim,
            rows,
            shards: shards(),
            staleness: Staleness::default(),
            dtype: RowType::default(),
            init: BankInit::default(),
            kind: BankKind::Queue,
        }
    }
}

/// Settings of `[banks.ID]` with `type = "instance"`: one row a segment, which follows the segment's keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSettings {
    /// Length of an embedding.
    #[serde(default = "dim")]
    #[schemars(range(min = 1, max = 65536))]
    pub dim: u32,
    /// Room for so many segments; best the number there is, as rows of no segment are drawn as well.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub rows: u32,
    /// Share of itself that a row keeps when its segment's key comes (InstDisc: 0.5).
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Rows drawn as negatives for a step, uniformly and with repetition, the same for all its anchors.
    #[serde(default = "negatives")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub negatives: u32,
    /// Parts with an owner each; at most `rows`.
    #[serde(default = "shards")]
    #[schemars(range(min = 1, max = 256))]
    pub shards: u32,
    /// Steps between a write and the first read that sees it: 1 to 64, or `"any"` for a reader that never waits.
    #[serde(default)]
    pub staleness: Staleness,
    /// How a number is stored, in memory and in checkpoints.
    #[serde(default)]
    pub dtype: RowType,
    /// First rows: `sphere` (uniform values, unit length) or `uniform` (as InstDisc, mean square length 1).
    #[serde(default)]
    pub init: BankInit,
}

impl From<InstanceSettings> for BankSettings {
    fn from(settings: InstanceSettings) -> Self {
        let InstanceSettings { dim, rows, momentum, negatives, shards, staleness, dtype, init } = settings;
        let kind = BankKind::Instance { momentum, negatives };
        Self { dim, rows, shards, staleness, dtype, init, kind }
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub enum BankKind {
    /// It takes the oldest key's row.
    #[default]
    Queue,
    /// It moves its segment's row: `m <- l2norm(momentum m + (1 - momentum) key)` (InstDisc, METHODS 7.1).
    Instance {
        /// Share of itself that a row keeps.
        momentum: f64,
        /// Rows drawn for a step.
        negatives: u32,
    },
}

impl BankKind {
    /// The `type` in TOML.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Instance { .. } => "instance",
        }
    }
}

/// How many steps a reader may be behind.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Staleness {
    /// A reader of step `t` sees every write of steps up to `t` minus this and no later one. It waits for
    /// them if it must, and runs repeat bit for bit. At least 1: a step never sees its own keys.
    Steps(#[schemars(range(min = 1, max = 64))] u32),
    /// See [`Staleness::ANY`].
    Late(Late),
}

/// The word for a reader that never waits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// A reader takes what has arrived: whole rows of earlier steps. Runs need not repeat.
    Any,
}

impl Staleness {
    /// A reader of step `t` takes what has arrived: rows are whole and of steps before `t`, none is older
    /// than what an earlier reader saw, how far behind is not bounded, and runs need not repeat.
    pub const ANY: Self = Self::Late(Late::Any);

    /// The fewest steps between a write and a read that sees it.
    #[must_use]
    pub fn least(self) -> u64 {
        match self {
            Self::Steps(steps) => steps.into(),
            Self::Late(Late::Any) => 1,
        }
    }
}

impl Default for Staleness {
    fn default() -> Self {
        Self::Steps(1)
    }
}

/// How a row's numbers are stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowType {
    /// Four bytes a number: a key comes back bit for bit.
    #[default]
    F32,
    /// Two bytes a number, rounded to the nearest: a key's squared length comes back within 0.002.
    F16,
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

fn momentum() -> f64 {
    0.5
}

fn negatives() -> u32 {
    4096
}
