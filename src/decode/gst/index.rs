//! Looks at a file once: times of all frames, key frames, size, codec, and whether it keeps its promise.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Media, Origin};
use reelflow_api::track::{Track, Unit};

use super::chain::{Chain, add, broken, element};
use super::feeder;
use super::gate::{Clock, Gate, Mark};
use super::locate::{Locator, Syntax};
use super::reader::open_decoding;
use super::status::Status;
use super::tables;
use crate::decode::Failure;
use crate::decode::promise::{self, Promise};

/// One access unit of the video track.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    /// Stream time in nanoseconds, if it has one.
    time: Option<u64>,
    is_key: bool,
    /// Outside the segment (cut away by an edit list): decoded for others, never shown.
    is_outside: bool,
    /// First byte in the file, if it was found there.
    offset: Option<u64>,
    size: u32,
    /// Temporal layer, and whether no other unit of the layer needs it.
    layer: Option<(u8, bool)>,
    /// Nothing after it needs what came before it.
    is_closed: bool,
}

/// Everything that [`collect`] notes.
#[derive(Debug, Default)]
struct Collected {
    units: Vec<Seen>,
    /// There are units that others need and nobody sees.
    has_hidden: bool,
    /// Format of the units.
    caps: String,
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
}

/// Looks at the file at `path`, which has `bytes` bytes.
///
/// # Errors
/// With the reason why it cannot be used.
pub fn probe(path: &Path, bytes: u64) -> Result<Media, Failure> {
    super::init()?;
    let promised = promise::read(path)
        .map_err(|error| Failure::new(SkipReason::Unreadable, format!("cannot be read: {error}")))?;
    let mut pass = match by_access_units(path, bytes) {
        Ok(Some(pass)) => pass,
        Ok(None) => by_decoding(path, bytes)?,
        Err(failure) => return Err(short_of_bytes(&promised, bytes).unwrap_or(failure)),
    };
    if let Some(failure) = short_of_bytes(&promised, bytes) {
        return Err(failure);
    }
    if pass.times.is_empty() {
        let message = "the video track delivers no frame; its data may be missing";
        return Err(Failure::new(SkipReason::NoFrames, message));
    }
    check_length(&pass, &promised)?;
    first_picture(path, &mut pass)?;
    pass.media.times = pass.times.into();
    pass.media.keys = pass.keys.into();
    pass.media.track = pass.track.map(Arc::new);
    Ok(pass.media)
}

