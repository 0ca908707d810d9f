//! Looks at a file once: times of all frames, key frames, size, codec, and whether it keeps its promise.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Damage, Media, Origin, Part};
use reelflow_api::stage::Limits;
use reelflow_api::track::{Track, Unit};

use super::chain::{Chain, add, broken, element};
use super::feeder;
use super::gate::{Clock, Gate, Mark};
use super::locate::{Locator, Syntax};
use super::reader::open_decoding;
use super::status::Status;
use super::tables;
use super::timing::{Seen, Stretch, presentation, stretches};
use crate::decode::Failure;
use crate::decode::bytes::{Bytes, unreadable};
use crate::decode::promise::{self, Promise};

/// Everything that [`collect`] notes.
#[derive(Debug, Default)]
struct Collected {
    units: Vec<Seen>,
    /// There are units that others need and nobody sees.
    has_hidden: bool,
    /// Format of the units.
    caps: String,
}

/// What is looked at.
#[derive(Clone, Copy)]
struct Subject<'a> {
    origin: &'a Origin,
    bytes: &'a Arc<Bytes>,
    limits: &'a Limits,
}

/// What a pass over the file gave.
struct Pass {
    times: Vec<u64>,
    keys: Vec<u32>,
    track: Option<Track>,
    /// Length that the container states.
    stated: Option<u64>,
    has_other_tracks: bool,
    media: Media,
    /// Why it could not be read to its end.
    damage: Option<Failure>,
    /// What comes behind a change of size or of the clock.
    others: Vec<Stretch>,
    /// Its frames came out of a decoder.
    is_decoded: bool,
}

/// Looks at `bytes`, those of `origin`. What can be used of a damaged file is used.
///
/// # Errors
/// With the reason why nothing of it can be used.
pub fn probe(origin: &Origin, bytes: &Arc<Bytes>, limits: &Limits) -> Result<Media, Failure> {
    super::init()?;
    let promised = promise::read(bytes).map_err(|error| unreadable(&error))?;
    if promised.is_reference {
        let message = "it only points to another place, which is not followed; list that file itself";
        return Err(Failure::new(SkipReason::UnsafeReference, message));
    }
    let subject = Subject { origin, bytes, limits };
    let missing = short_of_bytes(&promised, bytes.length());
    let why = |failure: Failure| missing.clone().unwrap_or(failure);
    let mut pass = match by_access_units(subject).map_err(&why)? {
        Some(pass) => pass,
        None => by_decoding(subject).map_err(&why)?,
    };
    if pass.times.is_empty() {
        let message = "the video track delivers no frame; its data may be missing";
        return Err(why(pass.damage.unwrap_or_else(|| Failure::new(SkipReason::NoFrames, message))));
    }
    first_picture(subject, &mut pass).map_err(&why)?;
    let damage = missing.or(pass.damage.take()).or_else(|| check_length(&pass, &promised));
    Ok(pass.into_media(damage))
}

impl Pass {
    fn into_media(self, damage: Option<Failure>) -> Media {
        let behind = self.others.into_iter().rev().fold(None, |next, part| {
            let Stretch { before, size: (width, height), times } = part;
            let part = Part { before, next, damage: None };
            Some(Arc::new(Media { width, height, times: times.into(), part, ..self.media.clone() }))
        });
        let damage = damage.map(|Failure { reason, message, at_secs }| Damage { reason, message, at_secs });
        Media {
            times: self.times.into(),
            keys: self.keys.into(),
            track: self.track.map(Arc::new),
            part: Part { before: 0, next: behind, damage: damage.map(Arc::new) },
            ..self.media
        }
    }
}

/// Decodes the first frame: proves that there is a decoder and that it likes the track, and tells the true
/// size, which may differ from what the container says. Frames before the first that comes out are no
/// frames of the medium.
fn first_picture(Subject { bytes, limits, .. }: Subject<'_>, pass: &mut Pass) -> Result<(), Failure> {
    let first_size = |track| feeder::first_size(bytes, track, limits.pixels);
    if let Some(size) = pass.track.as_ref().and_then(first_size) {
        (pass.media.width, pass.media.height) = size;
        return Ok(());
    }
    if pass.is_decoded {
        return Ok(());
    }
    let gate = Gate::new(Mark::Time, false);
    gate.state().want([(0, u64::MAX)].into());
    let (chain, sink) = open_decoding(bytes, &gate, limits)?;
    let sample = chain.status.wait(|found| match sink.try_pull_sample(gst::ClockTime::ZERO) {
        Some(sample) => Some(Some(sample)),
        None => found.ended.then_some(None),
    })?;
    drop(chain);
    let (mark, size) = {
        let mut state = gate.state();
        (state.take_mark(), state.sizes.first().map(|(_, size)| *size))
    };
    let (Some(_), Some(mark), Some(size)) = (sample, mark, size) else {
        let message = format!(
            "{} access units, but not one picture comes out of the {} decoder; the file is damaged",
            pass.times.len(),
            pass.media.codec
        );
        return Err(Failure::new(SkipReason::NoFrames, message));
    };
    (pass.media.width, pass.media.height) = size;
    drop_before(pass, mark);
    Ok(())
}

