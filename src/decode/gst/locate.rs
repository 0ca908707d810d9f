//! Finds access units in their file, and tells which of them no other unit needs.

use std::sync::Arc;

use gstreamer as gst;
use memchr::memmem;

use crate::decode::bytes::Bytes;

/// Bytes searched behind the last unit where the next is not just there: a block header of Matroska fits in.
const NEAR: usize = 64;
/// Bytes searched if that does not help: other tracks lie between.
const FAR: usize = 4 << 20;

/// Finds units that come in the order of the file. What is found has the very bytes of the unit, so a find
/// is never wrong.
pub(super) struct Locator {
    bytes: Arc<Bytes>,
    /// Behind the last unit.
    next: u64,
    window: Vec<u8>,
    is_lost: bool,
}

impl Locator {
    /// Looks for units in `bytes`.
    pub fn new(bytes: Arc<Bytes>) -> Self {
        Self { bytes, next: 0, window: Vec::new(), is_lost: false }
    }

    /// First byte of `unit` in the file. After one that is not there nothing is found any more.
    pub fn find(&mut self, unit: &[u8]) -> Option<u64> {
        if self.is_lost || unit.is_empty() {
            self.is_lost = true;
            return None;
        }
        let found = [0, NEAR, FAR].into_iter().find_map(|reach| self.search(unit, reach));
        match found {
            Some(at) => self.next = at + unit.len() as u64,
            None => self.is_lost = true,
        }
        found
    }

    fn search(&mut self, unit: &[u8], reach: usize) -> Option<u64> {
        self.window.resize(unit.len() + reach, 0);
        let filled = self.bytes.read_at(&mut self.window, self.next).ok()?;
        let window = &self.window[..filled];
        let at = if reach == 0 { (window == unit).then_some(0) } else { memmem::find(window, unit) };
        at.map(|at| self.next + at as u64)
    }
}

/// How to read the head of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Syntax {
    /// NAL units behind their lengths, each of so many bytes.
    H264(usize),
    /// The same for H.265.
    H265(usize),
    /// Not looked into.
    Other,
}

impl Syntax {
    /// The syntax of a track with these caps.
    pub fn of(caps: &gst::CapsRef) -> Self {
        let Some(structure) = caps.structure(0) else { return Self::Other };
        // ISO 14496-15: the length's size less 1 is in the low two bits of byte 4 of `avcC`, 21 of `hvcC`.
        let length = |at: usize| {
            let data = structure.get::<gst::Buffer>("codec_data").ok()?;
            let map = data.map_readable().ok()?;
            Some(usize::from(map.get(at)? & 3) + 1)
        };
        match structure.name().as_str() {
            "video/x-h264" => length(4).map_or(Self::Other, Self::H264),
            "video/x-h265" => length(21).map_or(Self::Other, Self::H265),
            _ => Self::Other,
        }
    }

    /// Whether a unit is one after which nothing needs what came before it: an IDR picture.
    pub fn is_closed(self, unit: &[u8]) -> bool {
        let (size, is_265) = match self {
            Self::H264(size) => (size, false),
            Self::H265(size) => (size, true),
            Self::Other => return false,
        };
        let kind = |head: u8| if is_265 { head >> 1 & 0x3F } else { head & 0x1F };
        // H.264 table 7-1: slices are 1 to 5, 5 is IDR. H.265 table 7-1: below 32, IDR are 19 and 20.
        nals(unit, size).filter_map(|nal| nal.first().map(|head| kind(*head))).all(|kind| match is_265 {
            false => !(1..5).contains(&kind),
            true => kind >= 32 || kind == 19 || kind == 20,
        })
    }

    /// The temporal layer of a unit, and whether no other unit of that layer needs it. `None` where it cannot
    /// be told.
    ///
    /// H.264 (7.4.1): spare with `nal_ref_idc` 0; one layer is assumed. H.265 (table 7-1): the even types
    /// below 16 are sub-layer non-reference pictures; only those of the highest layer may go.
    pub fn layer(self, unit: &[u8]) -> Option<(u8, bool)> {
        let (size, is_265) = match self {
            Self::H264(size) => (size, false),
            Self::H265(size) => (size, true),
            Self::Other => return None,
        };
        let mut found = None;
        for nal in nals(unit, size) {
            let (layer, is_spare) = match (is_265, nal) {
                (false, [head, ..]) if matches!(head & 0x1F, 1..=5) => (0, head & 0x60 == 0),
                (true, [head, second, ..]) if head >> 1 & 0x3F < 32 => {
                    let kind = head >> 1 & 0x3F;
                    (second & 7, kind < 16 && kind % 2 == 0)
                }
                _ => continue,
            };
            let (_, were_spare) = found.unwrap_or((layer, true));
            found = Some((layer, were_spare && is_spare));
        }
        found
    }
}

