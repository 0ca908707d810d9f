//! What probing a file found, as bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Damage, Media, Orientation, Origin, Part};
use reelflow_api::track::Track;

use super::wire::{In, Out};
use crate::decode::Failure;

/// What a file's name, place and age were when it was probed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The name under which it was found.
    pub path: PathBuf,
    /// See [`crate::edge::files::identity`].
    pub identity: [u64; 5],
    /// How often the list was saved since this was last of use.
    pub unused: u32,
}

/// What probing found.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The medium, or why it cannot be used.
    pub media: Result<Arc<Media>, Failure>,
    /// Hash of its content, where it could be read.
    pub content: Option<u64>,
}

/// Whether it stays while the file does. Other reasons depend on the machine, the settings or the moment.
pub fn stays(probed: &Probed) -> bool {
    match &probed.media {
        Ok(media) => std::iter::successors(Some(media), |media| media.part.next.as_ref())
            .filter_map(|media| media.part.damage.as_ref())
            .all(|damage| LASTING.contains(&damage.reason)),
        Err(failure) => LASTING.contains(&failure.reason),
    }
}

/// In the order of their numbers in the file, which never change.
const LASTING: [SkipReason; 6] = [
    SkipReason::NotMedia,
    SkipReason::NoVideo,
    SkipReason::Encrypted,
    SkipReason::NoFrames,
    SkipReason::Corrupt,
    SkipReason::UnsafeReference,
];

impl Head {
    /// Puts it behind what is in `out`.
    pub fn write(&self, out: &mut Out) {
        out.path(&self.path);
        self.identity.iter().for_each(|number| out.number(*number));
        out.number(u64::from(self.unused));
    }

    /// Takes it from the front of `bytes`; `None` if they are not one.
    pub fn read(bytes: &mut In<'_>) -> Option<Self> {
        let path = bytes.path()?;
        let mut identity = [0; 5];
        for number in &mut identity {
            *number = bytes.number()?;
        }
        Some(Self { path, identity, unused: bytes.number32()? })
    }
}

/// Writes everything of `probed` but the name.
pub fn write(probed: &Probed, out: &mut Out) {
    out.optional(probed.content, Out::fixed);
    match &probed.media {
        Ok(media) => {
            out.number(0);
            write_media(media, out);
        }
        Err(Failure { reason, message, at_secs }) => {
            let number =
                LASTING.iter().position(|lasting| lasting == reason).expect("only lasting reasons are kept");
            out.number(1 + number as u64);
            out.bytes(message.as_bytes());
            out.optional(*at_secs, |out, secs| out.fixed(secs.to_bits()));
        }
    }
}

/// Reads what [`write`] wrote of the file that is called `path` now.
pub fn read(bytes: &mut In<'_>, path: &Path) -> Option<Probed> {
    let content = bytes.optional(In::fixed)?;
    let media = match bytes.number32()? {
        0 => Ok(Arc::new(read_media(bytes, path)?)),
        number => Err(Failure {
            reason: *LASTING.get(number as usize - 1)?,
            message: bytes.text()?.to_owned(),
            at_secs: bytes.optional(In::fixed)?.map(f64::from_bits),
        }),
    };
    bytes.0.is_empty().then_some(Probed { media, content })
}

/// The medium and the parts behind it.
fn write_media(media: &Media, out: &mut Out) {
    let parts: Vec<&Media> = std::iter::successors(Some(media), |media| media.part.next.as_deref()).collect();
    out.number(parts.len() as u64);
    parts.into_iter().for_each(|part| write_part(part, out));
}

fn read_media(bytes: &mut In<'_>, path: &Path) -> Option<Media> {
    let parts: Option<Vec<Media>> = (0..bytes.count(1)?).map(|_| read_part(bytes, path)).collect();
    let behind = |next: Option<Media>, part: Media| {
        let next = next.map(Arc::new);
        Some(Media { part: Part { next, ..part.part.clone() }, ..part })
    };
    parts?.into_iter().rev().fold(None, behind)
}

