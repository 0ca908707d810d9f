//! Says what of GStreamer is installed, and which Debian package brings what is missing.

use gstreamer as gst;
use gstreamer::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::tables::{BAD, BASE, DECODERS, GOOD, LIBAV, UGLY};

/// What people call it, the elements of which one is enough, and the package.
const WANTED: [(&str, &[&str], &str); 17] = [
    ("conversion", &["videoconvert"], BASE),
    ("mp4, mov", &["qtdemux"], GOOD),
    ("mkv, webm", &["matroskademux"], GOOD),
    ("avi", &["avidemux"], GOOD),
    ("MPEG-TS, MPEG-PS", &["tsdemux", "mpegpsdemux"], BAD),
    ("ogg", &["oggdemux"], BASE),
    ("asf, wmv", &["asfdemux"], UGLY),
    ("parsers", &["h264parse", "h265parse"], BAD),
    ("h264", &["avdec_h264", "openh264dec"], LIBAV),
    ("h265", &["avdec_h265", "libde265dec"], LIBAV),
    ("vp8", &["vp8dec"], GOOD),
    ("vp9", &["vp9dec"], GOOD),
    ("av1", &["dav1ddec", "av1dec"], BAD),
    ("mpeg4", &["avdec_mpeg4"], LIBAV),
    ("mpeg2", &["avdec_mpeg2video", "mpeg2dec"], LIBAV),
    ("mjpeg", &["jpegdec", "avdec_mjpeg"], GOOD),
    ("h264 encoder (for `synth`)", &["x264enc", "openh264enc"], UGLY),
];

/// One line a need: what it is, whether it is there, and which element gives it or what to install.
#[must_use]
pub fn doctor() -> Vec<(String, bool, String)> {
    if let Err(failure) = super::init() {
        return vec![("gstreamer".to_owned(), false, failure.message)];
    }
    let mut lines = vec![("gstreamer".to_owned(), true, gst::version_string().to_string())];
    for (what, elements, package) in WANTED {
        let there = elements.iter().find(|name| gst::ElementFactory::find(name).is_some());
        lines.push(match there {
            Some(name) => (what.to_owned(), true, (*name).to_owned()),
            None => (what.to_owned(), false, format!("apt install {package}")),
        });
    }
    let count = DECODERS.iter().filter(|(name, _)| gst::ElementFactory::find(name).is_some()).count();
    let note = format!("{count} of {} known video decoders", DECODERS.len());
    lines.push(("decoders".to_owned(), count > 0, note));
    lines
}

/// GStreamer's version with a hash over everything installed that may take a file apart or decode it.
#[must_use]
pub fn maker() -> String {
    if super::init().is_err() {
        return "no GStreamer".to_owned();
    }
    let kinds =
        gst::ElementFactoryType::DEMUXER | gst::ElementFactoryType::PARSER | gst::ElementFactoryType::DECODER;
    let factories = gst::ElementFactory::factories_with_type(kinds, gst::Rank::NONE);
    let mut parts: Vec<String> = factories
        .iter()
        .map(|factory| {
            let version = factory.plugin().map(|plugin| plugin.version().to_string()).unwrap_or_default();
            format!("{} {version} {}", factory.name(), i32::from(factory.rank()))
        })
        .collect();
    parts.sort();
    format!("{} {:016x}", gst::version_string(), xxh3_64(parts.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_comes_first_and_a_missing_part_names_its_package() {
        let lines = super::doctor();
        assert!(lines[0].2.contains("GStreamer"), "{:?}", lines[0]);
        for (what, there, text) in lines {
            assert!(there || text.contains("apt install gstreamer1.0-"), "{what}: {text}");
        }
    }
}
