//! What changes under a run on the trainer's side: sinks are told in time, and everything is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reelflow_api::error::StageError;
use reelflow_api::feed::{CatalogueChange, FeedCounts};
use reelflow_api::stage::{Parts, Scalars};

use super::driver::{self, OpenSink};
use super::feeds::{Feeds, Watch};
use super::known::{self, Known};
use super::layout::{Drawn, Layout, OperatorKind};
use super::publisher::Publishing;
use super::scan::Changing;
use super::shared::Shared;
use super::timeline::{Change, Timeline};
use crate::observe::quarantine::Quarantine;
use crate::observe::summary::Counters;

/// How long a slot of which nothing can be decoded waits for a version without what is gone, beside twice the time
/// between two looks: listing takes time as well.
const LISTING: Duration = Duration::from_secs(5);

/// Everything that changes while a run goes on.
pub struct Changes {
    feeds: Feeds,
    timeline: Arc<Timeline>,
    known: Known,
    names: BTreeMap<String, Names>,
    /// Whether anything that belongs into a checkpoint has changed since the last one.
    is_unsaved: bool,
}

/// Names of a feed's numbers in the metrics.
struct Names([&'static str; 6]);

impl Names {
    /// Lives as long as the program; there is one a feed.
    fn new(id: &str) -> Self {
        let name = |what: &str| -> &'static str { format!("feed.{id}.{what}").leak() };
        Self(["received", "used", "dropped", "left_out", "kept", "reconnects"].map(name))
    }

    fn scalars(&self, counts: &FeedCounts) -> Scalars {
        let left_out: u64 = counts.frames_left_out.values().sum();
        let numbers = [
            counts.frames_received,
            counts.frames_used,
            counts.frames_dropped,
            left_out,
            counts.frames_kept,
            counts.reconnects,
        ];
        self.0.iter().zip(numbers).map(|(name, number)| (*name, number as f64)).collect()
    }
}

/// Versions for the steps from `first` on of a run over `changing`.
#[must_use]
pub fn timeline(changing: &Changing, first: u64) -> Arc<Timeline> {
    let longest = changing.watched.iter().map(|(_, watched)| watched.pause()).max();
    let patience = longest.map_or(Duration::ZERO, |pause| pause * 2 + LISTING);
    Arc::new(Timeline::new(first, patience))
}

/// What is known of watched sources at the start.
#[must_use]
pub fn known(changing: &Changing) -> Known {
    let mut known = Known::default();
    for (_, watched) in &changing.watched {
        known.add_source(watched.id());
        watched.segments().for_each(|(segment, mark)| known.add(watched.id(), segment.id, mark));
    }
    known
}

/// What a checkpoint's state knows and must forget before the first step, in the form of a change.
///
/// # Errors
/// If its list of segments is damaged, or nothing is left of a source.
pub fn removed_since(parts: Option<&Parts>, now: &Known) -> Result<Change, StageError> {
    let before = parts.map(Known::of_parts).transpose()?.unwrap_or_default();
    let told = CatalogueChange { removed: before.gone(now)?, ..CatalogueChange::default() };
    Ok(Change { told, ..Change::default() })
}

/// What was found before a run begins.
pub struct Prepared {
    /// Sources and readers.
    pub changing: Changing,
    /// Where versions go.
    pub timeline: Arc<Timeline>,
    /// What is told with the first version.
    pub first: Change,
    /// What is known of watched sources.
    pub known: Known,
    /// Slots of a step, by reader.
    pub batch_sizes: Vec<u32>,
    /// Whether the run has no last step.
    pub is_endless: bool,
}

impl Prepared {
    /// With what the layout says.
    #[must_use]
    pub fn new(changing: Changing, timeline: Arc<Timeline>, first: Change, layout: &Layout) -> Self {
        let mut batch_sizes = vec![1; changing.readers.len()];
        for operator in &layout.operators {
            if let OperatorKind::Sample(sampling) = &operator.kind
                && let Drawn::Changing(_, number) = sampling.drawn
            {
                batch_sizes[number] = sampling.batch_size;
            }
        }
        let known = known(&changing);
        Self { changing, timeline, first, known, batch_sizes, is_endless: layout.steps.is_none() }
    }

    /// Starts everything.
    ///
    /// # Errors
    /// If a feed can never work, or the system refuses a thread.
    pub fn start(self, shared: &Arc<Shared>) -> Result<Changes, StageError> {
        let Self { changing, timeline, first, known, batch_sizes, is_endless } = self;
        let Changing { readers, watched, feeds, .. } = changing;
        let names = feeds.keys().map(|id| (id.clone(), Names::new(id))).collect();
        let publishing = Publishing {
            readers,
            batch_sizes,
            is_endless,
            has_watched: !watched.is_empty(),
            first,
            timeline: Arc::clone(&timeline),
            shared: Arc::clone(shared),
            notes: Arc::new(Mutex::default()),
        };
        let watch = |(reader, watched): (usize, crate::source::watch::Watched)| {
            let pause = watched.pause();
            Watch { reader, watched, pause }
        };
        let feeds = Feeds::start(publishing, feeds, watched.into_iter().map(watch).collect())?;
        Ok(Changes { feeds, timeline, known, names, is_unsaved: false })
    }
}

impl Changes {
    /// Tells the sinks what changed up to `step`, before they get its batch; the rows that were forgotten.
    ///
    /// # Errors
    /// Of a sink.
    pub fn tell(&mut self, step: u64, sinks: &mut [OpenSink]) -> Result<u64, StageError> {
        let mut rows = 0;
        for mut change in self.timeline.take_changes(step) {
            self.known.follow(&change);
            self.is_unsaved |= !change.told.removed.is_empty() || !change.marks.is_empty();
            let relabelled = std::mem::take(&mut change.relabelled);
            change.told.added.extend(relabelled);
            if change.told.added.is_empty() && change.told.removed.is_empty() && change.told.left.is_empty() {
                continue;
            }
            for open in sinks.iter_mut() {
                rows += open.sink.catalogue_changed(&change.told)?;
            }
        }
        Ok(rows)
    }

    /// Tells the sinks, after the last batch, what has changed since: what was taken back until now must not be in what
    /// is saved last. No source is looked at any more.
    ///
    /// # Errors
    /// Of a sink.
    pub fn tell_last(&mut self, sinks: &mut [OpenSink]) -> Result<u64, StageError> {
        self.settle();
        self.tell(u64::MAX, sinks)
    }

    /// Ends the looks at watched sources; all that was told until now is in the newest version then.
    pub fn settle(&mut self) {
        self.feeds.settle();
    }

    /// Writes down what came to light.
    ///
    /// # Errors
    /// If `quarantine.jsonl` cannot be written.
    pub fn note(&self, quarantine: &mut Quarantine, counters: &mut Counters) -> Result<(), StageError> {
        let notes = self.feeds.take_notes();
        counters.inputs_seen += notes.inputs_added + notes.left_out.len() as u64;
        counters.inputs_ok += notes.inputs_added;
        counters.inputs_added += notes.inputs_added;
        counters.inputs_removed += notes.inputs_removed;
        driver::note_left_out(notes.left_out, quarantine, counters)?;
        driver::note_partial(notes.partial, quarantine, counters)?;
        for complaint in notes.complaints {
            quarantine.add(&complaint)?;
        }
        Ok(())
    }

    /// Numbers of a step.
    #[must_use]
    pub fn scalars(&self, rows_forgotten: u64) -> Scalars {
        let mut all = vec![
            ("catalogue_version", self.timeline.newest() as f64),
            ("catalogue_segments", self.timeline.segments() as f64),
            ("rows_forgotten", rows_forgotten as f64),
        ];
        for (id, counts) in self.feeds.counts() {
            all.extend(self.names[&id].scalars(&counts));
        }
        all
    }

    /// Whether steps wait for something to sample from.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.timeline.is_waiting()
    }

    /// Whether the newest checkpoint misses something that the sinks were told.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.is_unsaved
    }

    /// Adds what belongs into a checkpoint.
    pub fn save(&mut self, states: &mut BTreeMap<String, Parts>) {
        states.insert(known::PART.to_owned(), self.known.to_parts());
        self.is_unsaved = false;
    }

    /// Stops everything, once the last clip was made, and counts it.
    ///
    /// # Errors
    /// If `quarantine.jsonl` cannot be written.
    pub fn finish(&mut self, quarantine: &mut Quarantine, counters: &mut Counters) -> Result<(), StageError> {
        counters.feeds = self.feeds.stop();
        counters.catalogue_versions = self.timeline.newest();
        self.note(quarantine, counters)
    }
}
