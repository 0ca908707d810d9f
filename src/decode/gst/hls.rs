//! Fetches the pieces of an HLS stream one after the other and pumps their bytes into a chain.
//!
//! GStreamer's own HLS elements follow redirects and names to any host; here every address is looked at first.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use reelflow_api::error::SkipReason;
use reelflow_api::stage::Limits;

use super::chain::{Chain, add, broken};
use super::live::{Login, http};
use super::status::Status;
use crate::decode::Failure;
use crate::decode::playlist::{self, Piece, Pieces, Playlist};
use crate::edge::threads;

/// Largest playlist, bytes.
const PLAYLIST_MAX: usize = 1 << 20;
/// Largest piece, bytes: ten seconds of 50 Mbit/s.
const PIECE_MAX: usize = 64 << 20;
/// Bytes that wait in front of the demuxer; more make the pump wait.
const WAITING: u64 = 4 << 20;
/// Pieces before the newest at which to begin: closer, a late one is missed; farther, pictures are old.
const BEFORE_EDGE: usize = 3;
/// How often a request looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A pump that was not started yet.
pub(super) struct Pump {
    source: AppSrc,
    location: String,
    login: Login,
    patience_secs: f64,
}

/// A pump at work; stopped when dropped.
pub(super) struct Pumping {
    source: AppSrc,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    pub fn new(location: &str, login: &Login, patience_secs: f64) -> Result<Self, Failure> {
        let source = AppSrc::builder().format(gst::Format::Bytes).block(true).max_bytes(WAITING).build();
        // So that a missing element is noticed here and not at the first request.
        http(location, login, patience_secs)?;
        Ok(Self { source, location: location.to_owned(), login: login.clone(), patience_secs })
    }

    /// The element that gives the bytes.
    pub fn element(&self) -> &gst::Element {
        self.source.upcast_ref()
    }

