//! The feed's own thread: connects, waits, cuts, keeps, tells, connects again.
//!
//! It alone decides, so that news come in order and every frame is counted once. It never waits inside GStreamer:
//! connections open and close on threads of their own. All waiting is in [`Timer::wait`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use reelflow_api::error::{Skip, SkipReason};
use reelflow_api::feed::{FeedCounts, News, Recording, Tell};
use reelflow_api::item::{Media, Origin, Part, Picture, Segment, SegmentId};
use xxhash_rust::xxh3::Xxh3;

use super::cutter::{Cutter, Piece, Rules};
use super::inlet::{Arrival, Door, Fault, Format, HOLD, Incoming, Inlet, Side, TOO_SHORT};
use super::patience::{Due, Patience};
use super::ring::Ring;
use super::settings::Overload;
use crate::edge::clock;

/// How often a source that waits looks whether a segment was used: the contract has no word for it.
const LOOK: Duration = Duration::from_millis(5);

/// What ended a wait.
pub enum Woken {
    /// Something came.
    Arrival(Arrival),
    /// The connection's thread is gone without a word.
    Gone,
    /// The time has come.
    Time,
    /// The feed is to stop.
    Stopped,
}

/// Time, and waiting for it.
pub trait Timer: Send {
    /// Time since the feed was started.
    fn now(&self) -> Duration;

    /// Waits for the first of: an arrival, a wish to stop, `until`.
    fn wait(&mut self, arrivals: &Receiver<Arrival>, stop: &Receiver<()>, until: Option<Duration>) -> Woken;
}

/// The clock on the wall, monotonic.
pub struct WallTimer(pub Instant);

impl Timer for WallTimer {
    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.0)
    }

    fn wait(&mut self, arrivals: &Receiver<Arrival>, stop: &Receiver<()>, until: Option<Duration>) -> Woken {
        // Without a deadline an hour is as good as for ever: the caller asks again.
        let limit = until.map_or(Duration::from_secs(3600), |until| until.saturating_sub(self.now()));
        select! {
            recv(stop) -> _ => Woken::Stopped,
            recv(arrivals) -> arrival => arrival.map_or(Woken::Gone, Woken::Arrival),
            default(limit) => Woken::Time,
        }
    }
}

/// How a feed behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How to cut.
    pub rules: Rules,
    /// Most bytes of pictures in memory.
    pub bytes_max: u64,
    /// What happens when they are reached.
    pub overload: Overload,
    /// Segments the first step waits for.
    pub start_after: u64,
    /// Longest silence of a connection.
    pub stall: Option<Duration>,
    /// Longest absence.
    pub give_up: Option<Duration>,
    /// Whether the source may be held up.
    pub can_wait: bool,
}

/// A feed at work, on its thread.
pub struct Drive<T> {
    stage: String,
    manner: Manner,
    timer: T,
    started: Instant,
    stop: Receiver<()>,
    tell: Tell,
    counts: Arc<Mutex<FeedCounts>>,
    door: Box<dyn Door>,
    /// The open connection and what comes from it; the receiver goes first, so that nobody waits to be heard.
    line: Option<(Receiver<Arrival>, Box<dyn Send>)>,
    side: Arc<Side>,
    patience: Patience,
    cutter: Cutter,
    ring: Ring,
    connections: u64,
    received: u64,
    segments: u64,
    last_reason: String,
    /// It was away for longer than it may be.
    is_given_up: bool,
    /// Reasons that were told: one line each is enough.
    told: BTreeSet<SkipReason>,
}

impl<T: Timer> Drive<T> {
    /// A feed for the source `id` that tells `tell` until the other end of `stop` is dropped.
    #[must_use]
    pub fn new(
        id: &str,
        manner: Manner,
        door: Box<dyn Door>,
        (timer, started): (T, Instant),
        (stop, tell): (Receiver<()>, Tell),
        counts: Arc<Mutex<FeedCounts>>,
    ) -> Self {
        Self {
            stage: id.to_owned(),
            timer,
            started,
            stop,
            tell,
            counts,
            door,
            line: None,
            side: Arc::default(),
            patience: Patience::new(manner.stall, manner.give_up),
            cutter: Cutter::new(manner.rules),
            ring: Ring::new(manner.bytes_max),
            connections: 0,
            received: 0,
            segments: 0,
            last_reason: String::new(),
            is_given_up: false,
            told: BTreeSet::new(),
            manner,
        }
    }