/// Leaves out the frames before the one nearest to `time`, and their keys.
fn drop_before(pass: &mut Pass, time: u64) {
    let Pass { times, keys, track, .. } = pass;
    let past = times.partition_point(|&other| other < time);
    let near = match past {
        0 => 0,
        _ if past == times.len() => past - 1,
        _ if times[past] - time <= time - times[past - 1] => past,
        _ => past - 1,
    };
    times.drain(..near);
    let near = near as u32;
    if near > 0 {
        // Its positions are those before the cut.
        *track = None;
    }
    keys.retain(|&key| key >= near);
    keys.iter_mut().for_each(|key| *key -= near);
    if keys.first() != Some(&0) {
        // Decoding starts at the file's start for what lies before the first key frame that is left.
        keys.insert(0, 0);
    }
}

fn short_of_bytes(promised: &Promise, bytes: u64) -> Option<Failure> {
    let missing = promised.bytes.filter(|&promised| promised > bytes)?;
    let message = format!("cut off: {bytes} of {missing} bytes are there; copy the file again");
    Some(Failure::new(SkipReason::Corrupt, message))
}

/// Compares the end of the last frame with the length that the file states.
///
/// The length of the track itself is taken at its word, within half a second or two frames. The length of
/// the whole file may be that of the sound: with other tracks, a fifth may be without pictures.
fn check_length(pass: &Pass, promised: &Promise) -> Option<Failure> {
    if !pass.others.is_empty() {
        return None;
    }
    let (first, last) = (pass.times[0], pass.times[pass.times.len() - 1]);
    let frame = (last - first) / (pass.times.len() as u64 - 1).max(1);
    let end = last + frame;
    let (length, allowed) = match (promised.video_nanos, pass.stated) {
        (Some(track), _) => (track, 500_000_000.max(2 * frame)),
        (None, Some(file)) if pass.has_other_tracks => (file, 2_000_000_000.max(file / 5)),
        (None, Some(file)) => (file, 1_000_000_000.max(2 * frame)),
        (None, None) => return None,
    };
    if end.saturating_add(allowed) >= length {
        return None;
    }
    let message = format!(
        "{} frames end at {:.3} s, the file promises {:.3} s; try to repair or convert it",
        pass.times.len(),
        end as f64 / 1e9,
        length as f64 / 1e9
    );
    Some(Failure::new(SkipReason::Corrupt, message).at(end))
}

/// Reads the access units without decoding them. `None` if their times do not tell those of the pictures.
fn by_access_units(subject: Subject<'_>) -> Result<Option<Pass>, Failure> {
    let status = Status::quiet(subject.limits);
    let collected: Arc<Mutex<Collected>> = Arc::default();
    let locator = Arc::new(Mutex::new(Locator::new(Arc::clone(subject.bytes))));
    let (of_tail, into) = (Arc::clone(&status), Arc::clone(&collected));
    let chain = Chain::open(
        subject.bytes,
        status,
        Box::new(move |pipeline, pad, caps, container| {
            if !tables::INDEXED.contains(&container) {
                // Nothing to read here: decoding tells the times.
                of_tail.found().ended = true;
                of_tail.notify();
                return Ok(());
            }
            let end = element("fakesink", "libgstreamer1.0-0")?;
            end.set_property("sync", false);
            end.set_property("async", false);
            add(pipeline, &[&end])?;
            let input = end.static_pad("sink").expect("a sink has a sink pad");
            collect(&input, caps, Clock::of(container), (&into, &locator), &of_tail);
            end.sync_state_with_parent().map_err(broken)?;
            pad.link(&input).map_err(|error| broken(format!("{error:?}")))?;
            Ok(())
        }),
    )?;
    let damage = chain.status.wait(|found| found.ended.then_some(())).err();
    if damage.is_none() && !tables::INDEXED.contains(&chain.status.found().container) {
        return Ok(None);
    }
    let stated = if damage.is_none() { chain.duration() } else { None };
    let collected = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(failure) =
        damage.as_ref().filter(|failure| collected.units.is_empty() || !is_partial(failure))
    {
        return Err(failure.clone());
    }
    let Some((times, keys)) = presentation(&collected.units) else {
        // What stalled once is not waited for again.
        return damage.filter(|failure| failure.reason == SkipReason::Stalled).map_or(Ok(None), Err);
    };
    let track = track(&collected, &times);
    Ok(Some(Pass { times, keys, track, stated, damage, ..pass(subject, &chain) }))
}