/// Decodes the first frame: proves that there is a decoder and that it likes the track, and tells the true
/// size, which may differ from what the container says. Frames before the first that comes out are no
/// frames of the medium.
fn first_picture(path: &Path, pass: &mut Pass) -> Result<(), Failure> {
    if let Some(size) = pass.track.as_ref().and_then(|track| feeder::first_size(path, track)) {
        (pass.media.width, pass.media.height) = size;
        return Ok(());
    }
    let by = if pass.keys.is_empty() { Mark::Count } else { Mark::Time };
    let gate = Gate::new(by, false);
    gate.state().want([(0, u64::MAX)].into());
    let (chain, sink) = open_decoding(path, &gate)?;
    let sample = chain.status.wait(|found| match sink.try_pull_sample(gst::ClockTime::ZERO) {
        Some(sample) => Some(Some(sample)),
        None => found.ended.then_some(None),
    })?;
    drop(chain);
    let (mark, size) = {
        let mut state = gate.state();
        (state.take_mark(), state.size)
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
    if by == Mark::Time {
        drop_before(pass, mark);
    }
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
fn check_length(pass: &Pass, promised: &Promise) -> Result<(), Failure> {
    let (first, last) = (pass.times[0], pass.times[pass.times.len() - 1]);
    let frame = (last - first) / (pass.times.len() as u64 - 1).max(1);
    let end = last + frame;
    let (length, allowed) = match (promised.video_nanos, pass.stated) {
        (Some(track), _) => (track, 500_000_000.max(2 * frame)),
        (None, Some(file)) if pass.has_other_tracks => (file, 2_000_000_000.max(file / 5)),
        (None, Some(file)) => (file, 1_000_000_000.max(2 * frame)),
        (None, None) => return Ok(()),
    };
    if end.saturating_add(allowed) >= length {
        return Ok(());
    }
    let message = format!(
        "{} frames end at {:.3} s, the file promises {:.3} s; try to repair or convert it",
        pass.times.len(),
        end as f64 / 1e9,
        length as f64 / 1e9
    );
    Err(Failure::new(SkipReason::Corrupt, message).at(end))
}

/// Reads the access units without decoding them. `None` if their times do not tell those of the pictures.
fn by_access_units(path: &Path, bytes: u64) -> Result<Option<Pass>, Failure> {
    let status = Status::quiet();
    let collected: Arc<Mutex<Collected>> = Arc::default();
    let locator =
        Locator::open(path).map_err(|error| Failure::new(SkipReason::Unreadable, error.to_string()))?;
    let locator = Arc::new(Mutex::new(locator));
    let (of_tail, into) = (Arc::clone(&status), Arc::clone(&collected));
    let chain = Chain::open(
        path,
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
    chain.status.wait(|found| found.ended.then_some(()))?;
    if !tables::INDEXED.contains(&chain.status.found().container) {
        return Ok(None);
    }
    let stated = chain.duration();
    let collected = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
    let Some((times, keys)) = presentation(&collected.units) else { return Ok(None) };
    let track = track(&collected, &times);
    Ok(Some(Pass { times, keys, track, stated, ..pass(path, bytes, &chain) }))
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

/// Times in the order of presentation, and which of them are key frames.
///
/// What comes before the first key frame, in order of decoding or of presentation, cannot be decoded and
/// is left out. `None` if a time is missing or comes twice.
fn presentation(units: &[Seen]) -> Option<(Vec<u64>, Vec<u32>)> {
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
fn by_decoding(path: &Path, bytes: u64) -> Result<Pass, Failure> {
    let gate = Gate::new(Mark::Count, true);
    let (chain, _sink) = open_decoding(path, &gate)?;
    chain.status.wait(|found| found.ended.then_some(()))?;
    let mut state = gate.state();
    let times = made_increasing(&state.seen.take().unwrap_or_default());
    let size = state.size;
    drop(state);
    let mut pass = Pass { times, stated: chain.duration(), ..pass(path, bytes, &chain) };
    if let Some((width, height)) = size {
        (pass.media.width, pass.media.height) = (width, height);
    }
    Ok(pass)
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

fn pass(path: &Path, bytes: u64, chain: &Chain) -> Pass {
    let found = chain.status.found();
    let (codec, width, height) = found.video.clone().unwrap_or_default();
    let media = Media {
        origin: Origin::File(path.to_owned()),
        name: path.display().to_string(),
        width,
        height,
        orientation: found.orientation,
        times: [].into(),
        keys: [].into(),
        codec,
        bytes,
        track: None,
    };
    Pass {
        times: Vec::new(),
        keys: Vec::new(),
        track: None,
        stated: None,
        has_other_tracks: !found.others.is_empty(),
        media,
    }
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
    fn frames_that_never_come_out_are_left_out_with_their_keys() {
        let media = crate::decode::pattern::media(0, 4, 4, Vec::new());
        let (times, keys) = (vec![0, 10, 20, 30, 40], vec![0, 2, 4]);
        let mut pass = Pass { times, keys, track: None, stated: None, has_other_tracks: false, media };
        drop_before(&mut pass, 11);
        assert_eq!((pass.times.clone(), pass.keys.clone()), (vec![10, 20, 30, 40], vec![0, 1, 3]));
        drop_before(&mut pass, 10);
        assert_eq!(pass.times, [10, 20, 30, 40]);
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
}
