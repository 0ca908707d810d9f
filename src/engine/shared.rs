//! What all threads of a run share: the first failure, the wish to stop, counters, skips.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reelflow_api::error::{Skip, SkipReason, StageError};

use super::arena::Arena;
use super::tally::{Counts, Depths, Times, Warmup};

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
    /// How long the queues were.
    pub depths: Depths,
    /// Steps that are not measured.
    pub warmup: Warmup,
}

/// New skips and those already told, so that memory is bounded by the number of files.
#[derive(Debug, Default)]
struct Skips {
    new: Vec<Skip>,
    told: BTreeSet<(PathBuf, SkipReason)>,
}

impl Shared {
    /// With these steps to warm up.
    #[must_use]
    pub fn new(warmup: Warmup) -> Self {
        Self { warmup, ..Self::default() }
    }

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
