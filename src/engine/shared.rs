//! What all threads of a run share: the first failure, the wish to stop, counters, skips.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reelflow_api::error::{Skip, SkipReason, StageError};

use super::arena::Arena;

/// One per flow, behind an `Arc`.
#[derive(Debug, Default)]
pub struct Shared {
    failure: Mutex<Option<StageError>>,
    failed: AtomicBool,
    stop: AtomicBool,
    /// Steps below this one have been consumed by all sinks.
    consumed: AtomicU64,
    skips: Mutex<Skips>,
    /// Where batches are made.
    pub arena: Arena,
    /// Where the time went.
    pub times: Times,
    /// What was counted on the way.
    pub counts: Counts,
}

/// Counters of the data path.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pictures that left a decoder for a wanted position.
    pub frames_decoded: AtomicU64,
    /// Pictures that decoders made, wanted or not.
    pub pictures: AtomicU64,
    /// Clips handed to the augment stage.
    pub clips: AtomicU64,
    /// Slots drawn again because a segment could not be decoded.
    pub redrawn: AtomicU64,
    /// Slots left empty, in finite samplers.
    pub slots_empty: AtomicU64,
}

/// Seconds that threads spent, summed over threads.
#[derive(Debug, Default)]
pub struct Times {
    /// Reading and decoding.
    pub decode: Tally,
    /// Augmenting, on the threads that decode.
    pub augment: Tally,
    /// Threads that decode, waiting for a job.
    pub decode_idle: Tally,
    /// Threads that decode, waiting for a worker to take what they made.
    pub decode_blocked: Tally,
    /// Stages that change views.
    pub views: Tally,
    /// Joining slots to batches.
    pub batch: Tally,
}

/// A sum of nanoseconds.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds the time since `begun`.
    pub fn add(&self, begun: Instant) {
        self.add_for(begun.elapsed());
    }

    /// Adds a length of time.
    pub fn add_for(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The sum in seconds.
    #[must_use]
    pub fn secs(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// New skips and those already told, so that memory is bounded by the number of files.
#[derive(Debug, Default)]
struct Skips {
    new: Vec<Skip>,
    told: BTreeSet<(PathBuf, SkipReason)>,
}

impl Shared {
    /// Notes the first failure; the run ends. Later ones are consequences and are dropped.
    pub fn fail(&self, error: StageError) {
        let mut first = self.failure.lock().expect("no holder panics");
        if first.is_none() {
            *first = Some(error);
        }
        self.failed.store(true, Ordering::Release);
    }

    /// Whether something failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The first failure, once.
    pub fn take_failure(&self) -> Option<StageError> {
        self.failure.lock().expect("no holder panics").take()
    }

    /// Asks the sources to hand out nothing more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether the flow should drain, because it was asked to or because something failed.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.has_failed()
    }

    /// Says that every step below `step` has been consumed.
    pub fn set_consumed(&self, step: u64) {
        self.consumed.store(step, Ordering::Release);
    }

    /// Steps below this one have been consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Acquire)
    }

    /// Notes an input that could not be used; one (file, reason) is kept once.
    pub fn skip(&self, skip: Skip) {
        let mut skips = self.skips.lock().expect("no holder panics");
        if skips.told.insert((skip.file.clone(), skip.reason)) {
            skips.new.push(skip);
        }
    }

    /// Skips noted since the last call.
    pub fn take_skips(&self) -> Vec<Skip> {
        std::mem::take(&mut self.skips.lock().expect("no holder panics").new)
    }
}
