//! Finds the nearest of many unit vectors, on all cores.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::labelled::LabelledSet;

/// One neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Cosine of the angle between the two, -1 to 1.
    pub cosine: f32,
    /// Which segment.
    pub index: usize,
}

/// For every query the `deepest` nearest segments it may find, nearest first; of equals, the one earlier
/// in the set. Fewer if there are fewer.
#[must_use]
pub fn rank(set: &LabelledSet, deepest: usize) -> Vec<Vec<Near>> {
    set.queries.par_iter().map(|query| nearest(set, *query, deepest)).collect()
}

fn nearest(set: &LabelledSet, query: usize, deepest: usize) -> Vec<Near> {
    let mut all = candidates(set, query);
    if deepest < all.len() {
        all.select_nth_unstable_by(deepest, order);
        all.truncate(deepest);
    }
    all.sort_unstable_by(order);
    all
}

fn candidates(set: &LabelledSet, query: usize) -> Vec<Near> {
    let vector = set.vector(query);
    let allowed = set.gallery.iter().filter(|index| set.may_find(query, **index));
    allowed.map(|index| Near { cosine: dot(vector, set.vector(*index)), index: *index }).collect()
}

/// A total order, so that the result does not depend on threads or on the sort.
fn order(a: &Near, b: &Near) -> Ordering {
    b.cosine.total_cmp(&a.cosine).then(a.index.cmp(&b.index))
}

/// Eight sums side by side, which the compiler turns into vector instructions.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use reelflow_api::rng::Key;

    use super::*;
    use crate::eval::Protocol;

    fn set(segments: usize, dim: usize) -> LabelledSet {
        let mut rng = Key::new(3).rng();
        // Coarse values, so that there are ties.
        let vectors = (0..segments * dim).map(|_| rng.below(3) as f32 - 1.0).collect();
        LabelledSet {
            protocol: Protocol::LeaveGroupOut,
            classes: vec!["a".into(), "b".into()],
            ids: (0..segments as u64).map(reelflow_api::item::SegmentId).collect(),
            class: (0..segments).map(|index| index % 2).collect(),
            group: (0..segments).map(|index| index / 3).collect(),
            dim,
            features: Vec::new(),
            vectors,
            queries: (0..segments).collect(),
            gallery: (0..segments).collect(),
            left_out: 0,
        }
    }

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        for (segments, dim, deepest) in [(40, 5, 7), (40, 16, 1), (10, 3, 50)] {
            let set = set(segments, dim);
            for (query, found) in rank(&set, deepest).into_iter().enumerate() {
                // The plain twin: every candidate, sorted whole, with a plain sum.
                let mut all: Vec<Near> = (0..segments)
                    .filter(|other| other / 3 != query / 3)
                    .map(|index| {
                        let pairs = set.vector(query).iter().zip(set.vector(index));
                        Near { cosine: pairs.map(|(x, y)| x * y).sum(), index }
                    })
                    .collect();
                all.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.index.cmp(&b.index)));
                all.truncate(deepest);
                assert_eq!(found, all);
            }
        }
    }
}
