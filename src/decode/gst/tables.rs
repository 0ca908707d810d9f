//! Which elements may touch a file: closed lists, by caps. What is not listed here is never made.
//!
//! `decodebin` plugs whatever is installed; a text file with a playlist in it would then open a network
//! connection. Here a detected type either has an element of ours or is refused by name.

use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;

use crate::decode::Failure;

/// What a detected file type asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Container {
    /// A demuxer takes it apart.
    Demux(&'static str),
    /// The bytes are one video track already; see [`parser`].
    Bare,
    /// Not for us.
    Refused(Failure),
}

/// Demuxers whose times and key frames come from an index in the file, so that access units tell the
/// times of pictures, and seeks are exact. All others are indexed by decoding once, and never seek.
pub(super) const INDEXED: [&str; 2] = ["qtdemux", "matroskademux"];

/// The element for a file of this type.
pub(super) fn container(caps: &gst::CapsRef) -> Container {
    let Some(structure) = caps.structure(0) else {
        return Container::Refused(Failure::new(SkipReason::NotMedia, "its type is unknown"));
    };
    let name = structure.name().as_str();
    let is_system = structure.get::<bool>("systemstream").unwrap_or(false);
    match name {
        "video/quicktime" | "application/x-3gp" | "audio/x-m4a" => Container::Demux("qtdemux"),
        "video/x-matroska" | "video/webm" | "audio/x-matroska" | "audio/webm" | "video/x-matroska-3d" => {
            Container::Demux("matroskademux")
        }
        "video/x-msvideo" => Container::Demux("avidemux"),
        "video/mpegts" => Container::Demux("tsdemux"),
        "video/mpeg" if is_system => Container::Demux("mpegpsdemux"),
        "application/ogg" | "video/ogg" | "audio/ogg" => Container::Demux("oggdemux"),
        "video/x-flv" => Container::Demux("flvdemux"),
        "video/x-ms-asf" => Container::Demux("asfdemux"),
        "video/x-ivf" => Container::Demux("ivfparse"),
        "application/x-yuv4mpeg" => Container::Demux("y4mdec"),
        "application/mxf" => Container::Demux("mxfdemux"),
        // A stream of JPEG pictures; a single one is told when it has been decoded.
        "video/x-h264" | "video/x-h265" | "video/mpeg" | "image/jpeg" => Container::Bare,
        _ if REFERENCES.contains(&name) => Container::Refused(Failure::new(
            SkipReason::UnsafeReference,
            format!(
                "it only points to other places ({name}), which is not followed; list the media themselves"
            ),
        )),
        _ if name.starts_with("audio/") => Container::Refused(no_video(name)),
        _ if name.starts_with("image/") => Container::Refused(Failure::new(
            SkipReason::NotMedia,
            format!("a picture ({name}), not video; join pictures to a video first"),
        )),
        _ => Container::Refused(Failure::new(
            SkipReason::NotMedia,
            format!("its bytes look like {name}, which is not read; convert to mp4 or mkv"),
        )),
    }
}

/// Types that are nothing but references to media elsewhere.
const REFERENCES: [&str; 9] = [
    "application/x-hls",
    "application/dash+xml",
    "application/vnd.ms-sstr+xml",
    "application/sdp",
    "application/smil",
    "application/x-shockwave-flash",
    "image/svg+xml",
    "text/uri-list",
    "text/html",
];

pub(super) fn no_video(found: &str) -> Failure {
    Failure::new(SkipReason::NoVideo, format!("no video track ({found}); leave it out of the list"))
}

/// The element that cuts this track into access units, where the container does not.
///
/// Not more often than needed: `mpeg4videoparse` takes the packed B-frames of AVI files apart so that more
/// pictures come out than went in.
pub(super) fn parser(caps: &gst::CapsRef, container: &str) -> Option<&'static str> {
    let structure = caps.structure(0)?;
    let is_stream = matches!(container, "" | "tsdemux" | "mpegpsdemux" | "mxfdemux");
    match structure.name().as_str() {
        "video/x-h264" if is_stream || container == "avidemux" => Some("h264parse"),
        "video/x-h265" if is_stream || container == "avidemux" => Some("h265parse"),
        "video/mpeg" if is_stream => match structure.get::<i32>("mpegversion") {
            Ok(1 | 2) => Some("mpegvideoparse"),
            Ok(4) => Some("mpeg4videoparse"),
            _ => None,
        },
        "image/jpeg" if container.is_empty() => Some("jpegparse"),
        _ => None,
    }
}

