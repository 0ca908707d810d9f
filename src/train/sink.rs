//! The `train` sink: takes batches in order and makes one step of learning of each.
//!
//! Order of a step: loss from bank rows of earlier steps, gradient, keys into the bank, optimiser, momentum
//! network. The released VTDL has the keys before the gradient (METHODS 1.1); since no loss sees keys of its
//! own step, nothing differs but this: a step whose gradient is no number leaves no keys behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::feed::CatalogueChange;
use reelflow_api::item::{Batch, SegmentId};
use reelflow_api::pretext::{BankRows, Pretext, Step};
use reelflow_api::rng::Key;
use reelflow_api::stage::{Parts, Scalars, Sink, SinkContext, SinkPlan};
use tch::{Device, Kind, Tensor};

use super::embed::{guarded, to_tensor};
use super::memory::Memory;
use super::network::{Network, Pair};
use super::optimizer::Optimizer;
use super::pretrained::{self, Source};
use super::schedule::{Moment, ScheduleKind};
use super::settings::{MomentumSchedule, Precision, TrainSettings};
use super::{device, export};
use crate::bank::sealed;
use crate::edge::failpoint;

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
    /// The file that the encoder's first weights came from instead.
    pub(super) pretrained: Option<Source>,
    pub(super) next_step: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u32,
    labels: Arc<BTreeMap<SegmentId, Arc<str>>>,
    device: Device,
    chance: Key,
    steps: Option<u64>,
    batch_size: u32,
    epoch_clips: Option<u64>,
    export_dir: PathBuf,
}

