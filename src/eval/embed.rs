//! Finds the clips of an evaluating pipeline and embeds them with one or more networks in one pass over the data.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::{Batch, Catalogue, Media, Origin, Segment, SegmentId};
use reelflow_api::stage::{Candidate, Limits, Listing, OnError, Source};

use super::Embedded;
use crate::config;
use crate::engine::flow::{Flow, Next};
use crate::engine::layout::Parts;
use crate::engine::run::workers;
use crate::source::catalogue::{self, Scanned};
use crate::train::Embedder;

const PATIENCE: Duration = Duration::from_millis(100);

/// What a pass over the data gave.
pub struct Pass {
    /// Embeddings of each network, in the order of the networks.
    pub embeddings: Vec<Vec<Embedded>>,
    /// Inputs of which a clip could not be decoded.
    pub skipped: Vec<Skip>,
}

/// Which of the listed media are looked at; those of the default are all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Only media whose path contains this.
    pub only: Option<&'a str>,
    /// Only media of these classes; all if empty.
    pub classes: &'a [String],
    /// Only this part of every medium, seconds `[start, end)`.
    pub span_secs: Option<(f64, f64)>,
}

/// The chosen media of an evaluating pipeline, found and probed once, to be embedded as often as one likes.
pub struct Clips {
    /// As [`super::recipe::Recipe::pipeline`] writes it.
    pipeline: String,
    /// Id of its sampler.
    sampler: String,
    catalogue: Catalogue,
    /// Inputs that were left out.
    pub skipped: Vec<Skip>,
    /// Inputs that were listed.
    pub inputs_seen: u64,
}

impl Clips {
    /// Finds and probes the media of `pipeline`, as [`super::recipe::Recipe::pipeline`] writes it.
    ///
    /// # Errors
    /// If the pipeline or the data does not fit.
    pub fn find(pipeline: String, choice: Choice<'_>) -> Result<Self, StageError> {
        let parts = parts(&pipeline)?;
        let (sampler, inputs) = parts.samplers.first().cloned().unwrap_or_default();
        let sources: Vec<(&str, Chosen<'_>)> = inputs
            .iter()
            .filter_map(|id| Some((id.as_str(), Chosen { source: parts.sources.get(id)?.as_ref(), choice })))
            .collect();
        let sources: Vec<(&str, &dyn Source)> =
            sources.iter().map(|(id, source)| (*id, source as &dyn Source)).collect();
        let scanned = catalogue::build(&sources, parts.frames_min(&sampler))?;
        let Scanned { catalogue, mut skipped, partial, inputs_seen, .. } = scanned;
        skipped.extend(partial);
        Ok(Self { pipeline, sampler, catalogue, skipped, inputs_seen })
    }

    /// What there is to embed.
    #[must_use]
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.catalogue.segments
    }

    /// Embeds every clip with each of `networks`, in one pass over the data.
    ///
    /// # Errors
    /// If a network does not fit the clips, or the flow fails.
    pub fn embed(&self, networks: &[Embedder]) -> Result<Pass, StageError> {
        let segments: HashMap<SegmentId, Arc<Segment>> =
            self.catalogue.segments.iter().map(|segment| (segment.id, Arc::clone(segment))).collect();
        let parts = parts(&self.pipeline)?;
        let worker_count = workers(&parts.run);
        let (layout, _) = parts.layout(HashMap::from([(self.sampler.clone(), self.catalogue.clone())]), 0)?;
        let flow = Flow::start(layout, worker_count)?;
        let mut embeddings: Vec<Vec<Embedded>> = vec![Vec::new(); networks.len()];
        let consumed = every_step(&flow, |batch| consume(batch, &segments, networks, &mut embeddings));
        let skipped = flow.shared.take_skips();
        flow.finish()?;
        consumed?;
        Ok(Pass { embeddings, skipped })
    }
}

