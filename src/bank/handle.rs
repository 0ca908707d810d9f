//! The one writer and reader of a bank: what is written and read goes through it, in order.
//!
//! Writes return at once and are applied by the shards' owners. With a number for `staleness`, a reader of
//! step `t` sees exactly the writes of steps up to `t - staleness`, whatever the threads do, so runs repeat
//! bit for bit. With `"any"` it takes what has arrived and never waits: see
//! [`Staleness::ANY`](reelflow_api::bank::Staleness::ANY) for what still holds.

use std::collections::HashSet;
use std::sync::Arc;

use reelflow_api::bank::{BankKind, BankSettings, Staleness};
use reelflow_api::error::StageError;
use reelflow_api::rng::Key;

use super::ages::{Ages, Seen};
use super::places::Places;
use super::remote::{Link, Remote};
use super::rows::{Changes, FirstRows, NO_SEGMENT};
use super::shard::{Content, Event, Home, Opening, Owner, Shard, Softmax, Write};
use super::softmax::LogSumExp;
use super::wire::{Threads, Wire};

/// Events a shard may have waiting. A step sends two or three; a full queue makes a writer wait, which
/// bounds memory. Its value changes nothing but how far the handle can run ahead of a slow owner.
const EVENTS_MAX: usize = 64;

/// How far a key's squared length may be from 1: f32 rounding over 65536 values stays below a tenth.
pub(super) const UNIT_TOLERANCE: f64 = 1e-3;

/// Handle of a bank: the one writer and reader. Dropping it ends the owners.
pub struct Bank<W: Wire = Threads> {
    pub(super) id: String,
    pub(super) settings: BankSettings,
    pub(super) first: FirstRows,
    /// First row of each shard, and the number of rows at the end.
    pub(super) starts: Vec<usize>,
    shards: Vec<W::Sender<Event<W>>>,
    threads: Vec<W::Thread>,
    pub(super) places: Places,
    /// Newest step written.
    pub(super) written: Option<u64>,
    /// Newest step read or asked for.
    pub(super) asked: Option<u64>,
    /// A read that is under way: its step, and where the answer comes.
    ahead: Option<(u64, W::Receiver<Changes>)>,
    /// Changes that have come and that no reader was given yet.
    early: Changes,
    seen: Seen,
    /// Whether shards live in other processes.
    is_spread: bool,
}

impl Bank {
    /// Starts a bank whose first rows are drawn from `key`, the same for any number of shards.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn open(id: &str, settings: &BankSettings, key: Key) -> Result<Self, StageError> {
        Self::open_on(id, settings, key)
    }

    /// As [`Bank::open`], with the shards for which there is a link in other processes. Everything is the same bit
    /// for bit; a read also waits for their answers.
    ///
    /// # Errors
    /// If a thread cannot be started, or another process is gone.
    pub fn open_among(
        id: &str,
        settings: &BankSettings,
        key: Key,
        links: impl FnMut(usize) -> Option<Box<dyn Link>>,
    ) -> Result<Self, StageError> {
        Self::open_with(id, settings, key, links)
    }
}

