//! One file opened: its bytes, type detection, demuxer, and what hangs on its first video track.
//!
//! Everything GStreamer says on its own threads is written into a [`Status`] and wakes the one thread that
//! waits.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::Orientation;

use super::status::Status;
use super::tables::{self, Container};
use super::{errors, source};
use crate::decode::Failure;
use crate::decode::bytes::Bytes;

/// Hangs elements on the video track: gets the pipeline, the demuxer's pad and the track's caps.
pub(super) type Tail =
    Box<dyn Fn(&gst::Pipeline, &gst::Pad, &gst::Caps, &'static str) -> Result<(), Failure> + Send + Sync>;

/// A running pipeline; stopped when dropped.
pub(super) struct Chain {
    pipeline: gst::Pipeline,
    /// What is pulled from, where that is no element.
    bytes: Option<gst::Pad>,
    pub status: Arc<Status>,
}

impl Chain {
    /// Opens `bytes` and starts it. `status` is handed to `tail` by the caller.
    ///
    /// # Errors
    /// If an element is not installed or the bytes cannot be read.
    pub fn open(bytes: &Arc<Bytes>, status: Arc<Status>, tail: Tail) -> Result<Self, Failure> {
        let mut chain = Self::empty(status);
        let pad = source::pad(Arc::clone(bytes), &chain.status);
        chain.detect_from(&pad, tables::container, tail)?;
        chain.bytes = Some(pad);
        chain.play(|| Failure::new(SkipReason::Unreadable, "the file cannot be opened for reading"))?;
        Ok(chain)
    }

    /// A pipeline with nothing in it.
    pub fn empty(status: Arc<Status>) -> Self {
        let pipeline = gst::Pipeline::new();
        watch_bus(&pipeline, &status);
        Self { pipeline, bytes: None, status }
    }

    /// The pipeline, to put elements into.
    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// Puts `source` in, and behind it what takes its bytes apart when their type is known.
    ///
    /// # Errors
    /// If an element is not installed.
    pub fn detect(&self, source: &gst::Element, containers: Containers, tail: Tail) -> Result<(), Failure> {
        add(&self.pipeline, &[source])?;
        let pad = source.static_pad("src").ok_or_else(|| broken("a source without a pad"))?;
        self.detect_from(&pad, containers, tail)
    }

    /// Puts behind `pad` what takes its bytes apart when their type is known.
    fn detect_from(&self, pad: &gst::Pad, containers: Containers, tail: Tail) -> Result<(), Failure> {
        let detect = element("typefind", tables::BASE)?;
        add(&self.pipeline, &[&detect])?;
        let input = detect.static_pad("sink").expect("typefind has a sink pad");
        pad.link(&input).map_err(|error| broken(format!("{error:?}")))?;
        let (pipeline, status) = (self.pipeline.downgrade(), Arc::clone(&self.status));
        let tail = Arc::new(tail);
        detect.connect("have-type", false, move |values| {
            let pipeline = pipeline.upgrade()?;
            let detect = values.first()?.get::<gst::Element>().ok()?;
            let caps = values.get(2)?.get::<gst::Caps>().ok()?;
            let site = Site { pipeline: &pipeline, status: &status, tail: &tail };
            // Held until the demuxer runs: it may deliver all that is wanted before this returns.
            if let Some(Err(failure)) =
                status.while_open(|| site.take_apart(&detect, &caps, containers(&caps)))
            {
                status.fail(failure);
            }
            None
        });
        Ok(())
    }

    /// Starts it.
    ///
    /// # Errors
    /// What came over the bus, or else `otherwise`.
    pub fn play(&self, otherwise: impl FnOnce() -> Failure) -> Result<(), Failure> {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            // The reason, if there is a better one, came over the bus.
            self.status.fail(otherwise());
            let found = self.status.found();
            return Err(found.failure.clone().expect("a failure was noted just above"));
        }
        Ok(())
    }

    /// Length in nanoseconds that the container states, if it does.
    pub fn duration(&self) -> Option<u64> {
        self.pipeline.query_duration::<gst::ClockTime>().map(gst::ClockTime::nseconds)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // The pad's probes hold the status: without this they would keep each other for ever.
        self.status.found().pad = None;
        let (pipeline, status, bytes) = (self.pipeline.clone(), Arc::clone(&self.status), self.bytes.clone());
        let stop = move || {
            // A short file can be read to its end before the thread that put the pipeline together has
            // left its callback. Stopping would wait for that thread, and it for the pipeline's lock.
            status.close();
            // Stopping has no way to fail that anyone could act on.
            let _ = pipeline.set_state(gst::State::Null);
            if let Some(bus) = pipeline.bus() {
                bus.unset_sync_handler();
            }
            // Until now somebody may have pulled.
            drop(bytes);
        };
        let stalled =
            self.status.found().failure.as_ref().is_some_and(|failure| failure.reason == SkipReason::Stalled);
        if stalled {
            // Stopping waits for the streaming thread, and this one may never come back.
            // Without a thread to stop it, it stays as it is until the program ends.
            let _ = crate::edge::threads::spawn("gst-close", stop);
        } else {
            stop();
        }
    }
}

