//! One scan a set of sources, shared by the samplers that read them.

use std::collections::{BTreeMap, HashMap};

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::Catalogue;
use reelflow_api::stage::Source;

use super::layout::Parts;
use crate::config::RunSettings;
use crate::source::catalogue::{self, Scanned};

/// What the scans of all sources gave.
#[derive(Debug, Default)]
pub struct Scans {
    /// A catalogue a sampler, by its id.
    pub catalogues: HashMap<String, Catalogue>,
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

/// Scans the sources of every sampler; samplers that read the same sources share the scan.
///
/// # Errors
/// Of the sources.
pub fn scan(parts: &Parts) -> Result<Scans, StageError> {
    let mut scans: BTreeMap<(Vec<String>, u32), Catalogue> = BTreeMap::new();
    let mut found = Scans::default();
    for (id, inputs) in &parts.samplers {
        let wanted = (inputs.clone(), parts.frames_min(id));
        if !scans.contains_key(&wanted) {
            let sources: Vec<(&str, &dyn Source)> = inputs
                .iter()
                .filter_map(|input| Some((input.as_str(), parts.sources.get(input)?.as_ref())))
                .collect();
            let Scanned { catalogue, skipped, partial, inputs_seen, inputs_ok, .. } =
                catalogue::build(&sources, wanted.1)?;
            found.inputs_seen += inputs_seen;
            found.inputs_ok += inputs_ok;
            found.segments += catalogue.segments.len() as u64;
            found.skipped.extend(skipped);
            found.partial.extend(partial);
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
