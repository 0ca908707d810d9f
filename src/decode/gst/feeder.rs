//! Feeds access units to a decoder on the caller's own thread and looks at the pictures that come out.
//!
//! There is no pipeline, no queue and no second thread: pushing a unit into the decoder runs it, and its
//! pictures are in the inbox when the push returns. One decoder serves all files of one format, from jump to
//! jump, so nothing is opened per window or file.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Colour, Media};
use reelflow_api::stage::Limits;
use reelflow_api::track::{Track, Unit};

use super::chain::{self, broken, element};
use super::{errors, picture, tables};
use crate::decode::bytes::Bytes;
use crate::decode::chunk::Chunk;
use crate::decode::feed::{Stretch, stretches};
use crate::decode::{Failure, Take};

/// Time from picture to picture as the decoder is told it. The true times may be odd or equal; these say
/// which position a picture is, and go on from request to request, so the decoder never sees time go back.
const TICK: u64 = 1_000_000;

/// What has come out of the decoder and was not looked at yet.
#[derive(Default)]
struct Inbox {
    pictures: Vec<gst::Buffer>,
    /// Of the pictures from here on.
    meaning: Option<(gst_video::VideoInfo, Colour)>,
    failure: Option<Failure>,
    /// Its pictures have a form that is not accepted.
    is_odd_form: bool,
    /// Times that are wanted.
    wanted: Vec<u64>,
    /// Pictures that the decoder made since the start, those that it keeps inside too.
    made: u64,
    /// Most pixels of a picture.
    pixels: u64,
}

/// A decoder with open ends.
pub(super) struct Feeder {
    /// What it is fed.
    caps: Arc<str>,
    decoder: gst::Bin,
    /// The decoder itself, if it lets its pictures be marked.
    video: Option<gst_video::VideoDecoder>,
    input: gst::Pad,
    _output: gst::Pad,
    inbox: Arc<Mutex<Inbox>>,
    /// Time of position 0 of the request at hand.
    base: u64,
    /// Most pixels of a picture that it was asked for.
    asked: u64,
    pictures: Pictures,
    chunk: Chunk,
}

/// What pictures a feeder gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pictures {
    /// As the decoder makes them, if [`picture::accepted`] has their form. Most do, and it saves a hand-over.
    AsTheyAre,
    /// Converted.
    Converted,
}

impl Feeder {
    /// A decoder for units of the format `caps`.
    ///
    /// # Errors
    /// `no_decoder`, or `corrupt` if the format makes no sense.
    pub fn open(caps: &Arc<str>, pictures: Pictures) -> Result<Self, Failure> {
        let format = gst::Caps::from_str(caps).map_err(broken)?;
        let inbox = Arc::new(Mutex::new(Inbox { pixels: Limits::default().pixels, ..Inbox::default() }));
        let decoder = gst::Bin::new();
        listen(&decoder, &inbox);
        let decode = tables::decoder(&format)?;
        decoder.add(&decode).map_err(broken)?;
        let last = match pictures {
            Pictures::AsTheyAre => decode.clone(),
            Pictures::Converted => {
                let convert = element("videoconvert", tables::BASE)?;
                decoder.add(&convert).map_err(broken)?;
                decode.link(&convert).map_err(broken)?;
                convert
            }
        };
        let output = output(&inbox, pictures);
        let input = gst::Pad::builder(gst::PadDirection::Src).name("input").build();
        output.set_active(true).map_err(broken)?;
        input.set_active(true).map_err(broken)?;
        let end = |element: &gst::Element, name| element.static_pad(name).expect("decoders have both pads");
        end(&last, "src").link(&output).map_err(|error| broken(format!("{error:?}")))?;
        input.link(&end(&decode, "sink")).map_err(|error| broken(format!("{error:?}")))?;
        decoder.set_state(gst::State::Playing).map_err(broken)?;
        let feeder = Self {
            caps: Arc::clone(caps),
            decoder,
            video: decode.downcast().ok(),
            input,
            _output: output,
            inbox,
            base: TICK,
            asked: 0,
            pictures,
            chunk: Chunk::default(),
        };
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        for event in [
            gst::event::StreamStart::new("units"),
            gst::event::Caps::new(&format),
            gst::event::Segment::new(&segment),
        ] {
            if !feeder.input.push_event(event) {
                return Err(feeder.failed());
            }
        }
        Ok(feeder)
    }

    /// Whether it decodes units of this format.
    pub fn takes(&self, caps: &Arc<str>) -> bool {
        self.caps == *caps
    }

    /// Most pixels of a picture that it was asked for.
    pub fn pixels(&self) -> u64 {
        self.asked
    }

    /// Whether it failed because its pictures have a form that must be converted.
    pub fn needs_conversion(&self) -> bool {
        self.pictures == Pictures::AsTheyAre && self.inbox().is_odd_form
    }