    /// Works until it is stopped, the source is over, or it was away for too long. Gives what is still kept: clips may
    /// be made of it for as long as the run goes on.
    pub fn run(mut self) -> Ring {
        while self.turn() {
            self.publish();
        }
        self.close();
        self.patience.end();
        self.publish();
        self.ring
    }

    /// One thing after the other; whether there is more to do.
    fn turn(&mut self) -> bool {
        if let Some(seen) = self.side.seen() {
            self.patience.alive(Duration::from_nanos(seen));
        }
        match self.patience.due(self.timer.now()) {
            Due::Open => self.open(),
            Due::Stalled => return self.lose(silence(self.manner.stall), true),
            Due::GiveUp => {
                self.give_up();
                return false;
            }
            Due::Wait(until) => {
                let nobody = never();
                let arrivals = self.line.as_ref().map_or(&nobody, |(arrivals, _)| arrivals);
                match self.timer.wait(arrivals, &self.stop, until) {
                    Woken::Arrival(arrival) => return self.take(arrival),
                    Woken::Gone => {
                        return self.lose(fault(SkipReason::Vanished, "the connection ended"), false);
                    }
                    Woken::Time => {}
                    Woken::Stopped => return false,
                }
            }
        }
        true
    }

    fn open(&mut self) {
        let (inlet, arrivals) = Inlet::new(&self.side, self.started, (!self.manner.can_wait).then_some(HOLD));
        self.patience.opened(self.timer.now());
        self.line = Some((arrivals, self.door.open(self.connections, inlet)));
        self.connections += 1;
    }

    fn close(&mut self) {
        if let Some((arrivals, line)) = self.line.take() {
            drop(arrivals);
            drop(line);
        }
    }

