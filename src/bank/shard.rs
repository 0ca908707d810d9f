//! A range of a bank's rows and its owner: one thread that has events applied in the order they come.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use reelflow_api::bank::{BankKind, RowType};
use serde::{Deserialize, Serialize};

use super::remote::{Asked, Remote, Told};
use super::rows::{Changes, FirstRows, NO_SEGMENT, Stored, moved};
use super::softmax::{LogSumExp, partial};
use super::wire::Wire;
use crate::edge::failpoint;

/// Everything that can happen to a shard.
pub(super) enum Event<W: Wire> {
    /// Keys of one step for rows of this shard. Kept pending until a reader may see them.
    Write(Write),
    /// Append what changed since the last of these to `changes`, as a reader sees it that may know steps up
    /// to `limit`, then pass on.
    Read { limit: Option<u64>, changes: Changes, reply: W::Sender<Changes> },
    /// The part of this shard in a softmax over all rows, as the same reader sees them.
    Partial { limit: Option<u64>, softmax: Arc<Softmax>, reply: W::Sender<Vec<LogSumExp>> },
    /// Take segments out, visible or pending.
    Forget(Arc<HashSet<i64>>),
    /// Hand out a copy of everything, with writes up to `limit` applied.
    Save { limit: Option<u64>, reply: W::Sender<Content> },
    /// Replace everything.
    Load(Content, FirstRows),
}

/// The queries of a softmax over all rows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Softmax {
    /// `[n, dim]`.
    pub queries: Vec<f32>,
    pub temperature: f64,
}

/// Keys of one step for some rows of a shard.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Write {
    pub step: u64,
    /// Rows within the shard, one a key.
    pub rows: Vec<u32>,
    /// Segment ids, one a key; [`NO_SEGMENT`] empties the row instead of moving it.
    pub ids: Vec<i64>,
    /// `[rows.len(), dim]`.
    pub keys: Vec<f32>,
}

/// All that a shard knows: its rows and the writes that no reader may see yet, oldest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Content {
    pub rows: Stored,
    pub pending: VecDeque<Write>,
}

/// What a shard is opened with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Opening {
    /// Number of its first row in the bank.
    pub start: usize,
    /// Rows.
    pub count: usize,
    pub kind: BankKind,
    pub dtype: RowType,
    /// Fewest steps between a write and a read that sees it.
    pub least: u64,
    pub first: FirstRows,
}

/// A range of a bank's rows, changed by one event after the other. Waits for nothing.
pub(super) struct Shard {
    opening: Opening,
    first: FirstRows,
    content: Content,
    changed: Changed,
}

/// Where a shard lives.
pub(super) enum Home {
    /// In this process.
    Here(Box<Shard>),
    /// In another one.
    There(Remote),
}

/// The one who takes a shard's events, in the order they come, on a thread of its own.
pub(super) struct Owner<W: Wire> {
    pub home: Home,
    /// The shard with the next higher rows; `None` for the last one, which replies.
    pub next: Option<W::Sender<Event<W>>>,
}

/// Rows that differ from what the reader was given.
struct Changed {
    rows: Vec<u32>,
    is_in: Vec<bool>,
}

impl Changed {
    /// All of `count` rows.
    fn all(count: usize) -> Self {
        Self { rows: (0..count as u32).collect(), is_in: vec![true; count] }
    }

    fn add(&mut self, row: u32) {
        if !std::mem::replace(&mut self.is_in[row as usize], true) {
            self.rows.push(row);
        }
    }

    fn take(&mut self) -> Vec<u32> {
        for &row in &self.rows {
            self.is_in[row as usize] = false;
        }
        std::mem::take(&mut self.rows)
    }
}

impl<W: Wire> Owner<W> {
    /// Serves until the handle is gone. Waits only for the next event, for the answer of another process, and, when
    /// passing a read on, for room in the next shard's queue; the last shard replies into a queue that has room.
    ///
    /// After a panic, which was printed, and where another process is gone, events are still taken and let go: who waits
    /// for a reply meets the end of the owner then, not silence. A queue keeps what is in it for as long as there is a
    /// sender.
    pub fn run(mut self, events: &W::Receiver<Event<W>>) {
        let serve = || while W::receive(events).is_some_and(|event| self.home.take(&self.next, event)) {};
        // What it panicked with was printed.
        let _ = catch_unwind(AssertUnwindSafe(serve));
        while W::receive(events).is_some() {}
    }
}

