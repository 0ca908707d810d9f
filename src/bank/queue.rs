//! A first-in-first-out memory of keys: what VTDL and MoCo compare against.
//!
//! Writes return at once and are applied by the shards' owners. A reader of step `t` sees exactly the
//! writes of steps up to `t - staleness`, whatever the threads do, so runs repeat bit for bit.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use reelflow_api::bank::{BankInit, BankSettings};
use reelflow_api::error::StageError;
use reelflow_api::rng::Key;
use reelflow_api::spec::{Kind, Output, Spec, read, schema_of};
use reelflow_api::stage::Stage;

use super::shard::{Content, Event, Shard, Write};
use crate::edge::threads;

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

/// Events a shard may have waiting. A step sends two or three; a full queue makes the sender wait, which
/// bounds memory. Its value changes nothing but how far the handle can run ahead of a slow owner.
const EVENTS_MAX: usize = 64;

/// How far a key's squared length may be from 1: f32 rounding over 65536 values stays below a tenth.
const UNIT_TOLERANCE: f64 = 1e-3;

/// The rows of a bank as one reader sees them. Never torn: a row is one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// `[rows, dim]`, f32.
    pub values: Vec<f32>,
    /// `[rows]`: segment id of each key, -1 for a row that no key has reached.
    pub ids: Vec<i64>,
    /// `[rows]`: step that wrote each key, -1 for a row that no key has reached.
    pub versions: Vec<i64>,
}

impl Rows {
    pub(super) fn append(&mut self, other: &Self) {
        self.values.extend_from_slice(&other.values);
        self.ids.extend_from_slice(&other.ids);
        self.versions.extend_from_slice(&other.versions);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.ids.clear();
        self.versions.clear();
    }
}

/// Handle of a bank: the one writer and reader. Dropping it ends the owners.
pub struct Bank {
    pub(super) id: String,
    pub(super) settings: BankSettings,
    /// First row of each shard, and the number of rows at the end.
    pub(super) starts: Vec<usize>,
    pub(super) shards: Vec<Sender<Event>>,
    threads: Vec<JoinHandle<()>>,
    /// Row that the next key goes to.
    pub(super) next_row: usize,
    /// Newest step written.
    pub(super) written: Option<u64>,
    /// Newest step read or asked for.
    pub(super) asked: Option<u64>,
    /// A read that is under way.
    ahead: Option<(u64, Receiver<Rows>)>,
    /// Memory of rows that were given back.
    spare: Rows,
}

impl Bank {
    /// Starts a bank whose first rows are drawn from `key`, the same for any number of shards.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn open(id: &str, settings: &BankSettings, key: Key) -> Result<Self, StageError> {
        let (rows, dim) = (settings.rows as usize, settings.dim as usize);
        let count = settings.shards.clamp(1, settings.rows.max(1)) as usize;
        let starts: Vec<usize> = (0..=count).map(|shard| shard * rows / count).collect();
        let mut bank = Self {
            id: id.to_owned(),
            settings: settings.clone(),
            shards: Vec::new(),
            threads: Vec::new(),
            next_row: 0,
            written: None,
            asked: None,
            ahead: None,
            spare: Rows::default(),
            starts,
        };
        let mut next = None;
        // From the last to the first: each shard knows the one after it.
        for shard in (0..count).rev() {
            let range = bank.starts[shard]..bank.starts[shard + 1];
            let first_rows = Rows {
                values: range.clone().flat_map(|row| first_row(settings.init, dim, key, row)).collect(),
                ids: vec![-1; range.len()],
                versions: vec![-1; range.len()],
            };
            let (sender, events) = bounded(EVENTS_MAX);
            let owner = Shard {
                dim,
                staleness: u64::from(settings.staleness),
                content: Content { rows: first_rows, ..Content::default() },
                next: next.replace(sender.clone()),
            };
            let thread = threads::spawn(&format!("bank-{id}-{shard}"), move || owner.run(&events))?;
            bank.shards.insert(0, sender);
            bank.threads.insert(0, thread);
        }
        Ok(bank)
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &BankSettings {
        &self.settings
    }

    /// Remembers the keys of `step`, `[ids.len(), dim]`, unit length. Returns at once; the oldest keys go.
    ///
    /// # Errors
    /// If lengths do not fit, a key is not finite or not of unit length, a step comes out of order, or a
    /// reader already ran that should have seen them. Nothing is written then.
    pub fn push(&mut self, step: u64, ids: &[i64], keys: &[f32]) -> Result<(), StageError> {
        self.check_push(step, ids, keys)?;
        let (rows, dim) = (self.settings.rows as usize, self.settings.dim as usize);
        let mut writes: Vec<Option<Write>> = vec![None; self.shards.len()];
        // Of more keys than rows only the newest stay.
        for i in ids.len().saturating_sub(rows)..ids.len() {
            let row = (self.next_row + i) % rows;
            let shard = self.starts.partition_point(|&start| start <= row) - 1;
            let write = writes[shard].get_or_insert_with(|| Write {
                step,
                rows: Vec::new(),
                ids: Vec::new(),
                keys: Vec::new(),
            });
            write.rows.push((row - self.starts[shard]) as u32);
            write.ids.push(ids[i]);
            write.keys.extend_from_slice(&keys[i * dim..(i + 1) * dim]);
        }
        for (shard, write) in writes.into_iter().enumerate() {
            if let Some(write) = write {
                self.send(shard, Event::Write(write))?;
            }
        }
        self.next_row = (self.next_row + ids.len()) % rows;
        self.written = Some(step);
        Ok(())
    }