    /// Begins to fetch; `alive` is called for everything that came.
    pub fn start(self, chain: &Chain, alive: impl Fn() + Send + 'static) -> Result<Pumping, Failure> {
        let (stop, stopped) = bounded(0);
        let (source, status) = (self.source.clone(), Arc::clone(&chain.status));
        let work = move || {
            let Self { source, location, login, patience_secs } = self;
            let fetch = Fetch { login, patience_secs, stop: stopped };
            match fetch.all(location, &source, &alive) {
                Ok(()) => {
                    // The demuxer may still be busy; if it is gone, nobody needs to know.
                    let _ = source.end_of_stream();
                }
                Err(failure) => status.fail(failure),
            }
        };
        let thread = threads::spawn("live-hls", work)
            .map_err(|error| Failure::new(SkipReason::Unreadable, error.message))?;
        Ok(Pumping { source, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Pumping {
    fn drop(&mut self) {
        self.stop = None;
        // A push that waits for room is woken by this.
        let _ = self.source.set_state(gst::State::Null);
        if let Some(thread) = self.thread.take() {
            // A panic was printed, and no more comes either way.
            let _ = thread.join();
        }
    }
}

/// Makes requests.
struct Fetch {
    login: Login,
    patience_secs: f64,
    stop: Receiver<()>,
}

impl Fetch {
    /// Fetches until the stream is over or the pump is stopped.
    fn all(&self, mut location: String, source: &AppSrc, alive: &impl Fn()) -> Result<(), Failure> {
        let (mut next, mut head) = (None, None);
        let mut has_chosen = false;
        loop {
            let Some(bytes) = self.get(&location, PLAYLIST_MAX)? else { return Ok(()) };
            alive();
            let text = String::from_utf8_lossy(&bytes);
            let pieces = match playlist::parse(&text)? {
                Playlist::Several(_) if has_chosen => {
                    let message = "its playlists name playlists that name playlists, which is not followed";
                    return Err(Failure::new(SkipReason::NotMedia, message));
                }
                Playlist::Several(first) => {
                    has_chosen = true;
                    location = playlist::resolve(&location, &first)?;
                    continue;
                }
                Playlist::Pieces(pieces) => pieces,
            };
            for piece in coming(&pieces, next)? {
                next = Some(piece.number + 1);
                if piece.head != head {
                    head.clone_from(&piece.head);
                    if let Some(place) = &head
                        && !self.pump(&playlist::resolve(&location, place)?, source)?
                    {
                        return Ok(());
                    }
                }
                if !self.pump(&playlist::resolve(&location, &piece.place)?, source)? {
                    return Ok(());
                }
                alive();
            }
            // RFC 8216, 6.3.4: again after half the target duration if nothing was new.
            let pause = Duration::from_millis(500 * pieces.target_secs);
            if pieces.is_over || !matches!(self.stop.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                return Ok(());
            }
        }
    }

    /// Fetches a piece and hands it on; `false` if it is to stop.
    fn pump(&self, location: &str, source: &AppSrc) -> Result<bool, Failure> {
        let Some(bytes) = self.get(location, PIECE_MAX)? else { return Ok(false) };
        Ok(source.push_buffer(gst::Buffer::from_mut_slice(bytes)).is_ok())
    }

    /// What is at `location`; `None` if it is to stop.
    fn get(&self, location: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        let status = Status::quiet(&Limits::default());
        let chain = Chain::empty(Arc::clone(&status));
        let source = http(location, &self.login, self.patience_secs)?;
        let sink = AppSink::builder().sync(false).max_buffers(16).build();
        add(chain.pipeline(), &[&source, sink.upcast_ref()])?;
        source.link(&sink).map_err(broken)?;
        chain.play(|| Failure::new(SkipReason::Unreadable, "a request cannot be begun"))?;
        let mut bytes = Vec::new();
        let mut silent = Duration::ZERO;
        loop {
            if !matches!(self.stop.try_recv(), Err(crossbeam_channel::TryRecvError::Empty)) {
                return Ok(None);
            }
            let limit = gst::ClockTime::from_nseconds(LOOK.as_nanos() as u64);
            if let Some(sample) = sink.try_pull_sample(limit) {
                let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
                bytes.extend_from_slice(&map.ok_or_else(|| broken("an answer that cannot be read"))?);
                silent = Duration::ZERO;
                if bytes.len() > bytes_max {
                    let message = format!("the server sends more than {bytes_max} bytes in one answer");
                    return Err(Failure::new(SkipReason::Limit, message));
                }
                continue;
            }
            if let Some(failure) = &status.found().failure {
                return Err(failure.clone());
            }
            if sink.is_eos() {
                return Ok(Some(bytes));
            }
            silent += LOOK;
            if silent.as_secs_f64() > self.patience_secs {
                return Err(Failure::new(SkipReason::Stalled, "the server does not answer"));
            }
        }
    }
}

/// The pieces that were not fetched yet: at first those at the edge.
fn coming(pieces: &Pieces, next: Option<u64>) -> Result<&[Piece], Failure> {
    let all = &pieces.pieces;
    let Some(next) = next else { return Ok(&all[all.len().saturating_sub(BEFORE_EDGE)..]) };
    if all.last().is_some_and(|last| last.number + 1 < next) {
        return Err(Failure::new(SkipReason::Vanished, "the playlist begins again with lower numbers"));
    }
    Ok(&all[all.partition_point(|piece| piece.number < next)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_first_the_newest_pieces_are_fetched_then_those_that_are_new() {
        let piece = |number| Piece { number, place: format!("{number}.ts"), head: None };
        let pieces = Pieces { pieces: (10..20).map(piece).collect(), target_secs: 4, is_over: false };
        let numbers =
            |next| -> Vec<u64> { coming(&pieces, next).unwrap().iter().map(|piece| piece.number).collect() };
        assert_eq!(numbers(None), [17, 18, 19]);
        assert_eq!(numbers(Some(18)), [18, 19]);
        assert!(numbers(Some(20)).is_empty());
        assert_eq!(numbers(Some(3)), (10..20).collect::<Vec<_>>());
        assert_eq!(coming(&pieces, Some(30)).unwrap_err().reason, SkipReason::Vanished);
    }
}
