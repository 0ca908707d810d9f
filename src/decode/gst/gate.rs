//! Stands behind the decoder and lets wanted pictures pass; the rest is dropped on the spot.
//!
//! Dropping there, on the streaming thread, saves copying, converting and waking for pictures that
//! nobody wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::chain;
use super::status::Status;

/// What a picture is known by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mark {
    /// Stream time in nanoseconds, for files with an index.
    Time,
    /// How many pictures came before it, for all others.
    Count,
}

/// The wanted marks, lowest and highest of each, increasing and not overlapping.
pub(super) type Wanted = VecDeque<(u64, u64)>;

/// Which pictures pass.
#[derive(Debug)]
pub(super) struct State {
    by: Mark,
    /// Still to pass; `None` drops everything.
    wanted: Option<Wanted>,
    /// Takes the place of `wanted` when a flushing seek has emptied the pipeline.
    after_flush: Option<Wanted>,
    /// Marks of the pictures that passed and were not taken yet.
    passed: VecDeque<u64>,
    /// Pictures seen since the start.
    count: u64,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// Marks of all pictures, if asked for: `None` for a picture without a time.
    pub seen: Option<Vec<Option<u64>>>,
    /// Sizes of the pictures, each with the number of pictures before the first of that size.
    pub sizes: Vec<(u64, (u32, u32))>,
}

impl State {
    /// Whether the picture with this mark passes.
    ///
    /// Behind the last wanted picture everything passes: the queue after the gate fills, and the decoder
    /// stops there. A picture that comes instead of a wanted one passes too, as the proof of the gap.
    fn judge(&mut self, mark: u64) -> bool {
        let Some(wanted) = &mut self.wanted else { return false };
        let mut skipped = false;
        while wanted.front().is_some_and(|&(_, high)| high < mark) {
            wanted.pop_front();
            skipped = true;
        }
        let passes = match wanted.front() {
            Some(&(low, _)) if low <= mark => {
                wanted.pop_front();
                true
            }
            Some(_) => skipped,
            None => true,
        };
        if passes {
            self.passed.push_back(mark);
        }
        passes
    }

    /// Pictures seen since the start.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Wants these from now on, without emptying the pipeline.
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted = Some(wanted);
    }

    /// Drops everything until the next flush, then wants these.
    pub fn want_after_flush(&mut self, wanted: Wanted) {
        self.wanted = None;
        self.after_flush = Some(wanted);
    }

    /// Mark of the next picture out of the queue.
    pub fn take_mark(&mut self) -> Option<u64> {
        self.passed.pop_front()
    }

    fn flushed(&mut self) {
        self.passed.clear();
        if let Some(wanted) = self.after_flush.take() {
            self.wanted = Some(wanted);
        }
    }
}

/// Shared between the streaming thread and the reader.
#[derive(Clone)]
pub(super) struct Gate(Arc<Mutex<State>>);

