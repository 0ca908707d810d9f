//! The plan as the workers see it: stages that can be shared, edges as numbers, one catalogue a sampler.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::bank::BankSettings;
use reelflow_api::error::StageError;
use reelflow_api::item::{Catalogue, SamplePlan};
use reelflow_api::rng::Key;
use reelflow_api::stage::{Augment, Place, Sampler, SinkPlan, Source, Stage, ViewMap};

use super::timeline::{At, Timeline};
use crate::config::{Plan, RunSettings};

/// Name and `[C, T, H, W]` of each view.
pub type ViewShapes = Vec<(Arc<str>, [usize; 4])>;

/// Everything a worker needs to build its part of the dataflow.
pub struct Layout {
    /// Operators in topological order; edges point backwards.
    pub operators: Vec<Operator>,
    /// Steps `[first, last)` to run; `None` never ends.
    pub steps: Option<u64>,
    /// First step of this run (0, or where a checkpoint left off).
    pub first_step: u64,
    /// Steps the data may run ahead of the sinks.
    pub ahead: u64,
    /// Versions of what the samplers draw from, where that changes.
    pub timeline: Option<Arc<Timeline>>,
}

impl Layout {
    /// Positions of the operators that read the one at `position`.
    pub fn behind(&self, position: usize) -> impl Iterator<Item = usize> {
        let is_behind = move |operator: &Operator| {
            !matches!(operator.kind, OperatorKind::Sample(_)) && operator.input == position
        };
        (0..self.operators.len()).filter(move |&other| is_behind(&self.operators[other]))
    }

    /// Puts the first `steps` steps before all others once more, so that a measurement begins with everything
    /// in place.
    pub fn warm_up(&mut self, steps: u64) {
        self.steps = self.steps.map(|all| all + steps.min(all));
        for operator in &mut self.operators {
            if let OperatorKind::Sample(sampling) = &mut operator.kind {
                Arc::get_mut(sampling).expect("nothing has started").warmup = steps;
            }
        }
    }

    /// Slots of every step behind the sampler at `position`.
    #[must_use]
    pub fn batch_size(&self, position: usize) -> u32 {
        match &self.operators[position].kind {
            OperatorKind::Sample(sampling) => sampling.batch_size,
            _ => 1,
        }
    }
}

/// One operator and the one it reads.
pub struct Operator {
    /// Id in the pipeline file.
    pub id: String,
    /// Key for chance.
    pub key: Key,
    /// Position of its input in [`Layout::operators`]; unused for samplers.
    pub input: usize,
    /// What it does.
    pub kind: OperatorKind,
}

/// What an operator does.
pub enum OperatorKind {
    /// Hands out plans and decodes them.
    Sample(Arc<Sampling>),
    /// Clips into views.
    Augment(Box<dyn Augment>),
    /// Views into views.
    Views(Box<dyn ViewMap>),
    /// Slots into batches.
    Batch,
    /// Batches to the sink of this number.
    Sink(u32),
}

/// A sampler with what it samples from.
pub struct Sampling {
    /// The stage.
    pub sampler: Box<dyn Sampler>,
    /// What it draws from.
    pub drawn: Drawn,
    /// Slots of every step.
    pub batch_size: u32,
    /// Key for chance.
    pub key: Key,
    /// Steps after which the sampler begins again at step 0: the warm-up of a measurement.
    pub warmup: u64,
}

/// What a sampler draws from.
pub enum Drawn {
    /// One catalogue for all steps.
    Fixed(Arc<Catalogue>),
    /// The version of the step, for the sampler with this number.
    Changing(Arc<Timeline>, usize),
}

impl Sampling {
    /// What `step` is sampled from; it counts as planned from now on.
    #[must_use]
    pub fn at(&self, step: u64) -> At {
        match &self.drawn {
            Drawn::Fixed(catalogue) => At::Ready(Arc::clone(catalogue)),
            Drawn::Changing(timeline, number) => timeline.at(step, *number),
        }
    }

    /// What the planned `step` was sampled from, with the number of its version.
    #[must_use]
    pub fn of_planned(&self, step: u64) -> Option<(u64, Arc<Catalogue>)> {
        match &self.drawn {
            Drawn::Fixed(catalogue) => Some((0, Arc::clone(catalogue))),
            Drawn::Changing(timeline, number) => timeline.of_planned(step, *number),
        }
    }

