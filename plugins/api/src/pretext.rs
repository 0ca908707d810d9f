//! What is to be learnt from a batch: a loss over views, networks and banks.

#[cfg(feature = "torch")]
use std::collections::BTreeMap;

#[cfg(feature = "torch")]
use crate::error::StageError;
use crate::spec::{Problem, Schema, Table};

/// How a pretext task names itself, lists its parameters and is built.
pub struct PretextSpec {
    /// Name in TOML: `pretext = { type = "vtdl" }`.
    pub name: &'static str,
    /// One line for `reelflow inspect`.
    pub summary: &'static str,
    /// Parameters as TOML lines that parse and build.
    pub example: &'static str,
    /// JSON Schema of the parameters.
    pub schema: fn() -> Schema,
    /// Reads the parameters.
    pub build: fn(&Table<'_>) -> Result<Box<dyn Pretext>, Vec<Problem>>,
}

/// A projection that a task wants on top of the encoder's pooled features.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Name, unique in the task: `embedding`.
    pub name: &'static str,
    /// Length of the output.
    pub dim: i64,
    /// Width of a hidden layer with ReLU; `None` for a single linear layer.
    pub hidden: Option<i64>,
    /// Whether outputs are scaled to unit length.
    pub unit: bool,
    /// Share of the last layer's inputs that a training step of the query network sets to 0, below 1; the others
    /// are scaled up, so that their mean stays.
    pub dropout: f64,
}

/// A pretext task. Holds settings, no state: what it must remember lives in banks and networks.
pub trait Pretext: Send + Sync {
    /// Views it reads.
    fn views(&self) -> Vec<String>;

    /// Ids of the banks it reads and writes.
    fn banks(&self) -> Vec<String>;

    /// Heads to put on the encoder.
    fn heads(&self) -> Vec<Head>;

    /// The loss of one step and the keys to remember.
    ///
    /// # Errors
    /// If a view or bank is missing or shapes do not fit.
    #[cfg(feature = "torch")]
    fn loss(&self, nets: &mut dyn Nets, step: &Step<'_>) -> Result<StepLoss, StageError>;
}

/// The two networks of a step. Embeddings are `[B, dim]`, f32.
#[cfg(feature = "torch")]
pub trait Nets {
    /// Query network: gradients flow; batch norm uses and updates its statistics.
    fn query(&mut self, head: &str, clips: &tch::Tensor) -> tch::Tensor;

    /// Momentum network: no gradient, train-mode batch norm on a shuffled batch (ShuffleBN).
    fn key(&mut self, head: &str, clips: &tch::Tensor) -> tch::Tensor;
}

/// Rows of a bank as a step sees them: never the step's own keys.
#[cfg(feature = "torch")]
pub struct BankRows {
    /// `[rows, dim]`, f32, on the trainer's device, no gradient: all rows of a queue, the rows that were
    /// drawn for this step from a bank of instances. Not to be kept: the next step changes them.
    pub rows: tch::Tensor,
    /// `[rows]`, i64: segment id of each of them, -1 for a row that belongs to none.
    pub ids: tch::Tensor,
    /// `[B, dim]`, f32: the row of each slot's own segment; `None` for a queue.
    pub own: Option<tch::Tensor>,
    /// Rows of the whole bank.
    pub total: i64,
}

/// What a pretext task sees of one step.
#[cfg(feature = "torch")]
pub struct Step<'a> {
    /// Training step.
    pub step: u64,
    /// Views by name, `[B, C, T, H, W]`, f32, on the trainer's device.
    pub views: &'a BTreeMap<String, tch::Tensor>,
    /// `[B]`, i64: segment id of each slot.
    pub ids: &'a tch::Tensor,
    /// `[B]`: label of each slot's segment, where the catalogue has one. No pretext task may learn from it.
    pub labels: &'a [Option<std::sync::Arc<str>>],
    /// Banks by id.
    pub banks: &'a BTreeMap<String, BankRows>,
    /// What earlier steps gave as [`StepLoss::frozen`]; kept in checkpoints.
    pub frozen: &'a BTreeMap<String, f64>,
    /// Chance of this step.
    pub key: crate::rng::Key,
}

/// Loss of one step and what to remember.
#[cfg(feature = "torch")]
pub struct StepLoss {
    /// Scalar with gradient.
    pub loss: tch::Tensor,
    /// Bank id and `[B, dim]` keys, unit rows, detached.
    pub keys: Vec<(String, tch::Tensor)>,
    /// Numbers that are fixed from now on, by name. Kept only if the loss is finite.
    pub frozen: Vec<(String, f64)>,
    /// Numbers to report besides the loss.
    pub scalars: crate::stage::Scalars,
}
