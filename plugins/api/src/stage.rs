//! The shapes a stage can have, from source to sink.
//!
//! ```text
//! Source ─▶ Sampler ─▶ (decode) ─▶ Augment ─▶ ViewMap ─▶ Batch ─▶ ViewMap ─▶ Sink
//! ```
//!
//! Decoding is not a stage that a user writes: the engine puts it between sampler and augment. Every
//! shape but the sink is pure: the same item and the same [`Key`] give the same result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bank::BankSettings;
use crate::error::{Skip, StageError};
use crate::feed::{CatalogueChange, Feed};
use crate::item::{Batch, Catalogue, ClipPlan, Frame, Media, Origin, SamplePlan, SegmentId};
use crate::pixels::{Dtype, Pixels};
use crate::rng::Key;

/// A stage, built from its TOML table.
pub enum Stage {
    /// Lists media.
    Source(Box<dyn Source>),
    /// Chooses windows.
    Sampler(Box<dyn Sampler>),
    /// Turns decoded clips into views.
    Augment(Box<dyn Augment>),
    /// Changes views, before or after the batch.
    Views(Box<dyn ViewMap>),
    /// Collects the slots of a step.
    Batch(BatchSize),
    /// Remembers embeddings for a trainer.
    Bank(BankSettings),
    /// Uses batches.
    Sink(Box<dyn SinkPlan>),
}

/// How many slots a step has, at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchSize(pub u32);

/// One medium a source found, before it is probed.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it is.
    pub origin: Origin,
    /// Class, if a folder or list says so.
    pub label: Option<Arc<str>>,
    /// Recording or person it belongs to.
    pub group: Option<Arc<str>>,
    /// `train` or `test`.
    pub split: Option<Arc<str>>,
    /// Part to use, seconds of stream time `[start, end)`; the whole medium if `None`.
    pub span_secs: Option<(f64, f64)>,
}

/// What a source found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Media to probe, in a fixed order that does not depend on the file system's.
    pub candidates: Vec<Candidate>,
    /// What was left out already, with reasons.
    pub skipped: Vec<Skip>,
}

/// What becomes of an input that cannot be used.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Leave it out, write it to `quarantine.jsonl`, count it.
    #[default]
    Quarantine,
    /// End the run.
    Fail,
}

/// What one input may cost; above it, it is left out as `limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Pixels of a picture, known before a decoder makes one.
    pub pixels: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Seconds that looking at it may take.
    pub probe_secs: f64,
}

impl Default for Limits {
    /// 8192x4320 pixels (DCI 8K is 8192x4320), 1 TiB, half an hour.
    fn default() -> Self {
        Self { pixels: 8192 * 4320, bytes: 1 << 40, probe_secs: 1800.0 }
    }
}

/// Lists media.
pub trait Source: Send + Sync {
    /// Finds everything, in a fixed order. Opens no medium.
    ///
    /// # Errors
    /// If the place itself cannot be read; single bad entries are [`Listing::skipped`].
    fn list(&self) -> Result<Listing, StageError>;

    /// Length in seconds of the pieces a longer medium is cut into; `None` keeps media whole.
    fn segment_secs(&self) -> Option<f64>;

    /// What to do with an input that cannot be used.
    fn on_error(&self) -> OnError;

    /// What an input may cost.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// The medium at `origin`, where the source computes it and nothing needs to be probed.
    fn describe(&self, origin: &Origin) -> Option<Media> {
        let _ = origin;
        None
    }

    /// Seconds between two looks for media that were added, changed or removed while the run goes on; `None`: they
    /// are listed once. At each look [`Source::list`] is asked again.
    fn watch_secs(&self) -> Option<f64> {
        None
    }

    /// Where its media arrive while the run goes on.
    fn feed(&self) -> Option<&dyn Feed> {
        None
    }
}

/// Place of a sample in the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Training step, from 0.
    pub step: u64,
    /// Position in the batch, from 0.
    pub slot: u32,
    /// Slots of every step.
    pub batch_size: u32,
    /// 0, or how often this slot was drawn again.
    pub attempt: u32,
}

impl Place {
    /// Running number of the sample: `step * batch_size + slot`.
    #[must_use]
    pub fn ordinal(self) -> u64 {
        self.step * u64::from(self.batch_size) + u64::from(self.slot)
    }
}

/// Chooses windows: a pure function from a place in the run to a plan.
pub trait Sampler: Send + Sync {
    /// Names of the views every sample has, in order, with the frames of each.
    fn views(&self) -> Vec<(Arc<str>, u32)>;

    /// Segments with fewer frames than this are left out as `too_short`.
    fn frames_min(&self) -> u32;

    /// How many samples there are in all; `None` if it never ends.
    fn samples(&self, catalogue: &Catalogue) -> Option<u64>;

    /// Whether it can sample from `catalogue`; called once, before the first plan.
    ///
    /// # Errors
    /// If its settings name what the catalogue does not have.
    fn check(&self, catalogue: &Catalogue) -> Result<(), StageError> {
        let _ = catalogue;
        Ok(())
    }

    /// Files that decide its plans beside the catalogue, each with a checksum of what was read from it: a run is
    /// not resumed with other content.
    fn files(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }

