//! Times of the pictures of a medium, from what its container or its decoder tells.

/// One access unit of the video track.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    /// Stream time in nanoseconds, if it has one.
    pub time: Option<u64>,
    pub is_key: bool,
    /// Outside the segment (cut away by an edit list): decoded for others, never shown.
    pub is_outside: bool,
    /// First byte in the file, if it was found there.
    pub offset: Option<u64>,
    pub size: u32,
    /// Temporal layer, and whether no other unit of the layer needs it.
    pub layer: Option<(u8, bool)>,
    /// Nothing after it needs what came before it.
    pub is_closed: bool,
}

/// Times in the order of presentation, and which of them are key frames.
///
/// What comes before the first key frame, in order of decoding or of presentation, cannot be decoded and
/// is left out. `None` if a time is missing or comes twice.
pub(super) fn presentation(units: &[Seen]) -> Option<(Vec<u64>, Vec<u32>)> {
    let start = units.iter().position(|unit| unit.is_key).unwrap_or(units.len());
    let units = &units[start..];
    let from = units.first().and_then(|unit| unit.time).unwrap_or(0);
    let mut shown: Vec<(u64, bool)> = Vec::with_capacity(units.len());
    for unit in units.iter().filter(|unit| !unit.is_outside) {
        let time = unit.time?;
        if time >= from {
            shown.push((time, unit.is_key));
        }
    }
    shown.sort_unstable();
    if shown.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    let mut keys: Vec<u32> =
        shown.iter().enumerate().filter(|(_, (_, is_key))| *is_key).map(|(at, _)| at as u32).collect();
    if keys.is_empty() && !shown.is_empty() {
        // An edit list starts behind the only key frame: decoding starts at the file's start.
        keys.push(0);
    }
    Some((shown.into_iter().map(|(time, _)| time).collect(), keys))
}

/// Pictures in a row that are of one size and on one clock.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stretch {
    /// Pictures before the first.
    pub before: u32,
    /// Width and height.
    pub size: (u32, u32),
    /// Strictly increasing, nanoseconds.
    pub times: Vec<u64>,
}

/// Time may go back by this much, nanoseconds, and still be the same clock: pictures in the wrong order, not a
/// recording that was joined to another.
const BACK: u64 = 1_000_000_000;

/// Cuts what came out of a decoder where the size changes (`sizes`: pictures before, width and height) or where
/// time begins anew.
pub(super) fn stretches(seen: &[Option<u64>], sizes: &[(u64, (u32, u32))]) -> Vec<Stretch> {
    let mut cuts: Vec<usize> = sizes.iter().skip(1).map(|(before, _)| *before as usize).collect();
    let mut last: Option<u64> = None;
    for (at, time) in seen.iter().enumerate() {
        let Some(time) = *time else { continue };
        if last.is_some_and(|last| time.saturating_add(BACK) < last) {
            cuts.push(at);
            last = None;
        }
        last = last.max(Some(time));
    }
    cuts.push(seen.len());
    cuts.sort_unstable();
    let mut first = 0;
    let mut found = Vec::new();
    for past in cuts {
        if past > first && past <= seen.len() {
            let size = sizes.iter().rev().find(|(before, _)| *before <= first as u64).or(sizes.first());
            let size = size.map_or((0, 0), |(_, size)| *size);
            found.push(Stretch { before: first as u32, size, times: made_increasing(&seen[first..past]) });
            first = past;
        }
    }
    found
}

/// Every frame gets a time later than the one before: the stated one, or the usual gap after the last
/// (1/25 s where no two frames state times).
fn made_increasing(seen: &[Option<u64>]) -> Vec<u64> {
    let both = seen.windows(2).filter_map(|pair| pair[1]?.checked_sub(pair[0]?));
    let mut gaps: Vec<u64> = both.filter(|&gap| gap > 0).collect();
    gaps.sort_unstable();
    let gap = gaps.get(gaps.len().saturating_sub(1) / 2).copied().unwrap_or(40_000_000);
    let mut times: Vec<u64> = Vec::with_capacity(seen.len());
    for &time in seen {
        let last = times.last().copied();
        times.push(match (time, last) {
            (Some(time), Some(last)) if time > last => time,
            (Some(time), None) => time,
            (_, Some(last)) => last + gap,
            (None, None) => 0,
        });
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(time: u64, is_key: bool) -> Seen {
        Seen {
            time: Some(time),
            is_key,
            is_outside: false,
            offset: None,
            size: 0,
            layer: None,
            is_closed: false,
        }
    }

    #[test]
    fn access_units_are_put_in_the_order_of_presentation() {
        let units = [unit(0, true), unit(30, false), unit(10, false), unit(20, false), unit(40, true)];
        assert_eq!(presentation(&units), Some((vec![0, 10, 20, 30, 40], vec![0, 4])));
    }

    #[test]
    fn what_cannot_be_decoded_or_shown_is_left_out() {
        let outside = Seen { time: None, is_outside: true, ..unit(0, true) };
        // Before the first key frame; leading pictures of an open GOP; cut away by an edit list.
        let units = [unit(5, false), unit(30, true), unit(10, false), unit(40, false)];
        assert_eq!(presentation(&units), Some((vec![30, 40], vec![0])));
        assert_eq!(presentation(&[outside, unit(0, false), unit(10, false)]), Some((vec![0, 10], vec![0])));
        assert_eq!(presentation(&[unit(0, true), unit(0, false)]), None, "a time twice");
        let timeless = Seen { time: None, ..unit(0, false) };
        assert_eq!(presentation(&[unit(0, true), timeless]), None, "a time missing");
    }

    #[test]
    fn missing_and_backward_times_are_made_up() {
        assert_eq!(
            made_increasing(&[Some(0), Some(10), None, Some(30), Some(20), Some(50)]),
            [0, 10, 20, 30, 40, 50]
        );
        assert_eq!(made_increasing(&[None, None]), [0, 40_000_000]);
        assert_eq!(made_increasing(&[Some(7), Some(9), Some(11), None]), [7, 9, 11, 13]);
    }

    #[test]
    fn a_change_of_size_and_a_clock_that_begins_anew_end_a_stretch() {
        let times = |list: &[u64]| list.iter().map(|&secs| Some(secs * 1_000_000_000)).collect::<Vec<_>>();
        let (small, large) = ((96, 64), (160, 120));
        let found = stretches(&times(&[0, 1, 2, 0, 1, 2, 3]), &[(0, large), (5, small)]);
        let shown: Vec<_> = found.iter().map(|part| (part.before, part.size, part.times.len())).collect();
        assert_eq!(shown, [(0, large, 3), (3, large, 2), (5, small, 2)]);
        assert!(found.iter().all(|part| part.times.windows(2).all(|pair| pair[0] < pair[1])));
        // A step back of a second or less is disorder, and a size that no picture has is none.
        assert_eq!(stretches(&times(&[0, 2, 1, 3]), &[(0, large), (4, small)]).len(), 1);
        assert_eq!(stretches(&[], &[]), []);
    }
}
