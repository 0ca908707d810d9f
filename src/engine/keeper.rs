//! Keeps the catalogue while media come and go: what is in it, what changed, what is there twice.
//!
//! The facts about segments (source, label, content) are a collection of differential-dataflow, and membership,
//! counts, groups of equal content and differences are computed from it, at a cost that follows the change and not
//! the archive. Segments themselves lie in a map beside it, by id; pixels never come near it.
//!
//! A keeper owns a timely worker of one thread, which only runs inside [`Keeper::close`], on the caller's thread; it
//! cannot be sent to another thread. It holds one row a segment and no history: the flow has no clock and no queue.

mod flow;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use reelflow_api::item::{Catalogue, Segment, SegmentId};

use crate::source::catalogue;
use crate::source::order::Place;
use flow::{Differences, Fact, Flow};

/// A segment as a source tells it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The segment; its id says whether it is new.
    pub segment: Arc<Segment>,
    /// Hash of the bytes of its medium; `None` if it is not known. Segments of media with one content are equal where
    /// their first frame and number of frames are.
    pub content: Option<u64>,
}

/// What becomes of segments with equal content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Duplicates {
    /// All are in the catalogue; a file with several names counts once a name.
    #[default]
    Keep,
    /// Only the first in the catalogue's order; when it leaves, the next takes its place.
    First,
}

/// A class, or none.
pub type Label = Option<Arc<str>>;

/// The catalogue at one moment, and how it came about from the version before.
#[derive(Clone, Debug, Default)]
pub struct Version {
    /// Counts versions, from 1.
    pub number: u64,
    /// What can be sampled, in the order of (source, path, position), with its hash.
    pub catalogue: Catalogue,
    /// The way here from the version before.
    pub change: Change,
    /// Ids of segments with equal content, at least two each, in the catalogue's order; with [`Duplicates::First`] the
    /// first of each is in the catalogue and the others are not.
    pub duplicates: Vec<Vec<SegmentId>>,
    /// Segments of the catalogue, a label; those without a label under `None`.
    pub per_label: BTreeMap<Label, u64>,
    /// Segments of the catalogue, a source. A source without any is not listed.
    pub per_source: BTreeMap<Arc<str>, u64>,
}

/// How a catalogue differs from the version before. Lists are in the catalogue's order, the new one for what is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Segments that were not there.
    pub added: Vec<Arc<Segment>>,
    /// Segments that are gone: each exactly once, in the version in which it went.
    pub removed: Vec<SegmentId>,
    /// Segments that stay under their id with other frames or another content: the file was replaced. What was learnt
    /// of the old frames is no longer of this segment.
    pub changed: Vec<SegmentId>,
    /// Segments that stay with another label: the old and the new one.
    pub relabelled: Vec<(SegmentId, Label, Label)>,
    /// Segments that stay with another group or split.
    pub regrouped: Vec<SegmentId>,
    /// Segments that went and that came with equal content in the same source: a renamed file. Both are in
    /// [`Change::removed`] and [`Change::added`] too.
    pub renamed: Vec<(SegmentId, SegmentId)>,
}

impl Change {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Keeps a catalogue.
pub struct Keeper {
    flow: Flow,
    number: u64,
    /// Everything that was told and not taken back.
    known: HashMap<SegmentId, (Fact, Arc<Segment>)>,
    /// What is in the catalogue.
    listed: BTreeMap<Place, SegmentId>,
    equal: BTreeMap<flow::Twin, BTreeSet<(Place, SegmentId)>>,
    per_label: BTreeMap<Label, u64>,
    per_source: BTreeMap<Arc<str>, u64>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new()
    }
}

