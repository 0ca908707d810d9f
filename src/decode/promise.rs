//! What a file says about itself: how long it should be, in bytes and in time.
//!
//! GStreamer ends a cut file without error or warning, so what was promised has to be known to notice.
//! Reads only headers, checks every length against the file, and allocates at most [`MOOV_MAX`].

use std::io;

use super::bytes::Bytes;

/// Largest index of an mp4 file that is looked at: about 20 hours of video and sound.
const MOOV_MAX: u64 = 64 << 20;

/// Boxes that are looked at: two each second in fragments, for six days. Empty ones could fill a disk.
const BOXES_MAX: u32 = 1 << 20;

/// What a file promises; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Promise {
    /// Bytes the file should have at least.
    pub bytes: Option<u64>,
    /// Length of the video track, nanoseconds.
    pub video_nanos: Option<u64>,
    /// It is only a reference to media elsewhere.
    pub is_reference: bool,
}

/// Reads the promises of an mp4/mov, mkv/webm or avi file; other files promise nothing.
///
/// # Errors
/// If the file cannot be read.
pub fn read(bytes: &Bytes) -> io::Result<Promise> {
    let mut head = [0u8; 64];
    let got = bytes.read_at(&mut head, 0)?;
    let head = &head[..got];
    Ok(match head {
        [b'R', b'I', b'F', b'F', a, b, c, d, b'A', b'V', b'I', ..] => {
            Promise { bytes: Some(u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + 8), ..Promise::default() }
        }
        [0x1A, 0x45, 0xDF, 0xA3, ..] => Promise { bytes: matroska_bytes(head), ..Promise::default() },
        [_, _, _, _, b'f' | b'm' | b's' | b'w' | b'p', ..] => boxes(bytes)?,
        _ => Promise::default(),
    })
}

/// End of the segment of a Matroska file: EBML header, then `0x18538067` and its size, RFC 8794.
fn matroska_bytes(head: &[u8]) -> Option<u64> {
    let (header, width) = vint(head.get(4..)?)?;
    let at = usize::try_from(header?).ok()?.checked_add(4 + width)?;
    let rest = head.get(at..)?;
    let body = rest.strip_prefix(&[0x18, 0x53, 0x80, 0x67])?;
    let (size, width) = vint(body)?;
    size?.checked_add((at + 4 + width) as u64)
}

/// A variable-length size and the bytes it takes; no value if it says "unknown" (all ones).
fn vint(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *bytes.first()?;
    let width = first.leading_zeros() as usize + 1;
    let raw = bytes.get(..width.min(8))?;
    if width > 8 {
        return None;
    }
    let value = raw.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let mask = (1u64 << (7 * width)) - 1;
    Some(((value & mask != mask).then_some(value & mask), width))
}

/// Walks the top-level boxes of an mp4 (ISO 14496-12, 4.2).
fn boxes(bytes: &Bytes) -> io::Result<Promise> {
    let length = bytes.length();
    let mut promise = Promise::default();
    let mut at = 0u64;
    for _ in 0..BOXES_MAX {
        if at.saturating_add(8) > length {
            break;
        }
        let mut head = [0u8; 16];
        let got = bytes.read_at(&mut head, at)?;
        let kind = [head[4], head[5], head[6], head[7]];
        if got < 8 || !kind.iter().all(u8::is_ascii_graphic) {
            // Padding or garbage behind the last box is no promise.
            break;
        }
        let (skip, size) = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => (8, length - at),
            1 if got == 16 => (16, u64::from_be_bytes(head[8..].try_into().expect("8 of 16 bytes"))),
            size => (8, u64::from(size)),
        };
        if size < skip {
            break;
        }
        if &kind == b"moov" && size <= MOOV_MAX && size <= length - at {
            let mut moov = vec![0u8; (size - skip) as usize];
            bytes.read_exact_at(&mut moov, at + skip)?;
            promise.video_nanos = video_nanos(&moov);
            promise.is_reference = find(&moov, b"rmra").is_some();
        }
        at = at.saturating_add(size);
        if matches!(&kind, b"moov" | b"mdat" | b"moof") {
            promise.bytes = Some(at);
        }
    }
    Ok(promise)
}

/// Boxes inside `bytes`: kind and body, as far as they fit.
fn inside(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = bytes.get(4..8)?.try_into().ok()?;
        let body = bytes.get(8..size)?;
        bytes = &bytes[size..];
        Some((kind, body))
    })
}

fn find<'b>(bytes: &'b [u8], kind: &[u8; 4]) -> Option<&'b [u8]> {
    inside(bytes).find(|(found, _)| found == kind).map(|(_, body)| body)
}