/// Whether what came before this failure can be used all the same.
fn is_partial(failure: &Failure) -> bool {
    matches!(failure.reason, SkipReason::Corrupt | SkipReason::Stalled | SkipReason::Unreadable)
}

/// Notes every access unit that reaches `pad`.
fn collect(
    pad: &gst::Pad,
    caps: &gst::CapsRef,
    clock: Clock,
    (collected, locator): (&Arc<Mutex<Collected>>, &Arc<Mutex<Locator>>),
    status: &Arc<Status>,
) {
    let is_vp8 = caps.structure(0).is_some_and(|structure| structure.name() == "video/x-vp8");
    let syntax = Syntax::of(caps);
    collected.lock().unwrap_or_else(PoisonError::into_inner).caps = caps.to_string();
    let (collected, locator, status) = (Arc::clone(collected), Arc::clone(locator), Arc::clone(status));
    let segment = Mutex::new(None);
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(mask, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let segment = segment.lock().unwrap_or_else(PoisonError::into_inner);
                let flags = buffer.flags();
                let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
                if is_vp8 && is_hidden_vp8(buffer) {
                    collected.has_hidden = true;
                } else {
                    let time = clock.time(segment.as_ref(), buffer);
                    let map = buffer.map_readable();
                    let bytes = map.as_ref().map_or(&[][..], |map| map.as_slice());
                    collected.units.push(Seen {
                        time,
                        is_key: !flags.contains(gst::BufferFlags::DELTA_UNIT),
                        is_outside: time.is_none() && buffer.pts().is_some(),
                        offset: locator.lock().unwrap_or_else(PoisonError::into_inner).find(bytes),
                        size: bytes.len() as u32,
                        layer: syntax.layer(bytes),
                        is_closed: syntax.is_closed(bytes),
                    });
                }
            }
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Segment(event) => {
                    *segment.lock().unwrap_or_else(PoisonError::into_inner) =
                        event.segment().downcast_ref::<gst::ClockTime>().cloned();
                }
                gst::EventView::Eos(_) => {
                    status.found().ended = true;
                    status.notify();
                }
                _ => {}
            },
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a VP8 frame is one that others refer to and nobody sees: bit 4 of its first byte is
/// `show_frame` (RFC 6386, 9.1).
fn is_hidden_vp8(buffer: &gst::BufferRef) -> bool {
    let mut first = [0u8];
    buffer.copy_to_slice(0, &mut first).is_ok() && first[0] & 0x10 == 0
}

/// The units of the frames at `times`, if a decoder can be fed them from the file: every unit was found in it
/// and shows a frame.
fn track(collected: &Collected, times: &[u64]) -> Option<Track> {
    let seen = &collected.units;
    let highest = seen.iter().filter_map(|unit| Some(unit.layer?.0)).max();
    let start = seen.iter().position(|unit| unit.is_key)?;
    let mut units = Vec::with_capacity(times.len());
    for unit in &seen[start..] {
        let time = unit.time.filter(|_| !collected.has_hidden && !unit.is_outside)?;
        // Leading pictures of the first key frame cannot be decoded.
        if time < times[0] {
            continue;
        }
        units.push(Unit {
            offset: unit.offset?,
            size: unit.size,
            shows: times.binary_search(&time).ok()? as u32,
            is_key: unit.is_key,
            is_disposable: unit.layer.is_some_and(|(layer, is_spare)| is_spare && Some(layer) == highest),
        });
    }
    let has_closed_groups = seen[start..].iter().filter(|unit| unit.is_key).all(|unit| unit.is_closed);
    Track::new(collected.caps.as_str().into(), has_closed_groups, &units)
}