/// Software decoders that may be used, and the Debian package of each. `avdec_vp8` and `avdec_vp9` do
/// without: libvpx's own elements come with the packages that the demuxers need anyway.
pub(super) const DECODERS: [(&str, &str); 38] = [
    ("avdec_h264", LIBAV),
    ("openh264dec", BAD),
    ("avdec_h265", LIBAV),
    ("libde265dec", BAD),
    ("vp8dec", GOOD),
    ("vp9dec", GOOD),
    ("dav1ddec", "gstreamer1.0-plugins-rs"),
    ("av1dec", BAD),
    ("avdec_mpeg4", LIBAV),
    ("avdec_mpeg2video", LIBAV),
    ("mpeg2dec", UGLY),
    ("avdec_mpegvideo", LIBAV),
    ("jpegdec", GOOD),
    ("avdec_mjpeg", LIBAV),
    ("theoradec", BASE),
    ("avdec_msmpeg4", LIBAV),
    ("avdec_msmpeg4v1", LIBAV),
    ("avdec_msmpeg4v2", LIBAV),
    ("avdec_wmv1", LIBAV),
    ("avdec_wmv2", LIBAV),
    ("avdec_wmv3", LIBAV),
    ("avdec_vc1", LIBAV),
    ("avdec_h261", LIBAV),
    ("avdec_h263", LIBAV),
    ("avdec_flv", LIBAV),
    ("avdec_vp6", LIBAV),
    ("avdec_vp6f", LIBAV),
    ("avdec_cinepak", LIBAV),
    ("avdec_svq1", LIBAV),
    ("avdec_svq3", LIBAV),
    ("avdec_dvvideo", LIBAV),
    ("avdec_ffv1", LIBAV),
    ("avdec_huffyuv", LIBAV),
    ("avdec_ffvhuff", LIBAV),
    ("avdec_prores", LIBAV),
    ("avdec_dnxhd", LIBAV),
    ("avdec_qtrle", LIBAV),
    ("pngdec", GOOD),
];

pub(super) const BASE: &str = "gstreamer1.0-plugins-base";
pub(super) const GOOD: &str = "gstreamer1.0-plugins-good";
pub(super) const BAD: &str = "gstreamer1.0-plugins-bad";
pub(super) const UGLY: &str = "gstreamer1.0-plugins-ugly";
pub(super) const LIBAV: &str = "gstreamer1.0-libav";

/// The listed decoder of highest rank that takes these caps; of equals, the first in the list.
///
/// # Errors
/// `no_decoder`, naming the codec and what to install.
pub(super) fn decoder(caps: &gst::CapsRef) -> Result<gst::Element, Failure> {
    let best = DECODERS
        .iter()
        .filter_map(|(name, _)| gst::ElementFactory::find(name))
        .filter(|factory| factory.can_sink_any_caps(caps))
        .rev()
        .max_by_key(|factory| i32::from(factory.rank()));
    let factory = best.ok_or_else(|| {
        Failure::new(
            SkipReason::NoDecoder,
            format!("no decoder for {}; install {LIBAV} and {BAD}, or convert the file", codec(caps)),
        )
    })?;
    let element = factory.create().build().map_err(|error| {
        Failure::new(SkipReason::NoDecoder, format!("{} cannot be made: {error}", factory.name()))
    })?;
    // One thread a stream and many streams: measured faster on any number of cores, and repeatable.
    for (name, value) in [
        ("max-threads", "1"),
        ("threads", "1"),
        ("n-threads", "1"),
        // Damage must not come out as pictures: grey frames would be training data.
        ("output-corrupt", "false"),
        ("discard-corrupted-frames", "true"),
        // By default a decoder goes on for ever; a few GOPs of nothing but errors are enough.
        ("max-errors", "64"),
        ("qos", "false"),
    ] {
        set(&element, name, value);
    }
    Ok(element)
}

/// Sets a property if the element has it; versions differ.
fn set(element: &gst::Element, name: &str, value: &str) {
    if element.find_property(name).is_some() {
        element.set_property_from_str(name, value);
    }
}

/// Short codec name of a track: `h264`, `mpeg4`, `vp9`.
pub(super) fn codec(caps: &gst::CapsRef) -> String {
    let Some(structure) = caps.structure(0) else { return "unknown".to_owned() };
    let name = structure.name().as_str();
    let version = |field: &str| structure.get::<i32>(field).map(|v| v.to_string()).unwrap_or_default();
    match name {
        "video/mpeg" => format!("mpeg{}", version("mpegversion")),
        "video/x-msmpeg" => format!("msmpeg4v{}", version("msmpegversion").trim_start_matches('4')),
        "video/x-wmv" => format!("wmv{}", version("wmvversion")),
        "video/x-raw" => "raw".to_owned(),
        _ => {
            name.trim_start_matches("video/").trim_start_matches("image/").trim_start_matches("x-").to_owned()
        }
    }
}

/// Elements that reach out of the file; never made here, and ranked away for elements that plug others.
pub(super) const NETWORK: [&str; 16] = [
    "souphttpsrc",
    "curlhttpsrc",
    "neonhttpsrc",
    "giosrc",
    "giostreamsrc",
    "hlsdemux",
    "hlsdemux2",
    "dashdemux",
    "dashdemux2",
    "mssdemux",
    "mssdemux2",
    "sdpdemux",
    "sdpsrc",
    "rsvgdec",
    "uriplaylistbin",
    "rtmpsrc",
];
