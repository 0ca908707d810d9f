//! The views of a few plans in the making: which picture goes to which of them.

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, Frame, SamplePlan, SlotInfo, View};
use reelflow_api::stage::ViewMaker;

use super::arena::Arena;
use super::layout::{Layout, OperatorKind};
use super::parcel::Parcel;

/// One view in the making.
struct Open {
    /// Position of the augment stage.
    stage: usize,
    /// Index of the plan.
    plan: usize,
    maker: Box<dyn ViewMaker>,
    view: View,
}

/// A picture of the medium for a picture of a view.
#[derive(Clone, Copy)]
struct Use {
    /// Index among the wanted positions.
    wanted: u32,
    /// Index of the view in the making.
    open: u32,
    /// Number of the picture in the clip.
    frame: u32,
}

/// Views of plans that read one medium.
pub struct Making {
    open: Vec<Open>,
    /// Positions in the medium, strictly increasing.
    wanted: Vec<u32>,
    /// By wanted position.
    uses: Vec<Use>,
}

impl Making {
    /// Draws the parameters of every view that the augment stages behind the sampler at `position` make of
    /// `plans`, and takes a place in the step's blocks for it.
    ///
    /// # Errors
    /// If there is no memory for the step.
    pub fn begin(
        layout: &Layout,
        position: usize,
        plans: &[SamplePlan],
        arena: &Arena,
    ) -> Result<Self, StageError> {
        let mut open = Vec::new();
        let mut places: Vec<(u32, u32, u32)> = Vec::new();
        for stage in layout.behind(position) {
            let operator = &layout.operators[stage];
            let OperatorKind::Augment(augment) = &operator.kind else { continue };
            for (index, plan) in plans.iter().enumerate() {
                let key = operator.key.number(plan.step).number(u64::from(plan.slot));
                let key = key.number(u64::from(plan.attempt));
                let shape = |clip: &reelflow_api::item::ClipPlan| augment.shape(clip.frames.len() as u32);
                let parts: Vec<_> = plan
                    .clips
                    .iter()
                    .map(|clip| (augment.dtype(), shape(clip).iter().product::<usize>()))
                    .collect();
                let slots = layout.batch_size(position);
                let blocks = arena.lend((plan.step, stage), plan.slot, slots, &parts)?;
                for (clip, pixels) in plan.clips.iter().zip(blocks) {
                    let number = open.len() as u32;
                    let frames = clip.frames.iter().enumerate();
                    places.extend(frames.map(|(at, frame)| (plan.segment.first + frame, number, at as u32)));
                    let maker = augment.begin(clip, &plan.segment.media, key.part(&clip.view));
                    let view = View {
                        name: Arc::clone(&clip.view),
                        shape: shape(clip),
                        pixels,
                        normalize: augment.left_to_normalize(),
                    };
                    open.push(Open { stage, plan: index, maker, view });
                }
            }
        }
        places.sort_unstable();
        let mut wanted: Vec<u32> = Vec::new();
        let mut uses = Vec::with_capacity(places.len());
        for (position, open, frame) in places {
            if wanted.last() != Some(&position) {
                wanted.push(position);
            }
            uses.push(Use { wanted: wanted.len() as u32 - 1, open, frame });
        }
        Ok(Self { open, wanted, uses })
    }

    /// Positions in the medium of all pictures needed, strictly increasing.
    pub fn wanted(&self) -> &[u32] {
        &self.wanted
    }

    /// Gives the picture at `wanted()[index]` to every view that has it.
    ///
    /// # Errors
    /// Of the augment stage.
    pub fn add(&mut self, index: usize, frame: &Frame<'_>) -> Result<(), StageError> {
        let first = self.uses.partition_point(|one| (one.wanted as usize) < index);
        for one in self.uses[first..].iter().take_while(|one| one.wanted as usize == index) {
            let open = &mut self.open[one.open as usize];
            open.maker.add(one.frame as usize, frame, &mut open.view.pixels)?;
        }
        Ok(())
    }

    /// The finished views, with the positions of their stages and the indices of their plans.
    pub fn finish(self) -> Vec<(usize, usize, View)> {
        let finish = |mut open: Open| {
            open.maker.finish(&mut open.view.pixels);
            (open.stage, open.plan, open.view)
        };
        self.open.into_iter().map(finish).collect()
    }
}

/// Views, in the order of [`Making::finish`], as one-slot batches.
pub fn batches(views: Vec<(usize, usize, View)>, plans: &[SamplePlan]) -> Vec<Parcel> {
    let mut parcels: Vec<Parcel> = Vec::new();
    let mut last = None;
    for (stage, index, view) in views {
        let plan = &plans[index];
        if last.replace((stage, index)) != Some((stage, index)) {
            let slot = SlotInfo {
                slot: plan.slot,
                attempt: plan.attempt,
                segment: plan.segment.id,
                frames: plan.clips.iter().map(|clip| clip.frames.clone()).collect(),
            };
            let batch = Batch { step: plan.step, slots: vec![slot], views: Vec::new() };
            parcels.push(Parcel { to: stage as u32, batch });
        }
        parcels.last_mut().expect("pushed for the first view").batch.views.push(view);
    }
    parcels
}