/// Length of the first video track, edit list included: `tkhd` duration in `mvhd` units. A fragmented
/// file (`mvex`) keeps its times elsewhere and promises nothing here.
fn video_nanos(moov: &[u8]) -> Option<u64> {
    if find(moov, b"mvex").is_some() {
        return None;
    }
    let be32 = |bytes: &[u8], at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mvhd = find(moov, b"mvhd")?;
    let scale = u64::from(be32(mvhd, if mvhd.first() == Some(&1) { 20 } else { 12 })?);
    let track = inside(moov).filter(|(kind, _)| kind == b"trak").map(|(_, body)| body).find(|trak| {
        let handler = find(trak, b"mdia").and_then(|mdia| find(mdia, b"hdlr"));
        handler.is_some_and(|hdlr| hdlr.get(8..12) == Some(b"vide"))
    })?;
    let tkhd = find(track, b"tkhd")?;
    let duration = if tkhd.first() == Some(&1) {
        u64::from(be32(tkhd, 28)?) << 32 | u64::from(be32(tkhd, 32)?)
    } else {
        u64::from(be32(tkhd, 20)?)
    };
    let unknown = duration == 0 || duration >= u64::from(u32::MAX) || scale == 0;
    (!unknown).then(|| (u128::from(duration) * 1_000_000_000 / u128::from(scale)) as u64)
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Origin;

    use super::*;

    fn of(bytes: &[u8]) -> Promise {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(&Bytes::open(&Origin::File(file.path().to_owned())).unwrap()).unwrap()
    }

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    /// An mp4 with one sound and one video track; the video lasts 2.5 s in units of 1/1000 s.
    fn mp4() -> Vec<u8> {
        let track = |handler: &[u8; 4], duration: u32| {
            let mut tkhd = vec![0u8; 84];
            tkhd[20..24].copy_from_slice(&duration.to_be_bytes());
            let hdlr = [&[0u8; 8][..], handler, &[0; 12]].concat();
            boxed(b"trak", &[boxed(b"tkhd", &tkhd), boxed(b"mdia", &boxed(b"hdlr", &hdlr))].concat())
        };
        let mut mvhd = vec![0u8; 100];
        mvhd[12..16].copy_from_slice(&1000u32.to_be_bytes());
        let moov = [boxed(b"mvhd", &mvhd), track(b"soun", 9000), track(b"vide", 2500)].concat();
        [boxed(b"ftyp", b"isom0000"), boxed(b"moov", &moov), boxed(b"mdat", &[7; 500])].concat()
    }

    #[test]
    fn mp4_promises_its_bytes_and_the_length_of_its_video() {
        let whole = mp4();
        let expected = Promise {
            bytes: Some(whole.len() as u64),
            video_nanos: Some(2_500_000_000),
            is_reference: false,
        };
        assert_eq!(of(&whole), expected);
        assert_eq!(of(&whole[..whole.len() - 100]), expected, "cut, and still promising the same");
        assert_eq!(of(&[&whole[..], &[0xFF; 9]].concat()), expected, "garbage behind it changes nothing");
    }

    #[test]
    fn matroska_and_avi_promise_their_bytes() {
        let mut avi = b"RIFF\x10\x00\x00\x00AVI LIST".to_vec();
        avi.extend([0; 8]);
        assert_eq!(of(&avi).bytes, Some(24));
        let ebml = [0x1A, 0x45, 0xDF, 0xA3, 0x83, 1, 2, 3];
        let known = [&ebml[..], &[0x18, 0x53, 0x80, 0x67, 0x40, 200, 0, 0]].concat();
        assert_eq!(of(&known).bytes, Some(8 + 4 + 2 + 200));
        let unknown =
            [&ebml[..], &[0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255]].concat();
        assert_eq!(of(&unknown).bytes, None);
    }

    #[test]
    fn a_movie_that_only_refers_to_another_is_told() {
        let url = boxed(b"rdrf", b"url http://127.0.0.1:9/a.mov");
        let moov = boxed(b"moov", &boxed(b"rmra", &boxed(b"rmda", &url)));
        assert!(of(&[boxed(b"ftyp", b"qt  0000"), moov].concat()).is_reference);
        assert!(!of(&mp4()).is_reference);
    }

    #[test]
    fn nonsense_promises_nothing_and_does_not_panic() {
        assert_eq!(of(b"hello, I am a text file"), Promise::default());
        for cut in 0..mp4().len() {
            of(&mp4()[..cut]);
        }
        let mut huge = mp4();
        huge[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(of(&huge).bytes, Some(16 + u64::from(u32::MAX)));
    }
}
