//! One file opened: its bytes, type detection, demuxer, and what hangs on its first video track.
//!
//! Everything GStreamer says on its own threads is written into a [`Status`] and wakes the one thread that
//! waits. That wait is the stall watchdog: the only place where a file is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::Orientation;
use reelflow_api::stage::Limits;

use super::tables::{self, Container};
use super::{errors, source};
use crate::decode::Failure;
use crate::decode::bytes::Bytes;
use crate::edge::clock;

/// A file that makes no progress for this long is given up. RELIABILITY facts 4 and 8: some demuxers of
/// GStreamer 1.22 never end on some files.
const STALL: Duration = Duration::from_secs(10);

/// What the streaming threads have found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Name of the demuxer, empty for a bare stream.
    pub container: &'static str,
    /// Codec name and size of the video track, once it is known.
    pub video: Option<(String, u32, u32)>,
    /// Other tracks, for messages.
    pub others: Vec<String>,
    /// All tracks that the file begins with are known.
    pub is_complete: bool,
    /// Codec of a video track that came later: the stream changes on the way.
    pub changed: Option<String>,
    /// How pictures must be turned.
    pub orientation: Orientation,
    /// The demuxer's pad of the video track: seeks go there.
    pub pad: Option<gst::Pad>,
    /// Why it cannot go on; the first reason stays.
    pub failure: Option<Failure>,
    /// The first access unit has passed, so the demuxer can seek.
    pub ready: bool,
    /// The video track has ended.
    pub ended: bool,
}

/// Shared between the streaming threads and the waiting one.
pub(super) struct Status {
    found: Mutex<Found>,
    building: RwLock<Building>,
    progress: AtomicU64,
    limits: Limits,
    since: Instant,
    wake: Sender<()>,
    woken: Receiver<()>,
}

impl Status {
    fn new(limits: Limits) -> Self {
        // One token is enough: it says "look again", not what happened.
        let (wake, woken) = bounded(1);
        Self {
            found: Mutex::default(),
            building: RwLock::default(),
            progress: AtomicU64::new(0),
            limits,
            since: clock::now(),
            wake,
            woken,
        }
    }

    /// What has been found so far. A panic elsewhere leaves plain data behind, so poison is ignored.
    pub fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure; the first one stays.
    pub fn fail(&self, failure: Failure) {
        self.found().failure.get_or_insert(failure);
        self.notify();
    }

    /// Makes the waiting thread look again.
    pub fn notify(&self) {
        // A full channel already holds the same message.
        let _ = self.wake.try_send(());
    }

    /// Counts a buffer, so that slow is not taken for stalled.
    pub fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses pictures above the limit before a decoder allocates them.
    ///
    /// # Errors
    /// `limit`
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), Failure> {
        check_size((width, height), self.limits.pixels)
    }

    /// Waits until `done` gives something or the file fails, stalls or takes too long.
    ///
    /// # Errors
    /// The file's failure, `stalled` or `limit`.
    pub fn wait<T>(&self, mut done: impl FnMut(&Found) -> Option<T>) -> Result<T, Failure> {
        let mut progress = self.progress.load(Ordering::Relaxed);
        loop {
            {
                let found = self.found();
                if let Some(value) = done(&found) {
                    return Ok(value);
                }
                if let Some(failure) = &found.failure {
                    return Err(errors::in_context(failure, &found));
                }
            }
            if let Err(RecvTimeoutError::Timeout) = self.woken.recv_timeout(STALL) {
                let now = self.progress.load(Ordering::Relaxed);
                if now == progress {
                    let message =
                        format!("nothing came for {} s; try to repair or convert the file", STALL.as_secs());
                    let failure = Failure::new(SkipReason::Stalled, message);
                    self.fail(failure.clone());
                    return Err(failure);
                }
                progress = now;
            }
            if self.since.elapsed().as_secs_f64() > self.limits.probe_secs {
                let message =
                    format!("looking at it takes longer than {} s; split it", self.limits.probe_secs);
                let failure = Failure::new(SkipReason::Limit, message);
                self.fail(failure.clone());
                return Err(failure);
            }
        }
    }
}

/// Whether the pipeline may still be put together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Building {
    /// Yes; read-locked while it is being done.
    #[default]
    Open,
    /// No: it is being stopped.
    Over,
}

