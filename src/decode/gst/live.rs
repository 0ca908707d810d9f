//! Cameras and other streams that do not end: from the place to decoded pictures, one by one.
//!
//! Elements are made by name and set property by property; what a stream claims to be only chooses among them. Every
//! picture is copied out on the streaming thread and handed to the listener, which must not block for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Orientation, Picture};

use super::chain::{self, Chain, Site, Tail, add, broken, element, on_first_caps};
use super::hls::{Pump, Pumping};
use super::status::Status;
use super::tables::{self, Container};
use super::{errors, picture};
use crate::decode::Failure;
use crate::edge::secrets::Secret;

/// Pictures that wait between the decoder and the listener: the listener runs on the decoder's thread.
const WAITING: u32 = 1;

/// User and password, if any.
#[derive(Clone, Default)]
pub struct Login {
    /// User name.
    pub user: Option<String>,
    /// Password or passphrase.
    pub password: Option<Secret>,
}

/// Where a stream comes from. Addresses hold no password.
#[derive(Clone)]
pub enum Place {
    /// An RTSP server.
    Rtsp {
        /// `rtsp://host/path`.
        location: String,
        /// Who asks.
        login: Login,
        /// Over UDP instead of within the TCP connection.
        udp: bool,
        /// Milliseconds that packets are kept to be put in order.
        latency_ms: u32,
        /// Seconds that making the connection may take.
        patience_secs: f64,
    },
    /// A V4L2 device.
    Camera {
        /// `/dev/video0`.
        device: String,
        /// Size that is asked for.
        size: Option<(u32, u32)>,
        /// Frame rate that is asked for.
        fps: Option<u32>,
    },
    /// A stream that a web server sends.
    Http {
        /// `http://host/path`.
        location: String,
        /// Who asks.
        login: Login,
        /// Seconds of silence after which the connection ends.
        patience_secs: f64,
    },
    /// A playlist and the pieces it names.
    Hls {
        /// `https://host/path.m3u8`.
        location: String,
        /// Who asks.
        login: Login,
        /// Seconds of silence after which a request fails.
        patience_secs: f64,
    },
    /// An SRT sender.
    Srt {
        /// `srt://host:port`.
        location: String,
        /// Passphrase.
        password: Option<Secret>,
        /// What is asked for.
        stream_id: Option<String>,
        /// Milliseconds that packets are kept to be sent again.
        latency_ms: u32,
    },
}

impl Place {
    /// Names and packages of the elements it cannot do without.
    #[must_use]
    pub fn needs(&self) -> Vec<(&'static str, &'static str)> {
        let front = match self {
            Self::Rtsp { .. } => ("rtspsrc", tables::GOOD),
            Self::Camera { .. } => ("v4l2src", tables::GOOD),
            Self::Http { .. } | Self::Hls { .. } => ("souphttpsrc", tables::GOOD),
            Self::Srt { .. } => ("srtsrc", tables::BAD),
        };
        vec![front, ("videoconvert", tables::BASE), ("capsfilter", tables::BASE)]
    }
}

/// What a stream tells, from its own threads.
#[derive(Debug)]
pub enum Heard {
    /// Codec and orientation of the pictures from here on.
    Format(String, Orientation),
    /// A picture with its running time in nanoseconds, if it has one.
    Picture(Picture, Option<u64>),
    /// Something came that is no picture yet.
    Alive,
    /// A frame before the first key frame.
    BeforeKey,
    /// A frame that is damaged or leans on a lost one.
    Damaged,
    /// It is over.
    Ended(Failure),
}

/// Takes what is heard.
pub type Hear = Arc<dyn Fn(Heard) + Send + Sync>;

/// An open stream; closed when dropped, which may take as long as its threads do.
pub struct Stream {
    /// Stopped first: it fills the chain.
    _pump: Option<Pumping>,
    _chain: Chain,
}

/// Whether every element that `place` needs is there.
///
/// # Errors
/// `no_decoder`, with the package to install.
pub fn check(place: &Place) -> Result<(), Failure> {
    super::init()?;
    for (name, package) in place.needs() {
        if gst::ElementFactory::find(name).is_none() {
            let message = format!("GStreamer has no `{name}` here; install {package}");
            return Err(Failure::new(SkipReason::NoDecoder, message));
        }
    }
    Ok(())
}

/// Keeps GStreamer from writing what it debugs: some of it holds passwords.
pub fn silence() {
    if super::init().is_ok() {
        gst::log::remove_default_log_function();
    }
}

