//! Where a file keeps the access units of its video track, about five bytes a frame.
//!
//! Found once, when a file is scanned. With it a decoder is fed exactly what a window needs, without a
//! demuxer and without a seek.

use std::ops::Range;
use std::sync::Arc;

/// One access unit: what a decoder takes at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unit {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Position in [`crate::item::Media::times`] of the picture it shows.
    pub shows: u32,
    /// Decoding can start here.
    pub is_key: bool,
    /// No other unit needs it.
    pub is_disposable: bool,
}

/// A key unit, and where what follows it is written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Group {
    /// Position that the key unit shows.
    key: u32,
    /// First byte of the group in [`Track::written`].
    at: u32,
    /// First byte of the key unit in the file.
    offset: u64,
}

/// The access units of a video track in the order of decoding, in groups that begin with a key unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Track {
    /// Format of the units, in the words of the library that decodes them.
    pub caps: Arc<str>,
    /// No group needs another: a decoder may jump from any unit to any key unit without being emptied.
    pub has_closed_groups: bool,
    groups: Vec<Group>,
    /// Of each unit: size and whether it is disposable, gap to the unit before it in the file, and step from
    /// the position after the one that unit shows. Seven bits a byte, the lowest first.
    written: Vec<u8>,
}

impl Track {
    /// Writes the units down. `None` if the first is no key unit, or the keys' positions do not increase.
    #[must_use]
    pub fn new(caps: Arc<str>, has_closed_groups: bool, units: &[Unit]) -> Option<Self> {
        let mut track = Self { caps, has_closed_groups, groups: Vec::new(), written: Vec::new() };
        let (mut end, mut next) = (0u64, 0u32);
        for unit in units {
            if unit.is_key {
                if track.groups.last().is_some_and(|last| last.key >= unit.shows) {
                    return None;
                }
                let at = u32::try_from(track.written.len()).ok()?;
                track.groups.push(Group { key: unit.shows, at, offset: unit.offset });
                (end, next) = (unit.offset, unit.shows);
            }
            if track.groups.is_empty() {
                return None;
            }
            track.write(u64::from(unit.size) << 1 | u64::from(unit.is_disposable));
            track.write(zigzag(unit.offset.wrapping_sub(end) as i64));
            track.write(zigzag(i64::from(unit.shows) - i64::from(next)));
            (end, next) = (unit.offset + u64::from(unit.size), unit.shows.wrapping_add(1));
        }
        track.groups.shrink_to_fit();
        track.written.shrink_to_fit();
        Some(track)
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The group whose key unit shows the last position at or before `position`; the first if there is none.
    #[must_use]
    pub fn group_of(&self, position: u32) -> usize {
        self.groups.partition_point(|group| group.key <= position).saturating_sub(1)
    }

    /// Appends the units of these groups to `units`, in the order of decoding.
    pub fn read(&self, groups: Range<usize>, units: &mut Vec<Unit>) {
        for (index, group) in self.groups.iter().enumerate().take(groups.end).skip(groups.start) {
            let past = self.groups.get(index + 1).map_or(self.written.len(), |next| next.at as usize);
            let mut rest = &self.written[group.at as usize..past];
            let (mut end, mut next) = (group.offset, group.key);
            let mut is_key = true;
            while !rest.is_empty() {
                let size = take(&mut rest);
                let offset = end.wrapping_add(unzigzag(take(&mut rest)) as u64);
                let shows = i64::from(next).wrapping_add(unzigzag(take(&mut rest))) as u32;
                let unit =
                    Unit { offset, size: (size >> 1) as u32, shows, is_key, is_disposable: size & 1 == 1 };
                units.push(unit);
                (end, next) = (offset.wrapping_add(u64::from(unit.size)), shows.wrapping_add(1));
                is_key = false;
            }
        }
    }

    fn write(&mut self, value: u64) {
        put(&mut self.written, value);
    }

    /// All of it as bytes, for [`Track::from_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.written.len() + 5 * self.groups.len() + self.caps.len() + 12);
        bytes.push(u8::from(self.has_closed_groups));
        put(&mut bytes, self.caps.len() as u64);
        bytes.extend(self.caps.as_bytes());
        put(&mut bytes, self.groups.len() as u64);
        let mut last = Group { key: 0, at: 0, offset: 0 };
        for group in &self.groups {
            put(&mut bytes, u64::from(group.key.wrapping_sub(last.key)));
            put(&mut bytes, u64::from(group.at.wrapping_sub(last.at)));
            put(&mut bytes, zigzag(group.offset.wrapping_sub(last.offset) as i64));
            last = *group;
        }
        bytes.extend(&self.written);
        bytes
    }