fn write_part(media: &Media, out: &mut Out) {
    // Without `..`: whoever gives a medium another field has to keep it here.
    let Media { origin: _, name: _, width, height, orientation, times, keys, codec, bytes, track, part } =
        media;
    let Part { before: skipped, next: _, damage } = part;
    let Orientation { quarter_turns, mirror } = orientation;
    out.number(u64::from(*width));
    out.number(u64::from(*height));
    out.0.extend([*quarter_turns, u8::from(*mirror)]);
    write_times(times, out);
    out.number(keys.len() as u64);
    let mut before = 0;
    for key in &**keys {
        out.signed(i64::from(*key) - before);
        before = i64::from(*key);
    }
    out.bytes(codec.as_bytes());
    out.number(*bytes);
    out.optional(track.as_ref(), |out, track| out.bytes(&track.to_bytes()));
    out.number(u64::from(*skipped));
    out.optional(damage.as_deref(), |out, Damage { reason, message, at_secs }| {
        let number = LASTING.iter().position(|lasting| lasting == reason);
        out.number(number.expect("only lasting damage is kept") as u64);
        out.bytes(message.as_bytes());
        out.optional(*at_secs, |out, secs| out.fixed(secs.to_bits()));
    });
}

fn read_part(bytes: &mut In<'_>, path: &Path) -> Option<Media> {
    let (width, height) = (bytes.number32()?, bytes.number32()?);
    let orientation = Orientation { quarter_turns: bytes.byte()?, mirror: bytes.byte()? == 1 };
    let times = read_times(bytes)?;
    let count = bytes.count(1)?;
    let mut before = 0i64;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        before = before.checked_add(bytes.signed()?)?;
        keys.push(u32::try_from(before).ok().filter(|key| (*key as usize) < times.len())?);
    }
    let codec = bytes.text()?.to_owned();
    let size = bytes.number()?;
    let track = bytes.optional(|bytes| Track::from_bytes(bytes.bytes()?))?.map(Arc::new);
    let skipped = bytes.number32()?;
    let damage = bytes.optional(|bytes| {
        let reason = *LASTING.get(bytes.number32()? as usize)?;
        let (message, at_secs) = (bytes.text()?.to_owned(), bytes.optional(In::fixed)?.map(f64::from_bits));
        Some(Arc::new(Damage { reason, message, at_secs }))
    })?;
    Some(Media {
        origin: Origin::File(path.to_owned()),
        name: path.display().to_string(),
        width,
        height,
        orientation,
        times: times.into(),
        keys: keys.into(),
        codec,
        bytes: size,
        track,
        part: Part { before: skipped, next: None, damage },
    })
}

/// Frames a medium may have to be read back: four months of 25 a second, 2 GiB of times.
const FRAMES_MAX: usize = 1 << 28;

/// How much longer or shorter each interval is than the one before, and runs of equal ones as their length: most
/// files have one frame rate.
fn write_times(times: &[u64], out: &mut Out) {
    out.number(times.len() as u64);
    let (mut time, mut step, mut same) = (0u64, 0u64, 0u64);
    for &next in times {
        let change = next.wrapping_sub(time).wrapping_sub(step) as i64;
        if change == 0 {
            same += 1;
        } else {
            out.number(same);
            out.signed(change);
            same = 0;
        }
        step = next.wrapping_sub(time);
        time = next;
    }
    out.number(same);
}

fn read_times(bytes: &mut In<'_>) -> Option<Vec<u64>> {
    let count = usize::try_from(bytes.number()?).ok().filter(|count| *count <= FRAMES_MAX)?;
    let mut times: Vec<u64> = Vec::new();
    let (mut time, mut step) = (0u64, 0u64);
    loop {
        let same = usize::try_from(bytes.number()?).ok()?;
        if same > count - times.len() {
            return None;
        }
        for _ in 0..same {
            time = time.wrapping_add(step);
            times.push(time);
        }
        if times.len() == count {
            break;
        }
        step = step.wrapping_add(bytes.signed()? as u64);
        time = time.wrapping_add(step);
        times.push(time);
    }
    times.windows(2).all(|pair| pair[0] < pair[1]).then_some(times)
}

