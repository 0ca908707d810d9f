//! Carries views through the stages that change them.

use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use super::blame;
use super::layout::{Layout, OperatorKind};
use super::parcel::{Parcel, Parcels};
use super::shared::Shared;
use crate::edge::clock;

/// What the sampler's threads made for the augment stage at `position`.
pub fn augment<'scope>(
    parcels: Stream<'scope, u64, Parcels>,
    layout: &Arc<Layout>,
    position: usize,
) -> Stream<'scope, u64, Parcels> {
    parcels.unary(Pipeline, &layout.operators[position].id, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, data| {
                for parcel in data.flat_map(timely::container::DrainContainer::drain) {
                    if parcel.to as usize == position {
                        output.session(&capability).give(Parcel { to: 0, ..parcel });
                    }
                }
            });
        }
    })
}

/// Views changed in place, before or after the batch.
pub fn views<'scope>(
    parcels: Stream<'scope, u64, Parcels>,
    layout: &Arc<Layout>,
    position: usize,
    shared: &Arc<Shared>,
) -> Stream<'scope, u64, Parcels> {
    let (layout, shared) = (Arc::clone(layout), Arc::clone(shared));
    let name = layout.operators[position].id.clone();
    parcels.unary(Pipeline, &name, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, data| {
                let OperatorKind::Views(stage) = &layout.operators[position].kind else { return };
                for mut parcel in data.flat_map(timely::container::DrainContainer::drain) {
                    let begun = clock::now();
                    let operator = &layout.operators[position];
                    let applied =
                        blame::within(&operator.id, || stage.apply(&mut parcel.batch, operator.key));
                    shared.times.views.add(begun);
                    match applied {
                        Ok(()) => output.session(&capability).give(parcel),
                        Err(error) => shared.fail(error),
                    }
                }
            });
        }
    })
}