    /// The newest catalogue if its version has a higher number than `than`: what could not be decoded may be gone.
    /// Waits for one as long as it can take until that is noticed, and while nothing at all is there, as long as `may_wait`.
    #[must_use]
    pub fn newer(&self, than: u64, may_wait: impl Fn() -> bool) -> Option<(u64, Arc<Catalogue>)> {
        const SLICE: Duration = Duration::from_millis(100);
        let Drawn::Changing(timeline, number) = &self.drawn else { return None };
        let mut left = timeline.patience();
        while may_wait() {
            if let Some(newer) = timeline.newer(than, *number, SLICE) {
                return Some(newer);
            }
            if !timeline.is_waiting() {
                left = left.checked_sub(SLICE)?;
            }
        }
        None
    }

    /// The plan at `place`, drawn from `catalogue`. The sampler gets the stage's key, not the place's: it derives what
    /// belongs to an epoch, a step or a slot itself.
    #[must_use]
    pub fn plan(&self, catalogue: &Catalogue, place: Place) -> Option<SamplePlan> {
        let step = place.step.checked_sub(self.warmup).unwrap_or(place.step);
        let plan = self.sampler.plan(catalogue, Place { step, ..place }, self.key)?;
        Some(SamplePlan { step: place.step, ..plan })
    }
}

/// A sink as the plan has it, and what flows into it.
pub struct SinkEntry {
    /// Id in the pipeline file.
    pub id: String,
    /// The stage.
    pub plan: Box<dyn SinkPlan>,
    /// Views it gets.
    pub views: ViewShapes,
    /// Slots of every step.
    pub batch_size: u32,
    /// Clips of one pass over the data it comes from.
    pub epoch_clips: Option<u64>,
}

/// A plan taken apart: sources first, so that they can be scanned before anything starts.
pub struct Parts {
    /// `[run]`.
    pub run: RunSettings,
    /// Sources by id.
    pub sources: BTreeMap<String, Arc<dyn Source>>,
    /// Samplers with their source ids, in plan order.
    pub samplers: Vec<(String, Vec<String>)>,
    /// Everything else, in topological order.
    nodes: Vec<(String, Vec<String>, Stage)>,
    /// Banks by id.
    pub banks: BTreeMap<String, BankSettings>,
}

