//! Media that arrive while the run goes on: cameras, streams, and files played as if they were live.
//!
//! ```text
//!  connection's threads        feed's thread (drive)                     engine
//!  door ─▶ line ─▶ inlet ═══▶ cutter ─▶ ring ──────────────── tell ─────▶ Came, Left, Skipped, Ended
//!                 8 places    segments  bytes   patience: connect, stall, pause, give up
//! ```
//!
//! [`cutter`], [`ring`] and [`patience`] are pure: what they do depends on what they are told, not on a clock. Only
//! [`drive`] waits. A source gives a [`Door`](inlet::Door), which makes connections, and its settings; that is all.

pub mod address;
pub mod cutter;
pub mod drive;
pub mod inlet;
#[cfg(feature = "gst")]
pub mod line;
#[cfg(feature = "gst")]
pub mod login;
pub mod numbers;
pub mod patience;
pub mod ring;
pub mod settings;
pub mod tape;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::feed::{FeedCounts, News, Running, Tell};

use crate::edge::{clock, threads};
use drive::{Drive, Manner, WallTimer};
use inlet::Door;
use ring::Ring;

/// A feed at work: its thread ends when this is dropped.
pub struct Live {
    counts: Arc<Mutex<FeedCounts>>,
    /// What the thread left when it ended; it may be used later.
    rest: Arc<Mutex<Option<Ring>>>,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread of a feed for the source `id`.
///
/// # Errors
/// If the system refuses another thread.
pub fn start(
    id: &str,
    manner: Manner,
    door: Box<dyn Door>,
    tell: Tell,
) -> Result<Box<dyn Running>, StageError> {
    let counts = Arc::new(Mutex::new(FeedCounts { state: "waiting", ..FeedCounts::default() }));
    // Nothing is ever sent: dropping one end wakes the other.
    let (stop, stopped) = bounded(0);
    let started = clock::now();
    let shown = door.shown();
    let last_words = Arc::clone(&tell);
    let drive =
        Drive::new(id, manner, door, (WallTimer(started), started), (stopped, tell), Arc::clone(&counts));
    let stage = id.to_owned();
    let rest = Arc::new(Mutex::new(None));
    let (name, at_end, left) = (format!("live-{id}"), Arc::clone(&counts), Arc::clone(&rest));
    let thread = threads::spawn(&name, move || {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drive.run())) {
            Ok(ring) => *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring),
            Err(_) => {
                // The panic itself was printed. The run must not wait for what will never come.
                at_end.lock().unwrap_or_else(PoisonError::into_inner).state = "ended";
                let message = "the thread of this source panicked, which is a bug".to_owned();
                let reason = SkipReason::Unreadable;
                last_words(News::Skipped(Skip { file: shown.into(), stage, reason, message, at_secs: None }));
                last_words(News::Ended);
            }
        }
    })?;
    Ok(Box::new(Live { counts, rest, stop: Some(stop), thread: Some(thread) }))
}

impl Running for Live {
    fn counts(&self) -> FeedCounts {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(rest) = &*self.rest.lock().unwrap_or_else(PoisonError::into_inner) {
            let used = rest.gone().0 + rest.kept_used();
            counts.frames_kept -= used - counts.frames_used;
            counts.frames_used = used;
        }
        counts
    }

    fn stop(&mut self) -> FeedCounts {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic was told already.
            let _ = thread.join();
        }
        self.counts()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}