/// Decodes everything once and notes the times that come out. Such media are never sought in.
fn by_decoding(subject: Subject<'_>) -> Result<Pass, Failure> {
    let gate = Gate::new(Mark::Count, true);
    let (chain, _sink) = open_decoding(subject.bytes, &gate, subject.limits)?;
    let damage = chain.status.wait(|found| found.ended.then_some(())).err();
    let stated = if damage.is_none() { chain.duration() } else { None };
    let damage = damage.or_else(|| {
        let codec = chain.status.found().changed.clone()?;
        let message =
            format!("its video changes to {codec} on the way, which is not followed; split the file there");
        Some(Failure::new(SkipReason::Corrupt, message))
    });
    let mut state = gate.state();
    let mut parts = stretches(&state.seen.take().unwrap_or_default(), &state.sizes);
    drop(state);
    if let Some(failure) = damage.as_ref().filter(|failure| parts.is_empty() || !is_partial(failure)) {
        return Err(failure.clone());
    }
    let mut pass = Pass { stated, damage, is_decoded: true, ..pass(subject, &chain) };
    if !parts.is_empty() {
        let first = parts.remove(0);
        (pass.times, (pass.media.width, pass.media.height)) = (first.times, first.size);
    }
    if pass.media.codec == "jpeg" && pass.times.len() == 1 && parts.is_empty() {
        let message = "a picture (jpeg), not video; join pictures to a video first";
        return Err(Failure::new(SkipReason::NotMedia, message));
    }
    pass.others = parts;
    Ok(pass)
}

fn pass(Subject { origin, bytes, .. }: Subject<'_>, chain: &Chain) -> Pass {
    let found = chain.status.found();
    let (codec, width, height) = found.video.clone().unwrap_or_default();
    let media = Media {
        origin: origin.clone(),
        name: origin.path().unwrap_or_default().display().to_string(),
        width,
        height,
        orientation: found.orientation,
        times: [].into(),
        keys: [].into(),
        codec,
        bytes: bytes.length(),
        track: None,
        part: Part::default(),
    };
    Pass {
        times: Vec::new(),
        keys: Vec::new(),
        track: None,
        stated: None,
        has_other_tracks: !found.others.is_empty(),
        media,
        damage: None,
        others: Vec::new(),
        is_decoded: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(times: Vec<u64>, keys: Vec<u32>) -> Pass {
        Pass {
            times,
            keys,
            track: None,
            stated: None,
            has_other_tracks: false,
            media: crate::decode::pattern::media(0, 4, 4, Vec::new()),
            damage: None,
            others: Vec::new(),
            is_decoded: false,
        }
    }

    #[test]
    fn frames_that_never_come_out_are_left_out_with_their_keys() {
        let mut pass = pass(vec![0, 10, 20, 30, 40], vec![0, 2, 4]);
        drop_before(&mut pass, 11);
        assert_eq!((pass.times.clone(), pass.keys.clone()), (vec![10, 20, 30, 40], vec![0, 1, 3]));
        drop_before(&mut pass, 10);
        assert_eq!(pass.times, [10, 20, 30, 40]);
    }

    #[test]
    fn what_lies_behind_a_change_of_size_is_a_part_of_its_own() {
        let mut pass = pass(vec![0, 40], Vec::new());
        pass.others = vec![
            Stretch { before: 2, size: (96, 64), times: vec![80, 120, 160] },
            Stretch { before: 5, size: (4, 4), times: vec![7] },
        ];
        let media = pass.into_media(Some(Failure::new(SkipReason::Corrupt, "cut off")));
        let second = media.part.next.as_ref().unwrap();
        let third = second.part.next.as_ref().unwrap();
        assert_eq!((media.times.len(), media.part.before), (2, 0));
        assert_eq!((second.times.len(), second.part.before, second.width), (3, 2, 96));
        assert_eq!(
            (third.part.before, third.part.next.is_none(), third.part.damage.is_none()),
            (5, true, true)
        );
        assert_eq!(media.part.damage.as_ref().unwrap().reason, SkipReason::Corrupt);
    }

    #[test]
    fn a_length_that_was_promised_and_is_not_there_is_damage() {
        let mut pass = pass((0..50).map(|i| i * 40_000_000).collect(), Vec::new());
        let promised = |secs: u64| Promise { video_nanos: Some(secs * 1_000_000_000), ..Promise::default() };
        assert_eq!(check_length(&pass, &promised(2)), None);
        let failure = check_length(&pass, &promised(4)).unwrap();
        assert_eq!((failure.reason, failure.at_secs), (SkipReason::Corrupt, Some(2.0)));
        // The end of the whole file may be that of the sound.
        (pass.stated, pass.has_other_tracks) = (Some(3_500_000_000), true);
        assert_eq!(check_length(&pass, &Promise::default()), None);
    }
}