impl Parts {
    /// Takes a checked plan apart.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        let mut parts = Self {
            run: plan.run,
            sources: BTreeMap::new(),
            samplers: Vec::new(),
            nodes: Vec::new(),
            banks: BTreeMap::new(),
        };
        for node in plan.nodes {
            match node.stage {
                Stage::Source(source) => {
                    parts.sources.insert(node.id, Arc::from(source));
                }
                Stage::Bank(settings) => {
                    parts.banks.insert(node.id, settings);
                }
                stage => {
                    if matches!(stage, Stage::Sampler(_)) {
                        parts.samplers.push((node.id.clone(), node.inputs.clone()));
                    }
                    parts.nodes.push((node.id, node.inputs, stage));
                }
            }
        }
        parts
    }

    /// Frames a segment needs so that the sampler `id` can use it.
    #[must_use]
    pub fn frames_min(&self, id: &str) -> u32 {
        self.nodes
            .iter()
            .find_map(|(name, _, stage)| match stage {
                Stage::Sampler(sampler) if name == id => Some(sampler.frames_min()),
                _ => None,
            })
            .unwrap_or(1)
    }

    /// Files that decide what samplers do, as `ID: PATH`, with checksums of what was read.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, String> {
        let of_sampler = |(id, _, stage): &(String, Vec<String>, Stage)| match stage {
            Stage::Sampler(sampler) => {
                let name =
                    |(path, checksum): (PathBuf, String)| (format!("{id}: {}", path.display()), checksum);
                sampler.files().into_iter().map(name).collect()
            }
            _ => Vec::new(),
        };
        self.nodes.iter().flat_map(of_sampler).collect()
    }

    /// Puts the operators together, with the catalogue of each sampler.
    ///
    /// # Errors
    /// If a sampler has nothing to sample from, or cannot sample from what there is.
    pub fn layout(
        self,
        mut catalogues: HashMap<String, Catalogue>,
        first_step: u64,
    ) -> Result<(Layout, Vec<SinkEntry>), StageError> {
        let drawn = |id: &str, inputs: &[String], sampler: &dyn Sampler| {
            let catalogue = Arc::new(catalogues.remove(id).unwrap_or_default());
            if catalogue.segments.is_empty() {
                return Err(nothing(id, inputs));
            }
            sampler.check(&catalogue)?;
            Ok(Supply::of(sampler, &catalogue, Drawn::Fixed(Arc::clone(&catalogue))))
        };
        self.assemble(first_step, drawn)
    }

    /// As [`Parts::layout`], with versions that come while the steps run; `numbers` has each sampler's number in them.
    /// `fixed` has the catalogues of samplers that read nothing that changes.
    ///
    /// # Errors
    /// If a sampler cannot sample from its fixed catalogue, or goes through one that changes from end to end.
    pub fn layout_on(
        self,
        timeline: &Arc<Timeline>,
        numbers: &HashMap<String, usize>,
        fixed: &HashMap<String, Catalogue>,
        first_step: u64,
    ) -> Result<(Layout, Vec<SinkEntry>), StageError> {
        let drawn = |id: &str, inputs: &[String], sampler: &dyn Sampler| {
            let drawn = Drawn::Changing(Arc::clone(timeline), numbers[id]);
            match fixed.get(id) {
                Some(catalogue) if catalogue.segments.is_empty() => Err(nothing(id, inputs)),
                Some(catalogue) => {
                    sampler.check(catalogue)?;
                    Ok(Supply::of(sampler, catalogue, drawn))
                }
                None if sampler.samples(&Catalogue::default()).is_some() => {
                    Err(StageError::refused(id, goes_through(inputs)))
                }
                None => Ok(Supply { samples: None, epoch: None, drawn }),
            }
        };
        let (layout, sinks) = self.assemble(first_step, drawn)?;
        Ok((Layout { timeline: Some(Arc::clone(timeline)), ..layout }, sinks))
    }

    /// `supply` gives a sampler what it draws from.
    fn assemble(
        self,
        first_step: u64,
        mut supply: impl FnMut(&str, &[String], &dyn Sampler) -> Result<Supply, StageError>,
    ) -> Result<(Layout, Vec<SinkEntry>), StageError> {
        let root = Key::new(self.run.seed);
        let batch_sizes = batch_sizes(&self.nodes);
        let mut assembly = Assembly {
            positions: HashMap::new(),
            shapes: HashMap::new(),
            sizes: HashMap::new(),
            epochs: HashMap::new(),
        };
        let (mut operators, mut sinks): (Vec<Operator>, Vec<SinkEntry>) = (Vec::new(), Vec::new());
        let mut steps = (self.run.steps > 0).then_some(self.run.steps);
        for (id, inputs, stage) in self.nodes {
            let key = root.part(&id);
            let from = inputs.first().cloned().unwrap_or_default();
            let kind = match stage {
                Stage::Sampler(sampler) => {
                    let Supply { samples, epoch, drawn } = supply(&id, &inputs, sampler.as_ref())
                        .map_err(|error| StageError { stage: id.clone(), ..error })?;
                    let batch_size = batch_sizes.get(&id).copied().unwrap_or(1);
                    let passes = match (self.run.epochs, epoch) {
                        (0, _) => None,
                        (epochs, Some(epoch)) => Some(epoch.saturating_mul(epochs)),
                        (_, None) => return Err(StageError::refused(id, no_epochs(&inputs))),
                    };
                    if let Some(samples) = [samples, passes].into_iter().flatten().min() {
                        let end = samples.div_ceil(u64::from(batch_size));
                        steps = Some(steps.map_or(end, |steps| steps.min(end)));
                    }
                    assembly.epochs.extend(epoch.map(|epoch| (id.clone(), epoch)));
                    let views = sampler.views().into_iter().map(|(name, t)| (name, [0, t as usize, 0, 0]));
                    assembly.shapes.insert(id.clone(), views.collect());
                    OperatorKind::Sample(Arc::new(Sampling { sampler, drawn, batch_size, key, warmup: 0 }))
                }
                Stage::Augment(augment) => {
                    let views = assembly.shapes_of(&from);
                    let shaped = views.into_iter().map(|(name, s)| (name, augment.shape(s[1] as u32)));
                    assembly.pass_on(&from, &id);
                    assembly.shapes.insert(id.clone(), shaped.collect());
                    OperatorKind::Augment(augment)
                }
                Stage::Views(map) => {
                    assembly.pass_on(&from, &id);
                    OperatorKind::Views(map)
                }
                Stage::Batch(size) => {
                    assembly.pass_on(&from, &id);
                    assembly.sizes.insert(id.clone(), size.0);
                    OperatorKind::Batch
                }
                Stage::Sink(plan) => {
                    let views = assembly.shapes_of(&from);
                    let batch_size = assembly.sizes.get(&from).copied().unwrap_or(1);
                    let epoch_clips = assembly.epochs.get(&from).copied();
                    sinks.push(SinkEntry { id: id.clone(), plan, views, batch_size, epoch_clips });
                    OperatorKind::Sink(sinks.len() as u32 - 1)
                }
                Stage::Source(_) | Stage::Bank(_) => unreachable!("taken out by `Parts::of`"),
            };
            let input = assembly.positions.get(&from).copied().unwrap_or(0);
            assembly.positions.insert(id.clone(), operators.len());
            operators.push(Operator { id, key, input, kind });
        }
        let ahead = u64::from(self.run.ahead.max(1));
        Ok((Layout { operators, steps, first_step, ahead, timeline: None }, sinks))
    }
}

