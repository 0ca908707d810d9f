//! Segments that come and go while a run goes on: what a camera's source tells, and what sinks are told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::{Skip, StageError};
use crate::item::{Picture, Segment, SegmentId};

/// Decoded pictures of a stretch of a live stream, kept in memory as long as anybody holds them.
pub struct Recording {
    pictures: Vec<Picture>,
    used: AtomicBool,
}

impl Recording {
    /// Keeps `pictures`: in strictly increasing time, all of one size.
    #[must_use]
    pub fn new(pictures: Vec<Picture>) -> Self {
        Self { pictures, used: AtomicBool::new(false) }
    }

    /// The pictures, in strictly increasing time, all of one size.
    #[must_use]
    pub fn pictures(&self) -> &[Picture] {
        &self.pictures
    }

    /// Bytes of all planes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pictures.iter().map(|picture| picture.planes.len() as u64).sum()
    }

    /// Notes that a clip was made of it.
    pub fn set_used(&self) {
        self.used.store(true, Ordering::Release);
    }

    /// Whether a clip was made of it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({} pictures)", self.pictures.len())
    }
}

/// What a feed tells, in order.
#[derive(Clone, Debug)]
pub enum News {
    /// A whole segment that can be sampled from the next catalogue version on.
    Came(Arc<Segment>),
    /// A segment that is no longer kept. What was learnt of it stays: it was not taken back by its owner.
    Left(SegmentId),
    /// A part of the stream, or all of it, that could not be used.
    Skipped(Skip),
    /// Nothing more will come.
    Ended,
}

/// Takes news from the threads of a feed; may be called from any of them.
pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// What a feed has counted since its start. Every frame received is in exactly one of used, unused, dropped and
/// kept once the feed has stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeedCounts {
    /// `connecting`, `playing`, `stalled`, `waiting` (before the next try), `ended`, `given_up`.
    pub state: &'static str,
    /// Frames that arrived, whether they could be decoded or not.
    pub frames_received: u64,
    /// Frames of segments of which at least one clip was made.
    pub frames_used: u64,
    /// Frames of segments that left before a clip was made of them, because the trainer was too slow.
    pub frames_dropped: u64,
    /// Frames that are in no segment, by reason: `too_short` (between two breaks), `before_key` (no key frame came
    /// before them), `damaged` (marked by the decoder, or leaning on a lost frame), `over_max_fps`, `overrun` (nobody
    /// took them in time).
    pub frames_left_out: BTreeMap<&'static str, u64>,
    /// Frames in memory of which no clip was made yet.
    pub frames_kept: u64,
    /// Bytes of all frames in memory, used or not.
    pub bytes_kept: u64,
    /// Segments told.
    pub segments: u64,
    /// Breaks in the stream (time jump, change of size or codec, lost connection).
    pub breaks: u64,
    /// Connections made again after the first.
    pub reconnects: u64,
    /// Why the last connection ended; empty if none has.
    pub last_reason: String,
}

impl FeedCounts {
    /// Whether every frame received is in exactly one of the other counts; holds once the feed has stopped.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        let left_out: u64 = self.frames_left_out.values().sum();
        self.frames_received == self.frames_used + self.frames_dropped + left_out + self.frames_kept
    }
}

/// A source whose media arrive while the run goes on.
pub trait Feed: Send + Sync {
    /// Starts threads of its own that tell what comes until the result is dropped.
    ///
    /// # Errors
    /// Only if no try can ever succeed (a missing element, a wrong address); a camera that is away is waited for.
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError>;

    /// How many segments must be there before the first step is planned, at least 1.
    fn start_after(&self) -> u64 {
        1
    }
}

/// A feed at work; dropping it stops its threads and waits for them.
pub trait Running: Send {
    /// What was counted so far.
    fn counts(&self) -> FeedCounts;

    /// Stops its threads and waits for them; what was counted in all, which adds up. It is dropped next.
    fn stop(&mut self) -> FeedCounts {
        self.counts()
    }
}

/// What changed in a catalogue between two steps.
#[derive(Clone, Debug, Default)]
pub struct CatalogueChange {
    /// The first step that is planned from the new version.
    pub step: u64,
    /// The new version.
    pub version: u64,
    /// New segments with their labels.
    pub added: Vec<(SegmentId, Option<Arc<str>>)>,
    /// Segments that were taken back by their owner: every trace of them has to go.
    pub removed: Vec<SegmentId>,
    /// Segments that are no longer kept; what was learnt of them stays.
    pub left: Vec<SegmentId>,
}