impl Gate {
    /// A gate that lets everything pass until something is wanted: the queue behind it fills and the
    /// decoder stops at the first pictures, so none is lost before the first request.
    /// `collect` notes every picture's time and lets none pass.
    pub fn new(by: Mark, collect: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            by,
            wanted: (!collect).then(Wanted::new),
            after_flush: None,
            passed: VecDeque::new(),
            count: 0,
            segment: None,
            seen: collect.then(Vec::new),
            sizes: Vec::new(),
        })))
    }

    /// A panic elsewhere leaves plain data behind, so poison is ignored.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the gate on the pad that gives decoded pictures.
    pub fn guard(&self, pad: &gst::Pad, clock: Clock, status: &Arc<Status>) {
        let (gate, status) = (self.clone(), Arc::clone(status));
        let mask =
            gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(mask, move |_, info| match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                status.advance();
                if gate.passes(buffer, clock) { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
            }
            Some(gst::PadProbeData::Event(event)) => {
                gate.listen(event, &status);
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Ok,
        });
    }

    fn passes(&self, buffer: &gst::Buffer, clock: Clock) -> bool {
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            return false;
        }
        let mut state = self.state();
        let count = state.count;
        state.count += 1;
        let time = clock.time(state.segment.as_ref(), buffer);
        if let Some(seen) = &mut state.seen {
            seen.push(time);
        }
        match (state.by, time) {
            (Mark::Count, _) => state.judge(count),
            (Mark::Time, Some(time)) => state.judge(time),
            (Mark::Time, None) => false,
        }
    }

    fn listen(&self, event: &gst::Event, status: &Arc<Status>) {
        match event.view() {
            gst::EventView::Caps(caps) => {
                let Some((width, height)) = chain::size_in(caps.caps()) else { return };
                if let Err(failure) = status.check_size(width, height) {
                    status.fail(failure);
                }
                let mut state = self.state();
                let count = state.count;
                if state.sizes.last().is_none_or(|(_, size)| *size != (width, height)) {
                    state.sizes.push((count, (width, height)));
                }
            }
            gst::EventView::Segment(segment) => {
                self.state().segment = segment.segment().downcast_ref::<gst::ClockTime>().cloned();
            }
            gst::EventView::FlushStop(_) => {
                // An end of the stream before the seek is none any more.
                status.found().ended = false;
                self.state().flushed();
            }
            _ => {}
        }
    }
}

/// How the time of a picture is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clock {
    /// Stream time. Buffer times are not stream times: with B-frames an mp4's first picture has a time
    /// above 0, and its edit list, which takes that off, is in the segment.
    Stream,
    /// The time stored in the file. Matroska has no edit lists, and `matroskademux` changes the origin of
    /// stream time on the way when sound starts before the pictures (GStreamer 1.22).
    Stored,
}

impl Clock {
    /// The clock for files of this demuxer.
    pub fn of(container: &str) -> Self {
        if container == "matroskademux" { Self::Stored } else { Self::Stream }
    }

    /// Presentation time of `buffer` in nanoseconds; `None` outside the segment or without a time.
    ///
    /// A picture over the segment's edge counts from the edge on, which is what GStreamer's decoders make
    /// of it.
    pub fn time(
        self,
        segment: Option<&gst::FormattedSegment<gst::ClockTime>>,
        buffer: &gst::BufferRef,
    ) -> Option<u64> {
        let start = buffer.pts()?;
        if self == Self::Stored {
            return Some(start.nseconds());
        }
        let stop = buffer.duration().map(|duration| start + duration);
        let (start, _) = segment?.clip(start, stop)?;
        segment?.to_stream_time(start?).map(gst::ClockTime::nseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(wanted: &[(u64, u64)], marks: &[u64]) -> Vec<u64> {
        let gate = Gate::new(Mark::Time, false);
        gate.state().want(wanted.iter().copied().collect());
        let mut state = gate.state();
        marks.iter().copied().filter(|&mark| state.judge(mark)).collect()
    }

    #[test]
    fn wanted_pictures_pass_and_what_follows_the_last() {
        assert_eq!(passing(&[(9, 11), (29, 31)], &[0, 10, 20, 30, 40, 50]), [10, 30, 40, 50]);
    }

    #[test]
    fn a_picture_in_place_of_a_wanted_one_passes_as_proof() {
        assert_eq!(passing(&[(9, 11), (39, 41)], &[0, 20, 30, 40]), [20, 40]);
    }

    #[test]
    fn after_a_seek_only_new_pictures_count() {
        let gate = Gate::new(Mark::Time, false);
        let mut state = gate.state();
        state.want_after_flush([(9, 11)].into());
        assert!(!state.judge(10), "an old picture, before the flush");
        state.flushed();
        assert!(state.judge(10));
        assert_eq!((state.take_mark(), state.take_mark()), (Some(10), None));
    }
}
