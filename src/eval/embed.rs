//! Embeds every clip of an evaluating pipeline with one or more networks in one pass over the data.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::{Media, Origin, Segment, SegmentId};
use reelflow_api::stage::{Candidate, Listing, OnError, Source};

use super::Embedded;
use crate::config;
use crate::engine::flow::{Flow, Next};
use crate::engine::layout::Parts;
use crate::engine::run::workers;
use crate::source::catalogue;
use crate::train::Embedder;

const PATIENCE: Duration = Duration::from_millis(100);

/// What a pass over the data gave.
pub struct Pass {
    /// Embeddings of each network, in the order of the networks.
    pub embeddings: Vec<Vec<Embedded>>,
    /// Inputs that were left out.
    pub skipped: Vec<Skip>,
    /// Inputs that were listed.
    pub inputs_seen: u64,
}

/// Runs `pipeline` (as [`super::recipe::Recipe::pipeline`] writes it) and embeds its clips; `only` keeps
/// media whose path contains the text.
///
/// # Errors
/// If the pipeline, the data or a network does not fit.
pub fn embed(pipeline: &str, only: Option<&str>, networks: &[Embedder]) -> Result<Pass, StageError> {
    let plan = config::load(pipeline, Path::new("eval"), &[])
        .map_err(|report| StageError::refused("eval", report.to_string()))?;
    let parts = Parts::of(plan);
    let (sampler, inputs) = parts.samplers.first().cloned().unwrap_or_default();
    let sources: Vec<(&str, Only<'_>)> = inputs
        .iter()
        .filter_map(|id| Some((id.as_str(), Only { source: parts.sources.get(id)?.as_ref(), only })))
        .collect();
    let sources: Vec<(&str, &dyn Source)> =
        sources.iter().map(|(id, source)| (*id, source as &dyn Source)).collect();
    let scanned = catalogue::build(&sources, parts.frames_min(&sampler))?;
    let segments: HashMap<SegmentId, Arc<Segment>> =
        scanned.catalogue.segments.iter().map(|segment| (segment.id, Arc::clone(segment))).collect();
    let worker_count = workers(&parts.run);
    let (layout, _) = parts.layout(HashMap::from([(sampler, scanned.catalogue)]), 0)?;
    let flow = Flow::start(layout, worker_count)?;
    let embeddings = consume(&flow, &segments, networks);
    let mut skipped = scanned.skipped;
    skipped.extend(flow.shared.take_skips());
    flow.finish()?;
    Ok(Pass { embeddings: embeddings?, skipped, inputs_seen: scanned.inputs_seen })
}

fn consume(
    flow: &Flow,
    segments: &HashMap<SegmentId, Arc<Segment>>,
    networks: &[Embedder],
) -> Result<Vec<Vec<Embedded>>, StageError> {
    let mut embeddings: Vec<Vec<Embedded>> = vec![Vec::new(); networks.len()];
    loop {
        let delivery = match flow.next(PATIENCE) {
            Next::Step(delivery) => delivery,
            Next::Idle => continue,
            Next::End => return Ok(embeddings),
        };
        for (_, batch) in &delivery.batches {
            let Some(view) = batch.views.first() else { continue };
            for (network, list) in networks.iter().zip(&mut embeddings) {
                let vectors = network.embed(view)?;
                list.extend(batch.slots.iter().zip(vectors).filter_map(|(slot, vector)| {
                    Some(Embedded { segment: Arc::clone(segments.get(&slot.segment)?), vector })
                }));
            }
        }
        flow.consumed(delivery.step);
    }
}

/// A source of which only some media are looked at.
struct Only<'a> {
    source: &'a dyn Source,
    only: Option<&'a str>,
}

impl Source for Only<'_> {
    fn list(&self) -> Result<Listing, StageError> {
        let mut listing = self.source.list()?;
        if let Some(only) = self.only {
            let named = |path: &Path| path.to_string_lossy().contains(only);
            listing.candidates.retain(|Candidate { origin, .. }| match origin {
                Origin::File(path) => named(path),
                Origin::Pattern { .. } => false,
            });
            listing.skipped.retain(|skip| named(&skip.file));
        }
        Ok(listing)
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        self.source.describe(origin)
    }

    fn segment_secs(&self) -> Option<f64> {
        self.source.segment_secs()
    }

    fn on_error(&self) -> OnError {
        self.source.on_error()
    }
}
