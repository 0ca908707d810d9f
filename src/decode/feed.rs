//! Which access units a decoder must be fed for the frames that are wanted.

use reelflow_api::track::{Track, Unit};

/// Units to feed one after the other, from a key unit on; before it the decoder is emptied.
pub type Stretch = Vec<Unit>;

/// Stretches for `wanted` (strictly increasing positions): from the last key unit before each wanted frame to
/// the frame, without disposable units that show nothing wanted.
///
/// `None` if a wanted frame has no unit.
#[must_use]
pub fn stretches(track: &Track, wanted: &[u32]) -> Option<Vec<Stretch>> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut groups = 0..0;
    let mut units: Vec<Unit> = Vec::new();
    let mut rest = wanted;
    while let Some(&first) = rest.first() {
        let group = track.group_of(first);
        if group >= groups.end || group < groups.start {
            flush(&mut stretches, &mut units, wanted);
            groups = group..group;
        }
        // A picture shown before a key frame may be decoded after it: one group more.
        let mut last = None;
        for past in group + 1..=(group + 2).min(track.groups()) {
            if past > groups.end {
                track.read(groups.end..past, &mut units);
                groups.end = past;
            }
            last = units.iter().rposition(|unit| unit.shows == first);
            if last.is_some() {
                break;
            }
        }
        last?;
        rest = &rest[1..];
    }
    flush(&mut stretches, &mut units, wanted);
    Some(stretches)
}

/// Ends the stretch of `units` with its last wanted one.
fn flush(stretches: &mut Vec<Stretch>, units: &mut Vec<Unit>, wanted: &[u32]) {
    let is_wanted = |unit: &Unit| wanted.binary_search(&unit.shows).is_ok();
    let past = units.iter().rposition(is_wanted).map_or(0, |last| last + 1);
    let needed = units.drain(..).take(past).filter(|unit| !unit.is_disposable || is_wanted(unit));
    let stretch: Stretch = needed.collect();
    if !stretch.is_empty() {
        stretches.push(stretch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decoding order I P b b P b b ..., shown as I b b P b b P; a key frame every ten.
    fn track() -> Track {
        let mut units = Vec::new();
        for key in (0..40).step_by(10) {
            let shows = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8].map(|step| key + step);
            units.extend(shows.into_iter().enumerate().map(|(index, shows)| Unit {
                offset: 0,
                size: 1,
                shows,
                is_key: index == 0,
                is_disposable: shows % 10 % 3 != 0,
            }));
        }
        Track::new("".into(), true, &units).unwrap()
    }

    #[track_caller]
    fn check(wanted: &[u32], expected: &[&[u32]]) {
        let found = stretches(&track(), wanted).unwrap();
        let shows: Vec<Vec<u32>> =
            found.iter().map(|units| units.iter().map(|unit| unit.shows).collect()).collect();
        assert_eq!(shows, expected, "wanted {wanted:?}");
        assert!(found.iter().all(|units| units[0].is_key));
    }

    #[test]
    fn only_what_is_needed_is_fed() {
        check(&[0], &[&[0]]);
        check(&[1], &[&[0, 3, 1]]);
        check(&[5], &[&[0, 3, 6, 5]]);
        check(&[15, 17], &[&[10, 13, 16, 15, 19, 17]]);
        check(&[2, 33], &[&[0, 3, 2], &[30, 33]]);
    }

    #[test]
    fn groups_in_a_row_are_one_stretch_only_where_the_first_is_needed_to_its_end() {
        check(&[9, 10], &[&[0, 3, 6, 9], &[10]]);
        check(&[], &[]);
    }

    #[test]
    fn leading_pictures_need_the_group_before_theirs() {
        let unit = |shows, is_key, is_disposable| Unit { offset: 0, size: 1, shows, is_key, is_disposable };
        // Decoded 0 1 4* 2 3 5: frames 2 and 3 come after the second key unit and look back past it.
        let units = [
            (0, true, false),
            (1, false, false),
            (4, true, false),
            (2, false, true),
            (3, false, true),
            (5, false, false),
        ];
        let units: Vec<Unit> = units.into_iter().map(|(s, k, d)| unit(s, k, d)).collect();
        let track = Track::new("".into(), true, &units).unwrap();
        let shows = |wanted: &[u32]| -> Vec<Vec<u32>> {
            let found = stretches(&track, wanted).unwrap();
            found.iter().map(|units| units.iter().map(|unit| unit.shows).collect()).collect()
        };
        assert_eq!(shows(&[3]), [vec![0, 1, 4, 3]]);
        assert_eq!(shows(&[2, 5]), [vec![0, 1, 4, 2, 5]]);
        assert_eq!(shows(&[5]), [vec![4, 5]]);
        assert_eq!(stretches(&track, &[9]), None);
    }
}