/// The pictures of the clips of `segments`, in their order, as one batch: `pipeline` as [`Clips::find`] takes it.
///
/// # Errors
/// If the flow fails.
pub fn pictures(pipeline: &str, segments: Vec<Arc<Segment>>) -> Result<Batch, StageError> {
    let parts = parts(pipeline)?;
    let sampler = parts.samplers.first().map(|(id, _)| id.clone()).unwrap_or_default();
    let worker_count = workers(&parts.run);
    let (layout, _) = parts.layout(HashMap::from([(sampler, Catalogue { segments, version: 0 })]), 0)?;
    let flow = Flow::start(layout, worker_count)?;
    let mut first = None;
    let consumed = every_step(&flow, |batch| {
        first.get_or_insert_with(|| batch.clone());
        Ok(())
    });
    flow.finish()?;
    consumed?;
    first.ok_or_else(|| StageError::failed("search", "none of the moments could be decoded again"))
}

fn parts(pipeline: &str) -> Result<Parts, StageError> {
    let plan = config::load(pipeline, Path::new("eval"), &[])
        .map_err(|report| StageError::refused("eval", report.to_string()))?;
    Ok(Parts::of(plan))
}

/// Gives every batch to `work`, in order.
fn every_step(flow: &Flow, mut work: impl FnMut(&Batch) -> Result<(), StageError>) -> Result<(), StageError> {
    loop {
        let delivery = match flow.next(PATIENCE) {
            Next::Step(delivery) => delivery,
            Next::Idle => continue,
            Next::End => return Ok(()),
        };
        for (_, batch) in &delivery.batches {
            work(batch)?;
        }
        flow.consumed(delivery.step);
    }
}

fn consume(
    batch: &Batch,
    segments: &HashMap<SegmentId, Arc<Segment>>,
    networks: &[Embedder],
    embeddings: &mut [Vec<Embedded>],
) -> Result<(), StageError> {
    let Some(view) = batch.views.first() else { return Ok(()) };
    for (network, list) in networks.iter().zip(embeddings) {
        let seen = network.look(view)?;
        list.extend(batch.slots.iter().zip(seen).filter_map(|(slot, seen)| {
            let segment = Arc::clone(segments.get(&slot.segment)?);
            let span_secs = span_secs(&segment, slot.frames.first()?);
            Some(Embedded { segment, span_secs, vector: seen.features, scores: seen.scores })
        }));
    }
    Ok(())
}

/// Media time of the first and last of `frames`, seconds.
fn span_secs(segment: &Segment, frames: &[u32]) -> (f64, f64) {
    let times = frames.iter().filter_map(|frame| segment.times().get(*frame as usize));
    let secs = |time: Option<&u64>| time.map_or(0.0, |time| *time as f64 / 1e9);
    (secs(times.clone().min()), secs(times.max()))
}

/// A source of which only some media are looked at.
struct Chosen<'a> {
    source: &'a dyn Source,
    choice: Choice<'a>,
}

impl Source for Chosen<'_> {
    fn list(&self) -> Result<Listing, StageError> {
        let mut listing = self.source.list()?;
        if let Some(only) = self.choice.only {
            let named = |path: &Path| path.to_string_lossy().contains(only);
            listing
                .candidates
                .retain(|Candidate { origin, .. }| origin.path().is_some_and(|path| named(&path)));
            listing.skipped.retain(|skip| named(&skip.file));
        }
        let labels: BTreeSet<&str> =
            listing.candidates.iter().filter_map(|candidate| candidate.label.as_deref()).collect();
        let unknown = self.choice.classes.iter().find(|class| !labels.contains(class.as_str()));
        if let Some(class) = unknown {
            let there = labels.into_iter().collect::<Vec<_>>().join(", ");
            return Err(StageError::refused(
                "eval",
                format!("nothing is of the class `{class}`; there are: {there}"),
            ));
        }
        if !self.choice.classes.is_empty() {
            let wanted = |label: &str| self.choice.classes.iter().any(|class| class == label);
            listing.candidates.retain(|candidate| candidate.label.as_deref().is_some_and(wanted));
        }
        if self.choice.span_secs.is_some() {
            listing.candidates.iter_mut().for_each(|candidate| candidate.span_secs = self.choice.span_secs);
        }
        Ok(listing)
    }

    fn limits(&self) -> Limits {
        self.source.limits()
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
