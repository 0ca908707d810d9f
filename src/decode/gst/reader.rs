//! Decodes the wanted frames of a file through its demuxer, seeking where that pays.
//!
//! A file stays open between requests, so that windows of one file in a row go on where the last ended.

use std::ops::Range;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Frame, Media, Origin};
use reelflow_api::stage::Limits;

use super::chain::{Chain, add, broken, element};
use super::gate::{Clock, Gate, Mark, Wanted};
use super::status::Status;
use super::{picture, tables};
use crate::decode::bytes::Bytes;
use crate::decode::plan::{Run, runs, worth_skipping};
use crate::decode::{Failure, Take};

/// Pictures that wait between the decoder's thread and ours.
const WAITING: u32 = 2;

/// What a reader has open: a file, or a member of an archive, and which part of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key(Origin, u32);

impl Key {
    /// Of a medium.
    pub fn of(media: &Media) -> Self {
        Self(media.origin.clone(), media.part.before)
    }
}

/// Decodes through the container's demuxer; keeps the last file open.
#[derive(Default)]
pub(super) struct Reader {
    open: Option<Session>,
    /// A file whose key frames do not deliver what they promise; it is read from the start.
    no_seeks: Option<Key>,
}

impl Reader {
    /// Position from which on the medium that is open can be read further, if it is `key`.
    pub fn next(&self, key: &Key) -> Option<u32> {
        self.open.as_ref().filter(|session| session.key == *key).map(|session| session.next)
    }

    /// As [`crate::decode::Decoder::decode`]; `key` is that of `media`.
    pub fn decode(
        &mut self,
        key: &Key,
        media: &Media,
        wanted: &[u32],
        take: &mut Take<'_>,
    ) -> Result<u64, Failure> {
        let may_seek = !media.keys.is_empty() && self.no_seeks.as_ref() != Some(key);
        match self.attempt(key, media, wanted, may_seek, take) {
            Err(failure) if may_seek && failure.reason == SkipReason::Corrupt => {
                // A key frame may be none, or the index may be wrong: what cannot be had by seeking may
                // come in order. If it does, seeks are not tried again on this file.
                let decoded = self.attempt(key, media, wanted, false, take)?;
                self.no_seeks = Some(key.clone());
                Ok(decoded)
            }
            result => result,
        }
    }

    fn attempt(
        &mut self,
        key: &Key,
        media: &Media,
        wanted: &[u32],
        may_seek: bool,
        take: &mut Take<'_>,
    ) -> Result<u64, Failure> {
        let first = wanted.first().copied().unwrap_or(0);
        let kept = self.open.take().filter(|session| {
            session.key == *key && (session.next <= first || may_seek) && may_seek == session.may_seek
        });
        let mut session = match kept {
            Some(session) => session,
            None => Session::open(key, media, may_seek)?,
        };
        let before = session.gate.state().count();
        session.read(media, wanted, take)?;
        let decoded = session.gate.state().count() - before;
        self.open = Some(session);
        Ok(decoded)
    }
}

/// An open file.
struct Session {
    key: Key,
    chain: Chain,
    gate: Gate,
    sink: AppSink,
    /// Position of the frame that the decoder gives next.
    next: u32,
    may_seek: bool,
}

impl Session {
    fn open(key: &Key, media: &Media, may_seek: bool) -> Result<Self, Failure> {
        let by = if media.keys.is_empty() { Mark::Count } else { Mark::Time };
        let gate = Gate::new(by, false);
        let bytes = Arc::new(Bytes::open(&media.origin)?);
        // It was looked at, so it may be as large as it is, and be open as long as it is of use.
        let pixels = Limits::default().pixels.max(media.pixels());
        let limits = Limits { pixels, bytes: u64::MAX, probe_secs: f64::INFINITY };
        let (chain, sink) = open_decoding(&bytes, &gate, &limits)?;
        Ok(Self { key: key.clone(), chain, gate, sink, next: 0, may_seek })
    }

    fn read(&mut self, media: &Media, wanted: &[u32], take: &mut Take<'_>) -> Result<(), Failure> {
        let keys: &[u32] = if self.may_seek { &media.keys } else { &[] };
        let worth = worth_skipping(media.width, media.height);
        for Run { seek, wanted: part } in runs(keys, wanted, self.next, worth) {
            let part: Range<usize> = part;
            let marks = marks(media, &wanted[part.clone()]);
            match seek {
                Some(key) => self.seek(media, key, marks.clone())?,
                None => self.gate.state().want(marks.clone()),
            }
            for (index, &limits) in part.zip(&marks) {
                let position = wanted[index];
                self.take(media, position, limits, |frame| take(index, frame))?;
                self.next = position + 1;
            }
        }
        Ok(())
    }

    /// Goes to the key frame at position `key`; what comes after it is judged by `marks`.
    fn seek(&mut self, media: &Media, key: u32, marks: Wanted) -> Result<(), Failure> {
        let pad = self.chain.status.wait(|found| found.pad.clone().filter(|_| found.ready))?;
        self.gate.state().want_after_flush(marks);
        // A little past the key frame, so that rounding does not end at the key frame before it.
        let at = media.times[key as usize] + (gap_after(media, key) / 2).min(1_000_000);
        let seek = gst::event::Seek::new(
            1.0,
            gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE,
            gst::SeekType::Set,
            gst::ClockTime::from_nseconds(at),
            gst::SeekType::None,
            gst::ClockTime::NONE,
        );
        if pad.send_event(seek) {
            return Ok(());
        }
        Err(Failure::new(SkipReason::Corrupt, "the file refuses to seek").at(at))
    }

