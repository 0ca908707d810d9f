//! The `train` sink: takes batches in order and makes one step of learning of each.
//!
//! Order of a step (METHODS 1.1): loss from bank rows of earlier steps, keys into the bank, gradient,
//! optimiser, momentum network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::Batch;
use reelflow_api::pretext::{Pretext, Step, StepLoss};
use reelflow_api::rng::Key;
use reelflow_api::stage::{Parts, Scalars, Sink, SinkContext, SinkPlan};
use tch::Device;

use super::embed::{guarded, to_tensor};
use super::memory::Memory;
use super::network::{Network, Pair};
use super::optimizer::Optimizer;
use super::schedule::ScheduleKind;
use super::settings::TrainSettings;
use super::{device, export};
use crate::bank::sealed;

/// Part with the trained network.
pub const QUERY: &str = "query.safetensors";
/// Part with the network that follows it.
pub const KEY: &str = "key.safetensors";
/// Part with the optimiser's memory.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Part that says what the others are and seals them.
pub const MANIFEST: &str = "train.json";

/// A `train` sink as described.
pub struct TrainPlan {
    /// Its own settings.
    pub settings: TrainSettings,
    /// What is to be learnt.
    pub task: Arc<dyn Pretext>,
}

impl SinkPlan for TrainPlan {
    fn banks(&self) -> Vec<String> {
        self.task.banks()
    }

    fn views(&self) -> Vec<String> {
        self.task.views()
    }

    fn has_state(&self) -> bool {
        true
    }

    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        Ok(Box::new(Trainer::open(&self.settings, &self.task, context)?))
    }
}

/// Networks, optimiser and banks of a run, on the thread that owns them.
pub struct Trainer {
    pub(super) id: String,
    pub(super) settings: TrainSettings,
    pub(super) task: Arc<dyn Pretext>,
    pub(super) query: Network,
    pub(super) key: Network,
    pub(super) optimizer: Optimizer,
    pub(super) banks: BTreeMap<String, Memory>,
    /// Numbers that the task fixed in its first step; see [`Step::frozen`].
    pub(super) frozen: BTreeMap<String, f64>,
    pub(super) clip_shape: [usize; 4],
    /// The chance the first weights were drawn from.
    pub(super) first_weights: Key,
    pub(super) next_step: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u32,
    device: Device,
    chance: Key,
    steps: Option<u64>,
    export_dir: PathBuf,
}

impl Trainer {
    /// Takes the device, draws the first weights and starts the banks.
    ///
    /// # Errors
    /// If the device is not there, or views, banks and task do not fit.
    pub fn open(
        settings: &TrainSettings,
        task: &Arc<dyn Pretext>,
        context: SinkContext,
    ) -> Result<Self, StageError> {
        let refused = |message: String| StageError::refused(&context.id, message);
        let clip_shape = clip_shape(&context, task.as_ref())?;
        if settings.schedule.kind == ScheduleKind::Cosine && context.steps.is_none() {
            return Err(refused("a cosine schedule needs an end; set `steps` in `[run]`".to_owned()));
        }
        let heads = task.heads();
        let device = device::find(&context.id, &context.device)?;
        let mut banks = BTreeMap::new();
        for id in task.banks() {
            let bank = context
                .banks
                .get(&id)
                .ok_or_else(|| refused(format!("the pretext needs a bank `{id}`; add `[banks.{id}]`")))?;
            if heads.iter().all(|head| head.dim != i64::from(bank.dim)) {
                let dims: Vec<i64> = heads.iter().map(|head| head.dim).collect();
                return Err(refused(format!("bank `{id}` has dim {}, the pretext makes {dims:?}", bank.dim)));
            }
            let key = context.key.part("bank").part(&id);
            banks.insert(id.clone(), Memory::open(&id, bank, key, device)?);
        }
        // More threads than free cores are far slower, not a little: libtorch's OpenMP threads spin at each
        // barrier. Measured with both cores of a machine busy elsewhere: 106 ms a step with one thread,
        // 1,500 ms with two, 146 ms with two under `OMP_WAIT_POLICY=passive` (`benches/train.rs`).
        tch::set_num_threads(context.threads.max(1) as i32);
        let first_weights = context.key.part("first_weights");
        let architecture = settings.encoder.architecture();
        let query = Network::new(&architecture, &heads, first_weights, device);
        let key = Network::new(&architecture, &heads, first_weights, device);
        key.store.freeze();
        Ok(Self {
            optimizer: Optimizer::new(&settings.optimizer, &query.store),
            id: context.id,
            settings: settings.clone(),
            task: Arc::clone(task),
            query,
            key,
            banks,
            frozen: BTreeMap::new(),
            clip_shape,
            first_weights,
            next_step: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            device,
            chance: context.key.part("step"),
            steps: context.steps,
            export_dir: context.run_dir.join("exported"),
        })
    }