/// Hangs elements on the video track: gets the pipeline, the demuxer's pad and the track's caps.
pub(super) type Tail =
    Box<dyn Fn(&gst::Pipeline, &gst::Pad, &gst::Caps, &'static str) -> Result<(), Failure> + Send + Sync>;

/// A running pipeline; stopped when dropped.
pub(super) struct Chain {
    pipeline: gst::Pipeline,
    bytes: gst::Pad,
    pub status: Arc<Status>,
}

impl Chain {
    /// Opens `bytes` and starts it. `status` is handed to `tail` by the caller.
    ///
    /// # Errors
    /// If an element is not installed or the bytes cannot be read.
    pub fn open(bytes: &Arc<Bytes>, status: Arc<Status>, tail: Tail) -> Result<Self, Failure> {
        let pipeline = gst::Pipeline::new();
        let detect = element("typefind", tables::BASE)?;
        add(&pipeline, &[&detect])?;
        let pad = source::pad(Arc::clone(bytes), &status);
        let input = detect.static_pad("sink").expect("typefind has a sink pad");
        pad.link(&input).map_err(|error| broken(format!("{error:?}")))?;
        watch_bus(&pipeline, &status);
        let chain = Self { pipeline, bytes: pad, status };
        let (pipeline, status) = (chain.pipeline.downgrade(), Arc::clone(&chain.status));
        let tail = Arc::new(tail);
        detect.connect("have-type", false, move |values| {
            // Held until the demuxer runs: it may deliver all that is wanted before this returns.
            let building = status.building.read().unwrap_or_else(PoisonError::into_inner);
            if *building == Building::Over {
                return None;
            }
            let pipeline = pipeline.upgrade()?;
            let detect = values.first()?.get::<gst::Element>().ok()?;
            let caps = values.get(2)?.get::<gst::Caps>().ok()?;
            let site = Site { pipeline: &pipeline, status: &status, tail: &tail };
            if let Err(failure) = site.take_apart(&detect, &caps) {
                status.fail(failure);
            }
            None
        });
        if chain.pipeline.set_state(gst::State::Playing).is_err() {
            // The reason, if there is a better one, came over the bus.
            let failure = Failure::new(SkipReason::Unreadable, "the file cannot be opened for reading");
            chain.status.fail(failure.clone());
            return Err(chain.status.found().failure.clone().unwrap_or(failure));
        }
        Ok(chain)
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
            *status.building.write().unwrap_or_else(PoisonError::into_inner) = Building::Over;
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

/// A status for a chain to be opened.
pub(super) fn status(limits: &Limits) -> Arc<Status> {
    Arc::new(Status::new(*limits))
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
                status.fail(errors::translate(&error.error(), error.debug().as_deref()));
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

/// Where a file is being taken apart: the streaming threads' view of a [`Chain`].
#[derive(Clone, Copy)]
struct Site<'a> {
    pipeline: &'a gst::Pipeline,
    status: &'a Arc<Status>,
    tail: &'a Arc<Tail>,
}

impl Site<'_> {
    /// Called when the file's type is known: makes the demuxer, or hangs the tail on a bare stream.
    fn take_apart(self, detect: &gst::Element, caps: &gst::Caps) -> Result<(), Failure> {
        let Site { pipeline, status, tail } = self;
        let pad = detect.static_pad("src").expect("typefind has a source pad");
        let name = match tables::container(caps) {
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
            let building = on_pad.building.read().unwrap_or_else(PoisonError::into_inner);
            if *building == Building::Over {
                return;
            }
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let site = Site { pipeline: &pipeline, status: &on_pad, tail: &hung };
            if let Err(failure) = site.take_track(pad, &caps, name) {
                on_pad.fail(failure);
            }
        };
        if let Some(pad) = demux.static_pad("src") {
            // ivfparse, y4mdec: one track, and its caps come only with the data.
            let seen = Mutex::new(false);
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
                let is_caps = info.event().is_some_and(|event| event.type_() == gst::EventType::Caps);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if is_caps && !std::mem::replace(&mut *seen, true) {
                    take_pad(pad);
                }
                gst::PadProbeReturn::Ok
            });
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
    fn hang(self, pad: &gst::Pad, caps: &gst::Caps, container: &'static str) -> Result<(), Failure> {
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