/// Makes an element by name.
///
/// # Errors
/// `no_decoder`, with the Debian package to install.
pub(super) fn element(name: &str, package: &str) -> Result<gst::Element, Failure> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        Failure::new(SkipReason::NoDecoder, format!("GStreamer has no `{name}` here; install {package}"))
    })
}

pub(super) fn add(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), Failure> {
    pipeline.add_many(elements.iter().copied()).map_err(broken)
}

/// A pipeline that cannot be put together; the caps did not fit, so the file is odd.
pub(super) fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(SkipReason::Corrupt, format!("its tracks do not fit together: {error}"))
}

/// Refuses pictures above the limit before a decoder allocates them.
///
/// # Errors
/// `limit`
pub(super) fn check_size((width, height): (u32, u32), most: u64) -> Result<(), Failure> {
    if u64::from(width) * u64::from(height) > most {
        return Err(Failure::new(
            SkipReason::Limit,
            format!("pictures of {width}x{height} have more than {most} pixels; scale the file down"),
        ));
    }
    Ok(())
}

/// Width and height in caps, if both are there.
pub(super) fn size_in(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let get = |name| structure.get::<i32>(name).ok().and_then(|value| u32::try_from(value).ok());
    Some((get("width")?, get("height")?))
}

/// Errors go to the status; nothing piles up on the bus.
fn watch_bus(pipeline: &gst::Pipeline, status: &Arc<Status>) {
    let status = Arc::clone(status);
    let bus = pipeline.bus().expect("a pipeline has a bus until it is dropped");
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let failure = errors::of_server(error.details())
                    .unwrap_or_else(|| errors::translate(&error.error(), error.debug().as_deref()));
                status.fail(failure);
            }
            gst::MessageView::Element(element)
                if element.structure().is_some_and(|structure| structure.name() == "redirect") =>
            {
                let message = "it only points to another place, which is not followed; list that file itself";
                status.fail(Failure::new(SkipReason::UnsafeReference, message));
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

/// What to do with bytes of a type.
pub(super) type Containers = fn(&gst::CapsRef) -> Container;

/// Where a file is being taken apart: the streaming threads' view of a [`Chain`].
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub pipeline: &'a gst::Pipeline,
    pub status: &'a Arc<Status>,
    pub tail: &'a Arc<Tail>,
}

