//! Which version of the catalogues a step is sampled from: the same for every worker, whoever asks first.
//!
//! ```text
//! step      0   1   2   3   4   5   6
//!           |version 0  |version 1      …       `planned`: 4, somebody has planned step 3
//! ```
//!
//! A version holds from its step until the next one begins. A new version can only begin at a step that no worker
//! has planned yet, so what was said about a step stays true. Where nothing can be sampled, steps wait.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use reelflow_api::feed::CatalogueChange;
use reelflow_api::item::{Catalogue, SegmentId};

/// What a step is sampled from.
pub enum At {
    /// This catalogue.
    Ready(Arc<Catalogue>),
    /// Not known yet: nothing is there to sample from.
    Wait,
    /// Nothing: the step is past the end.
    End,
}

/// What changed from one version to the next.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// As sinks are told.
    pub told: CatalogueChange,
    /// Segments that were there before and have another label now.
    pub relabelled: Vec<(SegmentId, Option<Arc<str>>)>,
    /// Of the segments added those of watched sources: source, id, and a mark of their content.
    pub marks: Vec<(Arc<str>, SegmentId, u64)>,
}

/// A version of every sampler's catalogue.
struct Version {
    /// First step that is sampled from it.
    from: u64,
    /// Counts publications.
    number: u64,
    /// By the samplers' numbers.
    catalogues: Vec<Arc<Catalogue>>,
    /// Whether every sampler has something to sample from.
    is_ready: bool,
}

/// Versions by step. Holds those that steps in flight need and the newest, no more.
pub struct Timeline {
    state: Mutex<State>,
    /// How long it may take until a version is there without what has gone.
    patience: Duration,
    /// Number of the newest version, for who waits for one.
    newest: AtomicU64,
    published: Condvar,
}

struct State {
    /// Steps below this one have been planned by some worker, or are not of this run.
    planned: u64,
    /// The first step that will not be.
    end: Option<u64>,
    /// By `from`, increasing.
    versions: VecDeque<Version>,
    /// Not yet told to the sinks, by step, increasing.
    changes: VecDeque<Change>,
}

impl State {
    fn version_at(&self, step: u64) -> Option<&Version> {
        let past = self.versions.partition_point(|version| version.from <= step);
        self.versions.get(past.checked_sub(1)?)
    }
}

impl Timeline {
    /// Without any version, for a run that begins at `first_step`. What has gone is not in the newest version any more
    /// after `patience`.
    #[must_use]
    pub fn new(first_step: u64, patience: Duration) -> Self {
        let state =
            State { planned: first_step, end: None, versions: VecDeque::new(), changes: VecDeque::new() };
        let published = Condvar::new();
        Self { state: Mutex::new(state), patience, newest: AtomicU64::new(0), published }
    }

    /// As it was made with.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Publishes the next version from the first step that nobody has planned yet, but not before `earliest`; gives
    /// that step. A version that no step was sampled from is replaced, and what changed to it is told with what
    /// changed to the new one.
    pub fn publish(
        &self,
        earliest: u64,
        catalogues: Vec<Arc<Catalogue>>,
        is_ready: bool,
        change: Change,
    ) -> u64 {
        let mut state = self.state();
        let last = state.versions.back().map_or(0, |version| version.from);
        let from = earliest.max(state.planned).max(last);
        if last == from {
            state.versions.pop_back();
        }
        let number = self.newest.load(Ordering::Acquire) + 1;
        state.versions.push_back(Version { from, number, catalogues, is_ready });
        match state.changes.back_mut().filter(|before| before.told.step == from) {
            Some(before) => before.merge(change),
            None => state.changes.push_back(change),
        }
        let told = &mut state.changes.back_mut().expect("pushed or merged above").told;
        (told.step, told.version) = (from, number);
        self.newest.store(number, Ordering::Release);
        drop(state);
        self.published.notify_all();
        from
    }

    /// Number of the newest version; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Differs from what it was before if waiting steps have to look again.
    #[must_use]
    pub fn news(&self) -> (u64, bool) {
        (self.newest(), self.state().end.is_some())
    }

    /// After `steps` more than have been planned by now, no further step is.
    pub fn end_after(&self, steps: u64) {
        let mut state = self.state();
        let end = state.planned + steps;
        state.end.get_or_insert(end);
        drop(state);
        self.published.notify_all();
    }

    /// What sampler `sampler` draws `step` from, which counts as planned from now on if there is something.
    #[must_use]
    pub fn at(&self, step: u64, sampler: usize) -> At {
        let mut state = self.state();
        if state.end.is_some_and(|end| step >= end) {
            return At::End;
        }
        let version = state.version_at(step).filter(|version| version.is_ready);
        let Some(catalogue) = version.map(|version| Arc::clone(&version.catalogues[sampler])) else {
            return At::Wait;
        };
        state.planned = state.planned.max(step + 1);
        At::Ready(catalogue)
    }