/// What came of the forward and backward passes of a step; gradients are in the query network.
struct Pass {
    /// Mean over the batch; no number if a part's loss was none, and then there is no gradient to use.
    loss: f64,
    /// Bank id and `[B, dim]` keys in the order of the batch.
    keys: Vec<(String, Tensor)>,
    /// The task's numbers, each the mean over the parts of the batch.
    scalars: Scalars,
    /// What the task has fixed for good, this step included.
    frozen: BTreeMap<String, f64>,
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
        check_fit(settings, &context, clip_shape).map_err(refused)?;
        let heads = task.heads();
        let device = device::find(&context.id, &context.device)?;
        // Seen: infinite weight gradients of a 3x3x3 convolution, 128 to 128 channels, over 2x3x3 places.
        if settings.precision == Precision::Bf16 && device == Device::Cpu {
            let message =
                "`precision = \"bf16\"` needs a GPU: on a CPU libtorch gets some bf16 gradients wrong";
            return Err(refused(format!("{message}; leave it out, or set `run.device`")));
        }
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
        let mut query = Network::new(&architecture, &heads, first_weights, device);
        let mut key = Network::new(&architecture, &heads, first_weights, device);
        let file = settings.encoder.weights.as_deref();
        let pretrained = file.map(|file| pretrained::load(&query.store, file)).transpose()?;
        key.store.copy_from(&query.store);
        key.store.freeze();
        for network in [&mut query, &mut key] {
            network.frozen = settings.encoder.frozen;
            network.compute = match settings.precision {
                Precision::F32 => Kind::Float,
                Precision::Bf16 => Kind::BFloat16,
            };
        }
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
            pretrained,
            next_step: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            labels: context.labels,
            device,
            chance: context.key.part("step"),
            steps: context.steps,
            batch_size: context.batch_size,
            epoch_clips: context.epoch_clips,
            export_dir: context.run_dir.join("exported"),
        })
    }

    fn learn(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        let step = batch.step;
        failpoint::hit("train::step");
        let steps = self.steps.unwrap_or(u64::MAX);
        let (batch_size, epoch) = (u64::from(self.batch_size), self.epoch_clips.unwrap_or(0));
        let now = Moment { step, steps, batch: batch_size, epoch };
        let lr = self.settings.optimizer.lr * self.settings.schedule.share(&now);
        // A forward pass moves batch statistics, and one bad value would stay in them for ever.
        let buffers = (self.query.store.copy_of_buffers(), self.key.store.copy_of_buffers());
        let ids: Vec<i64> = batch.slots.iter().map(|slot| slot.segment.0 as i64).collect();
        let Pass { loss, keys, scalars, frozen } = self.pass(batch, &ids)?;
        let norm = if loss.is_finite() { Optimizer::grad_norm(&self.query.store) } else { f64::NAN };
        let norm = failpoint::number("train::grad").unwrap_or(norm);
        if norm.is_finite() {
            self.frozen = frozen;
            for (id, keys) in &keys {
                self.remember(step, id, &ids, keys)?;
            }
        }
        // From here on the owners of the rows work beside the optimiser.
        for bank in self.banks.values_mut() {
            bank.prefetch(step + 1)?;
        }
        if norm.is_finite() {
            self.optimizer.step(&self.query.store, lr, norm);
            self.key.store.follow(&self.query.store, self.settings.momentum_at(step, steps));
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
                     {loss}); lower `optimizer.lr`, set `optimizer.clip_norm`, or look at the pixels with `preview`",
                    self.skipped_in_a_row
                ),
            ));
        }
        let mut all = vec![("loss", loss), ("lr", lr)];
        all.extend(scalars);
        all.extend([("grad_norm", norm), ("skipped", self.skipped as f64)]);
        for bank in self.banks.values() {
            all.extend(bank.scalars());
        }
        Ok(all)
    }

    /// Forward and backward, in as many parts as `accumulate` says. Ends early at a loss that is no number.
    fn pass(&mut self, batch: &Batch, ids: &[i64]) -> Result<Pass, StageError> {
        let views = self.views(batch)?;
        let banks = self.bank_rows(batch.step, ids)?;
        let labels: Vec<Option<Arc<str>>> =
            batch.slots.iter().map(|slot| self.labels.get(&slot.segment).cloned()).collect();
        let ids = Tensor::from_slice(ids).to_device(self.device);
        let parts = i64::from(self.settings.accumulate);
        let clips = ids.size()[0] / parts;
        let chance = self.chance.number(batch.step);
        let bn_groups = i64::from(self.settings.bn_groups);
        let mut pair = Pair { query: &self.query, key: &self.key, chance, queries: 0, calls: 0, bn_groups };
        let mut pass = Pass { loss: 0.0, keys: Vec::new(), scalars: Vec::new(), frozen: self.frozen.clone() };
        for part in 0..parts {
            let cut = |whole: &Tensor| whole.narrow(0, part * clips, clips);
            let views = views.iter().map(|(name, view)| (name.clone(), cut(view))).collect();
            let ids = cut(&ids);
            let part_of = |rows: &BankRows| BankRows {
                rows: rows.rows.shallow_clone(),
                ids: rows.ids.shallow_clone(),
                own: rows.own.as_ref().map(cut),
                total: rows.total,
            };
            let banks = banks.iter().map(|(id, rows)| (id.clone(), part_of(rows))).collect();
            let frozen = &pass.frozen;
            let labels = &labels[(part * clips) as usize..((part + 1) * clips) as usize];
            let key = chance;
            let step =
                Step { step: batch.step, views: &views, ids: &ids, labels, banks: &banks, frozen, key };
            let mut found = guarded(&self.id, || self.task.loss(&mut pair, &step))??;
            if let Some(factor) = failpoint::number("train::loss") {
                found.loss = &found.loss * factor;
            }
            let value = found.loss.double_value(&[]);
            pass.loss += value / parts as f64;
            if !value.is_finite() {
                break;
            }
            guarded(&self.id, || (found.loss / parts).backward())?;
            pass.frozen.extend(found.frozen);
            pass.add(found.keys, found.scalars, parts);
        }
        Ok(pass)
    }

    fn views(&self, batch: &Batch) -> Result<BTreeMap<String, Tensor>, StageError> {
        let mut views = BTreeMap::new();
        for name in self.task.views() {
            let view = batch
                .view(&name)
                .ok_or_else(|| StageError::refused(&self.id, format!("the batch has no view `{name}`")))?;
            views.insert(name, to_tensor(view, self.device)?);
        }
        Ok(views)
    }

    fn bank_rows(&mut self, step: u64, ids: &[i64]) -> Result<BTreeMap<String, BankRows>, StageError> {
        let mut banks = BTreeMap::new();
        let chance = self.chance.number(step);
        for (id, bank) in &mut self.banks {
            banks.insert(id.clone(), bank.read(step, ids, chance.part("negatives").part(id))?);
        }
        Ok(banks)
    }

    fn remember(&mut self, step: u64, id: &str, ids: &[i64], keys: &Tensor) -> Result<(), StageError> {
        let bank = self.banks.get_mut(id).ok_or_else(|| {
            StageError::failed(
                &self.id,
                format!("the pretext gave keys for `{id}`, which it did not ask for"),
            )
        })?;
        bank.remember(step, ids, keys)
    }
}