    /// Decodes the stretches and shows `take` the pictures at the positions `wanted`.
    ///
    /// # Errors
    /// If one of them does not come out.
    pub fn decode(
        &mut self,
        bytes: &Bytes,
        media: &Media,
        stretches: &[Stretch],
        wanted: &[u32],
        take: &mut Take<'_>,
    ) -> Result<u64, Failure> {
        let has_closed_groups = media.track.as_ref().is_some_and(|track| track.has_closed_groups);
        let request = Request { media, wanted, base: self.base };
        self.base += TICK * (media.times.len() as u64 + 1);
        self.asked = self.asked.max(media.pixels());
        let before = {
            let mut inbox = self.inbox();
            inbox.pictures.clear();
            inbox.pixels = inbox.pixels.max(self.asked);
            inbox.wanted = wanted.iter().map(|&position| request.time(position)).collect();
            inbox.made
        };
        let mut shown = vec![false; wanted.len()];
        for (number, stretch) in stretches.iter().enumerate() {
            self.chunk.load(bytes, stretch);
            for (index, unit) in stretch.iter().enumerate() {
                let time = request.time(unit.shows);
                self.push(bytes, unit, time, index == 0)?;
                if wanted.binary_search(&unit.shows).is_err() {
                    self.keep_inside(time);
                }
                self.look(&request, &mut shown, take)?;
            }
            if number + 1 < stretches.len() && has_closed_groups {
                // The next key unit pushes out what the decoder keeps back to put pictures in order.
                continue;
            }
            if !self.input.push_event(gst::event::SegmentDone::new(gst::ClockTime::ZERO)) {
                return Err(self.failed());
            }
            self.look(&request, &mut shown, take)?;
        }
        match shown.iter().position(|shown| !shown) {
            None => Ok(self.inbox().made - before),
            Some(index) => {
                let message = "the frame did not come out of the decoder; the file is damaged there";
                Err(Failure::new(SkipReason::Corrupt, message).at(media.times[wanted[index] as usize]))
            }
        }
    }

    fn push(&self, bytes: &Bytes, unit: &Unit, time: u64, is_first: bool) -> Result<(), Failure> {
        let mut buffer = gst::Buffer::from_mut_slice(self.chunk.take(bytes, unit)?);
        let fields = buffer.get_mut().expect("nobody else has it yet");
        fields.set_pts(gst::ClockTime::from_nseconds(time));
        fields.set_duration(gst::ClockTime::from_nseconds(TICK));
        if !unit.is_key {
            fields.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        if is_first {
            fields.set_flags(gst::BufferFlags::DISCONT);
        }
        self.input.push(buffer).map_err(|_| self.failed())?;
        Ok(())
    }

    /// Tells the decoder that the picture of `time`, which it holds back until it is its turn, is for itself only.
    /// Otherwise it would be copied on its way out if it is a reference of others, and most unwanted ones are:
    /// `avdec_*` keep them mapped for writing.
    fn keep_inside(&self, time: u64) {
        let frames = self.video.iter().flat_map(VideoDecoderExtManual::frames);
        for mut frame in frames.filter(|frame| frame.pts().is_some_and(|pts| pts.nseconds() == time)) {
            frame.set_flags(gst_video::VideoCodecFrameFlags::DECODE_ONLY);
            self.inbox().made += 1;
        }
    }

    /// Shows what is in the inbox.
    fn look(&self, request: &Request<'_>, shown: &mut [bool], take: &mut Take<'_>) -> Result<(), Failure> {
        let mut inbox = self.inbox();
        if let Some(failure) = inbox.failure.take() {
            return Err(failure);
        }
        let Inbox { pictures, meaning, .. } = &mut *inbox;
        for buffer in pictures.drain(..) {
            let Some(index) = request.index(&buffer) else { continue };
            let time = request.media.times[request.wanted[index] as usize];
            let meaning = meaning.as_ref().ok_or_else(|| broken("a picture without a format"))?;
            picture::check_size(&meaning.0, request.media, time)?;
            picture::show(&buffer, meaning, time, |frame| take(index, frame))?;
            shown[index] = true;
        }
        Ok(())
    }

    /// Why pushing failed.
    fn failed(&self) -> Failure {
        self.inbox().failure.take().unwrap_or_else(|| broken("the decoder takes no more"))
    }

    /// A panic elsewhere leaves plain data behind, so poison is ignored.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Width and height of the first picture of a file with these bytes; `None` if it does not come out, or has more
/// than `pixels`.
pub(super) fn first_size(bytes: &Bytes, track: &Track, pixels: u64) -> Option<(u32, u32)> {
    let stretches = stretches(track, &[0])?;
    let feeder = Feeder::open(&track.caps, Pictures::Converted).ok()?;
    {
        let mut inbox = feeder.inbox();
        (inbox.wanted, inbox.pixels) = (vec![feeder.base], pixels);
    }
    for (index, unit) in stretches.iter().flatten().enumerate() {
        feeder.push(bytes, unit, feeder.base + TICK * u64::from(unit.shows), index == 0).ok()?;
    }
    feeder.input.push_event(gst::event::SegmentDone::new(gst::ClockTime::ZERO));
    let inbox = feeder.inbox();
    let size = inbox.meaning.as_ref().map(|(info, _)| (info.width(), info.height()));
    size.filter(|_| inbox.failure.is_none() && !inbox.pictures.is_empty())
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // Stopping has no way to fail that anyone could act on.
        let _ = self.decoder.set_state(gst::State::Null);
        if let Some(bus) = self.decoder.bus() {
            bus.unset_sync_handler();
        }
    }
}

/// What one call of [`Feeder::decode`] is after.
struct Request<'a> {
    media: &'a Media,
    wanted: &'a [u32],
    base: u64,
}