    /// Number and catalogue of the version that the planned `step` was sampled from.
    #[must_use]
    pub fn of_planned(&self, step: u64, sampler: usize) -> Option<(u64, Arc<Catalogue>)> {
        let state = self.state();
        let version = state.version_at(step)?;
        Some((version.number, Arc::clone(&version.catalogues[sampler])))
    }

    /// The newest version if it is newer than number `than` and something is in it; waits for one at most `patience`.
    #[must_use]
    pub fn newer(&self, than: u64, sampler: usize, patience: Duration) -> Option<(u64, Arc<Catalogue>)> {
        let find = |state: &State| {
            let version =
                state.versions.back().filter(|version| version.number > than && version.is_ready)?;
            Some((version.number, Arc::clone(&version.catalogues[sampler])))
        };
        let waits = |state: &mut State| find(state).is_none() && state.end.is_none();
        let (state, _) =
            self.published.wait_timeout_while(self.state(), patience, waits).expect("no holder panics");
        find(&state)
    }

    /// Whether steps wait for something to sample from.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let state = self.state();
        state.end.is_none() && state.version_at(state.planned).is_none_or(|version| !version.is_ready)
    }

    /// Segments of the newest version, summed over samplers.
    #[must_use]
    pub fn segments(&self) -> u64 {
        let state = self.state();
        let version = state.versions.back();
        version.map_or(0, |version| version.catalogues.iter().map(|one| one.segments.len() as u64).sum())
    }

    /// What sinks have to be told before they get the batch of `step`, once.
    #[must_use]
    pub fn take_changes(&self, step: u64) -> Vec<Change> {
        let mut state = self.state();
        let count = state.changes.partition_point(|change| change.told.step <= step);
        state.changes.drain(..count).collect()
    }

    /// Lets go of versions that no step from `consumed` on is sampled from.
    pub fn consumed(&self, consumed: u64) {
        let mut state = self.state();
        while state.versions.get(1).is_some_and(|next| next.from <= consumed) {
            state.versions.pop_front();
        }
    }
}