    fn learn(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        let step = batch.step;
        let share = self.settings.schedule.share(step, self.steps.unwrap_or(u64::MAX));
        let lr = self.settings.optimizer.lr * share;
        // A forward pass moves batch statistics, and one bad value would stay in them for ever.
        let buffers = (self.query.store.copy_of_buffers(), self.key.store.copy_of_buffers());
        let ids: Vec<i64> = batch.slots.iter().map(|slot| slot.segment.0 as i64).collect();
        let StepLoss { loss, keys, scalars, frozen } = self.forward(batch, &ids)?;
        let value = loss.double_value(&[]);
        let mut norm = f64::NAN;
        if value.is_finite() {
            self.frozen.extend(frozen);
            for (id, keys) in &keys {
                self.remember(step, id, &ids, keys)?;
            }
        }
        // From here on the owners of the rows work beside the gradient.
        for bank in self.banks.values_mut() {
            bank.prefetch(step + 1)?;
        }
        if value.is_finite() {
            guarded(&self.id, || loss.backward())?;
            norm = Optimizer::grad_norm(&self.query.store);
        }
        if norm.is_finite() {
            self.optimizer.step(&self.query.store, lr, norm);
            self.key.store.follow(&self.query.store, self.settings.momentum);
            self.skipped_in_a_row = 0;
        } else {
            self.query.store.set_buffers(&buffers.0);
            self.key.store.set_buffers(&buffers.1);
            self.skipped += 1;
            self.skipped_in_a_row += 1;
        }
        self.query.store.zero_grad();
        if self.skipped_in_a_row >= self.settings.nonfinite_max {
            return Err(StageError::failed(
                &self.id,
                format!(
                    "loss or gradient was no finite number in {} steps in a row, up to step {step} (loss \
                     {value}); lower `optimizer.lr`, set `optimizer.clip_norm`, or look at the pixels with `preview`",
                    self.skipped_in_a_row
                ),
            ));
        }
        let mut all = vec![("loss", value), ("lr", lr)];
        all.extend(scalars);
        all.extend([("grad_norm", norm), ("skipped", self.skipped as f64)]);
        for bank in self.banks.values() {
            all.extend(bank.scalars());
        }
        Ok(all)
    }

    fn forward(&mut self, batch: &Batch, ids: &[i64]) -> Result<StepLoss, StageError> {
        let mut views = BTreeMap::new();
        for name in self.task.views() {
            let view = batch
                .view(&name)
                .ok_or_else(|| StageError::refused(&self.id, format!("the batch has no view `{name}`")))?;
            views.insert(name, to_tensor(view, self.device)?);
        }
        let mut banks = BTreeMap::new();
        let chance = self.chance.number(batch.step);
        for (id, bank) in &mut self.banks {
            banks.insert(id.clone(), bank.read(batch.step, ids, chance.part("negatives").part(id))?);
        }
        let ids = tch::Tensor::from_slice(ids).to_device(self.device);
        let frozen = &self.frozen;
        let step = Step { step: batch.step, views: &views, ids: &ids, banks: &banks, frozen, key: chance };
        let mut pair = Pair { query: &self.query, key: &self.key, chance, calls: 0 };
        guarded(&self.id, || self.task.loss(&mut pair, &step))?
    }

    fn remember(&mut self, step: u64, id: &str, ids: &[i64], keys: &tch::Tensor) -> Result<(), StageError> {
        let bank = self.banks.get_mut(id).ok_or_else(|| {
            StageError::failed(
                &self.id,
                format!("the pretext gave keys for `{id}`, which it did not ask for"),
            )
        })?;
        bank.remember(step, ids, keys)
    }
}

impl Sink for Trainer {
    fn consume(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        if batch.step != self.next_step {
            return Err(StageError::failed(
                &self.id,
                format!("step {} came, step {} was to come", batch.step, self.next_step),
            ));
        }
        let scalars = self.learn(batch)?;
        self.next_step += 1;
        let every = self.settings.export_every;
        if every > 0 && self.next_step.is_multiple_of(every) {
            export::write(&self.export_dir, self)?;
        }
        Ok(scalars)
    }

    fn save(&mut self) -> Result<Parts, StageError> {
        self.save_parts()
    }

    fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        self.restore_parts(parts)
    }

    fn finish(&mut self) -> Result<Vec<String>, StageError> {
        let path = export::write(&self.export_dir, self)?;
        let bytes = sealed::to_safetensors(QUERY, &self.query.store.blocks()?)?;
        let banks = self.banks.iter().map(|(id, bank)| format!("bank {id} {}", bank.ages().to_text()));
        let lines = [format!("weights {}", sealed::checksum(&bytes)), format!("encoder {}", path.display())];
        Ok(lines.into_iter().chain(banks).collect())
    }
}

/// Names and shapes the views must have: those the task reads, all alike, three channels.
fn clip_shape(context: &SinkContext, task: &dyn Pretext) -> Result<[usize; 4], StageError> {
    let refused = |message: String| Err(StageError::refused(&context.id, message));
    let mut found: Option<[usize; 4]> = None;
    for name in task.views() {
        let Some((_, shape)) = context.views.iter().find(|(view, _)| **view == *name) else {
            let names: Vec<&str> = context.views.iter().map(|(view, _)| &**view).collect();
            return refused(format!("the pretext reads view `{name}`, the batch has {}", names.join(", ")));
        };
        if shape[0] != 3 {
            return refused(format!("view `{name}` has {} channels, the encoders take 3", shape[0]));
        }
        found = found.or(Some(*shape));
    }
    match found {
        Some(shape) => Ok(shape),
        None => refused("the pretext reads no view".to_owned()),
    }
}

#[cfg(test)]
mod tests;