impl Keeper {
    /// An empty catalogue that keeps duplicates.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Duplicates::Keep)
    }

    /// An empty catalogue.
    #[must_use]
    pub fn with(duplicates: Duplicates) -> Self {
        Self {
            flow: Flow::new(duplicates),
            number: 0,
            known: HashMap::new(),
            listed: BTreeMap::new(),
            equal: BTreeMap::new(),
            per_label: BTreeMap::new(),
            per_source: BTreeMap::new(),
        }
    }

    /// Takes segments of `source` out, then takes others in; what is taken in under an id that is there replaces it.
    /// Ids that are not there, or belong to another source, are passed over. Nothing shows before [`Keeper::close`].
    pub fn update(&mut self, source: &str, added: Vec<Entry>, removed: Vec<SegmentId>) {
        for id in removed {
            if self.known.get(&id).is_some_and(|(fact, _)| *fact.source == *source) {
                self.take_out(id);
            }
        }
        let source: Arc<str> = source.into();
        for Entry { segment, content } in added {
            self.take_out(segment.id);
            let fact = Fact::of(&source, &segment, content);
            self.flow.insert(fact.clone());
            self.known.insert(segment.id, (fact, segment));
        }
    }

    /// The segment of this id, as it was told last.
    #[must_use]
    pub fn segment(&self, id: SegmentId) -> Option<&Arc<Segment>> {
        Some(&self.known.get(&id)?.1)
    }

    fn take_out(&mut self, id: SegmentId) {
        if let Some((fact, _)) = self.known.remove(&id) {
            self.flow.remove(fact);
        }
    }

    /// Makes a version of all updates since the last one.
    pub fn close(&mut self) -> Version {
        let differences = self.flow.close();
        self.number += 1;
        self.count(&differences);
        let change = self.change(&differences.facts);
        let segments: Vec<Arc<Segment>> =
            self.listed.values().map(|id| Arc::clone(&self.known[id].1)).collect();
        let version = catalogue::version(&segments);
        Version {
            number: self.number,
            catalogue: Catalogue { segments, version },
            change,
            duplicates: self.equal.values().map(|equal| equal.iter().map(|(_, id)| *id).collect()).collect(),
            per_label: self.per_label.clone(),
            per_source: self.per_source.clone(),
        }
    }

    /// Brings counts and groups up to date.
    fn count(&mut self, differences: &Differences) {
        apply_counts(&mut self.per_label, &differences.per_label);
        apply_counts(&mut self.per_source, &differences.per_source);
        // What went first: a member that moved within its group is the same member.
        for ((twin, place, id), _) in differences.equal.iter().filter(|(_, by)| *by < 0) {
            if let Some(group) = self.equal.get_mut(twin) {
                group.remove(&(place.clone(), *id));
            }
        }
        for ((twin, place, id), _) in differences.equal.iter().filter(|(_, by)| *by > 0) {
            self.equal.entry(*twin).or_default().insert((place.clone(), *id));
        }
        self.equal.retain(|_, group| !group.is_empty());
    }

    /// Brings the list up to date and says what changed.
    fn change(&mut self, facts: &[(Fact, isize)]) -> Change {
        let mut went = BTreeMap::new();
        let mut came = BTreeMap::new();
        for (fact, by) in facts {
            let side = if *by < 0 { &mut went } else { &mut came };
            side.insert(fact.id, fact);
        }
        for fact in went.values() {
            self.listed.remove(&fact.place);
        }
        for fact in came.values() {
            self.listed.insert(fact.place.clone(), fact.id);
        }
        let mut change = Change::default();
        let mut news: Vec<&Fact> = came.values().copied().collect();
        news.sort();
        let mut left: Vec<&Fact> =
            went.values().copied().filter(|fact| !came.contains_key(&fact.id)).collect();
        left.sort();
        let added: Vec<&Fact> = news.iter().copied().filter(|fact| !went.contains_key(&fact.id)).collect();
        for new in &news {
            let Some(old) = went.get(&new.id) else { continue };
            let is_other = old.twin.zip(new.twin).is_some_and(|(old, new)| old != new);
            if old.print != new.print || is_other {
                change.changed.push(new.id);
            }
            if old.label != new.label {
                change.relabelled.push((new.id, old.label.clone(), new.label.clone()));
            }
            if (&old.group, &old.split) != (&new.group, &new.split) {
                change.regrouped.push(new.id);
            }
        }
        change.renamed = renamed(&left, &added);
        change.removed = left.iter().map(|fact| fact.id).collect();
        change.added = added.iter().map(|fact| Arc::clone(&self.known[&fact.id].1)).collect();
        change
    }
}

/// Pairs of what went and what came with equal content in one source: of several, the first with the first.
fn renamed<'f>(left: &[&'f Fact], added: &[&'f Fact]) -> Vec<(SegmentId, SegmentId)> {
    let mut homeless: HashMap<_, Vec<SegmentId>> = HashMap::new();
    for fact in left.iter().rev().filter(|fact| fact.twin.is_some()) {
        homeless.entry((&fact.source, &fact.twin)).or_default().push(fact.id);
    }
    let pair = |fact: &'f Fact| Some((homeless.get_mut(&(&fact.source, &fact.twin))?.pop()?, fact.id));
    added.iter().copied().filter_map(pair).collect()
}

fn apply_counts<K: Clone + Ord>(counts: &mut BTreeMap<K, u64>, differences: &[((K, isize), isize)]) {
    let (new, old): (Vec<_>, Vec<_>) = differences.iter().partition(|(_, by)| *by > 0);
    for ((key, _), _) in old {
        counts.remove(key);
    }
    for ((key, count), _) in new {
        counts.insert(key.clone(), u64::try_from(*count).expect("no row is there less than no time"));
    }
}
