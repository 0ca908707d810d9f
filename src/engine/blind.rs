//! Stages that look at nothing, so that decoding is all that is left to measure.

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, ClipPlan, Frame, Media};
use reelflow_api::pixels::Pixels;
use reelflow_api::rng::Key;
use reelflow_api::stage::{Augment, Stage, ViewMaker, ViewMap};

use crate::config::Plan;

/// Puts stages that look at nothing in the place of all that change pixels; the same frames are decoded.
#[must_use]
pub fn decode_only(mut plan: Plan) -> Plan {
    for node in &mut plan.nodes {
        match node.stage {
            Stage::Augment(_) => node.stage = Stage::Augment(Box::new(Blind)),
            Stage::Views(_) => node.stage = Stage::Views(Box::new(Blind)),
            _ => {}
        }
    }
    plan
}

/// Makes views of one value, and leaves views as they are.
#[derive(Clone, Copy, Debug)]
struct Blind;

impl Augment for Blind {
    /// One value, because a block of none has no place to be split at.
    fn shape(&self, _: u32) -> [usize; 4] {
        [1; 4]
    }

    fn begin(&self, _: &ClipPlan, _: &Media, _: Key) -> Box<dyn ViewMaker> {
        Box::new(Self)
    }
}

impl ViewMaker for Blind {
    fn add(&mut self, _: usize, _: &Frame<'_>, _: &mut Pixels) -> Result<(), StageError> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Pixels) {}
}

impl ViewMap for Blind {
    fn needs_batch(&self) -> bool {
        false
    }

    fn apply(&self, _: &mut Batch, _: Key) -> Result<(), StageError> {
        Ok(())
    }
}
