//! Hands out this worker's jobs within the credits, has them decoded and augmented, and sends the views on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::source;
use timely::dataflow::operators::probe;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::activate::Activator;

use super::blame;
use super::crew::{Crew, Hand};
use super::jobs::Jobs;
use super::layout::{Layout, Sampling};
use super::parcel::Parcels;
use super::shared::Shared;

/// The stream of one-slot batches of this worker, for the augment stages behind the sampler at `position`.
///
/// The source runs when a decoding thread has made something for it. What else it waits for, credit and the end, its
/// worker has to tell it through the activator that is added to `sources`.
pub fn clips<'scope>(
    scope: Scope<'scope, u64>,
    position: usize,
    sampling: &Arc<Sampling>,
    layout: &Arc<Layout>,
    shared: &Arc<Shared>,
    (crew, probe, sources): (&Crew, &probe::Handle<u64>, &mut Vec<Activator>),
) -> Stream<'scope, u64, Parcels> {
    source(scope, &layout.operators[position].id, |capability, info| {
        sources.push(scope.activator_for(Rc::clone(&info.address)));
        let wake = scope.worker().sync_activator_for(info.address.to_vec());
        let mut state = Some(State {
            capability,
            hand: crew.hand(position, wake),
            jobs: Jobs::new(layout, sampling, scope.index(), scope.peers()),
            outstanding: BTreeMap::new(),
        });
        let (shared, probe, ahead) = (Arc::clone(shared), probe.clone(), layout.ahead);
        let id = layout.operators[position].id.clone();
        move |output| {
            let Some(live) = state.as_mut() else { return };
            if shared.is_stopping() {
                state = None;
                return;
            }
            while let Some(made) = live.hand.take() {
                live.settle(made.step);
                let capability = live.capability.delayed(&made.step);
                made.parcels.into_iter().for_each(|parcel| output.session(&capability).give(parcel));
            }
            // Credit: at most `ahead` steps before the first one that has not been consumed.
            blame::within(&id, || {
                live.hand_out(|step| {
                    let has_credit = step < ahead || !probe.less_than(&(step - ahead + 1));
                    has_credit && shared.warmup.admits(step, shared.consumed())
                });
            });
            if !live.advance() {
                state = None;
            }
        }
    })
}

struct State {
    /// Held at the earliest step that may still send.
    capability: Capability<u64>,
    hand: Hand,
    jobs: Jobs,
    /// Jobs handed out and not yet settled, by step.
    outstanding: BTreeMap<u64, u32>,
}

impl State {
    fn hand_out(&mut self, has_credit: impl Fn(u64) -> bool) {
        while let Some((step, jobs)) = self.jobs.next_if(&has_credit) {
            if !jobs.is_empty() {
                self.outstanding.insert(step, jobs.len() as u32);
            }
            jobs.into_iter().for_each(|plans| self.hand.submit(step, plans));
        }
    }

    fn settle(&mut self, step: u64) {
        let left = self.outstanding.get_mut(&step).expect("a job is settled once, after it was handed out");
        *left -= 1;
        if *left == 0 {
            self.outstanding.remove(&step);
        }
    }

    /// Lets go of every step that can send nothing more; `false` once there is none left.
    fn advance(&mut self) -> bool {
        let earliest = match (self.outstanding.keys().next(), self.jobs.step()) {
            (Some(step), Some(next)) => Some((*step).min(next)),
            (Some(step), None) => Some(*step),
            (None, next) => next,
        };
        if let Some(step) = earliest {
            self.capability.downgrade(&step);
        }
        earliest.is_some()
    }
}