    /// What [`Track::to_bytes`] wrote; `None` if the bytes cannot be that.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&closed, mut rest) = bytes.split_first()?;
        let length = usize::try_from(take(&mut rest)).ok()?;
        let (caps, mut rest) = rest.split_at_checked(length)?;
        let count = take(&mut rest);
        let mut groups: Vec<Group> = Vec::new();
        let mut last = Group { key: 0, at: 0, offset: 0 };
        for number in 0..count {
            let key = last.key.checked_add(u32::try_from(take(&mut rest)).ok()?)?;
            let at = last.at.checked_add(u32::try_from(take(&mut rest)).ok()?)?;
            let offset = last.offset.wrapping_add(unzigzag(take(&mut rest)) as u64);
            let group = Group { key, at, offset };
            if number > 0 && (group.key <= last.key || group.at <= last.at) {
                return None;
            }
            groups.push(group);
            last = group;
        }
        let ends_well = groups.last().is_none_or(|last| (last.at as usize) < rest.len());
        let begins_well = groups.first().map_or(rest.is_empty(), |first| first.at == 0);
        let caps = std::str::from_utf8(caps).ok()?.into();
        (closed < 2 && begins_well && ends_well).then(|| Self {
            caps,
            has_closed_groups: closed == 1,
            groups,
            written: rest.to_vec(),
        })
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(rest: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let [byte, tail @ ..] = rest {
        *rest = tail;
        // Bytes that nobody here wrote may go on too long.
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    value
}

/// Small numbers of either sign as small numbers.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    /// Groups of up to nine units with pictures out of order and gaps in the file.
    fn units(seed: u64) -> Vec<Unit> {
        let mut rng = Key::new(seed).rng();
        let (mut units, mut offset, mut shown) = (Vec::new(), 5_000_000_000u64, 0u32);
        for _ in 0..20 {
            let count = 1 + rng.below(9) as u32;
            let mut rest: Vec<u32> = (1..count).collect();
            rng.shuffle(&mut rest);
            for (index, step) in std::iter::once(0).chain(rest).enumerate() {
                // A file may hold units in another order than they are decoded in.
                offset = if rng.chance(0.1) { offset - 40_000 } else { offset + rng.below(3) * 700 };
                let size = 1 + rng.below(90_000) as u32;
                let (is_key, is_disposable) = (index == 0, rng.chance(0.5));
                units.push(Unit { offset, size, shows: shown + step, is_key, is_disposable });
                offset += u64::from(size);
            }
            shown += count;
        }
        units
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for seed in 0..50 {
            let units = units(seed);
            let track = Track::new("caps".into(), true, &units).unwrap();
            let mut back = Vec::new();
            track.read(0..track.groups(), &mut back);
            assert_eq!(back, units);
            assert_eq!(Track::from_bytes(&track.to_bytes()), Some(track.clone()));
            let keys: Vec<u32> = units.iter().filter(|unit| unit.is_key).map(|unit| unit.shows).collect();
            assert_eq!(
                (0..track.groups()).map(|g| track.group_of(keys[g])).collect::<Vec<_>>(),
                (0..20).collect::<Vec<_>>()
            );
            let mut one = Vec::new();
            track.read(track.group_of(units[30].shows)..track.group_of(units[30].shows) + 1, &mut one);
            assert!(one.contains(&units[30]) && one[0].is_key);
        }
    }

    #[test]
    fn a_frame_takes_about_five_bytes() {
        let unit = |i: u32| Unit {
            offset: u64::from(i) * 900,
            size: 880,
            shows: i,
            is_key: i.is_multiple_of(12),
            is_disposable: false,
        };
        let units: Vec<Unit> = (0..240).map(unit).collect();
        let track = Track::new("caps".into(), true, &units).unwrap();
        let bytes = track.written.len() + track.groups.len() * size_of::<Group>();
        assert!(bytes <= 240 * 6, "{bytes}");
    }

    #[test]
    fn a_track_begins_with_a_key_and_its_keys_go_forward() {
        let unit = |shows, is_key| Unit { offset: 0, size: 1, shows, is_key, is_disposable: false };
        assert_eq!(Track::new("".into(), true, &[unit(0, false)]), None);
        assert_eq!(Track::new("".into(), true, &[unit(3, true), unit(3, true)]), None);
        assert!(Track::new("".into(), true, &[unit(0, true), unit(3, true), unit(2, false)]).is_some());
    }
}
