//! Frames into segments: a new one after every so many seconds, and at every break.
//!
//! Pure: what comes out depends on the frames alone. A break is a frame whose time goes back, stands still, jumps,
//! or is missing, whose size differs, before which others are missing, or that comes with a new format (another
//! codec, file or connection). No segment goes over a break, and within a segment time only increases.

use std::collections::BTreeMap;
use std::sync::Arc;

use reelflow_api::item::Picture;

use super::inlet::{Format, Incoming, OVER_MAX_FPS, TOO_SHORT};

/// A frame that comes later than this many usual intervals is a jump. Cameras lose or delay single frames; after
/// more of them, motion is no longer what it looks like.
const JUMP_INTERVALS: u64 = 4;
/// No jump is shorter, nanoseconds: delays of a busy network are no breaks.
const JUMP_MIN: u64 = 100_000_000;
/// Longest first interval, before anybody knows what is usual, nanoseconds.
const JUMP_FIRST: u64 = 2_000_000_000;

/// Which clock times of segments follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timing {
    /// The stream's own, as a file's decoder gives it.
    Media,
    /// Ours: a stretch begins when its first frame arrives, and goes on as the stream says.
    Arrival,
}

/// How to cut.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Length of a segment, nanoseconds, at least 1.
    pub segment: u64,
    /// Fewer frames are no segment.
    pub frames_min: u32,
    /// A segment is ended early before it gets larger, bytes.
    pub bytes_max: u64,
    /// Most frames a second, if there is a limit.
    pub max_fps: Option<f64>,
    /// Which clock the times follow.
    pub timing: Timing,
}

/// A finished segment's pictures.
#[derive(Debug)]
pub struct Piece {
    /// In strictly increasing time, all of one size.
    pub pictures: Vec<Picture>,
    /// What they have in common.
    pub format: Arc<Format>,
    /// Counts pieces since the format came, from 0, those that were too short as well.
    pub number: u64,
}

/// Frames that follow each other without a break.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Time of the first frame, as it came.
    first_in: u64,
    /// Time of the first frame, as it leaves.
    first_out: u64,
    /// Time of the last frame, as it came.
    last_in: u64,
    /// Time of the last frame that passed `max_fps`, counted in its intervals.
    last_slot: Option<u64>,
    /// Usual interval.
    usual: Option<u64>,
    size: (u32, u32),
    /// Which length of a segment is being filled.
    piece: u64,
}

impl Stretch {
    fn jump(&self) -> u64 {
        self.usual.map_or(JUMP_FIRST, |usual| (JUMP_INTERVALS * usual).max(JUMP_MIN))
    }

    fn goes_on_with(&self, frame: &Incoming, time: u64) -> bool {
        let follows = time > self.last_in && time - self.last_in <= self.jump();
        follows && !frame.after_gap && self.size == (frame.picture.width, frame.picture.height)
    }
}

/// Cuts; see the module.
pub struct Cutter {
    rules: Rules,
    format: Arc<Format>,
    number: u64,
    stretch: Option<Stretch>,
    /// The stream left out a time: from there on frames are timed by their arrival.
    is_timeless: bool,
    open: Vec<Picture>,
    open_bytes: u64,
    last_out: Option<u64>,
    breaks: u64,
    left_out: BTreeMap<&'static str, u64>,
}

impl Cutter {
    /// Cuts by `rules`.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            format: Arc::default(),
            number: 0,
            stretch: None,
            is_timeless: false,
            open: Vec::new(),
            open_bytes: 0,
            last_out: None,
            breaks: 0,
            left_out: BTreeMap::new(),
        }
    }

    /// What comes from here on is something else. Gives the segment that ended there.
    pub fn format(&mut self, format: Arc<Format>) -> Option<Piece> {
        let ended = self.interrupt();
        self.format = format;
        self.number = 0;
        self.is_timeless = false;
        ended
    }

    /// The stream has ended or broken here. Gives the segment that ended there.
    pub fn interrupt(&mut self) -> Option<Piece> {
        if self.stretch.take().is_some() {
            self.breaks += 1;
        }
        self.close()
    }

    /// Takes a frame. Gives the segment that ended before it.
    pub fn frame(&mut self, frame: Incoming) -> Option<Piece> {
        let mut ended = None;
        if frame.time.is_none() && !self.is_timeless {
            ended = self.interrupt();
            self.is_timeless = true;
        }
        let time = frame.time.filter(|_| !self.is_timeless).unwrap_or(frame.arrival);
        let mut stretch = match self.stretch {
            Some(stretch) if stretch.goes_on_with(&frame, time) => stretch,
            _ => {
                // The one above has nothing left to end.
                ended = self.interrupt().or(ended);
                self.begin(&frame, time)
            }
        };
        let out = stretch.first_out + (time - stretch.first_in);
        if time > stretch.last_in {
            let gap = time - stretch.last_in;
            stretch.usual = Some(stretch.usual.map_or(gap, |usual| (7 * usual + gap) / 8));
            stretch.last_in = time;
        }
        if self.is_over_rate(&mut stretch, time) {
            *self.left_out.entry(OVER_MAX_FPS).or_default() += 1;
            self.stretch = Some(stretch);
            return ended;
        }
        let piece = (out - stretch.first_out) / self.rules.segment;
        let bytes = frame.picture.planes.len() as u64;
        if piece != stretch.piece || self.open_bytes + bytes > self.rules.bytes_max {
            // Right behind a break there is nothing open.
            ended = self.close().or(ended);
            stretch.piece = piece;
        }
        self.stretch = Some(stretch);
        self.last_out = Some(self.last_out.map_or(out, |last| last.max(out)));
        self.open_bytes += bytes;
        self.open.push(Picture { time: out, ..frame.picture });
        ended
    }

    /// Breaks so far.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.breaks
    }

    /// Frames left out so far, by reason.
    #[must_use]
    pub fn left_out(&self) -> &BTreeMap<&'static str, u64> {
        &self.left_out
    }

    /// Frames of the segment that is being filled, and their bytes.
    #[must_use]
    pub fn open(&self) -> (u64, u64) {
        (self.open.len() as u64, self.open_bytes)
    }

    fn begin(&self, frame: &Incoming, time: u64) -> Stretch {
        let first_out = match self.rules.timing {
            Timing::Media => time,
            Timing::Arrival => self.last_out.map_or(frame.arrival, |last| frame.arrival.max(last + 1)),
        };
        Stretch {
            first_in: time,
            first_out,
            last_in: time,
            last_slot: None,
            usual: None,
            size: (frame.picture.width, frame.picture.height),
            piece: 0,
        }
    }

    /// Whether the frame is one too many: each interval of the highest rate, counted from the break, has room for one.
    fn is_over_rate(&self, stretch: &mut Stretch, time: u64) -> bool {
        let Some(fps) = self.rules.max_fps else { return false };
        let slot = Some(((time - stretch.first_in) as f64 / 1e9 * fps) as u64);
        std::mem::replace(&mut stretch.last_slot, slot) == slot
    }

    fn close(&mut self) -> Option<Piece> {
        let pictures = std::mem::take(&mut self.open);
        self.open_bytes = 0;
        if pictures.is_empty() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        if (pictures.len() as u64) < u64::from(self.rules.frames_min) {
            *self.left_out.entry(TOO_SHORT).or_default() += pictures.len() as u64;
            return None;
        }
        Some(Piece { pictures, format: Arc::clone(&self.format), number })
    }
}

#[cfg(test)]
#[path = "cutter_tests.rs"]
mod tests;
