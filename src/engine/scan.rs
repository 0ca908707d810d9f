//! One scan a set of sources, shared by the samplers that read them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::Catalogue;
use reelflow_api::stage::Source;

use super::layout::Parts;
use crate::config::RunSettings;
use crate::source::catalogue::{self, Scanned};
use crate::source::kept::Kept;

/// What the scans of all sources gave.
#[derive(Debug, Default)]
pub struct Scans {
    /// A catalogue a sampler, by its id.
    pub catalogues: HashMap<String, Catalogue>,
    /// Every input that was left out, with its reason.
    pub skipped: Vec<Skip>,
    /// Inputs listed or skipped.
    pub inputs_seen: u64,
    /// Inputs with at least one segment.
    pub inputs_ok: u64,
    /// Segments of all catalogues, each counted once.
    pub segments: u64,
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
        eprintln!("warning: catalogue: {note}");
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
        eprintln!("warning: {error}; the next start probes all media again");
    }
}

/// Scans the sources of every sampler; samplers that read the same sources share the scan, and what `kept` knows is
/// not probed.
///
/// # Errors
/// Of the sources.
pub fn scan(parts: &Parts, kept: Option<&Kept>) -> Result<Scans, StageError> {
    let mut scans: BTreeMap<(Vec<String>, u32), Catalogue> = BTreeMap::new();
    let mut found = Scans::default();
    for (id, inputs) in &parts.samplers {
        let wanted = (inputs.clone(), parts.frames_min(id));
        if !scans.contains_key(&wanted) {
            let sources: Vec<(&str, &dyn Source)> = inputs
                .iter()
                .filter_map(|input| Some((input.as_str(), parts.sources.get(input)?.as_ref())))
                .collect();
            let scanned = match kept {
                Some(kept) => catalogue::build_kept(&sources, wanted.1, kept)?,
                None => catalogue::build(&sources, wanted.1)?,
            };
            let Scanned { catalogue, skipped, inputs_seen, inputs_ok, .. } = scanned;
            found.inputs_seen += inputs_seen;
            found.inputs_ok += inputs_ok;
            found.segments += catalogue.segments.len() as u64;
            found.skipped.extend(skipped);
            scans.insert(wanted.clone(), catalogue);
        }
        found.catalogues.insert(id.clone(), scans[&wanted].clone());
    }
    Ok(found)
}

impl Scans {
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
