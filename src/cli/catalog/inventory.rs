//! What is there now beside what was there at the last look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::{Segment, SegmentId};

use super::{Filter, Given};
use crate::edge::files;
use crate::engine::keeper::{Entry, Keeper, Version};
use crate::source::catalogue::{self, Guide, Mark};
use crate::source::kept::Kept;
use crate::source::kept::look::{Look, Row};

/// Everything that a look found.
pub struct Inventory {
    /// The catalogue, its counts, and its change since the last look.
    pub version: Version,
    /// Of each segment of the catalogue, in its order, where it comes from.
    pub marks: Vec<Mark>,
    /// Segments of the last look by id; `None` at the first look.
    pub before: Option<HashMap<SegmentId, Arc<Segment>>>,
    /// Inputs that were left out, with the ids of their sources.
    pub skipped: Vec<(Arc<str>, Skip)>,
    /// Inputs that were listed, a source.
    pub inputs: BTreeMap<Arc<str>, u64>,
    /// How many files were known, and how many had to be probed.
    pub counts: (u64, u64),
}

impl Inventory {
    /// Scans the sources, compares with the last look, and keeps this one.
    ///
    /// # Errors
    /// If a source cannot be listed, or the file of earlier looks not be read. That it cannot be written is a warning.
    pub fn take(given: &Given) -> Result<Self, StageError> {
        let (kept, note) = match &given.file {
            Some(file) if given.is_own_file => Kept::open_own(file, file)?,
            Some(file) => Kept::open(file)?,
            None => (Kept::nowhere(), None),
        };
        if let Some(note) = note {
            eprintln!("warning: catalogue: {note}");
        }
        let mut keeper = Keeper::new();
        let before = kept.look(&given.name).map(|look| recall(&kept, &look, &mut keeper));
        let (mut skipped, mut inputs) = (Vec::new(), BTreeMap::new());
        let mut marks = HashMap::new();
        let guide = Guide { kept: Some(&kept), stop: None };
        for (id, (source, frames_min)) in &given.sources {
            let scanned = catalogue::build_guided(&[(id, source.as_ref())], *frames_min, guide)?;
            let of: Arc<str> = id.as_str().into();
            skipped.extend(scanned.skipped.into_iter().map(|skip| (Arc::clone(&of), skip)));
            inputs.insert(Arc::clone(&of), scanned.inputs_seen);
            let found = scanned.catalogue.segments.iter().zip(&scanned.marks);
            let entry = |(segment, mark): (&Arc<Segment>, &Mark)| Entry {
                segment: Arc::clone(segment),
                content: mark.content,
            };
            let entries: Vec<Entry> = found.map(entry).collect();
            let is_here: BTreeSet<SegmentId> = entries.iter().map(|entry| entry.segment.id).collect();
            let gone =
                before.iter().flatten().map(|(id, _)| *id).filter(|id| !is_here.contains(id)).collect();
            keeper.update(id, entries, gone);
            marks.extend(scanned.catalogue.segments.iter().map(|segment| segment.id).zip(scanned.marks));
        }
        drop_lost_sources(&mut keeper, before.as_ref(), given, &kept);
        let version = keeper.close();
        kept.set_look(&given.name, to_look(&version, &marks));
        if let Err(error) = kept.save() {
            eprintln!("warning: {error}; the next look probes all media again");
        }
        let marks = version.catalogue.segments.iter().map(|segment| marks[&segment.id].clone()).collect();
        Ok(Self { version, marks, before, skipped, inputs, counts: kept.counts() })
    }

    /// Refuses a filter that names what is not there, as a slip of the finger would.
    ///
    /// # Errors
    /// With what there is.
    pub fn check(&self, filter: &Filter) -> Result<(), StageError> {
        let segments = &self.version.catalogue.segments;
        let known = |what: &str, wanted: &Option<String>, there: BTreeSet<&str>| match wanted {
            Some(wanted) if !there.contains(wanted.as_str()) => {
                let there = if there.is_empty() {
                    "there is none".to_owned()
                } else {
                    Vec::from_iter(there).join(", ")
                };
                Err(StageError::failed(
                    "catalog",
                    format!("no segment has the {what} `{wanted}`; there are: {there}"),
                ))
            }
            _ => Ok(()),
        };
        known("source", &filter.source, self.inputs.keys().map(|id| &**id).collect())?;
        known(
            "label",
            &filter.label,
            segments.iter().filter_map(|segment| segment.label.as_deref()).collect(),
        )?;
        known(
            "split",
            &filter.split,
            segments.iter().filter_map(|segment| segment.split.as_deref()).collect(),
        )
    }

    /// Left-out inputs, a reason.
    pub fn by_reason(&self) -> BTreeMap<SkipReason, u64> {
        let mut counts = BTreeMap::new();
        for (_, skip) in &self.skipped {
            *counts.entry(skip.reason).or_default() += 1;
        }
        counts
    }

    /// Segments, a split; those without under an empty name.
    pub fn by_split(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for segment in &self.version.catalogue.segments {
            *counts.entry(segment.split.as_deref().unwrap_or_default()).or_default() += 1;
        }
        counts
    }

    /// Different media of the catalogue.
    pub fn media(&self) -> usize {
        let names = self.version.catalogue.segments.iter().zip(&self.marks);
        names.map(|(segment, mark)| (&mark.source, &segment.media.name)).collect::<BTreeSet<_>>().len()
    }
}

/// Puts the segments of a look into the keeper as its first version.
fn recall(kept: &Kept, look: &Look, keeper: &mut Keeper) -> HashMap<SegmentId, Arc<Segment>> {
    let mut by_source: BTreeMap<Arc<str>, Vec<Entry>> = BTreeMap::new();
    let mut before = HashMap::new();
    for (source, segment, content) in kept.recall(look) {
        before.insert(segment.id, Arc::clone(&segment));
        by_source.entry(source).or_default().push(Entry { segment, content });
    }
    for (source, entries) in by_source {
        keeper.update(&source, entries, Vec::new());
    }
    keeper.close();
    before
}

/// Takes out the segments of sources that the pipeline no longer has.
fn drop_lost_sources(
    keeper: &mut Keeper,
    before: Option<&HashMap<SegmentId, Arc<Segment>>>,
    given: &Given,
    kept: &Kept,
) {
    let Some((before, look)) = before.zip(kept.look(&given.name)) else { return };
    let sources: BTreeSet<&Arc<str>> = look.rows.iter().map(|row| &row.source).collect();
    for source in sources.into_iter().filter(|source| !given.sources.contains_key(&***source)) {
        keeper.update(source, Vec::new(), before.keys().copied().collect());
    }
}

/// The catalogue as rows; media that are no files are made anew each time and leave none.
fn to_look(version: &Version, marks: &HashMap<SegmentId, Mark>) -> Look {
    let mut identities: HashMap<&Path, Option<[u64; 5]>> = HashMap::new();
    let mut rows = Vec::new();
    for segment in &version.catalogue.segments {
        let origin = &segment.media.origin;
        let (Some(path), Some(file)) = (origin.path(), origin.file()) else { continue };
        let identity = identities.entry(file).or_insert_with(|| files::identity(file));
        let Some(identity) = *identity else { continue };
        rows.push(Row {
            source: Arc::clone(&marks[&segment.id].source),
            id: segment.id,
            path,
            identity,
            first: segment.first,
            count: segment.count,
            label: segment.label.clone(),
            group: segment.group.clone(),
            split: segment.split.clone(),
        });
    }
    Look { rows }
}
