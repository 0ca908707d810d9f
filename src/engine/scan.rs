//! One scan a set of sources, shared by the samplers that read them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::{Catalogue, Segment};
use reelflow_api::stage::Source;

use super::layout::Parts;
use crate::config::RunSettings;
use crate::source::catalogue::{self, Guide, Scanned};
use crate::source::kept::Kept;
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
    /// What is missing of inputs that are used all the same.
    pub partial: Vec<Skip>,
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

/// What is known of media before a run in `dir` scans them: from `run.catalogue`, or from the run's own folder, or,
/// where that is new, from the run before it. [`save`] it after the scan.
///
/// # Errors
/// If the file cannot be read, a newer version wrote it, or `run.catalogue` is some other file.
pub fn kept(dir: &Path, settings: &RunSettings) -> Result<Kept, StageError> {
    let (kept, note) = match &settings.catalogue {
        Some(path) => Kept::open(path)?,
        None => {
            let own = dir.join(CATALOGUE);
            let earlier = || earlier(dir).map(|run| run.join(CATALOGUE)).find(|file| file.is_file());
            let from = if own.is_file() { None } else { earlier() };
            Kept::open_own(&own, from.as_deref().unwrap_or(&own))?
        }
    };
    if let Some(note) = note {
        warn(&format!("catalogue: {note}"));
    }
    Ok(kept)
}

/// What a run keeps of its media, in its folder. `--overwrite` leaves it there: it says nothing about the run.
const CATALOGUE: &str = "catalogue.bin";

/// Numbers that are looked for below that of a run.
const EARLIER_MAX: u32 = 1000;

/// Folders of runs before the one in `dir`, the latest first: `NAME-2` and `NAME` for `NAME-3`.
fn earlier(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let text = dir.to_string_lossy().into_owned();
    let split =
        text.rsplit_once('-').and_then(|(name, number)| Some((name.to_owned(), number.parse::<u32>().ok()?)));
    split.into_iter().flat_map(|(name, number)| {
        let lowest = number.saturating_sub(EARLIER_MAX).max(1);
        (lowest..number).rev().map(move |number| match number {
            1 => PathBuf::from(&name),
            number => PathBuf::from(format!("{name}-{number}")),
        })
    })
}

/// Saves what a scan found, and lets go of it. That it cannot be saved costs the next start time and no run its life.
pub fn save(kept: Kept) {
    if let Err(error) = kept.save() {
        warn(&format!("{error}; the next start probes all media again"));
    }
}

/// A closed standard error must not end a run.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Scans the sources of every sampler; samplers that read the same sources share the scan, and what `guide.kept` knows
/// is not probed.
///
/// # Errors
/// Of the sources, and if it was stopped.
pub fn scan(parts: &Parts, guide: Guide<'_>) -> Result<Scans, StageError> {
    let mut known: BTreeMap<(Vec<String>, u32), (usize, String)> = BTreeMap::new();
    let mut found = Scans::default();
    let mut changing = Changing::default();
    for (id, inputs) in &parts.samplers {
        let wanted = (inputs.clone(), parts.frames_min(id));
        if !known.contains_key(&wanted) {
            let number = changing.readers.len();
            let reader =
                Reader { inputs: inputs.clone(), frames_min: wanted.1, start_after: 1, ..Reader::default() };
            let reader = found.read(id, (parts, guide), reader, &mut changing)?;
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
        (parts, guide): (&Parts, Guide<'_>),
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
        let scanned = catalogue::build_guided(&listed, reader.frames_min, guide)?;
        let mut by_source: BTreeMap<Arc<str>, Vec<Arc<Segment>>> = BTreeMap::new();
        for (segment, mark) in scanned.catalogue.segments.iter().zip(&scanned.marks) {
            by_source.entry(Arc::clone(&mark.source)).or_default().push(Arc::clone(segment));
        }
        reader.segments.extend(by_source.into_iter().map(|(input, own)| (input.to_string(), own)));
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
                let (watched, scanned) = Watched::open(input, Arc::clone(source), reader.frames_min, guide)?;
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
        let Scanned { catalogue, skipped, partial, inputs_seen, inputs_ok, .. } = scanned;
        self.inputs_seen += inputs_seen;
        self.inputs_ok += inputs_ok;
        self.segments += catalogue.segments.len() as u64;
        self.skipped.extend(skipped);
        self.partial.extend(partial);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_before_a_run_are_those_of_its_name() {
        let of = |dir: &str| -> Vec<PathBuf> { earlier(Path::new(dir)).collect() };
        assert_eq!(of("runs/a-3"), [PathBuf::from("runs/a-2"), PathBuf::from("runs/a")]);
        assert_eq!(of("runs/a"), Vec::<PathBuf>::new());
        assert_eq!(of("runs/a-b"), Vec::<PathBuf>::new());
        assert_eq!(of("runs-2/a"), Vec::<PathBuf>::new());
        assert_eq!(of("runs/20260101-4000000000").len(), EARLIER_MAX as usize);
    }
}