impl Pass {
    /// Takes what one of `parts` parts gave.
    fn add(&mut self, keys: Vec<(String, Tensor)>, scalars: Scalars, parts: i64) {
        let share = 1.0 / parts as f64;
        if self.keys.is_empty() && self.scalars.is_empty() {
            self.keys = keys;
            self.scalars = scalars.into_iter().map(|(name, value)| (name, value * share)).collect();
            return;
        }
        for ((_, all), (_, more)) in self.keys.iter_mut().zip(keys) {
            *all = Tensor::cat(&[&*all, &more], 0);
        }
        for ((_, all), (_, more)) in self.scalars.iter_mut().zip(scalars) {
            *all += more * share;
        }
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

    fn catalogue_changed(&mut self, change: &CatalogueChange) -> Result<u64, StageError> {
        let labels = Arc::make_mut(&mut self.labels);
        for id in change.removed.iter().chain(&change.left) {
            labels.remove(id);
        }
        for (id, label) in &change.added {
            match label {
                Some(label) => drop(labels.insert(*id, Arc::clone(label))),
                None => drop(labels.remove(id)),
            }
        }
        let ids: Vec<i64> = change.removed.iter().map(|id| id.0 as i64).collect();
        let mut rows = 0;
        for bank in self.banks.values_mut().filter(|_| !ids.is_empty()) {
            rows += bank.forget(&ids)?;
        }
        Ok(rows)
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
        let mut lines =
            vec![format!("weights {}", sealed::checksum(&bytes)), format!("encoder {}", path.display())];
        for (id, bank) in &mut self.banks {
            // Not what the last step saw: a run that is resumed at its end makes no step.
            lines.push(format!("bank {id} {}", bank.ages_kept()?.to_text()));
        }
        Ok(lines)
    }
}

/// What settings ask of the run, the batch and its clips.
fn check_fit(
    settings: &TrainSettings,
    context: &SinkContext,
    [_, frames, rows, columns]: [usize; 4],
) -> Result<(), String> {
    let needs_end = [
        (settings.schedule.kind == ScheduleKind::Cosine, "schedule"),
        (settings.momentum_schedule == MomentumSchedule::Cosine, "momentum_schedule"),
    ];
    if let Some((_, name)) = needs_end.iter().find(|(cosine, _)| *cosine && context.steps.is_none()) {
        return Err(format!("a cosine `{name}` needs an end; set `steps` or `epochs` in `[run]`"));
    }
    if settings.schedule.needs_epochs() && context.epoch_clips.is_none() {
        return Err(
            "`schedule` counts in epochs and the data has no end; give the lengths in steps".to_owned()
        );
    }
    let (parts, groups) = (settings.accumulate, settings.bn_groups);
    if !context.batch_size.is_multiple_of(parts.saturating_mul(groups)) {
        let size = context.batch_size;
        return Err(format!(
            "a batch of {size} cannot be cut into `accumulate` x `bn_groups` = {parts} x {groups} equal parts"
        ));
    }
    let (least_frames, least_side) = settings.encoder.architecture().least_clip();
    if frames < least_frames || rows.min(columns) < least_side {
        return Err(format!(
            "clips of {frames} frames of {rows} x {columns} pixels are too small for this encoder, which needs \
             {least_frames} frames and {least_side} x {least_side} pixels"
        ));
    }
    Ok(())
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
mod bank_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
