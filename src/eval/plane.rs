//! Puts embeddings on a plane: their first two principal components.

use ndarray::{Array1, Array2, Axis};
use reelflow_api::rng::Key;

use super::labelled::LabelledSet;

/// Rounds of the iteration at most; it ends as soon as nothing moves.
const ROUNDS_MAX: usize = 3000;
/// The iteration ends when a direction moves less than this in a round.
const STILL: f64 = 1e-10;

/// Where the segments lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Of every segment of the set, along the first and second component.
    pub points: Vec<[f32; 2]>,
    /// Share of the whole variance along each of the two, 0 to 1.
    pub explained: [f64; 2],
}

/// The unit vectors of `set` on their first two principal components: the plane on which they are spread most, so
/// that no straight-line picture shows more of them. Directions are found by the power method on the covariance, one
/// after the other; the sign is the one in which the largest number is positive.
#[must_use]
pub fn plane(set: &LabelledSet) -> Plane {
    let shape = (set.class.len(), set.dim);
    let mut rows =
        Array2::from_shape_fn(shape, |(row, column)| f64::from(set.vectors[row * set.dim + column]));
    let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(set.dim));
    rows -= &mean;
    let covariance = rows.t().dot(&rows) / shape.0.max(1) as f64;
    let whole = covariance.diag().sum();
    let first = direction(&covariance, &[]);
    let second = direction(&covariance, &[&first]);
    let along = [&first, &second].map(|direction| rows.dot(direction));
    let variance = [&first, &second].map(|direction| direction.dot(&covariance.dot(direction)));
    Plane {
        points: (0..shape.0).map(|row| [along[0][row] as f32, along[1][row] as f32]).collect(),
        explained: variance.map(|variance| if whole > 0.0 { variance / whole } else { 0.0 }),
    }
}

/// The direction of most variance among those at right angles to `others`.
fn direction(covariance: &Array2<f64>, others: &[&Array1<f64>]) -> Array1<f64> {
    let mut rng = Key::new(0).part("plane").rng();
    let mut current = upright((0..covariance.nrows()).map(|_| rng.normal()).collect(), others);
    for _ in 0..ROUNDS_MAX {
        let next = upright(covariance.dot(&current), others);
        let moved = (&next - &current).mapv(f64::abs).sum();
        current = next;
        if moved < STILL {
            break;
        }
    }
    current
}

/// At right angles to `others`, of length 1 (or zero), with its largest number positive.
fn upright(mut vector: Array1<f64>, others: &[&Array1<f64>]) -> Array1<f64> {
    for other in others {
        let along = vector.dot(*other);
        vector.scaled_add(-along, other);
    }
    let largest = vector.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
    let length = vector.dot(&vector).sqrt() * largest.signum();
    if length == 0.0 { vector } else { vector / length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Protocol;

    fn set(dim: usize, vectors: Vec<f32>) -> LabelledSet {
        let count = vectors.len() / dim;
        LabelledSet {
            protocol: Protocol::LeaveOneOut,
            classes: vec!["a".into()],
            ids: (0..count as u64).map(reelflow_api::item::SegmentId).collect(),
            class: vec![0; count],
            group: (0..count).collect(),
            dim,
            features: vectors.clone(),
            vectors,
            queries: (0..count).collect(),
            gallery: (0..count).collect(),
            left_out: 0,
        }
    }

    /// Points at ±3 and ±2 along two known axes of five, and ±1 along a third: variances 9/3, 4/3 and 1/3 of the sum.
    #[test]
    fn the_axes_of_most_spread_are_found() {
        let axes = [[0.6_f32, 0.8, 0.0, 0.0, 0.0], [-0.8, 0.6, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]];
        let spread = [(0, 3.0), (0, -3.0), (1, 2.0), (1, -2.0), (2, 1.0), (2, -1.0)];
        let vectors =
            spread.iter().flat_map(|(axis, far)| axes[*axis].map(|value| 7.0 + value * far)).collect();
        let plane = plane(&set(5, vectors));
        let expected = [[3.0, 0.0], [-3.0, 0.0], [0.0, -2.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]];
        for (found, expected) in plane.points.iter().zip(expected) {
            let off = (found[0] - expected[0]).abs() + (found[1] - expected[1]).abs();
            assert!(off < 1e-3, "{:?}", plane.points);
        }
        assert!((plane.explained[0] - 9.0 / 14.0).abs() < 1e-6, "{:?}", plane.explained);
        assert!((plane.explained[1] - 4.0 / 14.0).abs() < 1e-6, "{:?}", plane.explained);
    }

    #[test]
    fn points_that_are_all_one_stay_one() {
        let plane = plane(&set(2, vec![1.0; 6]));
        assert!(plane.points.iter().all(|point| *point == [0.0, 0.0]), "{plane:?}");
        assert_eq!(plane.explained, [0.0, 0.0]);
    }
}
