//! Carries clips and views through the stages that change pixels.

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, DecodedSample, SlotInfo};
use reelflow_api::rng::Key;
use reelflow_api::stage::Augment;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use super::layout::{Layout, OperatorKind};
use super::parcel::{Parcel, Parcels};
use super::shared::Shared;

/// Clips into one-slot batches, on the worker that decoded them.
pub fn augment<'scope>(
    clips: Stream<'scope, u64, Vec<DecodedSample>>,
    layout: &Arc<Layout>,
    position: usize,
    shared: &Arc<Shared>,
) -> Stream<'scope, u64, Parcels> {
    let (layout, shared) = (Arc::clone(layout), Arc::clone(shared));
    let name = layout.operators[position].id.clone();
    clips.unary(Pipeline, &name, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, data| {
                let OperatorKind::Augment(stage) = &layout.operators[position].kind else { return };
                let key = layout.operators[position].key;
                for sample in data.flat_map(|samples| samples.drain(..)) {
                    if shared.is_stopping() {
                        continue;
                    }
                    match views_of(&sample, stage.as_ref(), key) {
                        Ok(batch) => output.session(&capability).give(Parcel { sink: 0, batch }),
                        Err(error) => shared.fail(error),
                    }
                }
            });
        }
    })
}

/// Every clip of a sample through the stage, each with a key of its own.
fn views_of(sample: &DecodedSample, stage: &dyn Augment, key: Key) -> Result<Batch, StageError> {
    let plan = &sample.plan;
    let key = key.number(plan.step).number(u64::from(plan.slot)).number(u64::from(plan.attempt));
    let views = sample.clips.iter().map(|clip| stage.apply(clip, &plan.segment.media, key.part(&clip.view)));
    let slot = SlotInfo {
        slot: plan.slot,
        attempt: plan.attempt,
        segment: plan.segment.id,
        frames: plan.clips.iter().map(|clip| clip.frames.clone()).collect(),
    };
    Ok(Batch { step: plan.step, slots: vec![slot], views: views.collect::<Result<_, _>>()? })
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
                    match stage.apply(&mut parcel.batch, layout.operators[position].key) {
                        Ok(()) => output.session(&capability).give(parcel),
                        Err(error) => shared.fail(error),
                    }
                }
            });
        }
    })
}
