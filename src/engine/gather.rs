//! Brings the slots of a step together on one worker and emits the batch when the frontier has passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use reelflow_api::item::Batch;
use timely::container::{CapacityContainerBuilder, DrainContainer};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::ExchangeCore;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator as _;

use super::blame;
use super::parcel::{Parcel, Parcels};
use super::shared::Shared;
use crate::batch::collect::collect;
use crate::edge::{clock, failpoint};

/// One batch a step. Steps go round the workers, so that all of them copy pixels.
pub fn gather<'scope>(
    parcels: Stream<'scope, u64, Parcels>,
    id: &str,
    shared: &Arc<Shared>,
) -> Stream<'scope, u64, Parcels> {
    let (shared, id) = (Arc::clone(shared), id.to_owned());
    let by_step =
        ExchangeCore::<CapacityContainerBuilder<Parcels>, _>::new(|parcel: &Parcel| parcel.batch.step);
    parcels.unary_frontier(by_step, &id.clone(), |_, _| {
        let mut stash: BTreeMap<u64, (Capability<u64>, Vec<Batch>)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each_stamp(|capability, data| {
                // Data without a capability makes no claim on progress; our sources never send such.
                let Some(capability) = capability.retain_least(output.output_index()) else { return };
                let (_, parts) = stash.entry(*capability.time()).or_insert_with(|| (capability, Vec::new()));
                parts.extend(data.flat_map(DrainContainer::drain).map(|parcel| parcel.batch));
            });
            while let Some(entry) = stash.first_entry() {
                if frontier.frontier().less_equal(entry.key()) {
                    break;
                }
                let (step, (capability, parts)) = entry.remove_entry();
                let begun = clock::now();
                let batch = blame::within(&id, || {
                    failpoint::hit("op::batch");
                    collect(step, parts)
                });
                shared.times.batch.add(begun);
                output.session(&capability).give(Parcel { to: 0, batch });
            }
        }
    })
}