impl Change {
    /// Adds what changed afterwards, where no step was sampled in between. What came and went again leaves no trace,
    /// so that it does not grow while nothing is used.
    pub fn merge(&mut self, later: Self) {
        // Of two labels the later one counts.
        let mut told: BTreeSet<SegmentId> = BTreeSet::new();
        let now = &mut self.told;
        let again: BTreeSet<SegmentId> = now.removed.iter().copied().collect();
        let gone: BTreeSet<SegmentId> = later.told.removed.iter().chain(&later.told.left).copied().collect();
        let new: BTreeSet<SegmentId> = later.told.added.iter().map(|(id, _)| *id).collect();
        // Nobody has seen them; but of one that took the place of another by the same id, that one was seen.
        let unseen: BTreeSet<SegmentId> =
            now.added.iter().map(|(id, _)| *id).filter(|id| !again.contains(id)).collect();
        now.added.retain(|(id, _)| !gone.contains(id) && !new.contains(id));
        self.marks.retain(|(_, id, _)| !gone.contains(id) && !new.contains(id));
        now.left.retain(|id| !new.contains(id));
        for (id, label) in later.relabelled.into_iter().chain(std::mem::take(&mut self.relabelled)) {
            match now.added.iter_mut().find(|(added, _)| *added == id) {
                Some(added) if !told.contains(&id) => added.1 = label,
                None if !told.contains(&id) && !gone.contains(&id) => self.relabelled.push((id, label)),
                _ => {}
            }
            told.insert(id);
        }
        now.added.extend(later.told.added);
        self.marks.extend(later.marks);
        let is_news = |id: &SegmentId| !unseen.contains(id) && !again.contains(id);
        now.removed.extend(later.told.removed.into_iter().filter(is_news));
        now.left.extend(later.told.left.into_iter().filter(is_news));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture;

    fn catalogue(segments: usize) -> Vec<Arc<Catalogue>> {
        vec![Arc::new(fixture::catalogue(&vec![20; segments]))]
    }

    fn timeline(first_step: u64) -> Timeline {
        Timeline::new(first_step, Duration::ZERO)
    }

    fn change(added: &[u64], removed: &[u64], left: &[u64]) -> Change {
        let ids = |ids: &[u64]| ids.iter().copied().map(SegmentId).collect();
        let added = added.iter().map(|id| (SegmentId(*id), None)).collect();
        let told = CatalogueChange { added, removed: ids(removed), left: ids(left), ..Default::default() };
        Change { told, ..Change::default() }
    }

    /// Segments that step `step` is sampled from.
    fn segments(timeline: &Timeline, step: u64) -> Option<usize> {
        match timeline.at(step, 0) {
            At::Ready(catalogue) => Some(catalogue.segments.len()),
            At::Wait | At::End => None,
        }
    }

    #[test]
    fn a_version_begins_where_nobody_has_planned_and_what_was_said_stays() {
        let timeline = timeline(0);
        assert_eq!(segments(&timeline, 0), None);
        assert_eq!(timeline.publish(0, catalogue(1), true, Change::default()), 0);
        assert_eq!((segments(&timeline, 0), segments(&timeline, 1)), (Some(1), Some(1)));
        assert_eq!(timeline.publish(0, catalogue(2), true, Change::default()), 2);
        // Nobody has asked for it, so it is replaced.
        assert_eq!(timeline.publish(0, catalogue(3), true, Change::default()), 2);
        // A second worker is told the same about steps that the first has planned.
        assert_eq!(
            (0..4).map(|step| segments(&timeline, step)).collect::<Vec<_>>(),
            [Some(1), Some(1), Some(3), Some(3)]
        );
        timeline.consumed(2);
        assert_eq!(timeline.of_planned(2, 0).unwrap().0, 3);
        assert!(timeline.of_planned(1, 0).is_none(), "no step in flight needs it");
    }

    #[test]
    fn steps_wait_while_there_is_nothing_and_end_for_all_at_one_step() {
        let timeline = timeline(5);
        timeline.publish(0, catalogue(0), false, Change::default());
        assert!(timeline.is_waiting() && segments(&timeline, 5).is_none());
        timeline.publish(0, catalogue(2), true, Change::default());
        assert!(!timeline.is_waiting());
        assert_eq!((segments(&timeline, 5), segments(&timeline, 6)), (Some(2), Some(2)));
        timeline.publish(0, catalogue(0), false, Change::default());
        assert!(timeline.is_waiting() && segments(&timeline, 7).is_none());
        timeline.end_after(0);
        assert!(matches!(timeline.at(7, 0), At::End));
        assert_eq!(segments(&timeline, 6), Some(2), "a slower worker still plans it");
    }

    #[test]
    fn changes_are_told_once_before_their_step() {
        let timeline = timeline(0);
        timeline.publish(0, catalogue(1), true, change(&[1], &[], &[]));
        assert!(segments(&timeline, 0).is_some());
        timeline.publish(0, catalogue(1), true, change(&[2], &[1], &[]));
        timeline.publish(0, catalogue(1), true, change(&[3], &[], &[2]));
        let first = timeline.take_changes(0);
        assert_eq!((first.len(), first[0].told.step, first[0].told.version), (1, 0, 1));
        assert!(timeline.take_changes(0).is_empty());
        let second = timeline.take_changes(1);
        assert_eq!((second.len(), second[0].told.step, second[0].told.version), (1, 1, 3));
        let told = &second[0].told;
        // Number 2 came and left unseen.
        assert_eq!(
            (&told.added[..], &told.removed[..], &told.left[..]),
            (&[(SegmentId(3), None)][..], &[SegmentId(1)][..], &[][..])
        );
    }

    #[test]
    fn what_took_the_place_of_another_by_the_same_id_is_still_forgotten() {
        let mut all = change(&[], &[], &[]);
        all.merge(change(&[7], &[7], &[]));
        all.merge(change(&[], &[7], &[]));
        assert_eq!((all.told.added.len(), all.told.removed), (0, vec![SegmentId(7)]));
    }

    #[test]
    fn of_two_labels_the_later_one_is_told_and_who_was_seen_before_is_still_forgotten() {
        let label = |id: u64, label: &str| (SegmentId(id), Some(Arc::from(label)));
        let relabelled = |all: &[(u64, &str)]| Change {
            relabelled: all.iter().map(|(id, text)| label(*id, text)).collect(),
            ..Change::default()
        };
        let mut all = change(&[1], &[], &[]);
        all.merge(relabelled(&[(1, "a"), (2, "b"), (3, "c")]));
        all.merge(relabelled(&[(2, "d")]));
        all.merge(change(&[], &[3], &[]));
        assert_eq!(all.told.added, [label(1, "a")]);
        assert_eq!(all.relabelled, [label(2, "d")]);
        assert_eq!(all.told.removed, [SegmentId(3)]);
    }

    #[test]
    fn unused_changes_do_not_pile_up() {
        let timeline = timeline(0);
        timeline.publish(0, catalogue(1), true, Change::default());
        assert!(segments(&timeline, 0).is_some());
        for id in 0..1000u64 {
            let left: Vec<u64> = id.checked_sub(4).into_iter().collect();
            timeline.publish(0, catalogue(1), true, change(&[id], &[], &left));
        }
        let told = &timeline.take_changes(1)[1].told;
        assert_eq!((told.added.len(), told.left.len()), (4, 0));
    }
}
