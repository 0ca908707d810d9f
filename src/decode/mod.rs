//! Gives exactly the frames a window wants.
//!
//! Order, times and the end of a stream are the decoder's promise: frames come in increasing time, one
//! for each wanted position, or the call fails with a reason.

pub mod ahead;
pub mod bytes;
pub mod chunk;
pub mod feed;
#[cfg(feature = "gst")]
pub mod gst;
pub mod pattern;
pub mod plan;
pub mod playlist;
pub mod promise;
pub mod recorded;
pub mod reference;

use std::path::Path;
#[cfg(feature = "gst")]
use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Frame, Media, Origin, Picture};
use reelflow_api::stage::Limits;

use self::bytes::Bytes;

/// Why a medium, or a window of it, cannot be decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// From the closed list.
    pub reason: SkipReason,
    /// What was seen and what would help, one line.
    pub message: String,
    /// Media time in seconds, if it has a place.
    pub at_secs: Option<f64>,
}

impl Failure {
    /// A failure without a place in time.
    pub fn new(reason: SkipReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), at_secs: None }
    }

    /// Adds the media time in nanoseconds at which it happened.
    #[must_use]
    pub fn at(mut self, time: u64) -> Self {
        self.at_secs = Some(time as f64 / 1e9);
        self
    }
}

/// A decoder with one owner; reused from request to request.
pub trait Decoder: Send {
    /// Shows `take` the pictures at the positions `wanted` of `media.times`, each with its index in `wanted`,
    /// which is strictly increasing. They may come in any order, and one may come again. Gives the number of
    /// pictures that had to be decoded for them.
    ///
    /// # Errors
    /// If one of them cannot be had; others may have been shown by then.
    fn decode(&mut self, media: &Media, wanted: &[u32], take: &mut Take<'_>) -> Result<u64, Failure>;
}

/// Looks at a picture, given with its index among the wanted ones.
pub type Take<'t> = dyn FnMut(usize, &Frame<'_>) + 't;

/// Copies of the pictures at the positions `wanted`, which is strictly increasing.
///
/// # Errors
/// If one of them cannot be had.
pub fn pictures(decoder: &mut dyn Decoder, media: &Media, wanted: &[u32]) -> Result<Vec<Picture>, Failure> {
    let mut copies: Vec<Option<Picture>> = vec![None; wanted.len()];
    decoder.decode(media, wanted, &mut |index, frame| copies[index] = Some(frame.to_picture()))?;
    Ok(copies.into_iter().map(|copy| copy.expect("a decoder shows every wanted picture or fails")).collect())
}

/// A decoder for every [`Origin`] this build knows.
#[must_use]
pub fn decoder() -> Box<dyn Decoder> {
    Box::new(ByOrigin::default())
}

/// Hands each request to the decoder that knows its origin.
#[derive(Default)]
struct ByOrigin {
    pattern: pattern::PatternDecoder,
    #[cfg(feature = "gst")]
    file: gst::FileDecoder,
}

impl Decoder for ByOrigin {
    fn decode(&mut self, media: &Media, wanted: &[u32], take: &mut Take<'_>) -> Result<u64, Failure> {
        match &media.origin {
            Origin::Pattern { .. } => self.pattern.decode(media, wanted, take),
            Origin::Recorded(recording) => recorded::show(recording, wanted, take),
            #[cfg(feature = "gst")]
            Origin::File(_) | Origin::Member(_) => self.file.decode(media, wanted, take),
            #[cfg(not(feature = "gst"))]
            Origin::File(_) | Origin::Member(_) => Err(no_gstreamer()),
        }
    }
}

/// Looks at a medium: size, codec, frame times, key frames.
///
/// A file is read once from end to end, but decoded only where its container has no usable frame times.
///
/// # Errors
/// With the reason why it cannot be used.
pub fn probe(origin: &Origin) -> Result<Media, Failure> {
    probe_within(origin, &Limits::default())
}

/// As [`probe`], with limits. What can be used of a damaged file is used: the rest is in [`Media::part`].
///
/// # Errors
/// With the reason why it cannot be used.
pub fn probe_within(origin: &Origin, limits: &Limits) -> Result<Media, Failure> {
    match origin {
        Origin::Pattern { number } => return Ok(pattern::plain(*number)),
        Origin::Recorded(_) => unreachable!("a feed describes its own media"),
        Origin::File(path) => regular_file(path)?,
        Origin::Member(_) => {}
    }
    let bytes = Bytes::open(origin)?;
    if bytes.length() == 0 {
        return Err(Failure::new(SkipReason::Empty, "a file of zero bytes"));
    }
    if bytes.length() > limits.bytes {
        let message = format!("{} bytes are more than the {} that are allowed", bytes.length(), limits.bytes);
        return Err(Failure::new(SkipReason::Limit, message));
    }
    reference::refuse(&bytes)?;
    bytes.check(origin)?;
    #[cfg(feature = "gst")]
    return gst::probe(origin, &Arc::new(bytes), limits);
    #[cfg(not(feature = "gst"))]
    Err(no_gstreamer())
}

/// Which media libraries with which parts find what [`probe`] finds: equal text, equal results.
#[must_use]
pub fn maker() -> String {
    #[cfg(feature = "gst")]
    return gst::maker();
    #[cfg(not(feature = "gst"))]
    "without media".to_owned()
}

/// What of the media libraries is there: name, whether it is there, and what to install if not.
#[must_use]
pub fn doctor() -> Vec<(String, bool, String)> {
    #[cfg(feature = "gst")]
    return gst::doctor();
    #[cfg(not(feature = "gst"))]
    vec![("gstreamer".to_owned(), false, no_gstreamer().message)]
}

#[cfg(not(feature = "gst"))]
fn no_gstreamer() -> Failure {
    Failure::new(
        SkipReason::NoDecoder,
        "this build has no GStreamer; build with the feature `gst` (it is on by default)",
    )
}

/// Refuses what is no file that can be read without blocking.
///
/// Only what passes here reaches a decoder: opening a named pipe would block for ever.
///
/// # Errors
/// `vanished`, `unreadable` or `not_regular`.
fn regular_file(path: &Path) -> Result<(), Failure> {
    let meta = std::fs::metadata(path).map_err(bytes::refused)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "a pipe, socket or device" };
        return Err(Failure::new(SkipReason::NotRegular, format!("{what}, not a regular file")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_with_content_reach_a_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |name: &str| probe(&Origin::File(folder.path().join(name))).unwrap_err().reason;
        std::fs::write(folder.path().join("empty.mp4"), "").unwrap();
        std::fs::create_dir(folder.path().join("folder.mp4")).unwrap();
        let pipe = folder.path().join("pipe.mp4");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.mp4")).unwrap();
        assert_eq!(reason("empty.mp4"), SkipReason::Empty);
        assert_eq!(reason("folder.mp4"), SkipReason::NotRegular);
        assert_eq!(reason("pipe.mp4"), SkipReason::NotRegular);
        assert_eq!(reason("link.mp4"), SkipReason::Vanished);
        assert_eq!(reason("none.mp4"), SkipReason::Vanished);
    }

    #[test]
    fn one_decoder_serves_every_origin() {
        let media = probe(&Origin::Pattern { number: 4 }).unwrap();
        assert_eq!(pictures(decoder().as_mut(), &media, &[0, 31]).unwrap().len(), 2);
    }
}
