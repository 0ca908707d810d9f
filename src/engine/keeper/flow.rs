//! The keeper's dataflow: facts in, differences out.
//!
//! ```text
//! facts ─┬─▶ by content ─┬─▶ the first of each ─┐
//!        │               └─▶ groups of two up   ├─▶ members ─┬─▶ differences
//!        └─▶ without content ───────────────────┘            ├─▶ count by label
//!                                                            └─▶ count by source
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::input::{Input, InputSession};
use reelflow_api::item::{Segment, SegmentId};
use serde::{Deserialize, Serialize};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;
use xxhash_rust::xxh3::Xxh3;

use super::{Duplicates, Label};
use crate::source::order::Place;

/// What two segments have in common that show the same: content of the medium, first frame, number of frames.
pub type Twin = (u64, u32, u32);

/// What the flow knows of a segment. Facts compare in the order of the catalogue.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Fact {
    /// Comes first, so that the least of several is the first in the catalogue.
    pub place: Place,
    pub id: SegmentId,
    pub source: Arc<str>,
    pub label: Label,
    pub group: Label,
    pub split: Label,
    /// `None` if the content is not known.
    pub twin: Option<Twin>,
    /// Hash over the frames: their times and what they look like.
    pub print: u64,
}

impl Fact {
    /// What there is to know of `segment`.
    pub fn of(source: &Arc<str>, segment: &Segment, content: Option<u64>) -> Self {
        Self {
            place: Place::of(source, segment),
            id: segment.id,
            source: Arc::clone(source),
            label: segment.label.clone(),
            group: segment.group.clone(),
            split: segment.split.clone(),
            twin: content.map(|content| (content, segment.first, segment.count)),
            print: print(segment),
        }
    }
}

fn print(segment: &Segment) -> u64 {
    let media = &segment.media;
    let mut hash = Xxh3::new();
    for number in [u64::from(media.width), u64::from(media.height), media.bytes, u64::from(segment.first)] {
        hash.update(&number.to_le_bytes());
    }
    hash.update(&[media.orientation.quarter_turns, u8::from(media.orientation.mirror)]);
    hash.update(media.codec.as_bytes());
    for time in segment.times() {
        hash.update(&time.to_le_bytes());
    }
    hash.digest()
}

/// Rows that came (more than 0) and went (less than 0) in one version.
#[derive(Debug, Default)]
pub struct Differences {
    /// Members of the catalogue: each at most once on either side.
    pub facts: Vec<(Fact, isize)>,
    /// Members of groups of equal content.
    pub equal: Vec<((Twin, Place, SegmentId), isize)>,
    /// Labels with their number of members.
    pub per_label: Vec<((Label, isize), isize)>,
    /// Sources with their number of members.
    pub per_source: Vec<((Arc<str>, isize), isize)>,
}

type Facts<'scope> = VecCollection<'scope, u64, Fact, isize>;

/// The flow, its input and what came out of it.
pub struct Flow {
    /// Dropped first, while there is somebody to tell.
    input: InputSession<u64, Fact, isize>,
    probe: Handle<u64>,
    found: Rc<RefCell<Differences>>,
    worker: Worker,
}

impl Flow {
    pub fn new(duplicates: Duplicates) -> Self {
        let mut worker = Worker::new(WorkerConfig::default(), Allocator::Thread(Thread::default()), None);
        let found = Rc::new(RefCell::new(Differences::default()));
        let probe = Handle::new();
        let input = worker.dataflow::<u64, _, _>(|scope| build(scope, duplicates, &probe, &found));
        Self { input, probe, found, worker }
    }

    pub fn insert(&mut self, fact: Fact) {
        self.input.insert(fact);
    }

    pub fn remove(&mut self, fact: Fact) {
        self.input.remove(fact);
    }

    /// Runs until all that was told is worked in, and gives what changed by it.
    pub fn close(&mut self) -> Differences {
        let next = self.input.time() + 1;
        self.input.advance_to(next);
        self.input.flush();
        let probe = &self.probe;
        self.worker.step_while(|| probe.less_than(&next));
        self.found.take()
    }
}

/// Builds the flow and gives its input.
fn build(
    scope: Scope<'_, u64>,
    duplicates: Duplicates,
    probe: &Handle<u64>,
    found: &Rc<RefCell<Differences>>,
) -> InputSession<u64, Fact, isize> {
    let (input, facts) = scope.new_collection::<Fact, isize>();
    let by_content = facts.clone().flat_map(|fact| fact.twin.map(|twin| (twin, fact)));
    let equal = by_content.clone().reduce(|_, facts, output| {
        if facts.len() > 1 {
            output.extend(facts.iter().map(|(fact, _)| ((fact.place.clone(), fact.id), 1)));
        }
    });
    let members = match duplicates {
        Duplicates::Keep => facts,
        Duplicates::First => first_of_each(facts, by_content),
    };
    let per_label = members.clone().map(|fact| fact.label).count();
    let per_source = members.clone().map(|fact| fact.source).count();

    let out = Rc::clone(found);
    members
        .consolidate()
        .inspect(move |(fact, _, by)| out.borrow_mut().facts.push((fact.clone(), *by)))
        .probe_with(probe);
    let out = Rc::clone(found);
    equal
        .consolidate()
        .inspect(move |((twin, (place, id)), _, by)| {
            out.borrow_mut().equal.push(((*twin, place.clone(), *id), *by));
        })
        .probe_with(probe);
    let out = Rc::clone(found);
    per_label
        .inspect(move |(row, _, by)| out.borrow_mut().per_label.push((row.clone(), *by)))
        .probe_with(probe);
    let out = Rc::clone(found);
    per_source
        .inspect(move |(row, _, by)| out.borrow_mut().per_source.push((row.clone(), *by)))
        .probe_with(probe);
    input
}

/// Of facts with equal content the first; all facts whose content is not known.
fn first_of_each<'scope>(
    facts: Facts<'scope>,
    by_content: VecCollection<'scope, u64, (Twin, Fact), isize>,
) -> Facts<'scope> {
    let first = by_content.reduce(|_, facts, output| output.push((facts[0].0.clone(), 1)));
    facts.filter(|fact| fact.twin.is_none()).concat(first.map(|(_, fact)| fact))
}
