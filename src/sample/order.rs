//! Which segment a sample comes from: every segment once an epoch, in an order computed on the spot.
//!
//! No list is shuffled and none is kept: place `i` of an epoch is looked up in a keyed permutation in
//! constant time and memory, so step 1,000,000 costs what step 0 costs.

use reelflow_api::rng::Key;
use reelflow_api::stage::Place;

/// Rounds of the Feistel network. Four give a permutation that looks random to a statistician (Luby,
/// Rackoff 1988); two more cost nanoseconds and cover the tiny domains, whose halves are one bit.
const ROUNDS: u64 = 6;

/// Position of the segment at `place` among `segments`; `None` if there are none.
///
/// Attempt 0 goes through all segments without replacement, epoch after epoch. A later attempt takes any
/// other segment.
#[must_use]
pub fn segment_at(segments: usize, place: Place, key: Key) -> Option<usize> {
    let total = segments as u64;
    if total == 0 {
        return None;
    }
    let (epoch, position) = (place.ordinal() / total, place.ordinal() % total);
    let chosen = permuted(position, total, key.part("epoch").number(epoch));
    if place.attempt == 0 || total == 1 {
        return Some(chosen as usize);
    }
    let mut rng =
        key.part("again").number(place.step).number(place.slot.into()).number(place.attempt.into()).rng();
    // One of the others: skipping over the first choice keeps the draw uniform.
    let other = rng.below(total - 1);
    Some((if other < chosen { other } else { other + 1 }) as usize)
}

/// Image of `position` under a pseudo-random permutation of `0..total` chosen by `key`.
///
/// A balanced Feistel network permutes the next power of four; what falls outside `0..total` is permuted
/// again until it falls inside (cycle walking, Black and Rogaway 2002), fewer than four times on average.
///
/// # Panics
/// If `position >= total`.
#[must_use]
pub fn permuted(position: u64, total: u64, key: Key) -> u64 {
    assert!(position < total, "position {position} of {total}");
    let bits = u64::BITS - (total - 1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..ROUNDS {
            let mixed = key.number(round).number(right).rng().next_u64() & mask;
            (left, right) = (right, left ^ mixed);
        }
        value = left << half | right;
        if value < total {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::place;

    #[test]
    fn it_is_a_permutation_of_every_small_range() {
        for total in (1..200).chain([255, 256, 257, 1000]) {
            let mut seen: Vec<u64> = (0..total).map(|i| permuted(i, total, Key::new(total))).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..total).collect::<Vec<_>>(), "range {total}");
        }
    }

    #[test]
    fn epochs_have_different_orders_and_each_covers_all() {
        let order = |epoch: u64| -> Vec<usize> {
            (0..50)
                .map(|i| {
                    segment_at(50, place(epoch * 10 + i / 5, (i % 5) as u32, 5, 0), Key::new(1)).unwrap()
                })
                .collect()
        };
        for epoch in 0..4 {
            let mut all = order(epoch);
            assert_ne!(all, order(epoch + 1), "epoch {epoch} repeats");
            assert_ne!(all, (0..50).collect::<Vec<_>>(), "epoch {epoch} is not shuffled");
            all.sort_unstable();
            assert_eq!(all, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_epoch_may_end_inside_a_batch() {
        let chosen: Vec<usize> = (0..12)
            .map(|i| segment_at(6, place(i / 4, (i % 4) as u32, 4, 0), Key::new(9)).unwrap())
            .collect();
        let mut first = chosen[..6].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_first_place_is_any_segment_equally_often() {
        let mut counts = [0u32; 7];
        for seed in 0..7_000 {
            counts[permuted(0, 7, Key::new(seed)) as usize] += 1;
        }
        // 1000 expected, standard deviation 29: five deviations.
        assert!(counts.iter().all(|&n| (855..1145).contains(&n)), "{counts:?}");
    }

    #[test]
    fn another_attempt_takes_another_segment() {
        for attempt in 1..50 {
            let first = segment_at(5, place(3, 1, 4, 0), Key::new(2));
            assert_ne!(first, segment_at(5, place(3, 1, 4, attempt), Key::new(2)));
        }
        assert_eq!(segment_at(1, place(3, 1, 4, 1), Key::new(2)), Some(0));
        assert_eq!(segment_at(0, place(0, 0, 4, 0), Key::new(2)), None);
    }
}
