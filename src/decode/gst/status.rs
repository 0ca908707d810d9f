//! What a pipeline's own threads have found, and the one place where a file is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gstreamer as gst;
use reelflow_api::error::SkipReason;
use reelflow_api::item::Orientation;
use reelflow_api::stage::Limits;

use super::chain::check_size;
use super::errors;
use crate::decode::Failure;
use crate::edge::clock;

/// A file that makes no progress for this long is given up. RELIABILITY facts 4 and 8: some demuxers of
/// GStreamer 1.22 never end on some files.
const STALL: Duration = Duration::from_secs(10);

/// What the streaming threads have found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Name of the demuxer, empty for a bare stream.
    pub container: &'static str,
    /// Codec name and size of the video track, once it is known.
    pub video: Option<(String, u32, u32)>,
    /// Other tracks, for messages.
    pub others: Vec<String>,
    /// All tracks that the file begins with are known.
    pub is_complete: bool,
    /// Codec of a video track that came later: the stream changes on the way.
    pub changed: Option<String>,
    /// How pictures must be turned.
    pub orientation: Orientation,
    /// The demuxer's pad of the video track: seeks go there.
    pub pad: Option<gst::Pad>,
    /// Why it cannot go on; the first reason stays.
    pub failure: Option<Failure>,
    /// The first access unit has passed, so the demuxer can seek.
    pub ready: bool,
    /// The video track has ended.
    pub ended: bool,
}

/// Shared between the streaming threads and the waiting one.
pub(super) struct Status {
    found: Mutex<Found>,
    building: RwLock<Building>,
    progress: AtomicU64,
    limits: Limits,
    since: Instant,
    wake: Sender<()>,
    woken: Receiver<()>,
    /// Told of the first failure, on the thread that noted it.
    listener: Option<Listener>,
}

/// Takes a failure as soon as it is noted.
pub(super) type Listener = Box<dyn Fn(Failure) + Send + Sync>;

impl Status {
    /// Told to nobody but the one who waits.
    pub fn quiet(limits: &Limits) -> Arc<Self> {
        Arc::new(Self::new(*limits, None))
    }

    /// Its first failure is told to `listener`.
    pub fn told(listener: Listener) -> Arc<Self> {
        Arc::new(Self::new(Limits::default(), Some(listener)))
    }

    fn new(limits: Limits, listener: Option<Listener>) -> Self {
        // One token is enough: it says "look again", not what happened.
        let (wake, woken) = bounded(1);
        Self {
            found: Mutex::default(),
            building: RwLock::default(),
            progress: AtomicU64::new(0),
            limits,
            since: clock::now(),
            wake,
            woken,
            listener,
        }
    }

    /// What has been found so far. A panic elsewhere leaves plain data behind, so poison is ignored.
    pub fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure; the first one stays.
    pub fn fail(&self, failure: Failure) {
        let first = {
            let mut found = self.found();
            let is_first = found.failure.is_none();
            let kept = found.failure.get_or_insert(failure).clone();
            is_first.then(|| errors::in_context(&kept, &found))
        };
        self.notify();
        if let (Some(listener), Some(failure)) = (&self.listener, first) {
            listener(failure);
        }
    }

    /// From here on nothing is put together any more; waits for what is being done.
    pub fn close(&self) {
        *self.building.write().unwrap_or_else(PoisonError::into_inner) = Building::Over;
    }

    /// Does `work` unless the pipeline is being stopped; it is not stopped meanwhile.
    pub fn while_open<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let building = self.building.read().unwrap_or_else(PoisonError::into_inner);
        (*building == Building::Open).then(work)
    }

    /// Makes the waiting thread look again.
    pub fn notify(&self) {
        // A full channel already holds the same message.
        let _ = self.wake.try_send(());
    }

    /// Counts a buffer, so that slow is not taken for stalled.
    pub fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses pictures above the limit before a decoder allocates them.
    ///
    /// # Errors
    /// `limit`
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), Failure> {
        check_size((width, height), self.limits.pixels)
    }

    /// Waits until `done` gives something or the file fails, stalls or takes too long.
    ///
    /// # Errors
    /// The file's failure, `stalled` or `limit`.
    pub fn wait<T>(&self, mut done: impl FnMut(&Found) -> Option<T>) -> Result<T, Failure> {
        let mut progress = self.progress.load(Ordering::Relaxed);
        loop {
            {
                let found = self.found();
                if let Some(value) = done(&found) {
                    return Ok(value);
                }
                if let Some(failure) = &found.failure {
                    return Err(errors::in_context(failure, &found));
                }
            }
            if let Err(RecvTimeoutError::Timeout) = self.woken.recv_timeout(STALL) {
                let now = self.progress.load(Ordering::Relaxed);
                if now == progress {
                    let message =
                        format!("nothing came for {} s; try to repair or convert the file", STALL.as_secs());
                    let failure = Failure::new(SkipReason::Stalled, message);
                    self.fail(failure.clone());
                    return Err(failure);
                }
                progress = now;
            }
            if self.since.elapsed().as_secs_f64() > self.limits.probe_secs {
                let message =
                    format!("looking at it takes longer than {} s; split it", self.limits.probe_secs);
                let failure = Failure::new(SkipReason::Limit, message);
                self.fail(failure.clone());
                return Err(failure);
            }
        }
    }
}

/// Whether the pipeline may still be put together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Building {
    /// Yes; read-locked while it is being done.
    #[default]
    Open,
    /// No: it is being stopped.
    Over,
}