/// Begins to open `place`; all that comes of it goes to `hear`.
///
/// # Errors
/// If it cannot even be begun; what goes wrong later is [`Heard::Ended`].
pub fn open(place: &Place, hear: &Hear) -> Result<Stream, Failure> {
    super::init()?;
    let told = Arc::clone(hear);
    let status = Status::told(Box::new(move |failure| told(Heard::Ended(errors::of_stream(failure)))));
    let chain = Chain::empty(Arc::clone(&status));
    let mut pump = None;
    let tail = tail(Arc::clone(hear), status);
    match place {
        Place::Rtsp { .. } => rtsp(&chain, place, tail)?,
        Place::Camera { device, size, fps } => camera(&chain, device, *size, *fps, tail)?,
        Place::Http { location, login, patience_secs } => {
            chain.detect(&http(location, login, *patience_secs)?, streamed, tail)?;
        }
        Place::Hls { location, login, patience_secs } => {
            let idle = Pump::new(location, login, *patience_secs)?;
            chain.detect(idle.element(), streamed, tail)?;
            pump = Some(idle);
        }
        Place::Srt { location, password, stream_id, latency_ms } => {
            let source = srt(location, password.as_ref(), stream_id.as_deref(), *latency_ms)?;
            chain.detect(&source, streamed, tail)?;
        }
    }
    chain.play(|| Failure::new(SkipReason::Unreadable, "it cannot be opened"))?;
    // It takes nothing before it plays.
    let heard = Arc::clone(hear);
    let pump = pump.map(|pump| pump.start(&chain, move || heard(Heard::Alive))).transpose()?;
    Ok(Stream { _pump: pump, _chain: chain })
}

/// What a stream of bytes may be: as a file, or pictures in the parts of a web page.
fn streamed(caps: &gst::CapsRef) -> Container {
    match caps.structure(0).map(|structure| structure.name().as_str()) {
        Some("multipart/x-mixed-replace") => Container::Demux("multipartdemux"),
        _ => tables::container(caps),
    }
}

fn rtsp(chain: &Chain, place: &Place, tail: Tail) -> Result<(), Failure> {
    let Place::Rtsp { location, login, udp, latency_ms, patience_secs } = place else { return Ok(()) };
    let source = element("rtspsrc", tables::GOOD)?;
    source.set_property("location", location);
    source.set_property("user-id", &login.user);
    source.set_property("user-pw", login.password.as_ref().map(Secret::reveal));
    source.set_property_from_str("protocols", if *udp { "udp" } else { "tcp" });
    source.set_property("latency", latency_ms);
    source.set_property("tcp-timeout", (patience_secs * 1e6) as u64);
    // Another transport than the one that was asked for is not tried; silence is noticed by the feed.
    source.set_property("timeout", 0u64);
    source.set_property("udp-reconnect", false);
    let taken = AtomicBool::new(false);
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2)?.get::<gst::Caps>().ok()?;
        Some((is_video(&caps) && !taken.swap(true, Ordering::AcqRel)).to_value())
    });
    stay(&source, &chain.status);
    add(chain.pipeline(), &[&source])?;
    let (pipeline, status, tail) = (chain.pipeline().downgrade(), Arc::clone(&chain.status), Arc::new(tail));
    let all = Arc::clone(&status);
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let site = Site { pipeline: &pipeline, status: &status, tail: &tail };
        if let Some(Err(failure)) = status.while_open(|| unpack(site, pad)) {
            status.fail(failure);
        }
    });
    source.connect_no_more_pads(move |_| {
        let is_silent = all.found().video.is_none();
        if is_silent {
            all.fail(Failure::new(SkipReason::NoVideo, "the server offers no video"));
        }
    });
    Ok(())
}

/// Sends nothing, password included, to a place that a server points to: `rtspsrc` would follow.
fn stay(source: &gst::Element, status: &Arc<Status>) {
    let (asked, status) = (source.property::<Option<String>>("location"), Arc::clone(status));
    source.connect("before-send", false, move |values| {
        let source = values.first()?.get::<gst::Element>().ok()?;
        let is_same = source.property::<Option<String>>("location") == asked;
        if !is_same {
            status.fail(errors::elsewhere());
        }
        Some(is_same.to_value())
    });
}

fn is_video(caps: &gst::CapsRef) -> bool {
    caps.structure(0)
        .is_some_and(|structure| structure.get::<&str>("media").is_ok_and(|media| media == "video"))
}

/// The element that takes this format out of its packets, and what comes out.
fn unpacker(encoding: &str) -> Option<(&'static str, &'static str)> {
    Some(match encoding {
        "H264" => ("rtph264depay", "video/x-h264"),
        "H265" => ("rtph265depay", "video/x-h265"),
        "JPEG" => ("rtpjpegdepay", "image/jpeg"),
        "MP4V-ES" => ("rtpmp4vdepay", "video/mpeg"),
        "VP8" => ("rtpvp8depay", "video/x-vp8"),
        "VP9" => ("rtpvp9depay", "video/x-vp9"),
        _ => return None,
    })
}

