//! The trainer in a checkpoint: both networks, the optimiser, the banks, and a manifest over them all.

use std::collections::BTreeMap;

use reelflow_api::error::StageError;
use reelflow_api::pretext::Head;
use reelflow_api::rng::Key;
use reelflow_api::stage::Parts;
use serde::{Deserialize, Serialize};

use super::encoder::Architecture;
use super::pretrained::Source;
use super::sink::{KEY, MANIFEST, OPTIMIZER, QUERY, Trainer};
use crate::bank::sealed;

/// Layout of the trainer's files; raise it when they change.
pub const FORMAT: u32 = 2;

/// What the manifest of a trainer says. No floating-point numbers: see [`sealed::seal`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The step that comes next; also the place in the schedule.
    pub next_step: u64,
    /// Steps the optimiser has made.
    pub updates: u64,
    /// Steps skipped because a number was not finite.
    pub skipped: u64,
    /// How many of them are the last ones.
    pub skipped_in_a_row: u32,
    /// The encoder.
    pub architecture: Architecture,
    /// Name, length, hidden width and whether of unit length of each head.
    pub heads: Vec<(String, i64, Option<i64>, bool)>,
    /// `[C, T, H, W]` of the clips.
    pub clip_shape: [usize; 4],
    /// The chance the first weights were drawn from.
    pub first_weights: Key,
    /// The file that the encoder's first weights came from instead.
    pub pretrained: Option<Source>,
    /// `sgd` or `adamw`.
    pub optimizer: String,
    /// Ids of the banks.
    pub banks: Vec<String>,
    /// Bits of the numbers (f64) that the task fixed in its first step.
    pub frozen: BTreeMap<String, u64>,
}

/// Heads as the manifest has them.
pub fn heads_of(heads: &[Head]) -> Vec<(String, i64, Option<i64>, bool)> {
    heads.iter().map(|head| (head.name.to_owned(), head.dim, head.hidden, head.unit)).collect()
}

impl Trainer {
    /// Everything needed to go on bit for bit, as named parts.
    ///
    /// # Errors
    /// If the device or a bank cannot be read.
    pub(super) fn save_parts(&mut self) -> Result<Parts, StageError> {
        let mut parts = Parts::new();
        for (file, blocks) in [
            (QUERY, self.query.store.blocks()?),
            (KEY, self.key.store.blocks()?),
            (OPTIMIZER, self.optimizer.blocks(&self.query.store)?),
        ] {
            parts.insert(file.to_owned(), sealed::to_safetensors(file, &blocks)?);
        }
        for bank in self.banks.values_mut() {
            parts.extend(bank.save()?);
        }
        sealed::seal(MANIFEST, FORMAT, &self.about(), parts)
    }

    /// Goes on from saved parts. All checks come before the first change.
    ///
    /// # Errors
    /// If a part is missing, damaged, or of another encoder, task or bank than the pipeline's.
    pub(super) fn restore_parts(&mut self, parts: &Parts) -> Result<(), StageError> {
        let saved: About = sealed::open(MANIFEST, FORMAT, parts)?;
        let own = self.about();
        let differ = |what: &str, saved: String, own: String| {
            let message = format!("the checkpoint has {what} {saved}, the pipeline has {own}");
            Err(StageError::refused(&self.id, message))
        };
        if saved.architecture != own.architecture {
            let (saved, own) = (format!("{:?}", saved.architecture), format!("{:?}", own.architecture));
            return differ("encoder", saved, own);
        }
        if saved.heads != own.heads {
            return differ("heads", format!("{:?}", saved.heads), format!("{:?}", own.heads));
        }
        if saved.optimizer != own.optimizer {
            return differ("optimizer", saved.optimizer, own.optimizer);
        }
        if saved.banks != own.banks {
            return differ("banks", format!("{:?}", saved.banks), format!("{:?}", own.banks));
        }
        let blocks = |file: &str| {
            let bytes =
                parts.get(file).ok_or_else(|| StageError::storage(file, "is missing from the checkpoint"))?;
            sealed::from_safetensors(file, bytes)
        };
        self.query.store.load(QUERY, &blocks(QUERY)?)?;
        self.key.store.load(KEY, &blocks(KEY)?)?;
        self.optimizer.load(&self.query.store, OPTIMIZER, &blocks(OPTIMIZER)?, saved.updates)?;
        for bank in self.banks.values_mut() {
            bank.restore(parts)?;
        }
        self.next_step = saved.next_step;
        self.skipped = saved.skipped;
        self.skipped_in_a_row = saved.skipped_in_a_row;
        self.first_weights = saved.first_weights;
        self.pretrained = saved.pretrained;
        self.frozen = saved.frozen.into_iter().map(|(name, bits)| (name, f64::from_bits(bits))).collect();
        Ok(())
    }

    fn about(&self) -> About {
        About {
            next_step: self.next_step,
            updates: self.optimizer.updates,
            skipped: self.skipped,
            skipped_in_a_row: self.skipped_in_a_row,
            architecture: self.settings.encoder.architecture(),
            heads: heads_of(&self.task.heads()),
            clip_shape: self.clip_shape,
            first_weights: self.first_weights,
            pretrained: self.pretrained.clone(),
            optimizer: format!("{:?}", self.settings.optimizer.kind).to_lowercase(),
            banks: self.banks.keys().cloned().collect(),
            frozen: self.frozen.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect(),
        }
    }
}
