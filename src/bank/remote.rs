//! Shards in other processes: what is asked of them and answered, whatever carries it.
//!
//! The bank's own process has a thread a shard as ever; for a shard that lives elsewhere that thread sends what it is
//! given over a [`Link`] and waits where there is an answer. So a shard sees the same events in the same order wherever
//! it lives, and all that is read, saved or drawn is the same bit for bit.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::rows::{Changes, FirstRows};
use super::shard::{Content, Opening, Shard, Softmax, Write};
use super::softmax::LogSumExp;

/// Requests without an answer that may be on their way before one with an answer is sent: a carrier need not bound its
/// queue. At 128 numbers a key and 16 keys a step this is half a megabyte a shard.
const UNANSWERED_MAX: usize = 64;

/// What is asked of a shard.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Request(Asked);

/// What it answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answer(Told);

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Asked {
    Open(Opening),
    Write(Write),
    Read {
        limit: Option<u64>,
    },
    Partial {
        limit: Option<u64>,
        softmax: Softmax,
    },
    Forget(HashSet<i64>),
    Save {
        limit: Option<u64>,
    },
    Load(Content, FirstRows),
    /// Answered when everything before it is done.
    Settle,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Told {
    Changes(Changes),
    Parts(Vec<LogSumExp>),
    Content(Content),
    Settled,
}

/// The way to one shard in another process and back. Requests arrive in the order they are sent.
pub trait Link: Send {
    /// Sends a request that has no answer; false if the other end is gone.
    fn tell(&mut self, request: Request) -> bool;

    /// Sends a request and waits for its answer; `None` if the other end is gone.
    fn ask(&mut self, request: Request) -> Option<Answer>;
}

/// A shard that lives in another process.
pub(super) struct Remote {
    link: Box<dyn Link>,
    unanswered: usize,
}

impl Remote {
    /// Opens the shard at the other end; `None` if that is gone.
    pub fn open(link: Box<dyn Link>, opening: Opening) -> Option<Self> {
        let mut remote = Self { link, unanswered: 0 };
        remote.tell(Asked::Open(opening)).then_some(remote)
    }

    /// False if the other end is gone.
    pub fn tell(&mut self, asked: Asked) -> bool {
        if self.unanswered == UNANSWERED_MAX && self.ask(Asked::Settle).is_none() {
            return false;
        }
        self.unanswered += 1;
        self.link.tell(Request(asked))
    }

    /// `None` if the other end is gone.
    pub fn ask(&mut self, asked: Asked) -> Option<Told> {
        self.unanswered = 0;
        self.link.ask(Request(asked)).map(|answer| answer.0)
    }
}

/// The shards that a process keeps for the banks of others, by asker, bank and number.
#[derive(Default)]
pub struct Hosted {
    shards: BTreeMap<(u64, String, u32), Shard>,
}

impl Hosted {
    /// Does what `asker` asks of a shard, and gives the answer if there is one. A shard that was never opened has no
    /// answer: whoever asks sees that as a process that is gone.
    pub fn serve(&mut self, asker: u64, bank: &str, shard: u32, request: Request) -> Option<Answer> {
        let place = (asker, bank.to_owned(), shard);
        if let Asked::Open(opening) = request.0 {
            self.shards.insert(place, Shard::open(opening));
            return None;
        }
        let shard = self.shards.get_mut(&place)?;
        let told = match request.0 {
            Asked::Open(_) => return None,
            Asked::Write(write) => {
                shard.write(write);
                return None;
            }
            Asked::Forget(ids) => {
                shard.forget(&ids);
                return None;
            }
            Asked::Load(content, first) => {
                shard.load(content, first);
                return None;
            }
            Asked::Read { limit } => {
                let mut changes = Changes::default();
                shard.read(limit, &mut changes);
                Told::Changes(changes)
            }
            Asked::Partial { limit, softmax } => Told::Parts(shard.partial(limit, &softmax)),
            Asked::Save { limit } => Told::Content(shard.save(limit)),
            Asked::Settle => Told::Settled,
        };
        Some(Answer(told))
    }
}
