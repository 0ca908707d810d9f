//! The newest segments of a live source, bounded in bytes.
//!
//! Full means that something has to go before more may come: the oldest, used or not, or, where the source can
//! wait, the oldest that was used. A segment that goes is told; whoever still reads it keeps it alive.

use std::collections::VecDeque;
use std::sync::Arc;

use reelflow_api::feed::Recording;
use reelflow_api::item::SegmentId;

/// A segment in memory.
struct Kept {
    id: SegmentId,
    recording: Arc<Recording>,
    frames: u64,
    bytes: u64,
}

/// See the module.
pub struct Ring {
    bytes_max: u64,
    kept: VecDeque<Kept>,
    frames: u64,
    bytes: u64,
    used: u64,
    dropped: u64,
}

impl Ring {
    /// A ring for at most `bytes_max` bytes of pictures.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: VecDeque::new(), frames: 0, bytes: 0, used: 0, dropped: 0 }
    }

    /// Whether `bytes` more would be too many.
    #[must_use]
    pub fn is_full(&self, bytes: u64) -> bool {
        !self.kept.is_empty() && self.bytes + bytes > self.bytes_max
    }

    /// Keeps a segment.
    pub fn push(&mut self, id: SegmentId, recording: Arc<Recording>) {
        let (frames, bytes) = (recording.pictures().len() as u64, recording.bytes());
        self.frames += frames;
        self.bytes += bytes;
        self.kept.push_back(Kept { id, recording, frames, bytes });
    }

    /// Lets the oldest segment go.
    pub fn drop_oldest(&mut self) -> Option<SegmentId> {
        let oldest = self.kept.pop_front()?;
        Some(self.count_out(&oldest))
    }

    /// Lets the oldest segment go of which a clip was made.
    pub fn drop_used(&mut self) -> Option<SegmentId> {
        let at = self.kept.iter().position(|kept| kept.recording.is_used())?;
        let used = self.kept.remove(at)?;
        Some(self.count_out(&used))
    }

    fn count_out(&mut self, gone: &Kept) -> SegmentId {
        self.frames -= gone.frames;
        self.bytes -= gone.bytes;
        let count = if gone.recording.is_used() { &mut self.used } else { &mut self.dropped };
        *count += gone.frames;
        gone.id
    }

    /// Segments kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Frames kept of which a clip was made.
    #[must_use]
    pub fn kept_used(&self) -> u64 {
        self.kept.iter().filter(|kept| kept.recording.is_used()).map(|kept| kept.frames).sum()
    }

    /// Frames kept, and their bytes.
    #[must_use]
    pub fn kept(&self) -> (u64, u64) {
        (self.frames, self.bytes)
    }

    /// Frames that went used, and unused.
    #[must_use]
    pub fn gone(&self) -> (u64, u64) {
        (self.used, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pattern::picture;

    /// A recording of `frames` pictures of 12 bytes.
    fn recording(frames: u64) -> Arc<Recording> {
        Arc::new(Recording::new((0..frames).map(|time| picture(1, time, 4, 2)).collect()))
    }

    #[test]
    fn the_oldest_goes_first_and_is_counted_as_what_it_was() {
        let mut ring = Ring::new(12 * 10);
        let (one, two) = (recording(3), recording(4));
        ring.push(SegmentId(1), Arc::clone(&one));
        ring.push(SegmentId(2), Arc::clone(&two));
        assert_eq!((ring.kept(), ring.is_full(12 * 3), ring.is_full(12 * 3 + 1)), ((7, 84), false, true));
        two.set_used();
        assert_eq!(ring.kept_used(), 4);
        assert_eq!(ring.drop_oldest(), Some(SegmentId(1)));
        assert_eq!(ring.drop_oldest(), Some(SegmentId(2)));
        assert_eq!((ring.drop_oldest(), ring.gone(), ring.kept()), (None, (4, 3), (0, 0)));
        assert!(!ring.is_full(u64::MAX / 2), "nothing is left to go");
    }

    #[test]
    fn where_the_source_waits_only_used_segments_go() {
        let mut ring = Ring::new(1);
        let recordings: Vec<_> = (0..3).map(recording).collect();
        for (id, recording) in recordings.iter().enumerate() {
            ring.push(SegmentId(id as u64), Arc::clone(recording));
        }
        assert_eq!(ring.drop_used(), None);
        recordings[1].set_used();
        recordings[2].set_used();
        assert_eq!(ring.drop_used(), Some(SegmentId(1)));
        assert_eq!((ring.len(), ring.gone()), (2, (1, 0)));
    }
}
