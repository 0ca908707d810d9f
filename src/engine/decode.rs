//! Threads that turn places into decoded samples, so that no worker waits for a file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::{Clip, DecodedSample, SamplePlan};
use reelflow_api::stage::Place;
use timely::scheduling::activate::SyncActivator;

use super::layout::Sampling;
use super::shared::Shared;
use crate::decode::{Decoder, decoder};
use crate::edge::threads;

/// How often a slot is drawn again before the run gives up: with a tenth of all segments bad, 16 bad
/// draws in a row come once in 10^16.
const ATTEMPTS_MAX: u32 = 16;

/// Places queued for, and samples queued from, each thread. Two keep it busy while the worker augments.
pub const QUEUED_PER_THREAD: usize = 2;

/// What became of a place; `None` if a finite sampler has nothing for it.
pub struct Decoded {
    /// Where it belongs.
    pub place: Place,
    /// The clips.
    pub sample: Option<DecodedSample>,
}

/// Decoding threads of one worker, for one sampler.
pub struct Pool {
    places: Option<Sender<Place>>,
    decoded: Receiver<Decoded>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `count` threads; each wakes the worker through its activator when a sample is ready.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        name: &str,
        count: usize,
        sampling: &Arc<Sampling>,
        shared: &Arc<Shared>,
        activator: impl Fn() -> SyncActivator,
    ) -> Result<Self, StageError> {
        let (places, places_rx) = bounded::<Place>(count * QUEUED_PER_THREAD);
        let (decoded_tx, decoded) = bounded(count * QUEUED_PER_THREAD);
        let mut threads = Vec::new();
        for number in 0..count {
            let work = Work {
                stage: name.to_owned(),
                sampling: Arc::clone(sampling),
                shared: Arc::clone(shared),
                decoder: decoder(),
            };
            let (places, decoded, activator) = (places_rx.clone(), decoded_tx.clone(), activator());
            let shared = Arc::clone(shared);
            let body = move || {
                let work = AssertUnwindSafe(|| work.run(&places, &decoded, &activator));
                if catch_unwind(work).is_err() {
                    // Without this the worker would wait for ever for what this thread had in hand.
                    let message = "a decoding thread panicked; this is a bug".to_owned();
                    shared.fail(StageError { stage: "decode".to_owned(), message, code: 101 });
                }
            };
            threads.push(threads::spawn(&format!("decode-{number}"), body)?);
        }
        Ok(Self { places: Some(places), decoded, threads })
    }

    /// Queues a place; gives it back if all threads have enough to do.
    pub fn submit(&self, place: Place) -> Option<Place> {
        match self.places.as_ref()?.try_send(place) {
            Ok(()) => None,
            Err(TrySendError::Full(place) | TrySendError::Disconnected(place)) => Some(place),
        }
    }

    /// The next finished place, if there is one.
    pub fn take(&self) -> Option<Decoded> {
        self.decoded.try_recv().ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Closing both ends first lets every thread leave whatever it waits for.
        self.places = None;
        self.decoded = crossbeam_channel::never();
        for thread in self.threads.drain(..) {
            // A panic in it was already reported by the hook, and noted by `Work::run`.
            let _ = thread.join();
        }
    }
}

struct Work {
    stage: String,
    sampling: Arc<Sampling>,
    shared: Arc<Shared>,
    decoder: Box<dyn Decoder>,
}

impl Work {
    fn run(mut self, places: &Receiver<Place>, decoded: &Sender<Decoded>, activator: &SyncActivator) {
        for place in places {
            if self.shared.is_stopping() {
                continue;
            }
            let sample = match self.sample(place) {
                Ok(sample) => sample,
                Err(error) => {
                    self.shared.fail(error);
                    None
                }
            };
            if decoded.send(Decoded { place, sample }).is_err() {
                return;
            }
            // A worker that is gone needs no waking.
            let _ = activator.activate();
        }
    }

    /// Decodes the place's plan; a segment that cannot be decoded is noted and another one drawn, by
    /// chance that depends on the place alone, so the batch stays a pure function of (files, seed, step).
    fn sample(&mut self, place: Place) -> Result<Option<DecodedSample>, StageError> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(plan) = self.sampling.plan(Place { attempt, ..place }) else {
                if attempt > 0 {
                    self.shared.counts.slots_empty.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(None);
            };
            match self.clips(&plan) {
                Ok(clips) => return Ok(Some(DecodedSample { plan, clips })),
                Err(skip) => self.shared.skip(skip),
            }
            self.shared.counts.redrawn.fetch_add(1, Ordering::Relaxed);
        }
        Err(StageError::failed(
            &self.stage,
            format!(
                "step {} slot {}: {ATTEMPTS_MAX} segments in a row could not be decoded; see quarantine.jsonl",
                place.step, place.slot
            ),
        ))
    }

    /// One pass over the medium for all views; views share pictures.
    fn clips(&mut self, plan: &SamplePlan) -> Result<Vec<Clip>, Skip> {
        let segment = &plan.segment;
        let mut wanted: Vec<u32> =
            plan.clips.iter().flat_map(|clip| &clip.frames).map(|frame| segment.first + frame).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let frames = self.decoder.decode(&segment.media, &wanted).map_err(|failure| Skip {
            file: segment.media.name.clone().into(),
            stage: "decode".to_owned(),
            reason: failure.reason,
            message: failure.message,
            at_secs: failure.at_secs,
        })?;
        let counts = &self.shared.counts;
        counts.frames_decoded.fetch_add(frames.len() as u64, Ordering::Relaxed);
        counts.clips.fetch_add(plan.clips.len() as u64, Ordering::Relaxed);
        let frame_at = |frame: &u32| {
            let position = wanted.binary_search(&(segment.first + frame)).expect("every frame was asked for");
            Arc::clone(&frames[position])
        };
        let clips = plan.clips.iter();
        Ok(clips
            .map(|clip| Clip { view: clip.view.clone(), frames: clip.frames.iter().map(frame_at).collect() })
            .collect())
    }
}
