//! The owner of a range of a bank's rows: one thread that applies events in the order they come.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};

use super::queue::Rows;

/// Everything that can happen to a shard.
pub(super) enum Event {
    /// Keys of one step for rows of this shard. Kept pending until a reader may see them.
    Write(Write),
    /// Append the rows to `rows` as a reader sees them that may know steps up to `limit`, then pass on.
    Read { limit: Option<u64>, rows: Rows, reply: Sender<Rows> },
    /// Hand out everything, with writes up to `limit` applied.
    Save { limit: Option<u64>, reply: Sender<Content> },
    /// Replace everything.
    Load(Content),
}

/// Keys of one step for some rows of a shard.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub step: u64,
    /// Rows within the shard, one a key.
    pub rows: Vec<u32>,
    /// Segment ids, one a key.
    pub ids: Vec<i64>,
    /// `[rows.len(), dim]`.
    pub keys: Vec<f32>,
}

/// All that a shard knows: its rows and the writes that no reader may see yet, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pub rows: Rows,
    pub pending: VecDeque<Write>,
}

pub(super) struct Shard {
    pub dim: usize,
    pub staleness: u64,
    pub content: Content,
    /// The shard with the next higher rows; `None` for the last one, which replies.
    pub next: Option<Sender<Event>>,
}

impl Shard {
    /// Serves until the handle is gone. Never waits for anything but the next event and, when passing a
    /// read on, for room in the next shard's queue; the last shard replies into a queue that has room.
    pub fn run(mut self, events: &Receiver<Event>) {
        for event in events {
            match event {
                Event::Write(write) => {
                    // A reader never asks for a step before the newest write, so this is visible to all.
                    self.apply(write.step.checked_sub(self.staleness));
                    self.content.pending.push_back(write);
                }
                Event::Read { limit, mut rows, reply } => {
                    self.apply(limit);
                    rows.append(&self.content.rows);
                    // A reader that has gone away is no failure of the shard.
                    match &self.next {
                        Some(next) => drop(next.send(Event::Read { limit, rows, reply })),
                        None => drop(reply.send(rows)),
                    }
                }
                Event::Save { limit, reply } => {
                    self.apply(limit);
                    drop(reply.send(self.content.clone()));
                }
                Event::Load(content) => self.content = content,
            }
        }
    }

    /// Makes pending writes of steps up to `limit` visible; `None` is before the first step.
    fn apply(&mut self, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        while self.content.pending.front().is_some_and(|write| write.step <= limit) {
            let Some(write) = self.content.pending.pop_front() else { return };
            let rows = &mut self.content.rows;
            for (i, &row) in write.rows.iter().enumerate() {
                let (row, dim) = (row as usize, self.dim);
                rows.values[row * dim..(row + 1) * dim].copy_from_slice(&write.keys[i * dim..(i + 1) * dim]);
                rows.ids[row] = write.ids[i];
                rows.versions[row] = write.step as i64;
            }
        }
    }
}
