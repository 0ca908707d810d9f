//! Makes catalogue versions of what feeds and watched sources tell, on a thread of its own.
//!
//! It takes what has been told by then and publishes one version of it all, so that there are at most as many versions
//! as it can make, however much is told. Its queue has [`QUEUED`] places; who tells more waits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};
use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::feed::News;
use reelflow_api::item::{Catalogue, Segment, SegmentId};

use super::keeper::{Entry, Keeper};
use super::scan::Reader;
use super::shared::Shared;
use super::timeline::{Change, Timeline};
use crate::source::watch::Look;

/// News that may wait. A feed that tells more has its own thread wait, and does there what it does when it is late.
pub const QUEUED: usize = 256;

/// What the publisher is told.
pub enum Told {
    /// By the feed of this id.
    News(Arc<str>, News),
    /// By who watches the source of this id for this reader.
    Looked(usize, Arc<str>, Look),
    /// Something that ends the run.
    Failed(StageError),
    /// That somebody wants to know when all that was told before is published.
    Settle(Sender<()>),
    /// That nothing more is told.
    Stop,
}

/// What came to light on the way, for the books of the run.
#[derive(Debug, Default)]
pub struct Notes {
    /// Inputs that came while the run went on and cannot be used.
    pub left_out: Vec<Skip>,
    /// What is missing of inputs that came and are used all the same.
    pub partial: Vec<Skip>,
    /// Parts of streams, and places, that could not be used; they are no inputs. One a place and reason.
    pub complaints: Vec<Skip>,
    /// Inputs that came, or were changed, and are used.
    pub inputs_added: u64,
    /// Inputs that were used and are gone, or were changed.
    pub inputs_removed: u64,
    told: BTreeSet<(PathBuf, SkipReason)>,
}

impl Notes {
    fn complain(&mut self, skip: Skip) {
        if self.told.insert((skip.file.clone(), skip.reason)) {
            self.complaints.push(skip);
        }
    }

    /// What was noted since the last call.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let told = std::mem::take(&mut self.told);
        let noted = std::mem::take(self);
        self.told = told;
        noted
    }
}

/// Everything a publisher works with.
pub struct Publishing {
    /// Who samples, with what there is at the start.
    pub readers: Vec<Reader>,
    /// Slots of a step of each reader.
    pub batch_sizes: Vec<u32>,
    /// Whether the run has no last step.
    pub is_endless: bool,
    /// Whether sources are looked at again and again, so that something may always come.
    pub has_watched: bool,
    /// What the first version is told with: what was removed before the run went on.
    pub first: Change,
    /// Where versions go.
    pub timeline: Arc<Timeline>,
    /// Where a failure goes.
    pub shared: Arc<Shared>,
    /// Where notes go.
    pub notes: Arc<Mutex<Notes>>,
}

impl Publishing {
    /// Publishes the first version, and the next ones until it is told to stop.
    pub fn run(self, news: &Receiver<Told>) {
        let mut publisher = Publisher::new(self);
        while let Ok(told) = news.recv() {
            let mut update = Update::default();
            publisher.take(told, &mut update);
            for told in news.try_iter().take(QUEUED) {
                publisher.take(told, &mut update);
            }
            if update.is_over {
                return;
            }
            let waiting = std::mem::take(&mut update.waiting);
            publisher.publish(update);
            for reply in waiting {
                // Who does not wait any more is not told.
                let _ = reply.send(());
            }
        }
    }
}

/// What a version is made of besides the collections.
#[derive(Default)]
struct Update {
    change: Change,
    /// Segments that came with it, and may leave with it.
    came: BTreeSet<SegmentId>,
    /// Segments of watched sources that were taken out,
    out: BTreeSet<SegmentId>,
    /// and those of them that are there again.
    again: Vec<Arc<Segment>>,
    /// Who wants to know when it is published.
    waiting: Vec<Sender<()>>,
    /// Whether there is anything to publish.
    is_due: bool,
    is_over: bool,
}

/// A reader with its part of the next version.
struct Open {
    reader: Reader,
    keeper: Keeper,
    newest: Arc<Catalogue>,
    /// Whether the keeper has been told something since `newest`.
    is_stale: bool,
}

struct Publisher {
    about: Publishing,
    open: Vec<Open>,
    /// Feeds that may still tell something.
    feeds: BTreeSet<String>,
    /// Whether there was enough to begin with.
    has_begun: bool,
}

impl Publisher {
    fn new(mut about: Publishing) -> Self {
        let open_one = |mut reader: Reader| {
            let mut keeper = Keeper::new();
            for (source, segments) in std::mem::take(&mut reader.segments) {
                keeper.update(&source, entries(segments), Vec::new());
            }
            let newest = Arc::new(keeper.close().catalogue);
            Open { reader, keeper, newest, is_stale: false }
        };
        let open: Vec<Open> = std::mem::take(&mut about.readers).into_iter().map(open_one).collect();
        let feeds = open.iter().flat_map(|open| open.reader.feeds.iter().cloned()).collect();
        let first = std::mem::take(&mut about.first);
        let mut publisher = Self { about, open, feeds, has_begun: false };
        publisher.send(first);
        publisher
    }

