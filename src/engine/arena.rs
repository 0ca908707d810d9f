//! The blocks that batches are made in: each slot's part is lent to whoever fills it, and blocks are used again.
//!
//! Fresh memory for every batch would cost a page fault every 4 KiB, about a tenth of the whole job.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reelflow_api::error::StageError;
use reelflow_api::item::Batch;
use reelflow_api::pixels::{Dtype, Pixels};

/// Unused blocks kept of one size. More never wait: a step in flight holds its blocks.
const KEPT: usize = 8;

/// One view of one clip: type and number of its values.
pub type Part = (Dtype, usize);

/// One per flow.
#[derive(Debug, Default)]
pub struct Arena(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    /// Parts not yet lent of the steps being made, by step and augment stage: `[slot][view]`.
    open: BTreeMap<(u64, usize), Vec<Vec<Pixels>>>,
    /// Blocks that wait to be used again, by type and number of values.
    free: HashMap<Part, Vec<Pixels>>,
}

impl Arena {
    /// The parts for `slot` of the views that the stage at `position` makes in `step`, one of each of `parts`.
    ///
    /// The second time it is asked for a slot it makes new ones.
    ///
    /// # Errors
    /// If there is no memory for another batch.
    pub fn lend(
        &self,
        (step, position): (u64, usize),
        slot: u32,
        slots: u32,
        parts: &[Part],
    ) -> Result<Vec<Pixels>, StageError> {
        let mut blocks = self.blocks();
        let Blocks { open, free } = &mut *blocks;
        let open = match open.entry((step, position)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let mut lent: Vec<Vec<Pixels>> =
                    (0..slots).map(|_| Vec::with_capacity(parts.len())).collect();
                for &(dtype, values) in parts {
                    let whole = (dtype, values * slots as usize);
                    let kept = free.get_mut(&whole).and_then(Vec::pop);
                    let mut block = kept.map_or_else(|| zeroed(whole, slots), Ok)?;
                    lent.iter_mut().for_each(|slot| slot.push(block.split_to(values)));
                }
                place.insert(lent)
            }
        };
        let lent = std::mem::take(&mut open[slot as usize]);
        if lent.len() == parts.len() {
            return Ok(lent);
        }
        parts.iter().map(|&part| zeroed(part, 1)).collect()
    }

    /// Takes the blocks of a batch that has been used, and forgets what was not lent of its step.
    pub fn give_back(&self, batch: Batch) {
        let mut blocks = self.blocks();
        blocks.open = blocks.open.split_off(&(batch.step + 1, 0));
        for view in batch.views {
            let waiting = blocks.free.entry((view.pixels.dtype(), view.pixels.len())).or_default();
            if waiting.len() < KEPT {
                waiting.push(view.pixels);
            }
        }
    }

    /// A panic elsewhere leaves plain data behind, so poison is ignored.
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new block for so many clips.
fn zeroed((dtype, values): Part, clips: u32) -> Result<Pixels, StageError> {
    Pixels::try_zeroed(dtype, values).ok_or_else(|| {
        let megabytes = (values * dtype.size()) as f64 / 1e6;
        StageError::transient(
            "batch",
            format!(
                "out of memory: {megabytes:.0} MB for one view of {clips} clips are not there; lower the batch's \
                 `size`, the clips' `frames` or size, or `run.ahead`"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::{SegmentId, SlotInfo, View};

    use super::*;
    use crate::batch::collect::collect;

    /// Lends the slots of a step in this order and joins them.
    fn made(arena: &Arena, step: u64, order: &[u32]) -> Batch {
        let slot = |slot: u32| {
            let views =
                arena.lend((step, 3), slot, 3, &[(Dtype::F32, 4), (Dtype::U8, 2)]).unwrap().into_iter();
            let views = views.enumerate().map(|(index, mut pixels)| {
                pixels.bytes_mut().fill(10 * index as u8 + slot as u8);
                View { name: "v".into(), shape: [1, 1, 1, pixels.len()], pixels, normalize: None }
            });
            let info = SlotInfo { slot, attempt: 0, segment: SegmentId(0), frames: Vec::new() };
            Batch { step, slots: vec![info], views: views.collect() }
        };
        collect(step, order.iter().map(|&number| slot(number)).collect())
    }

    #[test]
    fn slots_are_joined_without_a_copy_and_blocks_are_used_again() {
        let arena = Arena::default();
        let batch = made(&arena, 0, &[2, 0, 1]);
        let places =
            |batch: &Batch| batch.views.iter().map(|v| v.pixels.bytes().as_ptr()).collect::<Vec<_>>();
        let first = places(&batch);
        assert_eq!(batch.views[1].pixels.bytes(), [10, 10, 11, 11, 12, 12]);
        assert_eq!(batch.views[0].pixels.bytes()[16..32], [1; 16]);
        arena.give_back(batch);
        assert!(arena.blocks().open.is_empty());
        assert_eq!(places(&made(&arena, 1, &[1, 2, 0])), first);
        assert_ne!(places(&made(&arena, 2, &[1, 2, 0])), first, "a block in use is not lent");
    }

    #[test]
    fn a_slot_left_empty_costs_a_copy_and_nothing_else() {
        let arena = Arena::default();
        let batch = made(&arena, 0, &[0, 2]);
        assert_eq!(batch.views[1].pixels.bytes(), [10, 10, 12, 12]);
        let again = arena.lend((0, 3), 0, 3, &[(Dtype::F32, 4), (Dtype::U8, 2)]).unwrap();
        assert_eq!((again[0].len(), again[1].len()), (4, 2));
    }

    #[test]
    fn a_batch_that_does_not_fit_is_an_error_in_words() {
        // More than any address space; nothing is touched.
        let error = Arena::default().lend((0, 3), 0, 1 << 20, &[(Dtype::F32, 1 << 40)]).unwrap_err();
        assert_eq!(error.code, 75);
        assert!(error.message.contains("1048576 clips") && error.message.contains("`size`"), "{error}");
    }
}