    /// The plan at `place`; `None` past the end. `key` belongs to this stage; derive from it.
    fn plan(&self, catalogue: &Catalogue, place: Place, key: Key) -> Option<SamplePlan>;
}

/// Turns the pictures of one clip into one view.
pub trait Augment: Send + Sync {
    /// Shape `[C, T, H, W]` of the view made of `frames` pictures.
    fn shape(&self, frames: u32) -> [usize; 4];

    /// Type of the view's values.
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    /// Mean and standard deviation by which whoever uses the values still has to normalise; see
    /// [`View::normalize`](crate::item::View::normalize).
    fn left_to_normalize(&self) -> Option<([f32; 3], [f32; 3])> {
        None
    }

    /// Draws parameters once from `key` (already specific to step, slot and view), for every frame of the
    /// clip that `plan` asks `media` for.
    fn begin(&self, plan: &ClipPlan, media: &Media, key: Key) -> Box<dyn ViewMaker>;
}

/// Makes one view of pictures that come one by one and are not kept.
pub trait ViewMaker {
    /// Takes the picture with the number `index` of the clip, in any order, and writes what it can into
    /// `view`, `[C, T, H, W]`. A picture that comes again replaces itself.
    ///
    /// # Errors
    /// If the picture's size is not the medium's, or a plane is short.
    fn add(&mut self, index: usize, frame: &Frame<'_>, view: &mut Pixels) -> Result<(), StageError>;

    /// Writes what needs all pictures of the clip.
    fn finish(&mut self, view: &mut Pixels);
}

/// Changes views in place; the same code before the batch (one slot) and after it (all slots).
pub trait ViewMap: Send + Sync {
    /// Whether it looks at other slots and so must stand after `batch`.
    fn needs_batch(&self) -> bool;

    /// Whether it can change values of this type.
    fn takes(&self, dtype: Dtype) -> bool {
        dtype == Dtype::F32
    }

    /// Changes `batch`. Draws that belong to a slot are keyed by (step, slot), draws that belong to the
    /// batch by (step), so the result does not depend on where the stage stands.
    ///
    /// # Errors
    /// If a view it needs is missing.
    fn apply(&self, batch: &mut Batch, key: Key) -> Result<(), StageError>;
}

/// What a sink may know about the run it is opened in.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The sink's id in the pipeline file.
    pub id: String,
    /// Existing folder of the run; the sink writes only below it.
    pub run_dir: PathBuf,
    /// The sink's key for chance.
    pub key: Key,
    /// Number of steps of the run; `None` if it never ends.
    pub steps: Option<u64>,
    /// Slots of every step.
    pub batch_size: u32,
    /// Clips of one pass over the data, as it is when the run starts; `None` if that has no end.
    pub epoch_clips: Option<u64>,
    /// Name and `[C, T, H, W]` of every view, in order.
    pub views: Vec<(Arc<str>, [usize; 4])>,
    /// The pipeline's banks by id.
    pub banks: BTreeMap<String, BankSettings>,
    /// Labels of the segments that have one.
    pub labels: Arc<BTreeMap<SegmentId, Arc<str>>>,
    /// `cpu`, `cuda`, `cuda:1` or `auto`.
    pub device: String,
    /// Threads a sink may compute with.
    pub threads: usize,
}

/// A sink as described, before it is opened on the thread that will own it.
pub trait SinkPlan: Send {
    /// Ids of the banks it uses.
    fn banks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Names of the views it cannot do without.
    fn views(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it keeps state, so that a run with it writes checkpoints.
    fn has_state(&self) -> bool {
        false
    }

    /// Takes what it needs (device, weights, files).
    ///
    /// # Errors
    /// If a device or file cannot be had.
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>, StageError>;
}

/// Numbers of one step: name and value, `loss`, `lr`.
pub type Scalars = Vec<(&'static str, f64)>;

/// Uses batches, one step after the other. Lives on one thread.
pub trait Sink {
    /// Uses the batch of one step; steps come in order without gaps.
    ///
    /// # Errors
    /// A failure ends the run; the last checkpoint stays.
    fn consume(&mut self, batch: &Batch) -> Result<Scalars, StageError>;

    /// Called before the batch of `change.step`: removed segments are forgotten in all that is kept and saved. Gives
    /// how many rows were taken out.
    ///
    /// # Errors
    /// A failure ends the run.
    fn catalogue_changed(&mut self, change: &CatalogueChange) -> Result<u64, StageError> {
        let _ = change;
        Ok(0)
    }

    /// Everything needed to go on after this step, as named parts.
    ///
    /// # Errors
    /// If the state cannot be read out.
    fn save(&mut self) -> Result<Parts, StageError> {
        Ok(Parts::default())
    }

    /// Goes on from what [`Sink::save`] gave.
    ///
    /// # Errors
    /// If a part is missing or does not fit the settings.
    fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        let _ = parts;
        Ok(())
    }

    /// Called once after the last step; the lines are results for standard output.
    ///
    /// # Errors
    /// If a last file cannot be written.
    fn finish(&mut self) -> Result<Vec<String>, StageError> {
        Ok(Vec::new())
    }
}

/// Named parts of a checkpoint: file name to content.
pub type Parts = BTreeMap<String, Vec<u8>>;