#[cfg(test)]
mod tests {
    use reelflow_api::rng::Key;
    use reelflow_api::track::Unit;

    use super::*;

    fn back(probed: &Probed) -> Option<Probed> {
        let mut out = Out::default();
        write(probed, &mut out);
        read(&mut In(&out.0), Path::new("v/é.mp4"))
    }

    fn media(times: Vec<u64>) -> Media {
        let unit = |shows: u64| Unit {
            offset: 40 + shows * 900,
            size: 880,
            shows: shows as u32,
            is_key: shows.is_multiple_of(4),
            is_disposable: !shows.is_multiple_of(2),
        };
        let units: Vec<Unit> = (0..times.len() as u64).map(unit).collect();
        Media {
            origin: Origin::File("v/é.mp4".into()),
            name: "v/é.mp4".to_owned(),
            width: 320,
            height: 1 << 20,
            orientation: Orientation { quarter_turns: 3, mirror: true },
            keys: (0..times.len() as u32).step_by(4).collect(),
            times: times.into(),
            codec: "h264".to_owned(),
            bytes: u64::MAX,
            track: Track::new("video/x-h264, …".into(), true, &units).map(Arc::new),
            part: Part { before: 3, next: None, damage: None },
        }
    }

    #[test]
    fn what_is_kept_comes_back_to_the_bit() {
        let mut rng = Key::new(3).rng();
        let mut late = 0;
        let jumpy = (0..200)
            .map(|_| {
                late += 1 + rng.below(1 << 40);
                late
            })
            .collect();
        let even = (0..200).map(|frame| frame * 40_000_000).collect();
        for times in [vec![], vec![0], vec![7], vec![0, 1], vec![3, u64::MAX], even, jumpy] {
            let content = (times.len() != 1).then_some(u64::MAX - 3);
            let (reason, message) = (SkipReason::Corrupt, "cut off".to_owned());
            let damage = Some(Arc::new(Damage { reason, message, at_secs: Some(1.5) }));
            let next = Some(Arc::new(media(vec![5, 9])));
            let whole = Media { part: Part { before: 0, next, damage }, ..media(times) };
            let probed = Probed { media: Ok(Arc::new(whole)), content };
            assert_eq!(back(&probed), Some(probed));
        }
        let bare = Media { track: None, ..media(vec![0, 5, 9]) };
        let probed = Probed { media: Ok(Arc::new(bare)), content: None };
        assert_eq!(back(&probed), Some(probed));
        for reason in LASTING {
            let failure = Failure { reason, message: "cut off: é".to_owned(), at_secs: Some(0.1) };
            let probed = Probed { media: Err(failure), content: Some(0) };
            assert_eq!(back(&probed), Some(probed));
        }
    }

    #[test]
    fn an_even_frame_rate_takes_a_few_bytes() {
        let mut out = Out::default();
        write_times(&(0..100_000).map(|frame| frame * 40_000_000).collect::<Vec<_>>(), &mut out);
        assert!(out.0.len() < 20, "{}", out.0.len());
    }

    #[test]
    fn bytes_that_were_changed_or_cut_never_panic() {
        let mut out = Out::default();
        write(
            &Probed {
                media: Ok(Arc::new(media((0..50).map(|frame| frame * 9 + frame % 3).collect()))),
                content: Some(1),
            },
            &mut out,
        );
        let mut rng = Key::new(4).rng();
        for round in 0..20_000 {
            let mut bytes = out.0.clone();
            if round % 4 == 0 {
                bytes.truncate(rng.below(bytes.len() as u64) as usize);
                assert_eq!(read(&mut In(&bytes), Path::new("x")), None);
            } else {
                for _ in 0..1 + rng.below(3) {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] = rng.next_u64() as u8;
                }
                if let Some(Probed { media: Ok(media), .. }) = read(&mut In(&bytes), Path::new("x")) {
                    // Whatever it says, it can be worked with.
                    let mut units = Vec::new();
                    if let Some(track) = &media.track {
                        track.read(0..track.groups(), &mut units);
                    }
                    assert!(media.keys.iter().all(|key| (*key as usize) < media.times.len()));
                }
            }
        }
    }
}
