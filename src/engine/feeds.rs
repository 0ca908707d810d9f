//! Starts what tells of changes while a run goes on, feeds and watched sources, and stops it in the right order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use reelflow_api::error::StageError;
use reelflow_api::feed::{FeedCounts, News, Running};
use reelflow_api::stage::Source;

use super::publisher::{Notes, Publishing, QUEUED, Told};
use crate::edge::{clock, threads};
use crate::source::watch::Watched;

/// A thread that watches pauses at least so many times as long as it looked.
const LOOKED_SHARE: u32 = 4;

/// A watched source, how often it is looked at, and for which reader.
pub struct Watch {
    /// Number of the reader.
    pub reader: usize,
    /// The source.
    pub watched: Watched,
    /// Time between two looks.
    pub pause: Duration,
}

/// Feeds and watched sources at work, with the thread that makes catalogue versions of what they tell.
pub struct Feeds {
    running: BTreeMap<String, Box<dyn Running>>,
    /// Dropping the sender ends the thread.
    watching: Vec<(Sender<()>, JoinHandle<()>)>,
    publisher: Option<(Sender<Told>, JoinHandle<()>)>,
    notes: Arc<Mutex<Notes>>,
}

impl Feeds {
    /// Publishes the first version and starts everything.
    ///
    /// # Errors
    /// If a feed can never work, or the system refuses a thread.
    pub fn start(
        publishing: Publishing,
        feeds: BTreeMap<String, Arc<dyn Source>>,
        watches: Vec<Watch>,
    ) -> Result<Self, StageError> {
        let (sender, told) = bounded(QUEUED);
        let notes = Arc::clone(&publishing.notes);
        let shared = Arc::clone(&publishing.shared);
        let publisher = threads::spawn("catalogue", move || {
            if catch_unwind(AssertUnwindSafe(|| publishing.run(&told))).is_err() {
                // Steps would wait for ever for a version that nobody makes.
                shared.fail(panicked("the thread that keeps the catalogue"));
                // Nor may who waits for a reply: what is queued would stay there for as long as anybody can send.
                while told.recv().is_ok_and(|told| !matches!(told, Told::Stop)) {}
            }
        })?;
        let mut all = Self {
            running: BTreeMap::new(),
            watching: Vec::new(),
            publisher: Some((sender.clone(), publisher)),
            notes,
        };
        for watch in watches {
            let (stop, stopped) = bounded(0);
            let sender = sender.clone();
            let thread = threads::spawn("watch", move || watch.run(&stopped, &sender))?;
            all.watching.push((stop, thread));
        }
        for (id, source) in feeds {
            let name: Arc<str> = id.as_str().into();
            let sender = sender.clone();
            // Who tells after the end is not heard.
            let tell = Arc::new(move |news: News| drop(sender.send(Told::News(Arc::clone(&name), news))));
            let feed = source.feed().expect("only feeds are started");
            let running = feed
                .start(&id, tell)
                .map_err(|error| StageError { stage: format!("sources.{id}"), ..error })?;
            all.running.insert(id, running);
        }
        Ok(all)
    }

    /// What each feed has counted so far, by id.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, FeedCounts> {
        self.running.iter().map(|(id, running)| (id.clone(), running.counts())).collect()
    }

    /// What was noted since the last call.
    #[must_use]
    pub fn take_notes(&self) -> Notes {
        self.notes.lock().expect("no holder panics").take()
    }

    /// Ends the looks at watched sources; all that was found is in the newest version now.
    pub fn settle(&mut self) {
        for (stop, thread) in self.watching.drain(..) {
            drop(stop);
            // A panic in it was already told.
            let _ = thread.join();
        }
        if let Some((sender, _)) = &self.publisher {
            let (reply, settled) = bounded(1);
            // If it is gone there is nothing to wait for.
            let _ = sender.send(Told::Settle(reply));
            let _ = settled.recv();
        }
    }

    /// Stops everything and waits for it; what each feed has counted in all, by id.
    pub fn stop(&mut self) -> BTreeMap<String, FeedCounts> {
        let mut counts = BTreeMap::new();
        // The publisher goes on taking what they tell, so none of them waits for a place in its queue.
        for (id, mut running) in std::mem::take(&mut self.running) {
            counts.insert(id, running.stop());
        }
        self.settle();
        if let Some((sender, thread)) = self.publisher.take() {
            // If it is gone already there is nothing to stop.
            let _ = sender.send(Told::Stop);
            let _ = thread.join();
        }
        counts
    }
}

impl Drop for Feeds {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watch {
    /// Looks, tells and pauses until the other end of `stopped` is gone.
    fn run(mut self, stopped: &Receiver<()>, told: &Sender<Told>) {
        let source: Arc<str> = self.watched.id().into();
        let mut pause = self.pause;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
            let begun = clock::now();
            let looked = catch_unwind(AssertUnwindSafe(|| self.watched.look()));
            // A great archive is looked at less often than was asked for, rather than all the time.
            pause = self.pause.max(begun.elapsed() * LOOKED_SHARE);
            let news = match looked {
                Ok(Ok(look)) if look.is_empty() => continue,
                Ok(Ok(look)) => Told::Looked(self.reader, Arc::clone(&source), look),
                Ok(Err(error)) => Told::Failed(error),
                Err(_) => Told::Failed(panicked("a thread that watches a source")),
            };
            let is_last = matches!(news, Told::Failed(_));
            if told.send(news).is_err() || is_last {
                return;
            }
        }
    }
}

fn panicked(who: &str) -> StageError {
    StageError { stage: "engine".to_owned(), message: format!("{who} panicked; this is a bug"), code: 101 }
}
