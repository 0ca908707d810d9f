//! Who decodes what: plans that read one medium together, and the load spread evenly by what it will cost.

use std::cmp::Reverse;
use std::sync::Arc;

use reelflow_api::item::SamplePlan;
use reelflow_api::stage::Place;

use super::layout::{Layout, Sampling};
use super::timeline::At;
use crate::decode::ahead;
use crate::decode::plan::cost;
use crate::edge::failpoint;

/// One worker's jobs in order, step by step.
///
/// Every worker plans all slots and keeps a tally of what each has been given, so all agree without a
/// word, and a batch does not depend on who made which slot.
pub struct Jobs {
    sampling: Arc<Sampling>,
    step: u64,
    end: Option<u64>,
    index: usize,
    /// Cost of what each worker has been given, less that of the one with the least.
    loads: Vec<u64>,
}

impl Jobs {
    /// For worker `index` of `peers`.
    pub fn new(layout: &Layout, sampling: &Arc<Sampling>, index: usize, peers: usize) -> Self {
        Self {
            sampling: Arc::clone(sampling),
            step: layout.first_step,
            end: layout.steps,
            index,
            loads: vec![0; peers],
        }
    }

    /// The next step; `None` at the end.
    pub fn step(&self) -> Option<u64> {
        self.end.is_none_or(|end| self.step < end).then_some(self.step)
    }

    /// The next step with the plans of each of this worker's jobs, if there is credit for it and something to sample
    /// from.
    pub fn next_if(&mut self, has_credit: impl Fn(u64) -> bool) -> Option<(u64, Vec<Vec<SamplePlan>>)> {
        let step = self.step().filter(|step| has_credit(*step))?;
        let catalogue = match self.sampling.at(step) {
            At::Ready(catalogue) => catalogue,
            At::Wait => return None,
            At::End => {
                self.end = Some(step);
                return None;
            }
        };
        self.step += 1;
        failpoint::hit("op::sample");
        let batch_size = self.sampling.batch_size;
        let plan = |slot| self.sampling.plan(&catalogue, Place { step, slot, batch_size, attempt: 0 });
        let mut mine = Vec::new();
        let groups = together((0..batch_size).filter_map(plan).collect());
        let mut groups: Vec<(u64, Vec<SamplePlan>)> =
            groups.into_iter().map(|plans| (cost_of(&plans), plans)).collect();
        // The long ones first: what is left at the end should be short.
        groups.sort_by_key(|(cost, _)| Reverse(*cost));
        for (cost, plans) in groups {
            let worker = self.give(cost);
            if worker == self.index {
                ahead::fetch(&plans[0].segment.media, plans.iter().flat_map(wanted));
                mine.push(plans);
            }
        }
        Some((step, mine))
    }

    /// The worker with the least to do, which gets this too; the first of equals.
    fn give(&mut self, cost: u64) -> usize {
        let worker = (0..self.loads.len()).min_by_key(|&worker| self.loads[worker]).unwrap_or(0);
        self.loads[worker] += cost.max(1);
        let least = self.loads.iter().min().copied().unwrap_or(0);
        self.loads.iter_mut().for_each(|load| *load -= least);
        worker
    }
}

/// Plans that read the same medium, in the order of their first slots.
fn together(plans: Vec<SamplePlan>) -> Vec<Vec<SamplePlan>> {
    let mut groups: Vec<Vec<SamplePlan>> = Vec::new();
    for plan in plans {
        let group = groups.iter_mut().find(|group| Arc::ptr_eq(&group[0].segment.media, &plan.segment.media));
        match group {
            Some(group) => group.push(plan),
            None => groups.push(vec![plan]),
        }
    }
    groups
}

/// Positions in the medium of all frames that a plan wants, in any order.
fn wanted(plan: &SamplePlan) -> impl Iterator<Item = u32> {
    plan.clips.iter().flat_map(|clip| &clip.frames).map(|frame| plan.segment.first + frame)
}

fn cost_of(plans: &[SamplePlan]) -> u64 {
    cost(&plans[0].segment.media, plans.iter().flat_map(wanted))
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Catalogue;
    use reelflow_api::rng::Key;
    use reelflow_api::stage::Sampler;

    use super::*;
    use crate::engine::layout::Drawn;
    use crate::sample::fixture;
    use crate::sample::uniform::SPEC;

    fn sampling(sampler: Box<dyn Sampler>, catalogue: Catalogue, batch_size: u32) -> Arc<Sampling> {
        let drawn = Drawn::Fixed(Arc::new(catalogue));
        Arc::new(Sampling { sampler, drawn, batch_size, key: Key::new(5), warmup: 0 })
    }

    fn layout(first_step: u64, steps: Option<u64>) -> Layout {
        Layout { operators: Vec::new(), steps, first_step, ahead: 1, timeline: None }
    }

    /// Steps 3 and 4 of three slots a step, over segments of these lengths.
    fn jobs(lengths: &[u32], index: usize, peers: usize) -> Vec<(u64, Vec<u32>)> {
        let sampler = fixture::build(&SPEC, "frames = 4");
        let sampling = sampling(sampler, fixture::catalogue(lengths), 3);
        let layout = layout(3, Some(5));
        let mut jobs = Jobs::new(&layout, &sampling, index, peers);
        let steps = std::iter::from_fn(|| jobs.next_if(|_| true)).collect::<Vec<_>>();
        assert_eq!(steps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 4]);
        let slots = |plans: Vec<SamplePlan>| (plans[0].step, plans.iter().map(|plan| plan.slot).collect());
        steps.into_iter().flat_map(|(_, jobs)| jobs).map(slots).collect()
    }

    #[test]
    fn plans_of_one_medium_are_one_job() {
        assert_eq!(jobs(&[20], 0, 1), [(3, vec![0, 1, 2]), (4, vec![0, 1, 2])]);
        assert_eq!(jobs(&[20, 20, 20, 20, 20, 20], 0, 1).len(), 6);
    }

    #[test]
    fn workers_share_the_jobs_without_overlap() {
        let lengths = [20, 90, 20, 300, 20, 41, 60];
        let mut all: Vec<_> = (0..3).flat_map(|index| jobs(&lengths, index, 3)).collect();
        all.sort();
        assert_eq!(all, {
            let mut one = jobs(&lengths, 0, 1);
            one.sort();
            one
        });
    }

    #[test]
    fn the_one_with_the_least_gets_the_next() {
        let sampler = fixture::build(&SPEC, "frames = 4");
        let sampling = sampling(sampler, Catalogue::default(), 1);
        let mut jobs = Jobs::new(&layout(0, None), &sampling, 0, 3);
        let costs = [50, 10, 10, 10, 10, 40, 10];
        let given: Vec<usize> = costs.into_iter().map(|cost| jobs.give(cost)).collect();
        assert_eq!(given, [0, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn no_step_is_handed_out_without_credit() {
        let sampler = fixture::build(&SPEC, "frames = 4");
        let sampling = sampling(sampler, fixture::catalogue(&[20]), 2);
        let mut jobs = Jobs::new(&layout(0, None), &sampling, 0, 1);
        assert_eq!(std::iter::from_fn(|| jobs.next_if(|step| step < 2)).count(), 2);
        assert_eq!(jobs.step(), Some(2));
    }
}
