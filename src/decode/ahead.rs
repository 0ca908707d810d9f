//! Tells the system which bytes will be read soon, so that decoders do not wait for a slow disk.

use reelflow_api::item::{Media, MemberPlace, Origin};
use reelflow_api::track::Track;

use super::bytes::Bytes;

/// Has the bytes that the frames at `wanted` (in any order) of `media` need fetched into the page cache, while
/// others are decoded. Does nothing where it is not known which bytes those are.
pub fn fetch(media: &Media, wanted: impl Iterator<Item = u32>) {
    let Some(track) = &media.track else { return };
    let is_on_disk = match &media.origin {
        Origin::File(_) => true,
        Origin::Member(member) => matches!(member.place, MemberPlace::Stored { .. }),
        Origin::Pattern { .. } | Origin::Recorded(_) => false,
    };
    if !is_on_disk {
        return;
    }
    let Some((first, past)) = bytes(track, wanted) else { return };
    // Only a hint: a file that cannot be opened is reported when it is decoded.
    if let Ok(bytes) = Bytes::open(&media.origin) {
        bytes.will_need(first, past - first);
    }
}

/// First byte and the byte behind the last of the groups in which the wanted frames lie.
fn bytes(track: &Track, wanted: impl Iterator<Item = u32>) -> Option<(u64, u64)> {
    let (mut low, mut high) = (u32::MAX, 0);
    for position in wanted {
        (low, high) = (low.min(position), high.max(position));
    }
    if low > high || track.groups() == 0 {
        return None;
    }
    let mut units = Vec::new();
    track.read(track.group_of(low)..track.group_of(high) + 1, &mut units);
    let first = units.iter().map(|unit| unit.offset).min()?;
    let past = units.iter().map(|unit| unit.offset + u64::from(unit.size)).max()?;
    (past > first).then_some((first, past))
}

#[cfg(test)]
mod tests {
    use reelflow_api::track::Unit;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_whole_groups() {
        let unit = |i: u32| Unit {
            offset: u64::from(i) * 100,
            size: 90,
            shows: i,
            is_key: i.is_multiple_of(10),
            is_disposable: false,
        };
        let units: Vec<Unit> = (0..40).map(unit).collect();
        let track = Track::new("".into(), true, &units).unwrap();
        assert_eq!(bytes(&track, [23, 12, 14].into_iter()), Some((1000, 2990)));
        assert_eq!(bytes(&track, [39].into_iter()), Some((3000, 3990)));
        assert_eq!(bytes(&track, std::iter::empty()), None);
    }
}