/// Takes the video out of its packets.
fn unpack(site: Site<'_>, pad: &gst::Pad) -> Result<(), Failure> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    if !is_video(&caps) || site.status.found().video.is_some() {
        return Ok(());
    }
    let structure = caps.structure(0).ok_or_else(|| broken("packets without a format"))?;
    let encoding = structure.get::<&str>("encoding-name").unwrap_or("unknown");
    let (name, media) = unpacker(encoding).ok_or_else(|| {
        let message = format!("the camera sends {encoding:?}, which is not read; set it to H.264 or H.265");
        Failure::new(SkipReason::NoDecoder, message)
    })?;
    let unpack = element(name, tables::GOOD)?;
    add(site.pipeline, &[&unpack])?;
    let end = |name| unpack.static_pad(name).expect("these have both pads");
    pad.link(&end("sink")).map_err(|error| broken(format!("{error:?}")))?;
    let mut format = gst::Caps::builder(media);
    if media == "video/mpeg" {
        format = format.field("mpegversion", 4).field("systemstream", false);
    }
    site.hang(&end("src"), &format.build(), "")?;
    unpack.sync_state_with_parent().map_err(broken)
}

fn camera(
    chain: &Chain,
    device: &str,
    size: Option<(u32, u32)>,
    fps: Option<u32>,
    tail: Tail,
) -> Result<(), Failure> {
    let source = element("v4l2src", tables::GOOD)?;
    source.set_property("device", device);
    let mut wanted = gst::Caps::new_empty();
    for kind in ["video/x-raw", "image/jpeg"] {
        let mut structure = gst::Structure::builder(kind);
        if let Some((width, height)) = size {
            structure = structure.field("width", width as i32).field("height", height as i32);
        }
        if let Some(fps) = fps {
            structure = structure.field("framerate", gst::Fraction::new(fps as i32, 1));
        }
        wanted.make_mut().append_structure(structure.build());
    }
    let filter = element("capsfilter", tables::BASE)?;
    filter.set_property("caps", wanted);
    add(chain.pipeline(), &[&source, &filter])?;
    source.link(&filter).map_err(broken)?;
    let (pipeline, status, tail) = (chain.pipeline().downgrade(), Arc::clone(&chain.status), Arc::new(tail));
    on_first_caps(&filter.static_pad("src").expect("a filter has a source pad"), move |pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let site = Site { pipeline: &pipeline, status: &status, tail: &tail };
        if let Some(Err(failure)) = status.while_open(|| site.hang(pad, &caps, "v4l2src")) {
            status.fail(failure);
        }
    });
    Ok(())
}

pub(super) fn http(location: &str, login: &Login, patience_secs: f64) -> Result<gst::Element, Failure> {
    let source = element("souphttpsrc", tables::GOOD)?;
    source.set_property("location", location);
    source.set_property("user-id", &login.user);
    source.set_property("user-pw", login.password.as_ref().map(Secret::reveal));
    // A server could point to any other place, inside the network too.
    source.set_property("automatic-redirect", false);
    source.set_property("is-live", true);
    source.set_property("keep-alive", false);
    source.set_property("retries", 0i32);
    source.set_property("timeout", (patience_secs.ceil() as u32).max(1));
    Ok(source)
}

fn srt(
    location: &str,
    password: Option<&Secret>,
    stream_id: Option<&str>,
    latency_ms: u32,
) -> Result<gst::Element, Failure> {
    let source = element("srtsrc", tables::BAD)?;
    source.set_property("uri", location);
    source.set_property_from_str("mode", "caller");
    source.set_property("latency", latency_ms as i32);
    source.set_property("auto-reconnect", false);
    if let Some(password) = password {
        source.set_property("passphrase", password.reveal());
    }
    if let Some(stream_id) = stream_id {
        source.set_property("streamid", stream_id);
    }
    Ok(source)
}

