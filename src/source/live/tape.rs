//! Connections to what can be held up: a thread that hands frames on as fast as they are taken, or paced.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use reelflow_api::error::SkipReason;

use super::drive::fault;
use super::inlet::Inlet;
use crate::edge::{clock, threads};

/// Paces a thread: media time against the clock, from the first frame on.
pub struct Pace {
    stop: Receiver<()>,
    /// Seconds of media a second; 0 does not wait.
    speed: f64,
    /// When media time 0 was, and what of it passed before.
    begun: Option<(std::time::Instant, u64)>,
}

impl Pace {
    /// Waits until the frame of `time` nanoseconds is due; whether to go on.
    pub fn wait(&mut self, time: u64) -> bool {
        let now = clock::now();
        let (begun, first) = *self.begun.get_or_insert((now, time));
        let media = Duration::from_nanos(time.saturating_sub(first));
        let due = if self.speed > 0.0 { media.div_f64(self.speed) } else { Duration::ZERO };
        let left = due.saturating_sub(now.saturating_duration_since(begun));
        matches!(self.stop.recv_timeout(left), Err(RecvTimeoutError::Timeout))
    }
}

/// A thread at work; it stops when this is dropped.
struct Tape {
    /// Dropped to stop it.
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed, and is seen as a connection that ended.
            let _ = thread.join();
        }
    }
}

/// Starts `play` on a thread of its own, `speed` times as fast as the media say, 0: unpaced.
pub fn start(
    name: &str,
    speed: f64,
    inlet: Inlet,
    play: impl FnOnce(&Inlet, &mut Pace) + Send + 'static,
) -> Box<dyn Send> {
    let (stop, stopped) = bounded(0);
    let mut pace = Pace { stop: stopped, speed, begun: None };
    let refused = inlet.clone();
    match threads::spawn(name, move || play(&inlet, &mut pace)) {
        Ok(thread) => Box::new(Tape { stop: Some(stop), thread: Some(thread) }),
        Err(error) => {
            refused.fault(fault(SkipReason::Unreadable, error.message));
            Box::new(())
        }
    }
}