impl Site<'_> {
    /// Called when the file's type is known: makes the demuxer, or hangs the tail on a bare stream.
    fn take_apart(
        self,
        detect: &gst::Element,
        caps: &gst::Caps,
        container: Container,
    ) -> Result<(), Failure> {
        let Site { pipeline, status, tail } = self;
        let pad = detect.static_pad("src").expect("typefind has a source pad");
        let name = match container {
            Container::Refused(failure) => return Err(failure),
            Container::Bare => return self.hang(&pad, caps, ""),
            Container::Demux(name) => name,
        };
        let demux = element(name, demuxer_package(name))?;
        status.found().container = name;
        // The pipeline may still be on its way to PLAYING on the thread that opens it. If it started the
        // demuxer, that would stop this very thread and wait for it, while this one waits for the demuxer.
        demux.set_locked_state(true);
        add(pipeline, &[&demux])?;
        let (weak, on_pad, hung) = (pipeline.downgrade(), Arc::clone(status), Arc::clone(tail));
        let take_pad = move |pad: &gst::Pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let site = Site { pipeline: &pipeline, status: &on_pad, tail: &hung };
            if let Some(Err(failure)) = on_pad.while_open(|| site.take_track(pad, &caps, name)) {
                on_pad.fail(failure);
            }
        };
        if let Some(pad) = demux.static_pad("src") {
            // ivfparse, y4mdec: one track, and its caps come only with the data.
            on_first_caps(&pad, take_pad);
        } else {
            demux.connect_pad_added(move |_, pad| take_pad(pad));
            let all = Arc::clone(status);
            demux.connect_no_more_pads(move |_| {
                let mut found = all.found();
                found.is_complete = true;
                if found.video.is_none() {
                    let others =
                        if found.others.is_empty() { "no track".into() } else { found.others.join(", ") };
                    drop(found);
                    all.fail(tables::no_video(&others));
                }
            });
        }
        detect.link(&demux).map_err(broken)?;
        let started = demux.sync_state_with_parent().map_err(broken);
        demux.set_locked_state(false);
        started
    }

    /// Takes the first video track, notes the others.
    fn take_track(self, pad: &gst::Pad, caps: &gst::Caps, container: &'static str) -> Result<(), Failure> {
        let status = self.status;
        let name = caps.structure(0).map_or("unknown", |s| s.name().as_str()).to_owned();
        if name.starts_with("application/x-cenc") {
            return Err(Failure::new(
                SkipReason::Encrypted,
                "the track is encrypted; decrypt the file first",
            ));
        }
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        if !is_video || status.found().video.is_some() {
            let mut found = status.found();
            if is_video && found.is_complete {
                found.changed.get_or_insert_with(|| tables::codec(caps));
            }
            found.others.push(name);
            return Ok(());
        }
        self.hang(pad, caps, container)
    }

    /// Hangs the tail on the video track and starts it.
    pub fn hang(self, pad: &gst::Pad, caps: &gst::Caps, container: &'static str) -> Result<(), Failure> {
        let Site { pipeline, status, tail } = self;
        let (width, height) = size_in(caps).unwrap_or_default();
        status.check_size(width, height)?;
        {
            let mut found = status.found();
            found.video = Some((tables::codec(caps), width, height));
            found.pad = Some(pad.clone());
        }
        let watch = Arc::clone(status);
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(_)) => {
                    watch.advance();
                    let mut found = watch.found();
                    if !std::mem::replace(&mut found.ready, true) {
                        drop(found);
                        watch.notify();
                    }
                }
                Some(gst::PadProbeData::Event(event)) => {
                    if let gst::EventView::Tag(tag) = event.view()
                        && let Some(value) = tag.tag().get::<gst::tags::ImageOrientation>()
                    {
                        watch.found().orientation = orientation(value.get());
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        tail(pipeline, pad, caps, container)
    }
}

/// Calls `act` once, with the pad, when its caps are known.
pub(super) fn on_first_caps(pad: &gst::Pad, act: impl Fn(&gst::Pad) + Send + Sync + 'static) {
    let seen = Mutex::new(false);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let is_caps = info.event().is_some_and(|event| event.type_() == gst::EventType::Caps);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if is_caps && !std::mem::replace(&mut *seen, true) {
            act(pad);
        }
        gst::PadProbeReturn::Ok
    });
}

fn demuxer_package(name: &str) -> &'static str {
    match name {
        "tsdemux" | "mpegpsdemux" | "mxfdemux" | "ivfparse" | "y4mdec" => tables::BAD,
        "oggdemux" => tables::BASE,
        "asfdemux" => tables::UGLY,
        _ => tables::GOOD,
    }
}

/// GStreamer's tag says "flip, then rotate clockwise"; ours is "rotate, then mirror", which turns the
/// other way when there is a flip.
fn orientation(tag: &str) -> Orientation {
    let (mirror, angle) = match tag.strip_prefix("flip-") {
        Some(rest) => (true, rest),
        None => (false, tag),
    };
    let quarters = match angle {
        "rotate-90" => 1,
        "rotate-180" => 2,
        "rotate-270" => 3,
        _ => 0,
    };
    Orientation { quarter_turns: if mirror { (4 - quarters) % 4 } else { quarters }, mirror }
}

#[cfg(test)]
mod tests {
    use reelflow_api::stage::Limits;

    use super::*;

    #[test]
    fn orientation_tags_are_turned_into_rotate_then_mirror() {
        let of = |tag| {
            let Orientation { quarter_turns, mirror } = orientation(tag);
            (quarter_turns, mirror)
        };
        assert_eq!(of("rotate-0"), (0, false));
        assert_eq!(of("rotate-90"), (1, false));
        assert_eq!(of("flip-rotate-0"), (0, true));
        // Mirroring (x, y) to (-x, y) and then turning clockwise equals turning back and then mirroring.
        assert_eq!(of("flip-rotate-90"), (3, true));
        assert_eq!(of("flip-rotate-270"), (1, true));
        assert_eq!(of("flip-rotate-180"), (2, true));
    }

    #[test]
    fn pictures_beyond_the_limit_are_refused() {
        let most = Limits::default().pixels;
        assert!(check_size((8192, 4320), most).is_ok());
        assert_eq!(check_size((8192, 4321), most).unwrap_err().reason, SkipReason::Limit);
    }
}
