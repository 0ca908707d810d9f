//! Threads that turn plans into views: each picture is augmented as soon as it is decoded, and not kept.
//!
//! No worker waits for a file, and no picture waits for a worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::SamplePlan;
use reelflow_api::stage::Place;
use timely::scheduling::activate::SyncActivator;

use super::layout::{Layout, Sampling};
use super::making::{Making, batches};
use super::parcel::Parcel;
use super::shared::Shared;
use crate::decode::{Decoder, decoder};
use crate::edge::clock;
use crate::edge::threads;

/// How often a slot is drawn again before the run gives up: with a tenth of all segments bad, 16 bad
/// draws in a row come once in 10^16.
const ATTEMPTS_MAX: u32 = 16;

/// Jobs queued for, and results queued from, a hand. Two keep it busy while the worker does other things.
pub const QUEUED: usize = 2;

/// Plans of one step that read one medium: decoded in one pass.
pub struct Job {
    /// The step.
    pub step: u64,
    /// At least one, by slot.
    pub plans: Vec<SamplePlan>,
}

/// What became of a job. Slots for which a finite sampler has nothing are missing.
pub struct Made {
    /// The job's step.
    pub step: u64,
    /// One-slot batches, addressed to their augment stages.
    pub parcels: Vec<Parcel>,
}

/// The thread that decodes for one worker and one sampler. One a worker, so that `run.workers` is the number of
/// cores the data takes.
pub struct Hand {
    jobs: Option<Sender<Job>>,
    made: Receiver<Made>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    /// Starts the thread for worker `worker` and the sampler at `position`; it wakes the worker through
    /// `activator` when views are ready.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        (layout, position): (&Arc<Layout>, usize),
        worker: usize,
        sampling: &Arc<Sampling>,
        shared: &Arc<Shared>,
        activator: SyncActivator,
    ) -> Result<Self, StageError> {
        let (jobs_tx, jobs) = bounded::<Job>(QUEUED);
        let (made_tx, made) = bounded(QUEUED);
        let work = Work {
            layout: Arc::clone(layout),
            position,
            sampling: Arc::clone(sampling),
            shared: Arc::clone(shared),
            decoder: decoder(),
        };
        let shared = Arc::clone(shared);
        let body = move || {
            let work = AssertUnwindSafe(|| work.run(&jobs, &made_tx, &activator));
            if catch_unwind(work).is_err() {
                // Without this the worker would wait for ever for what this thread had in hand.
                let message = "a decoding thread panicked; this is a bug".to_owned();
                shared.fail(StageError { stage: "decode".to_owned(), message, code: 101 });
            }
        };
        let thread = threads::spawn(&format!("decode-{worker}"), body)?;
        Ok(Self { jobs: Some(jobs_tx), made, thread: Some(thread) })
    }

    /// Queues a job; gives it back if there is enough to do.
    pub fn submit(&self, job: Job) -> Option<Job> {
        match self.jobs.as_ref()?.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
        }
    }

    /// The next finished job, if there is one.
    pub fn take(&self) -> Option<Made> {
        self.made.try_recv().ok()
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // Closing both ends first lets the thread leave whatever it waits for.
        self.jobs = None;
        self.made = crossbeam_channel::never();
        if let Some(thread) = self.thread.take() {
            // A panic in it was already reported by the hook, and noted by `Work::run`.
            let _ = thread.join();
        }
    }
}

struct Work {
    layout: Arc<Layout>,
    /// Of the sampler.
    position: usize,
    sampling: Arc<Sampling>,
    shared: Arc<Shared>,
    decoder: Box<dyn Decoder>,
}