    fn take(&mut self, told: Told, update: &mut Update) {
        match told {
            Told::News(source, News::Came(segment)) => self.came(&source, &segment, update),
            Told::News(source, News::Left(id)) => {
                if !update.came.remove(&id) {
                    update.change.told.left.push(id);
                }
                for open in self.open.iter_mut().filter(|open| open.reader.feeds.contains(&*source)) {
                    open.update(&source, Vec::new(), vec![id]);
                }
                update.is_due = true;
            }
            Told::News(_, News::Skipped(skip)) => self.notes(|notes| notes.complain(skip)),
            Told::News(source, News::Ended) => {
                self.feeds.remove(&*source);
                update.is_due = true;
            }
            Told::Looked(reader, source, look) => self.looked(reader, &source, look, update),
            Told::Failed(error) => self.about.shared.fail(error),
            Told::Settle(reply) => update.waiting.push(reply),
            Told::Stop => update.is_over = true,
        }
    }

    fn came(&mut self, source: &Arc<str>, segment: &Arc<Segment>, update: &mut Update) {
        let count = segment.count;
        for open in self.open.iter_mut().filter(|open| open.reader.feeds.contains(&**source)) {
            let frames_min = open.reader.frames_min;
            if count >= frames_min {
                open.update(source, vec![Arc::clone(segment)], Vec::new());
                update.came.insert(segment.id);
                update.is_due = true;
                continue;
            }
            let message = format!(
                "a segment has {count} frames, a window needs {frames_min}; set a longer `segment_secs`, and this is \
                 told once"
            );
            let (file, stage, reason) = ((**source).into(), "feed".to_owned(), SkipReason::TooShort);
            let mut notes = self.about.notes.lock().expect("no holder panics");
            notes.complain(Skip { file, stage, reason, message, at_secs: None });
        }
    }

    fn looked(&mut self, reader: usize, source: &Arc<str>, look: Look, update: &mut Update) {
        let Look { added, removed, left, skipped, partial, inputs_added, inputs_removed, complaint } = look;
        self.notes(|notes| {
            notes.left_out.extend(skipped);
            notes.partial.extend(partial);
            notes.inputs_added += inputs_added;
            notes.inputs_removed += inputs_removed;
            complaint.into_iter().for_each(|skip| notes.complain(skip));
        });
        if added.is_empty() && removed.is_empty() && left.is_empty() {
            return;
        }
        update.is_due = true;
        let out: Vec<SegmentId> = removed.iter().chain(&left).copied().collect();
        let is_out: BTreeSet<SegmentId> = out.iter().copied().collect();
        update.change.marks.retain(|(_, id, _)| !is_out.contains(id));
        update.again.retain(|segment| !is_out.contains(&segment.id));
        update.out.extend(is_out);
        update.change.told.removed.extend(removed);
        update.change.told.left.extend(left);
        for (segment, mark) in &added {
            update.change.marks.push((Arc::clone(source), segment.id, *mark));
            if update.out.contains(&segment.id) {
                update.again.push(Arc::clone(segment));
            }
        }
        let added = added.into_iter().map(|(segment, _)| segment).collect();
        self.open[reader].update(source, added, out);
    }

    /// Makes a version of it and publishes that, or the end.
    fn publish(&mut self, mut update: Update) {
        if !update.is_due {
            return;
        }
        let mut added = BTreeMap::new();
        let mut relabelled = BTreeMap::new();
        for open in self.open.iter_mut().filter(|open| open.is_stale) {
            let version = open.keeper.close();
            open.newest = Arc::new(version.catalogue);
            open.is_stale = false;
            let new = version.change.added.into_iter();
            added.extend(new.map(|segment| (segment.id, segment.label.clone())));
            relabelled.extend(version.change.relabelled.into_iter().map(|(id, _, label)| (id, label)));
        }
        added.extend(update.again.into_iter().map(|segment| (segment.id, segment.label.clone())));
        update.change.relabelled.extend(relabelled.into_iter().filter(|(id, _)| !added.contains_key(id)));
        update.change.told.added.extend(added);
        self.send(update.change);
        if self.feeds.is_empty() && !self.about.has_watched {
            self.end();
        }
    }

    fn send(&mut self, change: Change) {
        let all_ended = self.feeds.is_empty();
        let has_enough = |open: &Open| {
            let least = if self.has_begun || all_ended { 1 } else { open.reader.start_after.max(1) };
            open.newest.segments.len() as u64 >= least
        };
        let is_ready = self.open.iter().all(has_enough);
        self.has_begun |= is_ready;
        let catalogues = self.open.iter().map(|open| Arc::clone(&open.newest)).collect();
        self.about.timeline.publish(0, catalogues, is_ready, change);
    }

