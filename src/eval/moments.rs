//! Finds the moments nearest to a query, and how often one half of a video finds the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use reelflow_api::error::StageError;
use reelflow_api::item::{Segment, SegmentId};
use serde::Serialize;

use super::Embedded;
use super::figures::share;
use super::neighbours::dot;

/// A piece of a video, with the mean of its clips' embeddings scaled to unit length.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The piece.
    pub segment: Arc<Segment>,
    /// Media time from its first to its last clip's end, seconds.
    pub span_secs: (f64, f64),
    /// Of length 1, or zero.
    pub vector: Vec<f32>,
}

/// One of the nearest moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Position among the moments.
    pub index: usize,
    /// How near it is, -1 to 1.
    pub cosine: f32,
}

/// One moment a segment, in the order in which segments first appear. Its span is the segment's own, not only what
/// its clips saw.
///
/// # Errors
/// If an embedding is not finite.
pub fn moments(items: &[Embedded]) -> Result<Vec<Moment>, StageError> {
    let mut place_of: BTreeMap<SegmentId, usize> = BTreeMap::new();
    let mut moments: Vec<Moment> = Vec::new();
    for item in items {
        if !item.vector.iter().all(|value| value.is_finite()) {
            let name = &item.segment.media.name;
            let message = format!("`{name}`: its embedding is not finite; the weights may be damaged");
            return Err(StageError::failed("search", message));
        }
        let place = *place_of.entry(item.segment.id).or_insert_with(|| {
            let secs = |time: Option<&u64>| time.map_or(0.0, |time| *time as f64 / 1e9);
            let times = item.segment.times();
            let span_secs = (secs(times.first()), secs(times.last()));
            let vector = vec![0.0; item.vector.len()];
            moments.push(Moment { segment: Arc::clone(&item.segment), span_secs, vector });
            moments.len() - 1
        });
        moments[place].vector.iter_mut().zip(&item.vector).for_each(|(sum, value)| *sum += value);
    }
    moments.iter_mut().for_each(|moment| unit_length(&mut moment.vector));
    Ok(moments)
}

fn unit_length(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// The `count` moments nearest to `query`, nearest first, of equals the earlier; those that overlap it in time in the
/// same file are left out, as they are the query itself.
#[must_use]
pub fn nearest(query: &Moment, moments: &[Moment], count: usize) -> Vec<Found> {
    let is_other = |moment: &Moment| {
        let (a, b) = (query.span_secs, moment.span_secs);
        query.segment.media.name != moment.segment.media.name || a.1 < b.0 || b.1 < a.0
    };
    let mut found: Vec<Found> = moments
        .par_iter()
        .enumerate()
        .filter(|(_, moment)| is_other(moment))
        .map(|(index, moment)| Found { index, cosine: dot(&query.vector, &moment.vector) })
        .collect();
    found.sort_unstable_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.index.cmp(&b.index)));
    found.truncate(count);
    found
}

/// How often a half of a video finds the other half among the halves of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Halves {
    /// Videos with a clip in each half.
    pub videos: usize,
    /// Videos too short for a clip in each half.
    pub left_out: usize,
    /// Share of halves whose nearest is their other half, 0 to 1; both directions count.
    pub hit_1: f64,
    /// The other half is among the five nearest.
    pub hit_5: f64,
    /// What guessing reaches at 1: one in the number of videos.
    pub chance: f64,
}