impl Request<'_> {
    fn time(&self, position: u32) -> u64 {
        self.base + TICK * u64::from(position)
    }

    /// Which of the wanted pictures this is.
    fn index(&self, buffer: &gst::BufferRef) -> Option<usize> {
        let position = buffer.pts()?.nseconds().checked_sub(self.base)? / TICK;
        self.wanted.binary_search(&u32::try_from(position).ok()?).ok()
    }
}

/// The end behind the decoder: keeps wanted pictures, drops the others.
fn output(inbox: &Arc<Mutex<Inbox>>, pictures: Pictures) -> gst::Pad {
    let accepted = match pictures {
        // Everything, so that a form that is not accepted can be told from other failures.
        Pictures::AsTheyAre => gst::Caps::new_any(),
        Pictures::Converted => picture::accepted(),
    };
    let template =
        gst::PadTemplate::new("output", gst::PadDirection::Sink, gst::PadPresence::Always, &accepted)
            .expect("a template of these caps can be made");
    let (on_picture, on_event) = (Arc::clone(inbox), Arc::clone(inbox));
    gst::Pad::builder_from_template(&template)
        .name("output")
        .chain_function(move |_, _, buffer| {
            let mut inbox = on_picture.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.made += 1;
            let time = buffer.pts().map_or(0, gst::ClockTime::nseconds);
            let is_corrupt = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
            if !is_corrupt && inbox.wanted.binary_search(&time).is_ok() {
                inbox.pictures.push(buffer);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |pad, parent, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                let mut inbox = on_event.lock().unwrap_or_else(PoisonError::into_inner);
                inbox.is_odd_form = !caps.caps().can_intersect(&picture::accepted());
                if inbox.is_odd_form {
                    return false;
                }
                let size = chain::size_in(caps.caps()).unwrap_or_default();
                match chain::check_size(size, inbox.pixels).and_then(|()| picture::meaning(caps.caps())) {
                    Ok(meaning) => inbox.meaning = Some(meaning),
                    Err(failure) => inbox.failure = Some(failure),
                }
                return true;
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .query_function(|pad, parent, query| {
            if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
                // Rows may be padded: so the decoder need not copy its pictures.
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                return true;
            }
            gst::Pad::query_default(pad, parent, query)
        })
        .build()
}

/// Errors of the elements go to the inbox; nothing piles up on the bus.
fn listen(decoder: &gst::Bin, inbox: &Arc<Mutex<Inbox>>) {
    let bus = gst::Bus::new();
    let inbox = Arc::clone(inbox);
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let failure = errors::translate(&error.error(), error.debug().as_deref());
            inbox.lock().unwrap_or_else(PoisonError::into_inner).failure.get_or_insert(failure);
        }
        gst::BusSyncReply::Drop
    });
    decoder.set_bus(Some(&bus));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reelflow_api::item::{Frame, Origin};

    use super::*;

    #[test]
    fn unwanted_references_stay_in_the_decoder_and_are_counted() {
        let origin = Origin::File(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bframes.mp4").into());
        let media = crate::decode::probe(&origin).unwrap();
        let track = media.track.as_ref().unwrap();
        // The last picture of a group needs every reference of it.
        let last = media.keys[1] - 1;
        let stretches = stretches(track, &[last]).unwrap();
        let fed = stretches.iter().map(Vec::len).sum::<usize>();
        assert!(fed > 3, "{fed} units are too few to tell");
        let mut feeder = Feeder::open(&track.caps, Pictures::AsTheyAre).unwrap();
        let handed_out = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handed_out);
        feeder._output.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        let mut shown = Vec::new();
        let bytes = Bytes::open(&origin).unwrap();
        let mut take = |index, _: &Frame<'_>| shown.push(index);
        let decoded = feeder.decode(&bytes, &media, &stretches, &[last], &mut take).unwrap();
        assert_eq!((shown, decoded), (vec![0], fed as u64));
        assert_eq!(handed_out.load(Ordering::Relaxed), 1);
    }
}