impl<W: Wire> Bank<W> {
    /// As [`Bank::open`], with other channels and threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn open_on(id: &str, settings: &BankSettings, key: Key) -> Result<Self, StageError> {
        Self::open_with(id, settings, key, |_| None)
    }

    fn open_with(
        id: &str,
        settings: &BankSettings,
        key: Key,
        mut links: impl FnMut(usize) -> Option<Box<dyn Link>>,
    ) -> Result<Self, StageError> {
        let (rows, dim) = (settings.rows as usize, settings.dim as usize);
        let count = settings.shards.clamp(1, settings.rows.max(1)) as usize;
        let mut bank = Self {
            id: id.to_owned(),
            settings: settings.clone(),
            first: FirstRows { init: settings.init, dim, key },
            starts: (0..=count).map(|shard| shard * rows / count).collect(),
            shards: Vec::new(),
            threads: Vec::new(),
            places: places(settings.kind, rows, 0, []),
            written: None,
            asked: None,
            ahead: None,
            early: Changes::default(),
            seen: Seen::default(),
            is_spread: false,
        };
        let mut next = None;
        // From the last to the first: each shard knows the one after it.
        for shard in (0..count).rev() {
            let range = bank.starts[shard]..bank.starts[shard + 1];
            let opening = Opening {
                start: range.start,
                count: range.len(),
                kind: settings.kind,
                dtype: settings.dtype,
                least: settings.staleness.least(),
                first: bank.first,
            };
            let home = match links(shard) {
                None => Home::Here(Box::new(Shard::open(opening))),
                Some(link) => {
                    bank.is_spread = true;
                    Home::There(Remote::open(link, opening).ok_or_else(|| bank.dead(shard))?)
                }
            };
            let (sender, events) = W::channel(EVENTS_MAX);
            let owner = Owner::<W> { home, next: next.replace(sender.clone()) };
            bank.threads.insert(0, W::spawn(&format!("bank-{id}-{shard}"), move || owner.run(&events))?);
            bank.shards.insert(0, sender);
        }
        Ok(bank)
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &BankSettings {
        &self.settings
    }

    /// Remembers the keys of `step`, `[ids.len(), dim]`, unit length, of the segments `ids`. Returns at once
    /// unless an owner is far behind.
    ///
    /// # Errors
    /// If lengths do not fit, a key is not finite or not of unit length, a step comes out of order, a
    /// reader already ran that should have seen them, or there are more segments than rows for them.
    /// Nothing is written then.
    pub fn push(&mut self, step: u64, ids: &[i64], keys: &[f32]) -> Result<(), StageError> {
        self.check_push(step, ids, keys)?;
        let places = self.own_rows(ids)?;
        // Were it still on its way, it could meet what is written now.
        if self.settings.staleness != Staleness::ANY && self.ahead.as_ref().is_some_and(|(s, _)| *s < step) {
            self.settle()?;
        }
        let (rows, dim) = (self.settings.rows as usize, self.settings.dim as usize);
        let mut writes: Vec<Option<Write>> = vec![None; self.shards.len()];
        // Of more keys than a queue's rows only the newest stay.
        let dropped = if self.settings.kind == BankKind::Queue { ids.len().saturating_sub(rows) } else { 0 };
        for i in dropped..ids.len() {
            let row = places[i];
            let shard = self.starts.partition_point(|&start| start <= row) - 1;
            let empty = || Write { step, rows: Vec::new(), ids: Vec::new(), keys: Vec::new() };
            let write = writes[shard].get_or_insert_with(empty);
            write.rows.push((row - self.starts[shard]) as u32);
            write.ids.push(ids[i]);
            write.keys.extend_from_slice(&keys[i * dim..(i + 1) * dim]);
        }
        for (shard, write) in writes.into_iter().enumerate() {
            if let Some(write) = write {
                self.send(shard, Event::Write(write))?;
            }
        }
        self.places.keep(ids, &places);
        self.written = Some(step);
        Ok(())
    }

    /// The row that each of `ids` has or, at its first key, gets.
    ///
    /// # Errors
    /// If an instance bank has no row left for one of them.
    pub fn own_rows(&self, ids: &[i64]) -> Result<Vec<usize>, StageError> {
        self.places.of(ids).map_err(|full| {
            let rows = self.settings.rows;
            self.refused(format!(
                "{} segments have keys and there are {rows} rows, one a segment; raise `rows` to the number of segments",
                full.0
            ))
        })
    }

    /// The rows to compare with in a step, drawn uniformly from all with `key`; `None` for a queue, where it
    /// is all of them.
    #[must_use]
    pub fn negatives(&self, key: Key) -> Option<Vec<i64>> {
        let BankKind::Instance { negatives, .. } = self.settings.kind else { return None };
        let mut rng = key.rng();
        Some((0..negatives).map(|_| rng.below(self.settings.rows.into()) as i64).collect())
    }

    /// Starts gathering what [`Bank::read`] of the same step will give. The copy happens on the owners'
    /// threads.
    ///
    /// # Errors
    /// As [`Bank::read`].
    pub fn prefetch(&mut self, step: u64) -> Result<(), StageError> {
        self.check_read(step)?;
        self.asked = Some(step);
        match &self.ahead {
            Some((ahead, _)) if *ahead == step => return Ok(()),
            Some(_) if self.settings.staleness == Staleness::ANY => {
                self.take_arrived();
                if self.ahead.is_some() {
                    return Ok(());
                }
            }
            Some(_) => self.settle()?,
            None => {}
        }
        let (reply, changes) = W::channel(1);
        let event = Event::Read { limit: self.limit(step), changes: Changes::default(), reply };
        if self.settings.staleness != Staleness::ANY || self.seen.is_empty() {
            self.send(0, event)?;
        } else if !W::try_send(&self.shards[0], event) {
            // The owner is far behind; a later step asks again.
            return Ok(());
        }
        self.ahead = Some((step, changes));
        Ok(())
    }

    /// What changed since the read before, as step `step` sees it: with a number for `staleness` after every
    /// write of steps up to `step - staleness` and none later; with `"any"` what has arrived, which may be
    /// nothing. The first read gives all rows and waits for them.
    ///
    /// # Errors
    /// If a later step was read or written before, or an owner has died.
    pub fn read(&mut self, step: u64) -> Result<Changes, StageError> {
        self.prefetch(step)?;
        if self.settings.staleness != Staleness::ANY || self.seen.is_empty() {
            self.settle()?;
        } else {
            self.take_arrived();
        }
        let changes = std::mem::take(&mut self.early);
        self.seen.step = step;
        self.seen.apply(&changes);
        Ok(changes)
    }

    /// `log Σ exp(query · row / temperature)` over all rows as `step` sees them, for each of `queries`
    /// (`[n, dim]`): every shard gives its part, and the parts are merged in the order of the shards. Waits for the
    /// owners.
    ///
    /// # Errors
    /// As [`Bank::read`], and if `queries` do not fit `dim`.
    pub fn log_sum_exp(
        &mut self,
        step: u64,
        queries: &[f32],
        temperature: f64,
    ) -> Result<Vec<LogSumExp>, StageError> {
        let dim = self.first.dim;
        if !queries.len().is_multiple_of(dim) {
            return Err(self.refused(format!("{} values for queries of {dim}", queries.len())));
        }
        self.check_read(step)?;
        self.asked = Some(step);
        let limit = self.limit(step);
        let softmax = Arc::new(Softmax { queries: queries.to_vec(), temperature });
        let mut waiting = Vec::new();
        for shard in 0..self.shards.len() {
            let (reply, parts) = W::channel(1);
            self.send(shard, Event::Partial { limit, softmax: Arc::clone(&softmax), reply })?;
            waiting.push(parts);
        }
        let mut all = vec![LogSumExp::EMPTY; queries.len() / dim];
        for (shard, parts) in waiting.iter().enumerate() {
            let parts = W::receive(parts).ok_or_else(|| self.dead(shard))?;
            all.iter_mut().zip(parts).for_each(|(sum, part)| *sum = sum.merge(part));
        }
        Ok(all)
    }

    /// How old the rows are that the newest read saw.
    #[must_use]
    pub fn ages(&self) -> Ages {
        self.seen.ages()
    }

    /// How old the rows are at the next step, whatever was read so far: as `bank info` tells it of a checkpoint made
    /// now. Copies every shard.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn ages_kept(&mut self) -> Result<Ages, StageError> {
        let contents = self.contents()?;
        let rows = contents.iter().flat_map(|content| content.rows.ids.iter().zip(&content.rows.versions));
        let step = self.written.map_or(0, |step| step + 1);
        Ok(Ages::of_rows(step, self.settings.rows.into(), rows))
    }

    /// Takes all that is known of some segments out: no read and no checkpoint from now on has them, not
    /// even pending. Their rows are as before the first key and may be given to other segments. Waits for
    /// the owners.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn forget(&mut self, ids: &[i64]) -> Result<(), StageError> {
        // The read under way may hold what is to be forgotten.
        self.settle()?;
        let all: Arc<HashSet<i64>> = Arc::new(ids.iter().copied().filter(|id| *id != NO_SEGMENT).collect());
        for shard in 0..self.shards.len() {
            self.send(shard, Event::Forget(Arc::clone(&all)))?;
        }
        self.places.forget(all.iter());
        let (reply, changes) = W::channel(1);
        let limit = self.asked.and_then(|step| self.limit(step));
        self.send(0, Event::Read { limit, changes: Changes::default(), reply })?;
        self.ahead = Some((self.asked.unwrap_or_default(), changes));
        self.settle()
    }

    /// How many keys of some segments are there, pending ones included. Copies every shard.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn count_of(&mut self, ids: &[i64]) -> Result<u64, StageError> {
        let all: HashSet<i64> = ids.iter().copied().filter(|id| *id != NO_SEGMENT).collect();
        let is_one = |id: &&i64| all.contains(*id);
        let of_one = |Content { rows, pending }: &Content| {
            let waiting = pending.iter().flat_map(|write| &write.ids).filter(is_one).count();
            (rows.ids.iter().filter(is_one).count() + waiting) as u64
        };
        Ok(self.contents()?.iter().map(of_one).sum())
    }

    /// Everything the owners have, with the writes applied that the next reader sees: a copy of each shard
    /// at one place in the order of events.
    pub(super) fn contents(&mut self) -> Result<Vec<Content>, StageError> {
        let limit = self.written.max(self.asked).and_then(|step| self.limit(step));
        let mut waiting = Vec::new();
        // All owners copy at once.
        for shard in 0..self.shards.len() {
            let (reply, content) = W::channel(1);
            self.send(shard, Event::Save { limit, reply })?;
            waiting.push(content);
        }
        let contents = waiting.iter().enumerate();
        contents.map(|(shard, content)| W::receive(content).ok_or_else(|| self.dead(shard))).collect()
    }

    /// Replaces everything; the next read gives all rows.
    pub(super) fn load(&mut self, contents: Vec<Content>, first: FirstRows) -> Result<(), StageError> {
        // A read still on its way from shard to shard would take along what is new, and nobody would get it.
        self.settle()?;
        for (shard, content) in contents.into_iter().enumerate() {
            self.send(shard, Event::Load(content, first))?;
        }
        self.first = first;
        self.ahead = None;
        self.early = Changes::default();
        self.seen = Seen::default();
        Ok(())
    }

    /// Waits for the read under way, if there is one.
    fn settle(&mut self) -> Result<(), StageError> {
        if let Some((_, changes)) = self.ahead.take() {
            let changes = W::receive(&changes).ok_or_else(|| self.dead(0))?;
            self.early.merge(changes);
        }
        Ok(())
    }

    /// Takes the answer of the read under way if it is there.
    fn take_arrived(&mut self) {
        if let Some(changes) = self.ahead.as_ref().and_then(|(_, changes)| W::try_receive(changes)) {
            self.ahead = None;
            self.early.merge(changes);
        }
    }

    /// The newest step whose writes a reader of `step` sees.
    fn limit(&self, step: u64) -> Option<u64> {
        step.checked_sub(self.settings.staleness.least())
    }

    fn send(&self, shard: usize, event: Event<W>) -> Result<(), StageError> {
        if W::send(&self.shards[shard], event) { Ok(()) } else { Err(self.dead(shard)) }
    }

    fn dead(&self, shard: usize) -> StageError {
        if self.is_spread {
            let message = format!("the process that keeps shard {shard} or one after it is gone");
            return StageError::transient(&self.id, message);
        }
        let message = format!("the owner of shard {shard} or of one after it panicked; this is a bug");
        StageError { stage: self.id.clone(), message, code: 101 }
    }

    pub(super) fn refused(&self, message: String) -> StageError {
        StageError::refused(&self.id, message)
    }

    fn check_read(&self, step: u64) -> Result<(), StageError> {
        match self.written.max(self.asked) {
            Some(newest) if step < newest => Err(self.refused(format!(
                "a read of step {step} after step {newest} was read or written; steps only go up"
            ))),
            _ => Ok(()),
        }
    }

    fn check_push(&self, step: u64, ids: &[i64], keys: &[f32]) -> Result<(), StageError> {
        let dim = self.first.dim;
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
        if let Some(i) = ids.iter().position(|id| *id == NO_SEGMENT) {
            return Err(
                self.refused(format!("key {i} of step {step} has id {NO_SEGMENT}, which is no segment's"))
            );
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

/// Where keys go in a bank of this kind.
pub(super) fn places(
    kind: BankKind,
    rows: usize,
    next: usize,
    taken: impl IntoIterator<Item = (i64, usize)>,
) -> Places {
    match kind {
        BankKind::Queue => Places::Queue { rows, next },
        BankKind::Instance { .. } => Places::instance(rows, next, taken),
    }
}

impl<W: Wire> Drop for Bank<W> {
    fn drop(&mut self) {
        // The first shard ends when the handle's sender is gone, each next one when the one before has.
        self.shards.clear();
        for thread in self.threads.drain(..) {
            W::join(thread);
        }
    }
}
