//! Hands complete steps to the sinks in order, and holds each step open until they have used it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use reelflow_api::item::Batch;
use timely::container::{CapacityContainerBuilder, DrainContainer};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{Operator as _, OutputBuilderSession};
use timely::scheduling::activate::SyncActivator;

use super::parcel::{Parcel, Parcels};
use super::shared::Shared;

/// One step, complete: every sink's batch, by the sink's number.
#[derive(Debug)]
pub struct Delivery {
    /// The step.
    pub step: u64,
    /// Number of the sink and its batch.
    pub batches: Vec<(u32, Batch)>,
}

/// Wakes the worker that holds the steps open, once it exists.
#[derive(Clone, Default)]
pub struct Waker(Arc<Mutex<Option<SyncActivator>>>);

impl Waker {
    /// Has the worker look at what was consumed.
    pub fn wake(&self) {
        if let Some(activator) = self.0.lock().expect("no holder panics").as_ref() {
            // A worker that is gone has nothing left to release.
            let _ = activator.activate();
        }
    }

    fn set(&self, activator: SyncActivator) {
        *self.0.lock().expect("no holder panics") = Some(activator);
    }
}

/// Writes the sink's number on every parcel.
pub fn address<'scope>(
    parcels: Stream<'scope, u64, Parcels>,
    id: &str,
    sink: u32,
) -> Stream<'scope, u64, Parcels> {
    parcels.unary(Pipeline, id, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, data| {
                for parcel in data.flat_map(DrainContainer::drain) {
                    output.session(&capability).give(Parcel { to: sink, ..parcel });
                }
            });
        }
    })
}

/// An output that sends nothing; only its frontier counts.
type Silent<'a> = OutputBuilderSession<'a, u64, CapacityContainerBuilder<Vec<()>>>;

/// Sends deliveries from worker 0; the returned stream is empty and its frontier is what was consumed.
pub fn deliver<'scope>(
    parcels: Stream<'scope, u64, Parcels>,
    queue: Option<Sender<Delivery>>,
    shared: &Arc<Shared>,
    waker: &Waker,
) -> Stream<'scope, u64, Vec<()>> {
    let to_first = ExchangeCore::<CapacityContainerBuilder<Parcels>, _>::new(|_: &Parcel| 0);
    let (shared, scope) = (Arc::clone(shared), parcels.scope());
    parcels.unary_frontier(to_first, "deliver", |_, info| {
        if queue.is_some() {
            waker.set(scope.worker().sync_activator_for(info.address.to_vec()));
        }
        let mut stash: BTreeMap<u64, (Capability<u64>, Vec<(u32, Batch)>)> = BTreeMap::new();
        let mut open: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |(input, frontier), output: &mut Silent<'_>| {
            input.for_each_stamp(|capability, data| {
                let Some(capability) = capability.retain_least(output.output_index()) else { return };
                let (_, parts) = stash.entry(*capability.time()).or_insert_with(|| (capability, Vec::new()));
                parts.extend(data.flat_map(DrainContainer::drain).map(|parcel| (parcel.to, parcel.batch)));
            });
            while let Some(entry) = stash.first_entry() {
                if frontier.frontier().less_equal(entry.key()) {
                    break;
                }
                let (step, (capability, mut batches)) = entry.remove_entry();
                batches.sort_by_key(|(sink, _)| *sink);
                // The queue holds as many steps as there are credits, so it is never full; it is
                // disconnected only when the sinks are gone, and then nobody waits for this step.
                let sent =
                    queue.as_ref().is_some_and(|queue| queue.try_send(Delivery { step, batches }).is_ok());
                if sent {
                    open.insert(step, capability);
                }
            }
            let consumed = shared.consumed();
            if shared.is_stopping() {
                open.clear();
            } else {
                open = open.split_off(&consumed);
            }
        }
    })
}