/// Halves each segment at the middle of its time: a clip belongs to the half it lies in, a clip across the middle to
/// none. First halves search among all second halves, and second among first.
///
/// # Errors
/// If an embedding is not finite.
pub fn halves(items: &[Embedded]) -> Result<Halves, StageError> {
    let of_half = |second: bool| {
        let inside = |item: &&Embedded| {
            let times = item.segment.times();
            let secs = |at: Option<&u64>| at.map_or(0.0, |time| *time as f64 / 1e9);
            let middle = (secs(times.first()) + secs(times.last())) / 2.0;
            if second { item.span_secs.0 > middle } else { item.span_secs.1 <= middle }
        };
        let half: Vec<Embedded> = items.iter().filter(inside).cloned().collect();
        moments(&half)
    };
    let (mut first, mut second) = (of_half(false)?, of_half(true)?);
    let ids = |moments: &[Moment]| -> Vec<SegmentId> { moments.iter().map(|it| it.segment.id).collect() };
    let both: Vec<SegmentId> = ids(&first).into_iter().filter(|id| ids(&second).contains(id)).collect();
    first.retain(|moment| both.contains(&moment.segment.id));
    second.retain(|moment| both.contains(&moment.segment.id));
    let mut all: Vec<SegmentId> = items.iter().map(|item| item.segment.id).collect();
    all.sort_unstable();
    all.dedup();
    let rank = |query: &Moment, others: &[Moment]| {
        let own = others.iter().position(|other| other.segment.id == query.segment.id);
        let own = own.expect("only segments with both halves are left");
        let cosine = dot(&query.vector, &others[own].vector);
        // As many as are nearer; of equals the earlier is first.
        let nearer = |(at, other): (usize, &Moment)| {
            let other = dot(&query.vector, &other.vector);
            other > cosine || (other == cosine && at < own)
        };
        others.iter().enumerate().filter(|(at, other)| nearer((*at, other))).count()
    };
    let ranks: Vec<usize> = first
        .par_iter()
        .map(|query| rank(query, &second))
        .chain(second.par_iter().map(|query| rank(query, &first)))
        .collect();
    let within = |k: usize| share(ranks.iter().filter(|rank| **rank < k).count(), ranks.len());
    Ok(Halves {
        videos: both.len(),
        left_out: all.len() - both.len(),
        hit_1: within(1),
        hit_5: within(5),
        chance: share(1, both.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tests::segment_of;

    /// A clip of the segment `number` (11 frames a second apart) from second `start`, two seconds long.
    fn clip(number: u64, start: f64, vector: [f32; 2]) -> Embedded {
        Embedded {
            segment: segment_of(number, 11),
            span_secs: (start, start + 2.0),
            vector: vector.to_vec(),
            scores: None,
        }
    }

    #[test]
    fn the_nearest_comes_first_and_the_query_is_not_found() {
        let all = [
            clip(0, 0.0, [1.0, 0.0]),
            clip(1, 0.0, [0.0, 1.0]),
            clip(1, 3.0, [0.0, 3.0]),
            clip(2, 0.0, [1.0, 1.0]),
        ];
        let moments = moments(&all).unwrap();
        assert_eq!(moments.len(), 3);
        assert_eq!(
            (moments[1].vector.as_slice(), moments[1].span_secs),
            ([0.0, 1.0].as_slice(), (0.0, 10.0))
        );
        let found = nearest(&moments[0], &moments, 9);
        assert_eq!(found.iter().map(|it| it.index).collect::<Vec<_>>(), [2, 1]);
        assert!((found[0].cosine - 0.5_f32.sqrt()).abs() < 1e-6 && found[1].cosine == 0.0);
        assert_eq!(nearest(&moments[0], &moments, 1).len(), 1);
    }

    #[test]
    fn another_time_of_the_same_file_may_be_found() {
        let mut moments = moments(&[clip(0, 0.0, [1.0, 0.0]), clip(0, 5.0, [1.0, 0.0])]).unwrap();
        let mut query = moments[0].clone();
        query.span_secs = (0.0, 2.0);
        assert!(nearest(&query, &moments, 1).is_empty());
        moments[0].span_secs = (2.5, 9.0);
        assert_eq!(nearest(&query, &moments, 1).len(), 1);
    }

    #[test]
    fn halves_find_each_other_where_they_look_alike() {
        // 0 and 1: the halves point the same way. 2: its second half looks like video 0.
        let items = [
            clip(0, 0.0, [1.0, 0.0]),
            clip(0, 7.0, [1.0, 0.1]),
            clip(1, 0.0, [0.0, 1.0]),
            clip(1, 7.0, [0.1, 1.0]),
            clip(1, 4.0, [-9.0, 0.0]),
            clip(2, 0.0, [-1.0, -1.0]),
            clip(2, 7.0, [1.0, 0.0]),
            clip(3, 0.0, [1.0, 0.0]),
        ];
        let found = halves(&items).unwrap();
        // First halves: 0 finds the second half of 2 (cosine 1); 1 is right; 2 finds none near, its own is at -0.71
        // and that of 1 lower at -0.77, of 0 at -0.77. Second halves: 0 and 1 are right, 2 finds the first half of 0.
        assert_eq!((found.videos, found.left_out), (3, 1));
        assert!((found.hit_1 - 4.0 / 6.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.hit_5, found.chance), (1.0, 1.0 / 3.0));
    }
}