    fn take(&mut self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Format(format) => {
                let ended = self.cutter.format(format);
                self.keep(ended);
            }
            Arrival::Frame(frame) => {
                self.patience.frame(self.timer.now());
                return self.frame(frame);
            }
            Arrival::Skipped(skip) => self.skip(skip),
            Arrival::Fault(fault) => return self.lose(fault, false),
            Arrival::Finished => {
                let ended = self.cutter.interrupt();
                self.keep(ended);
                (self.tell)(News::Ended);
                return false;
            }
        }
        true
    }

    fn frame(&mut self, frame: Incoming) -> bool {
        let bytes = frame.picture.planes.len() as u64;
        let Picture { width, height, .. } = frame.picture;
        if bytes * u64::from(self.manner.rules.frames_min.max(1)) > self.manner.rules.bytes_max {
            // It goes nowhere, so it is counted where it would have ended.
            self.side.leave_out(TOO_SHORT);
            let message = format!(
                "{} pictures of {width}x{height} do not fit half of `keep_mb`; raise it, or lower `frames_min`",
                self.manner.rules.frames_min
            );
            return self.lose(Fault { is_lasting: true, ..fault(SkipReason::Limit, message) }, false);
        }
        if !self.make_room(bytes) {
            return false;
        }
        self.received += 1;
        let ended = self.cutter.frame(frame);
        self.keep(ended);
        true
    }

    /// Lets segments go until `bytes` more fit; whether it may go on.
    fn make_room(&mut self, bytes: u64) -> bool {
        while self.ring.is_full(self.cutter.open().1 + bytes) {
            if self.segments < self.manner.start_after {
                self.never_enough();
                return false;
            }
            let gone = match self.manner.overload {
                Overload::DropOldest => self.ring.drop_oldest(),
                Overload::Block => self.ring.drop_used(),
            };
            if let Some(id) = gone {
                (self.tell)(News::Left(id));
                continue;
            }
            self.publish();
            let until = self.timer.now() + LOOK;
            if let Woken::Stopped = self.timer.wait(&never(), &self.stop, Some(until)) {
                return false;
            }
        }
        true
    }

    /// Memory is full, and nothing will be used before there is more.
    fn never_enough(&mut self) {
        let message = format!(
            "`keep_mb` has room for {} segments, and `start_after` waits for {}; raise the one or lower the other",
            self.ring.len(),
            self.manner.start_after
        );
        self.skip_for(SkipReason::Limit, message);
        (self.tell)(News::Ended);
    }

    fn keep(&mut self, ended: Option<Piece>) {
        let Some(piece) = ended else { return };
        let segment = segment(&self.stage, piece);
        let Origin::Recorded(recording) = &segment.media.origin else { unreachable!("it was just recorded") };
        self.ring.push(segment.id, Arc::clone(recording));
        self.segments += 1;
        (self.tell)(News::Came(Arc::new(segment)));
    }

    /// The connection is over; what was cut so far is kept. Whether another one is to be made: what was held up or
    /// read before would come again.
    fn lose(&mut self, fault: Fault, is_stall: bool) -> bool {
        self.patience.lost(self.timer.now(), fault.is_lasting, is_stall);
        let ended = self.cutter.interrupt();
        self.keep(ended);
        self.last_reason = format!("{}: {}", fault.reason.as_str(), fault.message);
        if self.told.insert(fault.reason) {
            self.skip_for(fault.reason, fault.message);
        }
        // Closing may take its time; what has happened is seen before.
        self.publish();
        self.close();
        if self.manner.can_wait {
            (self.tell)(News::Ended);
        }
        !self.manner.can_wait
    }

    fn give_up(&mut self) {
        self.is_given_up = true;
        let limit = self.manner.give_up.unwrap_or_default().as_secs_f64();
        let last = if self.last_reason.is_empty() { "no picture came" } else { &self.last_reason };
        let message = format!("away for {limit} s (`give_up_secs`); last seen: {last}");
        self.skip_for(SkipReason::Vanished, message);
        (self.tell)(News::Ended);
    }

    fn skip_for(&mut self, reason: SkipReason, message: String) {
        let (file, stage) = (self.door.shown().into(), self.stage.clone());
        self.skip(Skip { file, stage, reason, message, at_secs: None });
    }

    fn skip(&mut self, skip: Skip) {
        (self.tell)(News::Skipped(skip));
    }

    /// Makes the counts seen from outside; every frame received is in exactly one of them.
    fn publish(&self) {
        let mut left_out = self.side.left_out();
        let received = self.received + left_out.values().sum::<u64>();
        for (why, frames) in self.cutter.left_out() {
            *left_out.entry(why).or_default() += frames;
        }
        let ((open, open_bytes), (kept, kept_bytes)) = (self.cutter.open(), self.ring.kept());
        let ((used, dropped), kept_used) = (self.ring.gone(), self.ring.kept_used());
        let counts = FeedCounts {
            state: if self.is_given_up { "given_up" } else { self.patience.state() },
            frames_received: received,
            frames_used: used + kept_used,
            frames_dropped: dropped,
            frames_left_out: left_out,
            frames_kept: kept - kept_used + open,
            bytes_kept: kept_bytes + open_bytes,
            segments: self.segments,
            breaks: self.cutter.breaks(),
            reconnects: self.connections.saturating_sub(1),
            last_reason: self.last_reason.clone(),
        };
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// A fault that may be over with the next try.
pub fn fault(reason: SkipReason, message: impl Into<String>) -> Fault {
    Fault { reason, message: message.into(), is_lasting: false }
}

fn silence(limit: Option<Duration>) -> Fault {
    let message = format!("nothing came for {} s", limit.unwrap_or_default().as_secs_f64());
    fault(SkipReason::Stalled, message)
}

/// The segment of a piece.
fn segment(source: &str, piece: Piece) -> Segment {
    let Piece { pictures, format, number } = piece;
    let first = pictures.first().expect("a piece has at least one picture");
    let (width, height) = (first.width, first.height);
    let times: Vec<u64> = pictures.iter().map(|picture| picture.time).collect();
    let count = times.len() as u32;
    let recording = Recording::new(pictures);
    let bytes = recording.bytes();
    let Format { name, codec, orientation, label, group, split, salt } = &*format;
    let media = Media {
        origin: Origin::Recorded(Arc::new(recording)),
        name: name.clone(),
        width,
        height,
        orientation: *orientation,
        times: times.into(),
        keys: Arc::from([]),
        codec: codec.clone(),
        bytes,
        track: None,
        part: Part::default(),
    };
    Segment {
        id: segment_id(source, salt, number),
        media: Arc::new(media),
        first: 0,
        count,
        label: label.clone(),
        group: group.clone(),
        split: split.clone(),
    }
}

/// 63 bits of a hash over the source's id, what tells this connection from all others ever, and the piece's number.
fn segment_id(source: &str, salt: &str, number: u64) -> SegmentId {
    let mut hash = Xxh3::new();
    for part in ["live", source, salt] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(&number.to_le_bytes());
    SegmentId(hash.digest() >> 1)
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
