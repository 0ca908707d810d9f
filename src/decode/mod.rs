//! Gives exactly the frames a window wants.
//!
//! Order, times and the end of a stream are the decoder's promise: frames come in increasing time, one
//! for each wanted position, or the call fails with a reason.

use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Frame, Media, Origin};

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

/// A decoder with one owner; reused from request to request.
pub trait Decoder: Send {
    /// Pictures at the positions `wanted` of `media.times`; `wanted` is strictly increasing, and the
    /// result has one frame for each.
    ///
    /// # Errors
    /// If one of them cannot be had.
    fn decode(&mut self, media: &Media, wanted: &[u32]) -> Result<Vec<Arc<Frame>>, Failure>;
}

/// A decoder for every [`Origin`] this build knows.
#[must_use]
pub fn decoder() -> Box<dyn Decoder> {
    unimplemented!("media")
}

/// Looks at a medium without decoding it: size, codec, frame times, key frames.
///
/// # Errors
/// With the reason why it cannot be used.
pub fn probe(origin: &Origin) -> Result<Media, Failure> {
    let _ = origin;
    unimplemented!("media")
}
