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

/// A feed at work: its thread ends when this is dropped.
pub struct Live {
    counts: Arc<Mutex<FeedCounts>>,
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
    let (name, at_end) = (format!("live-{id}"), Arc::clone(&counts));
    let thread = threads::spawn(&name, move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drive.run())).is_err() {
            // The panic itself was printed. The run must not wait for what will never come.
            at_end.lock().unwrap_or_else(PoisonError::into_inner).state = "ended";
            let message = "the thread of this source panicked, which is a bug".to_owned();
            let reason = SkipReason::Unreadable;
            last_words(News::Skipped(Skip { file: shown.into(), stage, reason, message, at_secs: None }));
            last_words(News::Ended);
        }
    })?;
    Ok(Box::new(Live { counts, stop: Some(stop), thread: Some(thread) }))
}

impl Running for Live {
    fn counts(&self) -> FeedCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