    /// The picture at `position`, which has a mark within `limits`.
    fn take(
        &mut self,
        media: &Media,
        position: u32,
        limits: (u64, u64),
        look: impl FnOnce(&Frame<'_>),
    ) -> Result<(), Failure> {
        let time = media.times[position as usize];
        let missing = || {
            let message = "the frame did not come out of the decoder; the file is damaged there";
            Failure::new(SkipReason::Corrupt, message).at(time)
        };
        loop {
            let (sink, gate) = (&self.sink, &self.gate);
            let sample =
                self.chain.status.wait(|found| match sink.try_pull_sample(gst::ClockTime::ZERO) {
                    Some(sample) => Some(Some(sample)),
                    None => found.ended.then_some(None),
                })?;
            let sample = sample.ok_or_else(missing)?;
            let mark = gate.state().take_mark().ok_or_else(|| broken("a picture that nothing let pass"))?;
            if mark < limits.0 {
                continue;
            }
            if mark > limits.1 {
                return Err(missing());
            }
            let caps = sample.caps().ok_or_else(|| broken("a picture without a format"))?;
            let buffer = sample.buffer().ok_or_else(|| broken("a sample without a picture"))?;
            let meaning = picture::meaning(caps)?;
            picture::check_size(&meaning.0, media, time)?;
            return picture::show(buffer, &meaning, time, look);
        }
    }
}

/// Nanoseconds from frame `position` to the next; 40 ms behind the last.
fn gap_after(media: &Media, position: u32) -> u64 {
    let at = position as usize;
    media.times.get(at + 1).map_or(40_000_000, |next| next - media.times[at])
}

/// What the wanted positions are recognised by: counts, or times within less than half a frame.
fn marks(media: &Media, wanted: &[u32]) -> Wanted {
    let mark = |&position: &u32| {
        if media.keys.is_empty() {
            let count = u64::from(media.part.before) + u64::from(position);
            return (count, count);
        }
        let time = media.times[position as usize];
        let before = if position == 0 { time } else { gap_after(media, position - 1) };
        let tolerance = (before.min(gap_after(media, position)) / 2).saturating_sub(1);
        (time.saturating_sub(tolerance), time + tolerance)
    };
    wanted.iter().map(mark).collect()
}

/// Opens `bytes` down to an appsink with decoded pictures; `gate` stands right behind the decoder.
pub(super) fn open_decoding(
    bytes: &Arc<Bytes>,
    gate: &Gate,
    limits: &Limits,
) -> Result<(Chain, AppSink), Failure> {
    let status = Status::quiet(limits);
    let sink = AppSink::builder().sync(false).async_(false).max_buffers(WAITING).build();
    let (on_sample, on_end) = (Arc::clone(&status), Arc::clone(&status));
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |_| {
                on_sample.notify();
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                on_end.found().ended = true;
                on_end.notify();
            })
            .build(),
    );
    let (gate, of_tail, end) = (gate.clone(), Arc::clone(&status), sink.clone());
    let chain = Chain::open(
        bytes,
        status,
        Box::new(move |pipeline, pad, caps, container| {
            let end = end.upcast_ref::<gst::Element>();
            hang_decoder(pipeline, pad, caps, container, end, |pad| {
                gate.guard(pad, Clock::of(container), &of_tail)
            })
        }),
    )?;
    Ok((chain, sink))
}

/// `[parser] ! decoder ! videoconvert ! filter ! end`; the conversion hands what is accepted through untouched.
fn hang_decoder(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    container: &str,
    end: &gst::Element,
    guard: impl FnOnce(&gst::Pad),
) -> Result<(), Failure> {
    let mut line: Vec<gst::Element> = Vec::new();
    if let Some(name) = tables::parser(caps, container) {
        line.push(element(name, tables::BAD)?);
    }
    let is_raw = caps.structure(0).is_some_and(|structure| structure.name() == "video/x-raw");
    if !is_raw {
        line.push(tables::decoder(caps)?);
    }
    let decoded = line.last().map(|last| last.static_pad("src").expect("decoders have a source pad"));
    guard(decoded.as_ref().unwrap_or(pad));
    line.push(element("videoconvert", tables::BASE)?);
    let filter = element("capsfilter", tables::BASE)?;
    filter.set_property("caps", picture::accepted());
    line.push(filter);
    line.push(end.clone());
    let elements: Vec<&gst::Element> = line.iter().collect();
    add(pipeline, &elements)?;
    gst::Element::link_many(&elements).map_err(broken)?;
    let input = line[0].static_pad("sink").expect("all of these have a sink pad");
    // From the end, so that nothing flows into an element that is not ready.
    for element in elements.iter().rev() {
        element.sync_state_with_parent().map_err(broken)?;
    }
    pad.link(&input).map_err(|error| broken(format!("{error:?}")))?;
    Ok(())
}
