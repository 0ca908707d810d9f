//! What all threads of a flow measure together: times, lengths of queues, and when the measuring began.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::edge::{clock, process};

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

impl Counts {
    /// Begins again at zero.
    pub fn reset(&self) {
        let Self { frames_decoded, pictures, clips, redrawn, slots_empty } = self;
        let all = [frames_decoded, pictures, clips, redrawn, slots_empty];
        all.into_iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
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

impl Times {
    /// Begins again at zero.
    pub fn reset(&self) {
        let Self { decode, augment, decode_idle, decode_blocked, views, batch } = self;
        let all = [decode, augment, decode_idle, decode_blocked, views, batch];
        all.into_iter().for_each(|tally| tally.reset());
    }
}

/// A sum of times, and of how many.
#[derive(Debug, Default)]
pub struct Tally {
    nanos: AtomicU64,
    count: AtomicU64,
}

impl Tally {
    /// Adds the time since `begun`.
    pub fn add(&self, begun: Instant) {
        self.add_for(begun.elapsed());
    }

    /// Adds a length of time.
    pub fn add_for(&self, time: Duration) {
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The sum in seconds.
    #[must_use]
    pub fn secs(&self) -> f64 {
        self.nanos.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// How many times were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.nanos.store(0, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
    }
}

/// Lengths of the queues on the way, each as found by who takes from it or has put into it.
#[derive(Debug, Default)]
pub struct Depths {
    /// Jobs that wait for a thread that decodes.
    pub jobs: Depth,
    /// Finished jobs that wait for their worker.
    pub made: Depth,
    /// Complete steps that wait for the sinks.
    pub steps: Depth,
}

impl Depths {
    /// Begins again.
    pub fn reset(&self) {
        [&self.jobs, &self.made, &self.steps].into_iter().for_each(|depth| depth.reset());
    }
}

/// Mean and greatest length of a queue.
#[derive(Debug, Default)]
pub struct Depth {
    sum: AtomicU64,
    count: AtomicU64,
    max: AtomicU64,
}

impl Depth {
    /// Notes one length.
    pub fn note(&self, length: usize) {
        self.sum.fetch_add(length as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(length as u64, Ordering::Relaxed);
    }

    /// Mean of the lengths noted; 0 if there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.count.load(Ordering::Relaxed).max(1) as f64
    }

    /// The greatest length noted.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        [&self.sum, &self.count, &self.max].into_iter().for_each(|it| it.store(0, Ordering::Relaxed));
    }
}

/// A moment of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall time.
    pub at: Instant,
    /// Processor time this process had taken by then, seconds.
    pub cpu_secs: f64,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { at: clock::now(), cpu_secs: process::cpu_secs() }
    }
}

/// Steps that only warm up, and when the first of the others was handed out.
#[derive(Debug, Default)]
pub struct Warmup {
    /// Steps below this one are used up before any later one is handed out.
    until: u64,
    begun: OnceLock<Moment>,
}

impl Warmup {
    /// A warm-up of all steps below `until`.
    #[must_use]
    pub fn new(until: u64) -> Self {
        Self { until, begun: OnceLock::new() }
    }

    /// Whether `step` may be handed out once all below `consumed` are used; the first that is no warm-up
    /// starts the clock.
    pub fn admits(&self, step: u64, consumed: u64) -> bool {
        let is_warmup = step < self.until;
        if !is_warmup && consumed < self.until {
            return false;
        }
        if !is_warmup {
            self.begun.get_or_init(Moment::now);
        }
        true
    }

    /// When the first step after the warm-up was handed out.
    #[must_use]
    pub fn begun(&self) -> Option<Moment> {
        self.begun.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_when_the_warm_up_is_used_up() {
        let warmup = Warmup::new(2);
        assert!(warmup.admits(0, 0) && warmup.admits(1, 0) && !warmup.admits(2, 1));
        assert!(warmup.begun().is_none());
        assert!(warmup.admits(2, 2));
        let begun = warmup.begun().expect("started").at;
        assert!(warmup.admits(3, 2));
        assert_eq!(warmup.begun().map(|moment| moment.at), Some(begun));
    }

    #[test]
    fn queues_have_a_mean_and_a_greatest_length() {
        let depth = Depth::default();
        [1, 4, 1].into_iter().for_each(|length| depth.note(length));
        assert_eq!((depth.mean(), depth.max()), (2.0, 4));
        depth.reset();
        assert_eq!((depth.mean(), depth.max()), (0.0, 0));
    }
}