    /// Starts gathering the rows that [`Bank::read`] of the same step will give. The copy happens on the
    /// owners' threads.
    ///
    /// # Errors
    /// As [`Bank::read`].
    pub fn prefetch(&mut self, step: u64) -> Result<(), StageError> {
        if self.ahead.as_ref().is_some_and(|(ahead, _)| *ahead == step) {
            return Ok(());
        }
        let newest = self.written.max(self.asked);
        if newest.is_some_and(|newest| step < newest) {
            return Err(self.refused(format!(
                "a read of step {step} after step {} was read or written; steps only go up",
                newest.unwrap_or_default()
            )));
        }
        let (reply, rows) = bounded(1);
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.values.reserve_exact(self.settings.rows as usize * self.settings.dim as usize);
        self.asked = Some(step);
        self.ahead = Some((step, rows));
        let limit = self.limit(step);
        self.send(0, Event::Read { limit, rows: buffer, reply })
    }

    /// The rows as step `step` sees them: every write of steps up to `step - staleness`, none later.
    ///
    /// # Errors
    /// If a later step was read or written before, or an owner has died.
    pub fn read(&mut self, step: u64) -> Result<Rows, StageError> {
        self.prefetch(step)?;
        let (_, rows) = self.ahead.take().expect("prefetch leaves a read under way");
        rows.recv().map_err(|_| self.dead(0))
    }

    /// Gives rows back, so that the next read needs no new memory. Optional.
    pub fn give_back(&mut self, rows: Rows) {
        self.spare = rows;
    }

    /// Drops a read that is under way.
    pub(super) fn forget_read_ahead(&mut self) {
        self.ahead = None;
    }

    /// The newest step whose writes a reader of `step` sees.
    pub(super) fn limit(&self, step: u64) -> Option<u64> {
        step.checked_sub(u64::from(self.settings.staleness))
    }

    pub(super) fn send(&self, shard: usize, event: Event) -> Result<(), StageError> {
        self.shards[shard].send(event).map_err(|_| self.dead(shard))
    }

    pub(super) fn dead(&self, shard: usize) -> StageError {
        StageError::failed(&self.id, format!("the owner of bank shard {shard} or one after it has died"))
    }

    pub(super) fn refused(&self, message: String) -> StageError {
        StageError::refused(&self.id, message)
    }

    fn check_push(&self, step: u64, ids: &[i64], keys: &[f32]) -> Result<(), StageError> {
        let dim = self.settings.dim as usize;
        if keys.len() != ids.len() * dim {
            return Err(self.refused(format!(
                "{} values for {} keys of {dim}; the bank's `dim` and the pretext's head must agree",
                keys.len(),
                ids.len()
            )));
        }
        if self.written.is_some_and(|written| step < written) {
            return Err(self.refused(format!(
                "keys of step {step} after those of step {}; steps only go up",
                self.written.unwrap_or_default()
            )));
        }
        if self.asked.and_then(|asked| self.limit(asked)).is_some_and(|limit| step <= limit) {
            return Err(self.refused(format!(
                "keys of step {step} come after step {} was read, which should have seen them",
                self.asked.unwrap_or_default()
            )));
        }
        for (i, key) in keys.chunks_exact(dim).enumerate() {
            let square: f64 = key.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            if square.is_nan() || (square - 1.0).abs() > UNIT_TOLERANCE {
                return Err(StageError::failed(
                    &self.id,
                    format!("key {i} of step {step} has squared length {square}, expected 1; not written"),
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        // The first shard ends when the handle's sender is gone, each next one when the one before has.
        self.shards.clear();
        for thread in self.threads.drain(..) {
            // A panic of an owner was reported by the call that met it.
            drop(thread.join());
        }
    }
}

/// What stands in a row before the first key arrives; a pure function of (key, row).
fn first_row(init: BankInit, dim: usize, key: Key, row: usize) -> Vec<f32> {
    let mut rng = key.number(row as u64).rng();
    match init {
        BankInit::Uniform => {
            let bound = 1.0 / (dim as f64 / 3.0).sqrt();
            (0..dim).map(|_| rng.range(-bound, bound) as f32).collect()
        }
        BankInit::Sphere => {
            let values: Vec<f64> = (0..dim).map(|_| rng.range(-1.0, 1.0)).collect();
            let length = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.iter().map(|x| (x / length) as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests;
