//! Hands out places within the credits, has them decoded, and sends the clips on.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::item::DecodedSample;
use reelflow_api::stage::Place;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::source;
use timely::dataflow::operators::probe;
use timely::dataflow::{Scope, Stream};

use super::decode::Pool;
use super::layout::{Layout, Sampling};
use super::shared::Shared;

/// How long a source without credit or finished samples sleeps before it looks again. Samples wake it at
/// once; only the frontier cannot, and a fifth of a millisecond is far below any step.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// The stream of decoded samples of this worker: slot `s` belongs to worker `s mod workers`.
pub fn clips<'scope>(
    scope: Scope<'scope, u64>,
    id: &str,
    sampling: &Arc<Sampling>,
    layout: &Arc<Layout>,
    shared: &Arc<Shared>,
    probe: &probe::Handle<u64>,
) -> Stream<'scope, u64, Vec<DecodedSample>> {
    source(scope, id, |capability, info| {
        let activator = scope.activator_for(Rc::clone(&info.address));
        let address = info.address.to_vec();
        let worker = scope.worker();
        let pool = Pool::start(id, 1, sampling, shared, || worker.sync_activator_for(address.clone()));
        let mut state = match pool {
            Ok(pool) => Some(State {
                capability,
                pool,
                places: Places::new(layout, sampling.batch_size, scope.index(), scope.peers()),
                backlog: VecDeque::new(),
                outstanding: BTreeMap::new(),
            }),
            Err(error) => {
                shared.fail(error);
                None
            }
        };
        let (shared, probe, ahead) = (Arc::clone(shared), probe.clone(), layout.ahead);
        move |output| {
            let Some(live) = state.as_mut() else { return };
            if shared.is_stopping() {
                state = None;
                return;
            }
            while let Some(decoded) = live.pool.take() {
                live.settle(decoded.place.step);
                if let Some(sample) = decoded.sample {
                    output.session(&live.capability.delayed(&decoded.place.step)).give(sample);
                }
            }
            // Credit: at most `ahead` steps before the first one that has not been consumed.
            live.hand_out(|step| step < ahead || !probe.less_than(&(step - ahead + 1)));
            if live.advance() {
                activator.activate_after(LOOK_AGAIN);
            } else {
                state = None;
            }
        }
    })
}

struct State {
    /// Held at the earliest step that may still send.
    capability: Capability<u64>,
    pool: Pool,
    places: Places,
    /// Places within the credit that the pool had no room for.
    backlog: VecDeque<Place>,
    /// Places handed out and not yet settled, by step.
    outstanding: BTreeMap<u64, u32>,
}

impl State {
    fn hand_out(&mut self, has_credit: impl Fn(u64) -> bool) {
        while let Some(place) = self.places.next_if(&has_credit) {
            *self.outstanding.entry(place.step).or_insert(0) += 1;
            self.backlog.push_back(place);
        }
        while let Some(place) = self.backlog.pop_front() {
            if let Some(place) = self.pool.submit(place) {
                self.backlog.push_front(place);
                break;
            }
        }
    }

    fn settle(&mut self, step: u64) {
        let left = self.outstanding.get_mut(&step).expect("a place is settled once, after it was handed out");
        *left -= 1;
        if *left == 0 {
            self.outstanding.remove(&step);
        }
    }

    /// Lets go of every step that can send nothing more; `false` once there is none left.
    fn advance(&mut self) -> bool {
        let earliest = match (self.outstanding.keys().next(), self.places.step()) {
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

/// This worker's places in order: step by step, every `peers`-th slot.
struct Places {
    step: u64,
    slot: u32,
    first_slot: u32,
    peers: u32,
    batch_size: u32,
    end: Option<u64>,
}

impl Places {
    fn new(layout: &Layout, batch_size: u32, index: usize, peers: usize) -> Self {
        let first_slot = index as u32;
        Self {
            step: layout.first_step,
            slot: first_slot,
            first_slot,
            peers: peers as u32,
            batch_size,
            end: layout.steps,
        }
    }

    /// The step of the next place; `None` at the end.
    fn step(&self) -> Option<u64> {
        (self.end.is_none_or(|end| self.step < end)).then_some(self.step)
    }

    fn next_if(&mut self, has_credit: impl Fn(u64) -> bool) -> Option<Place> {
        loop {
            let step = self.step().filter(|step| has_credit(*step))?;
            if self.slot < self.batch_size {
                let place = Place { step, slot: self.slot, batch_size: self.batch_size, attempt: 0 };
                self.slot += self.peers;
                return Some(place);
            }
            self.step += 1;
            self.slot = self.first_slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(index: usize, peers: usize) -> Vec<(u64, u32)> {
        let layout = Layout { operators: Vec::new(), steps: Some(5), first_step: 3, ahead: 1 };
        let mut places = Places::new(&layout, 3, index, peers);
        std::iter::from_fn(|| places.next_if(|_| true)).map(|place| (place.step, place.slot)).collect()
    }

    #[test]
    fn one_worker_walks_every_slot_of_every_step() {
        assert_eq!(places(0, 1), [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2)]);
    }

    #[test]
    fn workers_share_the_slots_without_overlap() {
        assert_eq!(places(0, 2), [(3, 0), (3, 2), (4, 0), (4, 2)]);
        assert_eq!(places(1, 2), [(3, 1), (4, 1)]);
        assert_eq!(places(3, 4), []);
    }

    #[test]
    fn no_place_is_handed_out_without_credit() {
        let layout = Layout { operators: Vec::new(), steps: None, first_step: 0, ahead: 1 };
        let mut places = Places::new(&layout, 2, 0, 1);
        let within = std::iter::from_fn(|| places.next_if(|step| step < 2)).count();
        assert_eq!(within, 4);
        assert_eq!(places.step(), Some(2));
    }
}
