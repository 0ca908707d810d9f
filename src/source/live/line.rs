//! Connections through GStreamer, each opened and closed on a thread of its own, since either may hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use reelflow_api::error::{SkipReason, StageError};
use reelflow_api::feed::{Running, Tell};

use super::drive::{Manner, fault};
use super::inlet::{BEFORE_KEY, DAMAGED, Door, Fault, Format, Inlet};
use crate::decode::Failure;
use crate::decode::gst::live::{Hear, Heard, Login, Place, Stream, check, open, silence};
use crate::edge::{clock, secrets, threads};

/// How long closing is waited for. A connection to a frozen server is given up sooner by GStreamer.
const CLOSE: Duration = Duration::from_secs(5);
/// Connections that may be left closing; with more of them nothing new is opened, so that they cannot pile up.
const CLOSING_MAX: usize = 4;

/// What the segments of a source say about where they come from.
#[derive(Clone, Debug)]
pub struct Tags {
    /// The source's id.
    pub id: String,
    /// Class of everything.
    pub label: Option<String>,
    /// The address, without secrets.
    pub shown: String,
}

/// Starts a feed that reads `place`.
///
/// # Errors
/// If an element is missing or the system refuses a thread.
pub fn start(tags: Tags, place: Place, manner: Manner, tell: Tell) -> Result<Box<dyn Running>, StageError> {
    check(&place).map_err(|failure| StageError::unavailable(&tags.id, failure.message))?;
    let hidden = hidden_in(&place);
    if !hidden.is_empty() {
        silence();
    }
    // Runs that follow each other must not give the same ids to other pictures.
    let salt = format!("{:.6}", clock::unix_secs());
    let id = tags.id.clone();
    let door = GstDoor { tags, place, salt, hidden, open: Arc::default() };
    super::start(&id, manner, Box::new(door), tell)
}

/// What must not be in any message.
fn hidden_in(place: &Place) -> Vec<String> {
    let (login, location) = match place {
        Place::Rtsp { login, location, .. }
        | Place::Http { login, location, .. }
        | Place::Hls { login, location, .. } => (login.clone(), location.as_str()),
        Place::Srt { password, location, .. } => {
            (Login { user: None, password: password.clone() }, location.as_str())
        }
        Place::Camera { .. } => return Vec::new(),
    };
    let query = location.split_once('?').map(|(_, query)| query.to_owned());
    let password = login.password.map(|password| password.reveal().to_owned());
    query.into_iter().chain(password).filter(|text| !text.is_empty()).collect()
}

struct GstDoor {
    tags: Tags,
    place: Place,
    salt: String,
    hidden: Vec<String>,
    /// Connections whose thread has not ended.
    open: Arc<AtomicUsize>,
}

impl Door for GstDoor {
    fn open(&mut self, connection: u64, inlet: Inlet) -> Box<dyn Send> {
        if self.open.load(Ordering::Acquire) > CLOSING_MAX {
            let message = format!("{CLOSING_MAX} earlier connections do not close");
            inlet.fault(Fault { is_lasting: true, ..fault(SkipReason::Stalled, message) });
            return Box::new(());
        }
        let (close, closed) = bounded::<()>(0);
        let (done, is_done) = bounded::<()>(0);
        let refused = inlet.clone();
        let hear = self.hear(connection, inlet);
        let (place, hidden, open_lines) = (self.place.clone(), self.hidden.clone(), Arc::clone(&self.open));
        open_lines.fetch_add(1, Ordering::AcqRel);
        let ended = Arc::clone(&self.open);
        let work = move || {
            let _done = done;
            let stream = open(&place, &hear);
            if let Err(failure) = &stream {
                hear(Heard::Ended(Failure { message: clean(&failure.message, &hidden), ..failure.clone() }));
            }
            drop(hear);
            hold(stream.ok(), &closed);
            open_lines.fetch_sub(1, Ordering::AcqRel);
        };
        match threads::spawn("live-line", work) {
            Ok(_) => Box::new(Line { close: Some(close), is_done }),
            Err(error) => {
                ended.fetch_sub(1, Ordering::AcqRel);
                refused.fault(fault(SkipReason::Unreadable, error.message));
                Box::new(())
            }
        }
    }

    fn shown(&self) -> String {
        self.tags.shown.clone()
    }
}

/// Keeps the stream open until it is to be closed.
fn hold(stream: Option<Stream>, closed: &Receiver<()>) {
    // Nothing is ever sent: it wakes when the other end is dropped.
    let _ = closed.recv();
    drop(stream);
}

impl GstDoor {
    /// What takes the words of one connection.
    fn hear(&self, connection: u64, inlet: Inlet) -> Hear {
        let (tags, hidden) = (self.tags.clone(), self.hidden.clone());
        let salt = format!("{}#{connection}", self.salt);
        Arc::new(move |heard| {
            match heard {
                Heard::Format(codec, orientation) => {
                    inlet.format(Format {
                        name: format!("{}:{connection}", tags.id),
                        codec,
                        orientation,
                        label: tags.label.as_deref().map(Arc::from),
                        group: Some(Arc::from(&*tags.id)),
                        split: None,
                        salt: salt.clone(),
                    });
                }
                Heard::Picture(picture, time) => {
                    inlet.frame(picture, time);
                }
                Heard::Alive => inlet.alive(),
                Heard::BeforeKey => inlet.lose(BEFORE_KEY),
                Heard::Damaged => inlet.lose(DAMAGED),
                Heard::Ended(failure) => inlet.fault(fault_of(&failure, &hidden)),
            };
        })
    }
}

/// A failure as the feed takes it: without secrets, and with a judgement whether it may pass by itself.
fn fault_of(failure: &Failure, hidden: &[String]) -> Fault {
    let message = clean(&failure.message, hidden);
    let is_refusal = ["401", "403", "Unauthorized", "Forbidden", "Not authorized"]
        .iter()
        .any(|word| failure.message.contains(word));
    let is_lasting = is_refusal
        || matches!(
            failure.reason,
            SkipReason::NoVideo
                | SkipReason::NoDecoder
                | SkipReason::Encrypted
                | SkipReason::NotMedia
                | SkipReason::Limit
                | SkipReason::UnsafeReference
        );
    Fault { reason: failure.reason, message, is_lasting }
}

/// `text` without the secrets that are in it, wherever they came from.
fn clean(text: &str, hidden: &[String]) -> String {
    let mut text = secrets::mask(text);
    for secret in hidden {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

/// A connection; closed when dropped.
struct Line {
    /// Dropped to close it.
    close: Option<Sender<()>>,
    /// Disconnected when its thread has ended.
    is_done: Receiver<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close = None;
        // If it takes longer it closes by itself later, and is counted until then.
        let _ = self.is_done.recv_timeout(CLOSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_last_and_messages_hold_no_secret() {
        let hidden = ["hunter2".to_owned(), "token=abc".to_owned()];
        let fault = |reason, message: &str| fault_of(&Failure::new(reason, message), &hidden);
        let refused =
            fault(SkipReason::Unreadable, "the server answers 401: rtsp://admin:hunter2@cam/?token=abc");
        assert_eq!(refused.message, "the server answers 401: rtsp://***@cam/?***");
        assert!(refused.is_lasting);
        assert_eq!(fault(SkipReason::Vanished, "said hunter2 to token=abc").message, "said *** to ***");
        assert!(!fault(SkipReason::Vanished, "gone").is_lasting);
        assert!(fault(SkipReason::UnsafeReference, "elsewhere").is_lasting);
    }
}
