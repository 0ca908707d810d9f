//! Turns plans into views: each picture is augmented as soon as it is decoded, and not kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::SamplePlan;
use reelflow_api::stage::Place;

use super::blame;
use super::crew::Reply;
use super::layout::{Layout, Sampling};
use super::making::{Making, batches};
use super::parcel::Parcel;
use super::shared::Shared;
use crate::decode::{Decoder, decoder};
use crate::edge::{clock, failpoint};

/// How often a slot is drawn again before the run gives up: with a tenth of all segments bad, 16 bad
/// draws in a row come once in 10^16.
const ATTEMPTS_MAX: u32 = 16;

/// Plans of one step that read one medium: decoded in one pass.
pub struct Job {
    /// The step.
    pub step: u64,
    /// At least one, by slot.
    pub plans: Vec<SamplePlan>,
    /// Who gets what becomes of it.
    pub reply: Reply,
}

/// What became of a job. Slots for which a finite sampler has nothing are missing.
pub struct Made {
    /// The job's step.
    pub step: u64,
    /// One-slot batches, addressed to their augment stages.
    pub parcels: Vec<Parcel>,
}

/// Decodes for the sampler at one position, on one thread.
pub struct Work {
    layout: Arc<Layout>,
    /// Of the sampler.
    position: usize,
    sampling: Arc<Sampling>,
    shared: Arc<Shared>,
    decoder: Box<dyn Decoder>,
}

impl Work {
    /// For the sampler at `position`, with a decoder of its own.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        (position, sampling): (usize, &Arc<Sampling>),
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            layout: Arc::clone(layout),
            position,
            sampling: Arc::clone(sampling),
            shared: Arc::clone(shared),
            decoder: decoder(),
        }
    }

    /// Does jobs until no more can come.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut since = clock::now();
        for Job { step, plans, reply } in jobs {
            self.shared.times.decode_idle.add(since);
            self.shared.depths.jobs.note(jobs.len());
            let mut parcels = Vec::new();
            if !self.shared.is_stopping()
                && let Err(error) = self.make(plans, &mut parcels)
            {
                self.shared.fail(error);
            }
            since = clock::now();
            reply.send(Made { step, parcels }, &self.shared);
            self.shared.times.decode_blocked.add(since);
            since = clock::now();
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
    /// alone, so the batch stays a pure function of (files, seed, step). If all that are drawn fail, and the catalogue
    /// changes, they may have been taken away since the step was planned: then others are drawn from a newer version.
    fn make_one(&mut self, mut plan: SamplePlan) -> Result<Vec<Parcel>, StageError> {
        let (step, slot) = (plan.step, plan.slot);
        let mut drawn = self.sampling.of_planned(step);
        for attempt in 1.. {
            match self.attempt(std::slice::from_ref(&plan))? {
                Ok(parcels) => return Ok(parcels),
                Err(skip) => self.shared.skip(skip),
            }
            if attempt % ATTEMPTS_MAX == 0 {
                drawn =
                    drawn.and_then(|(number, _)| self.sampling.newer(number, || !self.shared.is_stopping()));
            }
            let Some((_, catalogue)) = &drawn else { break };
            self.shared.counts.redrawn.fetch_add(1, Ordering::Relaxed);
            let place = Place { step, slot, batch_size: self.sampling.batch_size, attempt };
            plan = match self.sampling.plan(catalogue, place) {
                Some(plan) => plan,
                None => {
                    self.shared.counts.slots_empty.fetch_add(1, Ordering::Relaxed);
                    return Ok(Vec::new());
                }
            };
        }
        if self.shared.is_stopping() {
            return Ok(Vec::new());
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
        let mut making = Making::begin(&self.layout, self.position, plans, &shared.arena)?;
        let augment = self.layout.behind(self.position).next();
        let augment = augment.map_or("augment", |stage| self.layout.operators[stage].id.as_str());
        let (mut augmenting, mut failed) = (Duration::ZERO, None);
        let wanted = making.wanted().to_vec();
        failpoint::hit("source::open");
        let decoded = self.decoder.decode(media, &wanted, &mut |index, frame| {
            let before = clock::now();
            failpoint::hit("source::frame");
            if let Err(error) = blame::within(augment, || making.add(index, frame)) {
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
        let views = blame::within(augment, || {
            failpoint::hit("op::augment");
            making.finish()
        });
        let parcels = batches(views, plans);
        augmenting += finishing.elapsed();
        shared.times.augment.add_for(augmenting);
        shared.times.decode.add_for(begun.elapsed().saturating_sub(augmenting));
        Ok(Ok(parcels))
    }
}
