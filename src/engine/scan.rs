//! One scan a set of sources, shared by the samplers that read them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::{Catalogue, Segment};
use reelflow_api::stage::Source;

use super::layout::Parts;
use crate::config::RunSettings;
use crate::source::catalogue::{self, Scanned};
use crate::source::watch::Watched;

/// What the scans of all sources gave.
#[derive(Default)]
pub struct Scans {
    /// A catalogue a sampler, by its id: all there is to sample from, or what there is at first.
    pub catalogues: HashMap<String, Catalogue>,
    /// By sampler, the version of what cannot change while the run goes on; not there if all can.
    pub fixed: BTreeMap<String, String>,
    /// What can change; `None` if nothing can.
    pub changing: Option<Changing>,
    /// Every input that was left out, with its reason.
    pub skipped: Vec<Skip>,
    /// Inputs listed or skipped.
    pub inputs_seen: u64,
    /// Inputs with at least one segment.
    pub inputs_ok: u64,
    /// Segments of all catalogues, each counted once.
    pub segments: u64,
}

/// Sources that change while the run goes on, and who reads them.
#[derive(Default)]
pub struct Changing {
    /// Everybody who samples, of changing sources or of others: all agree on the step of a version.
    pub readers: Vec<Reader>,
    /// Number of each sampler's reader, by the sampler's id.
    pub numbers: HashMap<String, usize>,
    /// Sources that are looked at again and again, each with the number of the reader that it is read for.
    pub watched: Vec<(usize, Watched)>,
    /// Sources whose media arrive, by id.
    pub feeds: BTreeMap<String, Arc<dyn Source>>,
}

/// Samplers that read the same sources with the same needs.
#[derive(Default)]
pub struct Reader {
    /// Ids of the sources.
    pub inputs: Vec<String>,
    /// Frames a segment must have.
    pub frames_min: u32,
    /// Segments there must be before the first step.
    pub start_after: u64,
    /// Those of the inputs that are feeds.
    pub feeds: BTreeSet<String>,
    /// Whether any of the inputs changes while the run goes on.
    pub changes: bool,
    /// What the other inputs gave at the start.
    pub segments: Vec<(String, Vec<Arc<Segment>>)>,
}

/// Scans the sources of every sampler; samplers that read the same sources share the scan.
///
/// # Errors
/// Of the sources.
pub fn scan(parts: &Parts) -> Result<Scans, StageError> {
    let mut known: BTreeMap<(Vec<String>, u32), (usize, String)> = BTreeMap::new();
    let mut found = Scans::default();
    let mut changing = Changing::default();
    for (id, inputs) in &parts.samplers {
        let wanted = (inputs.clone(), parts.frames_min(id));
        if !known.contains_key(&wanted) {
            let number = changing.readers.len();
            let reader =
                Reader { inputs: inputs.clone(), frames_min: wanted.1, start_after: 1, ..Reader::default() };
            let reader = found.read(id, parts, reader, &mut changing)?;
            changing.readers.push(reader);
            known.insert(wanted.clone(), (number, id.clone()));
        }
        let (number, first) = &known[&wanted];
        changing.numbers.insert(id.clone(), *number);
        if first != id {
            found.catalogues.insert(id.clone(), found.catalogues[first].clone());
            found.fixed.extend(found.fixed.get(first).cloned().map(|version| (id.clone(), version)));
        }
    }
    if !changing.watched.is_empty() || !changing.feeds.is_empty() {
        found.changing = Some(changing);
    }
    Ok(found)
}

impl Scans {
    /// Scans what the sampler `id` reads.
    fn read(
        &mut self,
        id: &str,
        parts: &Parts,
        mut reader: Reader,
        changing: &mut Changing,
    ) -> Result<Reader, StageError> {
        let mut inputs: Vec<(&str, &Arc<dyn Source>)> = reader
            .inputs
            .iter()
            .filter_map(|input| Some((input.as_str(), parts.sources.get(input)?)))
            .collect();
        inputs.sort_by_key(|(id, _)| *id);
        let is_fixed = |source: &dyn Source| source.feed().is_none() && source.watch_secs().is_none();
        let (fixed, others): (Vec<_>, Vec<_>) =
            inputs.into_iter().partition(|(_, source)| is_fixed(source.as_ref()));
        let listed: Vec<(&str, &dyn Source)> =
            fixed.iter().map(|(id, source)| (*id, source.as_ref())).collect();
        let scanned = catalogue::build(&listed, reader.frames_min)?;
        let mut rest = &scanned.catalogue.segments[..];
        for (input, count) in &scanned.per_source {
            let (own, others) = rest.split_at(*count);
            reader.segments.push((input.clone(), own.to_vec()));
            rest = others;
        }
        let mut catalogue = self.add(scanned);
        if !fixed.is_empty() {
            self.fixed.insert(id.to_owned(), format!("{:016x}", catalogue.version));
        }
        if others.is_empty() {
            self.catalogues.insert(id.to_owned(), catalogue);
            return Ok(reader);
        }
        reader.changes = true;
        for (input, source) in others {
            if let Some(feed) = source.feed() {
                reader.start_after = reader.start_after.max(feed.start_after());
                reader.feeds.insert(input.to_owned());
                changing.feeds.insert(input.to_owned(), Arc::clone(source));
            } else {
                let (watched, scanned) = Watched::open(input, Arc::clone(source), reader.frames_min)?;
                let segments = self.add(scanned).segments;
                catalogue.segments.extend(segments.iter().cloned());
                reader.segments.push((input.to_owned(), segments));
                changing.watched.push((changing.readers.len(), watched));
            }
        }
        catalogue.version = catalogue::version(&catalogue.segments);
        self.catalogues.insert(id.to_owned(), catalogue);
        Ok(reader)
    }

    fn add(&mut self, scanned: Scanned) -> Catalogue {
        let Scanned { catalogue, skipped, inputs_seen, inputs_ok, .. } = scanned;
        self.inputs_seen += inputs_seen;
        self.inputs_ok += inputs_ok;
        self.segments += catalogue.segments.len() as u64;
        self.skipped.extend(skipped);
        catalogue
    }

    /// Whether few enough inputs are bad.
    ///
    /// # Errors
    /// If their share is above `run.max_bad`; `where_told` says where each is named.
    pub fn check_budget(&self, settings: &RunSettings, where_told: &str) -> Result<(), StageError> {
        let bad = self.inputs_seen.saturating_sub(self.inputs_ok);
        let share = bad as f64 / (self.inputs_seen.max(1)) as f64;
        if share > settings.max_bad {
            return Err(StageError::failed(
                "scan",
                format!(
                    "{bad} of {} inputs cannot be used, more than `run.max_bad = {}` allows; see {where_told}",
                    self.inputs_seen, settings.max_bad
                ),
            ));
        }
        Ok(())
    }
}