impl Home {
    /// False if the shard cannot be reached any more.
    fn take<W: Wire>(&mut self, next: &Option<W::Sender<Event<W>>>, event: Event<W>) -> bool {
        match event {
            Event::Write(write) => match self {
                Self::Here(shard) => shard.write(write),
                Self::There(remote) => return remote.tell(Asked::Write(write)),
            },
            Event::Read { limit, mut changes, reply } => {
                match self {
                    Self::Here(shard) => shard.read(limit, &mut changes),
                    Self::There(remote) => match remote.ask(Asked::Read { limit }) {
                        Some(Told::Changes(more)) => changes.append(more),
                        _ => return false,
                    },
                }
                // A reader that has gone away is no failure of the shard.
                match next {
                    Some(next) => W::send(next, Event::Read { limit, changes, reply }),
                    None => W::send(&reply, changes),
                };
            }
            Event::Partial { limit, softmax, reply } => {
                let parts = match self {
                    Self::Here(shard) => shard.partial(limit, &softmax),
                    Self::There(remote) => {
                        match remote.ask(Asked::Partial { limit, softmax: (*softmax).clone() }) {
                            Some(Told::Parts(parts)) => parts,
                            _ => return false,
                        }
                    }
                };
                W::send(&reply, parts);
            }
            Event::Forget(ids) => match self {
                Self::Here(shard) => shard.forget(&ids),
                Self::There(remote) => return remote.tell(Asked::Forget((*ids).clone())),
            },
            Event::Save { limit, reply } => {
                let content = match self {
                    Self::Here(shard) => shard.save(limit),
                    Self::There(remote) => match remote.ask(Asked::Save { limit }) {
                        Some(Told::Content(content)) => content,
                        _ => return false,
                    },
                };
                W::send(&reply, content);
            }
            Event::Load(content, first) => match self {
                Self::Here(shard) => shard.load(content, first),
                Self::There(remote) => return remote.tell(Asked::Load(content, first)),
            },
        }
        true
    }
}

impl Shard {
    /// With rows that no key has reached.
    pub fn open(opening: Opening) -> Self {
        let Opening { start, count, first, dtype, .. } = opening;
        let rows = Stored::fresh(dtype, &first, start..start + count);
        let content = Content { rows, pending: VecDeque::new() };
        Self { opening, first, content, changed: Changed::all(count) }
    }

    pub fn write(&mut self, write: Write) {
        // A reader never asks for a step before the newest write, so this is visible to all.
        self.apply(write.step.checked_sub(self.opening.least));
        self.content.pending.push_back(write);
    }

    /// Appends what changed since the last read.
    pub fn read(&mut self, limit: Option<u64>, changes: &mut Changes) {
        self.apply(limit);
        self.tell(changes);
    }

    /// One part a query.
    pub fn partial(&mut self, limit: Option<u64>, softmax: &Softmax) -> Vec<LogSumExp> {
        self.apply(limit);
        let (rows, dim) = (&self.content.rows, self.first.dim);
        let mut values = Vec::new();
        rows.values.read(0..rows.ids.len() * dim, &mut values);
        let queries = softmax.queries.chunks_exact(dim);
        queries.map(|query| partial(query, &values, softmax.temperature)).collect()
    }

    pub fn save(&mut self, limit: Option<u64>) -> Content {
        self.apply(limit);
        self.content.clone()
    }

    pub fn load(&mut self, content: Content, first: FirstRows) {
        self.changed = Changed::all(content.rows.ids.len());
        self.content = content;
        self.first = first;
    }

    /// Makes pending writes of steps up to `limit` visible; `None` is before the first step.
    fn apply(&mut self, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        let dim = self.first.dim;
        while self.content.pending.front().is_some_and(|write| write.step <= limit) {
            let Some(mut write) = self.content.pending.pop_front() else { return };
            for (i, &row) in write.rows.iter().enumerate() {
                let key = &mut write.keys[i * dim..(i + 1) * dim];
                if let Some(number) = failpoint::number("bank::apply") {
                    key.fill(number as f32);
                }
                self.set(row, write.ids[i], write.step as i64, key);
            }
        }
    }

    fn set(&mut self, row: u32, id: i64, version: i64, key: &[f32]) {
        let (at, dim) = (row as usize, self.first.dim);
        let rows = &mut self.content.rows;
        match self.opening.kind {
            BankKind::Instance { momentum, .. } if id != NO_SEGMENT => {
                let mut now = Vec::with_capacity(dim);
                rows.values.read(at * dim..(at + 1) * dim, &mut now);
                rows.values.write(at * dim, &moved(&now, key, momentum));
            }
            _ => rows.values.write(at * dim, key),
        }
        rows.ids[at] = id;
        rows.versions[at] = version;
        self.changed.add(row);
    }

    fn tell(&mut self, changes: &mut Changes) {
        let dim = self.first.dim;
        let rows = &self.content.rows;
        let changed = self.changed.take();
        changes.values.reserve(changed.len() * dim);
        for row in changed {
            let at = row as usize;
            changes.rows.push((self.opening.start + at) as i64);
            rows.values.read(at * dim..(at + 1) * dim, &mut changes.values);
            changes.ids.push(rows.ids[at]);
            changes.versions.push(rows.versions[at]);
        }
    }

    /// A forgotten row is as it was before its first key. A pending one empties its row when its time comes,
    /// so that a queue's order stays as it was.
    pub fn forget(&mut self, ids: &HashSet<i64>) {
        let dim = self.first.dim;
        for write in &mut self.content.pending {
            for (i, id) in write.ids.iter_mut().enumerate().filter(|(_, id)| ids.contains(id)) {
                *id = NO_SEGMENT;
                let first = self.first.row(self.opening.start + write.rows[i] as usize);
                write.keys[i * dim..(i + 1) * dim].copy_from_slice(&first);
            }
        }
        for row in 0..self.content.rows.ids.len() {
            if ids.contains(&self.content.rows.ids[row]) {
                let first = self.first.row(self.opening.start + row);
                self.content.rows.values.write(row * dim, &first);
                self.content.rows.ids[row] = NO_SEGMENT;
                self.changed.add(row as u32);
            }
        }
    }
}
