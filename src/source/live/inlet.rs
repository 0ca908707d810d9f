//! What comes from a connection, and the way it takes to the feed's own thread.
//!
//! A connection calls an [`Inlet`] from whatever threads it has. Behind it is a channel of few places. A full channel
//! makes a source wait: as long as it takes where it can, a moment where it cannot. Then the frame is left out and
//! counted, and the next one begins a new segment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use reelflow_api::error::{Skip, SkipReason};
use reelflow_api::item::{Orientation, Picture};

use crate::edge::clock;

/// Pictures on their way to the feed's thread. It only sorts them, so more than a few wait only where it is held up.
const WAITING: usize = 8;

/// How long a camera may be held up: GStreamer and the network hold some seconds for it.
pub const HOLD: Duration = Duration::from_secs(1);

/// Frames that came when [`WAITING`] others had not been looked at.
pub const OVERRUN: &str = "overrun";
/// Frames that cannot be decoded because no key frame came before them.
pub const BEFORE_KEY: &str = "before_key";
/// Frames that the decoder marked as damaged, or that lean on lost ones.
pub const DAMAGED: &str = "damaged";
/// Frames between two breaks that are too few for a segment.
pub const TOO_SHORT: &str = "too_short";
/// Frames above the rate that was asked for.
pub const OVER_MAX_FPS: &str = "over_max_fps";

/// What all pictures of a stretch have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    /// Name for people.
    pub name: String,
    /// Short codec name.
    pub codec: String,
    /// How pictures must be turned.
    pub orientation: Orientation,
    /// Class.
    pub label: Option<Arc<str>>,
    /// Recording or camera.
    pub group: Option<Arc<str>>,
    /// `train`, `test`.
    pub split: Option<Arc<str>>,
    /// Tells its segments from all others of the source, ever.
    pub salt: String,
}

/// A picture as it came.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The picture; its time is set later.
    pub picture: Picture,
    /// Nanoseconds, as the stream says; streams may say nothing, or nonsense.
    pub time: Option<u64>,
    /// Nanoseconds since the feed was started.
    pub arrival: u64,
    /// Frames before it are missing.
    pub after_gap: bool,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// From the closed list.
    pub reason: SkipReason,
    /// One line, without secrets.
    pub message: String,
    /// Trying again at once would change nothing, or lock a user out.
    pub is_lasting: bool,
}

/// What comes from a connection.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// What the pictures from here on are.
    Format(Arc<Format>),
    /// A picture.
    Frame(Incoming),
    /// A part that cannot be used; the rest goes on.
    Skipped(Skip),
    /// The connection is over; the source may come back.
    Fault(Fault),
    /// The source is over.
    Finished,
}

/// What connections count on their own threads.
#[derive(Debug, Default)]
pub struct Side {
    left_out: Mutex<BTreeMap<&'static str, u64>>,
    /// When the last of them came, nanoseconds since the start, plus 1; 0 for never.
    seen: AtomicU64,
}

impl Side {
    /// Frames left out so far, by reason.
    #[must_use]
    pub fn left_out(&self) -> BTreeMap<&'static str, u64> {
        // Plain numbers: a panic elsewhere leaves them whole.
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the last of them came, nanoseconds since the start.
    #[must_use]
    pub fn seen(&self) -> Option<u64> {
        self.seen.load(Ordering::Acquire).checked_sub(1)
    }

    /// Counts a frame that is in no segment.
    pub fn leave_out(&self, why: &'static str) {
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }
}

/// Where a connection puts what comes.
#[derive(Clone)]
pub struct Inlet {
    arrivals: Sender<Arrival>,
    side: Arc<Side>,
    gap: Arc<AtomicBool>,
    started: Instant,
    hold: Option<Duration>,
}

impl Inlet {
    /// An inlet and its outlet. `started` is when the feed was started; `hold` is how long the source may be held up,
    /// `None` for ever.
    #[must_use]
    pub fn new(side: &Arc<Side>, started: Instant, hold: Option<Duration>) -> (Self, Receiver<Arrival>) {
        let (arrivals, outlet) = bounded(WAITING);
        let inlet = Self { arrivals, side: Arc::clone(side), gap: Arc::default(), started, hold };
        (inlet, outlet)
    }

    fn now(&self) -> u64 {
        u64::try_from(clock::now().saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Says what the pictures from here on are. Whether anybody still listens.
    pub fn format(&self, format: Format) -> bool {
        self.arrivals.send(Arrival::Format(Arc::new(format))).is_ok()
    }

    /// Hands a picture on. Whether anybody still listens.
    pub fn frame(&self, picture: Picture, time: Option<u64>) -> bool {
        let after_gap = self.gap.swap(false, Ordering::AcqRel);
        let frame = Arrival::Frame(Incoming { picture, time, arrival: self.now(), after_gap });
        let Some(hold) = self.hold else { return self.arrivals.send(frame).is_ok() };
        match self.arrivals.send_timeout(frame, hold) {
            Ok(()) => true,
            Err(SendTimeoutError::Timeout(_)) => {
                self.lose(OVERRUN);
                true
            }
            Err(SendTimeoutError::Disconnected(_)) => false,
        }
    }

    /// Something came that is no picture yet.
    pub fn alive(&self) {
        self.side.seen.store(self.now() + 1, Ordering::Release);
    }

    /// Counts a frame that cannot be used; the next one does not follow the last.
    pub fn lose(&self, why: &'static str) {
        self.side.leave_out(why);
        self.alive();
        self.gap.store(true, Ordering::Release);
    }

    /// A part that cannot be used; the rest goes on.
    pub fn skip(&self, skip: Skip) -> bool {
        self.arrivals.send(Arrival::Skipped(skip)).is_ok()
    }

    /// The connection is over.
    pub fn fault(&self, fault: Fault) {
        // Nobody listens: then it is over already.
        let _ = self.arrivals.send(Arrival::Fault(fault));
    }

    /// The source is over.
    pub fn finish(&self) {
        let _ = self.arrivals.send(Arrival::Finished);
    }
}

/// What makes connections.
pub trait Door: Send {
    /// Begins to connect and returns at once; all that comes of it goes to `inlet`. Dropping the result closes it.
    /// `connection` counts from 0.
    fn open(&mut self, connection: u64, inlet: Inlet) -> Box<dyn Send>;

    /// The address or place, without secrets.
    fn shown(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pattern::picture;

    #[test]
    fn a_camera_is_not_held_up_and_what_is_left_out_is_counted() {
        let side = Arc::new(Side::default());
        let (inlet, outlet) = Inlet::new(&side, clock::now(), Some(Duration::ZERO));
        assert_eq!(side.seen(), None);
        for number in 0..WAITING as u64 + 3 {
            assert!(inlet.frame(picture(1, number, 4, 2), Some(number)));
        }
        assert_eq!(side.left_out(), BTreeMap::from([(OVERRUN, 3)]));
        assert!(side.seen().is_some());
        let gaps = |arrivals: Vec<Arrival>| -> Vec<bool> {
            let gap = |arrival| match arrival {
                Arrival::Frame(frame) => frame.after_gap,
                other => panic!("{other:?}"),
            };
            arrivals.into_iter().map(gap).collect()
        };
        assert_eq!(gaps(outlet.try_iter().collect()), [false; WAITING]);
        inlet.frame(picture(1, 0, 4, 2), None);
        inlet.frame(picture(1, 0, 4, 2), None);
        assert_eq!(gaps(outlet.try_iter().collect()), [true, false]);
        drop(outlet);
        assert!(!inlet.frame(picture(1, 0, 4, 2), None));
    }
}