impl Work {
    fn run(mut self, jobs: &Receiver<Job>, made: &Sender<Made>, activator: &SyncActivator) {
        let mut since = clock::now();
        for Job { step, plans } in jobs {
            self.shared.times.decode_idle.add(since);
            self.shared.depths.jobs.note(jobs.len());
            let mut parcels = Vec::new();
            if !self.shared.is_stopping()
                && let Err(error) = self.make(plans, &mut parcels)
            {
                self.shared.fail(error);
            }
            since = clock::now();
            if made.send(Made { step, parcels }).is_err() {
                return;
            }
            self.shared.times.decode_blocked.add(since);
            self.shared.depths.made.note(made.len());
            since = clock::now();
            // A worker that is gone needs no waking.
            let _ = activator.activate();
        }
    }

    /// Makes the plans' views in one pass; if that fails, each on its own.
    fn make(&mut self, plans: Vec<SamplePlan>, parcels: &mut Vec<Parcel>) -> Result<(), StageError> {
        // Which of several windows failed, and what takes its place, shows when each is made on its own.
        if plans.len() > 1
            && let Ok(mut all) = self.attempt(&plans)?
        {
            parcels.append(&mut all);
            return Ok(());
        }
        for plan in plans {
            parcels.append(&mut self.make_one(plan)?);
        }
        Ok(())
    }

    /// A segment that cannot be decoded is noted and another one drawn, by chance that depends on the place
    /// alone, so the batch stays a pure function of (files, seed, step).
    fn make_one(&mut self, mut plan: SamplePlan) -> Result<Vec<Parcel>, StageError> {
        let (step, slot) = (plan.step, plan.slot);
        for attempt in 1..=ATTEMPTS_MAX {
            match self.attempt(std::slice::from_ref(&plan))? {
                Ok(parcels) => return Ok(parcels),
                Err(skip) => self.shared.skip(skip),
            }
            self.shared.counts.redrawn.fetch_add(1, Ordering::Relaxed);
            let place = Place { step, slot, batch_size: self.sampling.batch_size, attempt };
            plan = match self.sampling.plan(place) {
                Some(plan) => plan,
                None => {
                    self.shared.counts.slots_empty.fetch_add(1, Ordering::Relaxed);
                    return Ok(Vec::new());
                }
            };
        }
        Err(StageError::failed(
            &self.layout.operators[self.position].id,
            format!(
                "step {step} slot {slot}: {ATTEMPTS_MAX} segments in a row could not be decoded; see \
                 quarantine.jsonl"
            ),
        ))
    }

    /// One pass over the medium of `plans` for all their views.
    fn attempt(&mut self, plans: &[SamplePlan]) -> Result<Result<Vec<Parcel>, Skip>, StageError> {
        let (shared, media) = (&self.shared, &plans[0].segment.media);
        let begun = clock::now();
        let mut making = Making::begin(&self.layout, self.position, plans, &shared.arena);
        let (mut augmenting, mut failed) = (Duration::ZERO, None);
        let wanted = making.wanted().to_vec();
        let decoded = self.decoder.decode(media, &wanted, &mut |index, frame| {
            let before = clock::now();
            if let Err(error) = making.add(index, frame) {
                failed.get_or_insert(error);
            }
            augmenting += before.elapsed();
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let pictures = match decoded {
            Ok(pictures) => pictures,
            Err(failure) => {
                return Ok(Err(Skip {
                    file: media.origin.path().unwrap_or_else(|| media.name.clone().into()),
                    stage: "decode".to_owned(),
                    reason: failure.reason,
                    message: failure.message,
                    at_secs: failure.at_secs,
                }));
            }
        };
        let counts = &shared.counts;
        counts.frames_decoded.fetch_add(wanted.len() as u64, Ordering::Relaxed);
        counts.pictures.fetch_add(pictures, Ordering::Relaxed);
        counts.clips.fetch_add(plans.iter().map(|plan| plan.clips.len() as u64).sum(), Ordering::Relaxed);
        let finishing = clock::now();
        let parcels = batches(making.finish(), plans);
        augmenting += finishing.elapsed();
        shared.times.augment.add_for(augmenting);
        shared.times.decode.add_for(begun.elapsed().saturating_sub(augmenting));
        Ok(Ok(parcels))
    }
}