/// What a sampler draws from.
struct Supply {
    /// How many samples that makes, if they end.
    samples: Option<u64>,
    /// Samples in a pass over it, if it has an end.
    epoch: Option<u64>,
    drawn: Drawn,
}

impl Supply {
    fn of(sampler: &dyn Sampler, catalogue: &Catalogue, drawn: Drawn) -> Self {
        let samples = sampler.samples(catalogue);
        Self { samples, epoch: Some(samples.unwrap_or(catalogue.segments.len() as u64)), drawn }
    }
}

/// Why `run.epochs` says nothing here.
fn no_epochs(inputs: &[String]) -> String {
    format!(
        "`run.epochs` counts passes, and what {} gives changes meanwhile; set `run.steps`",
        inputs.join(", ")
    )
}

/// That a sampler has no segment.
fn nothing(sampler: &str, inputs: &[String]) -> StageError {
    let inputs = inputs.join(", ");
    StageError::failed(sampler, format!("nothing to sample from: {inputs} gave no usable segment"))
}

/// Why a sampler with an end cannot read a source that changes.
fn goes_through(inputs: &[String]) -> String {
    format!(
        "goes through a list of segments once, and what {} gives changes while it does; use `triplet` or \
         `uniform`, or files that are not watched",
        inputs.join(", ")
    )
}

/// What is known of each operator's output while the layout is put together.
struct Assembly {
    positions: HashMap<String, usize>,
    shapes: HashMap<String, ViewShapes>,
    sizes: HashMap<String, u32>,
    /// Clips of one pass over the data.
    epochs: HashMap<String, u64>,
}

impl Assembly {
    fn shapes_of(&self, id: &str) -> ViewShapes {
        self.shapes.get(id).cloned().unwrap_or_default()
    }

    fn pass_on(&mut self, from: &str, to: &str) {
        self.shapes.insert(to.to_owned(), self.shapes_of(from));
        if let Some(size) = self.sizes.get(from).copied() {
            self.sizes.insert(to.to_owned(), size);
        }
        if let Some(epoch) = self.epochs.get(from).copied() {
            self.epochs.insert(to.to_owned(), epoch);
        }
    }
}

/// The batch size behind each operator, found by walking from every `batch` towards the sources.
fn batch_sizes(nodes: &[(String, Vec<String>, Stage)]) -> HashMap<String, u32> {
    let mut sizes = HashMap::new();
    for (id, inputs, stage) in nodes.iter().rev() {
        let size = match stage {
            Stage::Batch(size) => Some(size.0),
            _ => sizes.get(id).copied(),
        };
        if let Some(size) = size {
            for input in inputs {
                sizes.insert(input.clone(), size);
            }
        }
    }
    sizes
}