/// Reads the heads of a unit of any bytes in every way there is; for [`crate::testing::hostile`].
pub fn heads(unit: &[u8]) {
    for size in 1..=4 {
        for syntax in [Syntax::H264(size), Syntax::H265(size), Syntax::Other] {
            let _ = (syntax.is_closed(unit), syntax.layer(unit));
            assert!(nals(unit, size).map(<[u8]>::len).sum::<usize>() <= unit.len());
        }
    }
}

/// The NAL units of an access unit, each behind its length of `size` bytes; ends early where one is cut short.
fn nals(unit: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let length = rest.get(..size)?.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        let nal = rest.get(size..size.checked_add(length)?)?;
        rest = &rest[size + length..];
        Some(nal)
    })
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Origin;

    use super::*;

    #[test]
    fn units_are_found_in_order_whatever_lies_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (one, two, three) = ([1u8; 300], [2u8; 50], [3u8; 9]);
        let content = [&[0; 40][..], &one, &[9; 7], &two, &[8; 100_000], &three].concat();
        std::fs::write(&path, content).unwrap();
        let bytes = Arc::new(Bytes::open(&Origin::File(path)).unwrap());
        let mut locator = Locator::new(Arc::clone(&bytes));
        assert_eq!(locator.find(&one), Some(40));
        assert_eq!(locator.find(&two), Some(347));
        assert_eq!(locator.find(&three), Some(100_397));
        assert_eq!(locator.find(&one), None, "behind");
        let mut again = Locator::new(bytes);
        assert_eq!(again.find(&[7; 3]), None);
        assert_eq!(again.find(&one), None, "lost stays lost");
    }

    #[test]
    fn pictures_that_nobody_needs_are_told_by_their_heads() {
        let unit = |nals: &[&[u8]]| -> Vec<u8> {
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
        };
        let h264 = Syntax::H264(4);
        assert_eq!(h264.layer(&unit(&[&[0x01, 5, 5]])), Some((0, true)));
        assert_eq!(h264.layer(&unit(&[&[0x06, 5], &[0x01, 5, 5], &[0x01, 7]])), Some((0, true)));
        assert_eq!(
            h264.layer(&unit(&[&[0x41, 5, 5], &[0x01, 7]])),
            Some((0, false)),
            "a slice is a reference"
        );
        assert_eq!(h264.layer(&unit(&[&[0x65, 5, 5]])), Some((0, false)));
        assert_eq!(h264.layer(&unit(&[&[0x06, 5]])), None, "no picture");
        assert_eq!(h264.layer(&[0, 0, 0, 200, 0x01]), None, "cut short");
        assert!(h264.is_closed(&unit(&[&[0x06, 5], &[0x65, 5, 5]])), "IDR");
        assert!(!h264.is_closed(&unit(&[&[0x06, 5], &[0x41, 5, 5]])), "a recovery point");
        let h265 = Syntax::H265(4);
        assert_eq!(h265.layer(&unit(&[&[0x00, 0x02, 5]])), Some((2, true)), "TRAIL_N in the second layer");
        assert_eq!(h265.layer(&unit(&[&[0x02, 0x01, 5]])), Some((1, false)), "TRAIL_R");
        assert_eq!(h265.layer(&unit(&[&[0x26, 0x01, 5]])), Some((1, false)), "IDR");
        assert!(h265.is_closed(&unit(&[&[0x26, 0x01, 5]])));
        assert!(!h265.is_closed(&unit(&[&[0x2A, 0x01, 5]])), "CRA: pictures before it may follow");
        assert!(!Syntax::Other.is_closed(&[1]));
        assert_eq!(Syntax::Other.layer(&unit(&[&[0x01, 5, 5]])), None);
    }
}