    /// Nothing will change any more. A run that has a last step goes on with what is there; one that has none and only
    /// live sources goes through it once more.
    fn end(&self) {
        if self.open.iter().any(|open| open.newest.segments.is_empty()) {
            self.about.timeline.end_after(0);
            return;
        }
        let is_live = self.open.iter().all(|open| open.reader.feeds.len() == open.reader.inputs.len());
        if self.about.is_endless && is_live {
            let steps =
                self.open.iter().zip(&self.about.batch_sizes).map(|(open, size)| {
                    (open.newest.segments.len() as u64).div_ceil(u64::from(*size).max(1))
                });
            self.about.timeline.end_after(steps.max().unwrap_or(0));
        }
    }

    fn notes(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.about.notes.lock().expect("no holder panics"));
    }
}

/// What is watched or live is told apart by id alone: nobody reads a file once more for a hash of its content.
fn entries(segments: Vec<Arc<Segment>>) -> Vec<Entry> {
    segments.into_iter().map(|segment| Entry { segment, content: None }).collect()
}

impl Open {
    fn update(&mut self, source: &str, added: Vec<Arc<Segment>>, removed: Vec<SegmentId>) {
        self.keeper.update(source, entries(added), removed);
        self.is_stale = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::timeline::At;
    use crate::sample::fixture::{segment, steady};

    /// A publisher for one reader of a feed `cam` and a watched source `files` with these segments.
    fn publisher(files: &[u64]) -> Publisher {
        let segments = files.iter().map(|id| segment(*id, steady(20))).collect();
        let reader = Reader {
            inputs: vec!["cam".to_owned(), "files".to_owned()],
            frames_min: 10,
            start_after: 2,
            feeds: BTreeSet::from(["cam".to_owned()]),
            changes: true,
            segments: vec![("files".to_owned(), segments)],
        };
        Publisher::new(Publishing {
            readers: vec![reader],
            batch_sizes: vec![2],
            is_endless: false,
            has_watched: true,
            first: Change::default(),
            timeline: Arc::new(Timeline::new(0, Duration::ZERO)),
            shared: Arc::default(),
            notes: Arc::default(),
        })
    }

    /// What is told of one version made of all that.
    fn told(publisher: &mut Publisher, all: Vec<Told>) -> Change {
        // Somebody plans a step, so that the next version is one of its own.
        let step = publisher.about.timeline.take_changes(u64::MAX).last().map_or(0, |one| one.told.step);
        assert!(matches!(publisher.about.timeline.at(step, 0), At::Ready(_)));
        let mut update = Update::default();
        all.into_iter().for_each(|one| publisher.take(one, &mut update));
        publisher.publish(update);
        publisher.about.timeline.take_changes(u64::MAX).pop().unwrap_or_default()
    }

    fn came(id: u64, frames: u32) -> Told {
        Told::News("cam".into(), News::Came(segment(id, steady(frames))))
    }

    fn left(id: u64) -> Told {
        Told::News("cam".into(), News::Left(SegmentId(id)))
    }

    fn looked(added: &[u64], removed: &[u64]) -> Told {
        let added = added.iter().map(|id| (segment(*id, steady(20)), 7)).collect();
        let removed = removed.iter().copied().map(SegmentId).collect();
        Told::Looked(0, "files".into(), Look { added, removed, ..Look::default() })
    }

    fn ids(added: &[(SegmentId, Option<Arc<str>>)]) -> Vec<u64> {
        added.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn what_came_and_left_between_two_versions_is_not_told() {
        let mut publisher = publisher(&[100, 101]);
        let change = told(&mut publisher, vec![came(1, 20), came(2, 20), left(1)]);
        assert_eq!((ids(&change.told.added), change.told.left.len()), (vec![2], 0));
        let change = told(&mut publisher, vec![left(2), came(3, 20)]);
        assert_eq!((ids(&change.told.added), change.told.left), (vec![3], vec![SegmentId(2)]));
        assert!(change.told.removed.is_empty(), "nobody took it back");
    }

    #[test]
    fn a_changed_file_is_taken_back_and_there_again() {
        let mut one = publisher(&[100, 101]);
        let change = told(&mut one, vec![looked(&[], &[100]), looked(&[100], &[])]);
        assert_eq!((ids(&change.told.added), change.told.removed), (vec![100], vec![SegmentId(100)]));
        assert_eq!(change.marks, [(Arc::from("files"), SegmentId(100), 7)]);
        // And gone once more before anybody saw the new content.
        let mut other = publisher(&[100, 101]);
        let all = vec![looked(&[], &[100]), looked(&[100], &[]), looked(&[], &[100])];
        let change = told(&mut other, all);
        assert!(change.told.added.is_empty() && change.marks.is_empty());
        assert!(change.told.removed.contains(&SegmentId(100)));
        assert_eq!(other.about.timeline.segments(), 1);
    }

    #[test]
    fn a_segment_that_is_too_short_is_told_of_once_and_not_used() {
        let mut publisher = publisher(&[100, 101]);
        let change = told(&mut publisher, vec![came(1, 9), came(2, 9), came(3, 10)]);
        assert_eq!(ids(&change.told.added), [3]);
        let notes = publisher.about.notes.lock().unwrap().take();
        assert_eq!(notes.complaints.len(), 1);
        assert_eq!(notes.complaints[0].reason, SkipReason::TooShort);
    }
}