/// `[parser] ! decoder ! videoconvert ! filter ! end` behind the video track, with a guard on both sides of the
/// decoder.
fn tail(hear: Hear, status: Arc<Status>) -> Tail {
    Box::new(move |pipeline, pad, caps, container| {
        let mut line: Vec<gst::Element> = Vec::new();
        if let Some(name) = tables::parser(caps, container) {
            line.push(element(name, tables::BAD)?);
        }
        let is_raw = caps.structure(0).is_some_and(|structure| structure.name() == "video/x-raw");
        if !is_raw {
            let units = line.last().and_then(|parser| parser.static_pad("src"));
            guard_units(units.as_ref().unwrap_or(pad), &hear, &status);
            let decoder = tables::decoder(caps)?;
            guard_pictures(&decoder.static_pad("src").expect("decoders have a source pad"), &hear, &status);
            line.push(decoder);
        }
        line.push(element("videoconvert", tables::BASE)?);
        let filter = element("capsfilter", tables::BASE)?;
        filter.set_property("caps", picture::accepted());
        line.push(filter);
        line.push(end(tables::codec(caps), &hear, &status).upcast());
        let elements: Vec<&gst::Element> = line.iter().collect();
        add(pipeline, &elements)?;
        gst::Element::link_many(&elements).map_err(broken)?;
        // From the end, so that nothing flows into an element that is not ready.
        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(broken)?;
        }
        let input = line[0].static_pad("sink").expect("all of these have a sink pad");
        pad.link(&input).map_err(|error| broken(format!("{error:?}")))?;
        Ok(())
    })
}

/// In front of the decoder: refuses pictures above the limit before they are decoded, and keeps back what leans on
/// frames that are not there: everything before a key frame, at the start and wherever something was lost.
fn guard_units(pad: &gst::Pad, hear: &Hear, status: &Arc<Status>) {
    let (hear, status) = (Arc::clone(hear), Arc::clone(status));
    let (began, needs_key) = (AtomicBool::new(false), AtomicBool::new(true));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => check_caps(event, &status),
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let flags = buffer.flags();
                if flags.contains(gst::BufferFlags::DISCONT) {
                    needs_key.store(true, Ordering::Relaxed);
                }
                if !flags.contains(gst::BufferFlags::DELTA_UNIT) {
                    needs_key.store(false, Ordering::Relaxed);
                    began.store(true, Ordering::Relaxed);
                } else if needs_key.load(Ordering::Relaxed) {
                    let is_start = !began.load(Ordering::Relaxed);
                    hear(if is_start { Heard::BeforeKey } else { Heard::Damaged });
                    return gst::PadProbeReturn::Drop;
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Behind the decoder: what it marked as damaged goes no further.
fn guard_pictures(pad: &gst::Pad, hear: &Hear, status: &Arc<Status>) {
    let (hear, status) = (Arc::clone(hear), Arc::clone(status));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => check_caps(event, &status),
            Some(gst::PadProbeData::Buffer(buffer))
                if buffer.flags().contains(gst::BufferFlags::CORRUPTED) =>
            {
                hear(Heard::Damaged);
                return gst::PadProbeReturn::Drop;
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn check_caps(event: &gst::Event, status: &Status) {
    let gst::EventView::Caps(caps) = event.view() else { return };
    let (width, height) = chain::size_in(caps.caps()).unwrap_or_default();
    if let Err(failure) = status.check_size(width, height) {
        status.fail(failure);
    }
}

/// The end of the line: copies pictures out, on the decoder's thread.
fn end(codec: String, hear: &Hear, status: &Arc<Status>) -> AppSink {
    let sink = AppSink::builder().sync(false).async_(false).max_buffers(WAITING).build();
    let (on_picture, on_end) = (Arc::clone(hear), Arc::clone(status));
    let (status, begun) = (Arc::clone(status), AtomicBool::new(false));
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if !begun.swap(true, Ordering::AcqRel) {
                    on_picture(Heard::Format(codec.clone(), status.found().orientation));
                }
                on_picture(copy(&sample));
                Ok(gst::FlowSuccess::Ok)
            })
            // A live source has no end: whoever says so has lost it.
            .eos(move |_| on_end.fail(errors::ended()))
            .build(),
    );
    sink
}

/// When a picture is to be shown; one over the edge of the segment counts from the edge on.
fn running_time(sample: &gst::Sample, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let start = buffer.pts()?;
    let (start, _) = segment.clip(start, buffer.duration().map(|duration| start + duration))?;
    segment.to_running_time(start?)
}

/// The picture of a sample, with its running time.
fn copy(sample: &gst::Sample) -> Heard {
    let picture = || {
        let caps = sample.caps().ok_or_else(|| broken("a picture without a format"))?;
        let buffer = sample.buffer().ok_or_else(|| broken("a sample without a picture"))?;
        let time = running_time(sample, buffer);
        let meaning = picture::meaning(caps)?;
        let copied = picture::show(buffer, &meaning, 0, |frame| frame.to_picture())?;
        Ok::<_, Failure>(Heard::Picture(copied, time.map(gst::ClockTime::nseconds)))
    };
    picture().unwrap_or(Heard::Damaged)
}
