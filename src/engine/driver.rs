//! Feeds the sinks step by step, takes checkpoints, and stops when asked; runs on the trainer thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::stage::{Parts, Scalars, Sink};

use super::blame;
use super::changes::Changes;
use super::checkpoint::{self, Manifest};
use super::deliver::Delivery;
use super::flow::{Flow, Next};
use super::run_dir::RunDir;
use super::shared::Shared;
use crate::config::RunSettings;
use crate::edge::clock;
use crate::edge::signal::Stop;
use crate::observe::quarantine::Quarantine;
use crate::observe::recorder::{Recorder, StepReport};
use crate::observe::summary::{Counters, Ending};

/// How long the driver waits for a step before it looks at signals and skips.
const PATIENCE: Duration = Duration::from_millis(100);

/// Waiting longer than this for a slow disk is worth a line.
const SLOW: Duration = Duration::from_secs(1);

/// An opened sink and its id.
pub struct OpenSink {
    /// Id in the pipeline file.
    pub id: String,
    /// Whether its state belongs into checkpoints.
    pub has_state: bool,
    /// The sink.
    pub sink: Box<dyn Sink>,
}

/// Looks at a sink's saved state between steps, and changes nothing.
pub trait Watcher {
    /// Id of the sink.
    fn sink(&self) -> &str;

    /// Whether it wants to look after `steps` steps.
    fn wants(&self, steps: u64) -> bool;

    /// Looks at what the sink saved after `steps` steps; the numbers go to the metrics of the last of them.
    ///
    /// # Errors
    /// A failure ends the run; the last checkpoint stays.
    fn look(&mut self, steps: u64, state: &Parts) -> Result<Scalars, StageError>;

    /// One line each for what was seen last.
    fn lines(&self) -> Vec<String>;

    /// Inputs of its own that could not be used, since the last call.
    fn take_skips(&mut self) -> Vec<Skip>;
}

/// Everything the driver works with.
pub struct Driver<'a> {
    /// Where batches come from.
    pub flow: Flow,
    /// In the plan's order.
    pub sinks: Vec<OpenSink>,
    /// Where state goes.
    pub dir: &'a RunDir,
    /// Intervals.
    pub settings: &'a RunSettings,
    /// What a checkpoint says it belongs to.
    pub manifest: Manifest,
    /// Puts it there.
    pub writer: checkpoint::Writer,
    /// The wish to stop.
    pub stop: &'a Stop,
    /// Progress and metrics.
    pub recorder: &'a mut Recorder,
    /// Inputs that were left out.
    pub quarantine: &'a mut Quarantine,
    /// Counted so far.
    pub counters: &'a mut Counters,
    /// `[[eval]]`, if there is any.
    pub watcher: Option<&'a mut Box<dyn Watcher>>,
    /// What changes while the run goes on, if anything does.
    pub changes: Option<Changes>,
    /// How many steps there are in all, if that is known.
    pub steps: Option<u64>,
}

impl Driver<'_> {
    /// Runs from `first` to the end or until asked to stop.
    ///
    /// # Errors
    /// The first failure of a sink, or of storage.
    pub fn drive(&mut self, first: u64) -> Result<Ending, StageError> {
        let (mut step, mut saved) = (first, first);
        let mut waiting_since = clock::now();
        let mut is_waiting = false;
        loop {
            let next = self.flow.next(PATIENCE);
            self.note_skips()?;
            self.writer.check()?;
            match next {
                Next::Step(delivery) => {
                    let (wait, begun) = (waiting_since.elapsed(), clock::now());
                    step = delivery.step + 1;
                    is_waiting = false;
                    let changed = self.tell_changes(delivery.step)?;
                    let (mut scalars, clips) = self.consume(delivery)?;
                    scalars.extend(changed);
                    self.flow.consumed(step - 1);
                    let busy = begun.elapsed();
                    scalars.extend(self.watch(step)?);
                    self.recorder.step(&StepReport {
                        step: step - 1,
                        scalars: &scalars,
                        clips,
                        wait,
                        busy,
                    })?;
                    if self.settings.checkpoint_every > 0
                        && step.is_multiple_of(self.settings.checkpoint_every)
                    {
                        self.save(step)?;
                        saved = step;
                    }
                    waiting_since = clock::now();
                }
                Next::Idle => {
                    let waits = self.changes.as_ref().is_some_and(Changes::is_waiting);
                    if waits && !std::mem::replace(&mut is_waiting, true) {
                        self.recorder.note("waiting: there is nothing to sample from yet");
                    }
                }
                Next::End => break,
            }
            if self.stop.is_asked() {
                break;
            }
        }
        if self.flow.shared.has_failed() {
            // The failure itself is told by whoever joins the workers.
            return Ok(Ending::Failed);
        }
        if let Some(changes) = &mut self.changes {
            self.counters.rows_forgotten += changes.tell_last(&mut self.sinks)?;
        }
        if saved < step || self.changes.as_ref().is_some_and(Changes::is_unsaved) {
            self.save(step)?;
        }
        self.writer.finish()?;
        // A wish to stop that comes behind the last step has nothing left to stop.
        let is_over = self.steps.is_some_and(|steps| step >= steps);
        Ok(if self.stop.is_asked() && !is_over { Ending::Stopped } else { Ending::Finished })
    }

    /// Lines for standard output from every sink.
    ///
    /// # Errors
    /// If a sink cannot finish its files.
    pub fn results(&mut self) -> Result<Vec<String>, StageError> {
        let mut lines = Vec::new();
        for open in &mut self.sinks {
            lines.extend(open.sink.finish()?);
        }
        Ok(lines)
    }

    /// Tells the sinks what changed up to `step`; the numbers of it.
    fn tell_changes(&mut self, step: u64) -> Result<Scalars, StageError> {
        let Some(changes) = &mut self.changes else { return Ok(Scalars::new()) };
        let rows = changes.tell(step, &mut self.sinks)?;
        self.counters.rows_forgotten += rows;
        Ok(changes.scalars(self.counters.rows_forgotten))
    }

    fn consume(&mut self, delivery: Delivery) -> Result<(Scalars, u32), StageError> {
        let mut scalars = Scalars::new();
        let mut clips = 0;
        for (number, batch) in delivery.batches {
            let open = &mut self.sinks[number as usize];
            scalars.extend(blame::within(&open.id, || open.sink.consume(&batch))?);
            clips = clips.max(batch.slots.len() as u32);
            self.counters.batches += 1;
            self.flow.shared.arena.give_back(batch);
        }
        Ok((scalars, clips))
    }

    /// Lets the watcher look, if it wants to after `steps` steps.
    fn watch(&mut self, steps: u64) -> Result<Scalars, StageError> {
        let Some(watcher) = self.watcher.as_mut().filter(|watcher| watcher.wants(steps)) else {
            return Ok(Scalars::new());
        };
        let Some(open) = self.sinks.iter_mut().find(|open| open.id == watcher.sink()) else {
            return Ok(Scalars::new());
        };
        let scalars = watcher.look(steps, &open.sink.save()?)?;
        for line in watcher.lines() {
            self.recorder.note(format!("eval of {line}"));
        }
        // They are no inputs of the run: named, but not counted.
        for skip in watcher.take_skips() {
            self.quarantine.add(&skip)?;
        }
        Ok(scalars)
    }

    fn save(&mut self, step: u64) -> Result<(), StageError> {
        let mut states: BTreeMap<String, Parts> = BTreeMap::new();
        for open in self.sinks.iter_mut().filter(|open| open.has_state) {
            states.insert(open.id.clone(), open.sink.save()?);
        }
        if states.is_empty() {
            return Ok(());
        }
        if let Some(changes) = &mut self.changes {
            changes.save(&mut states);
        }
        let manifest = Manifest { step, ..self.manifest.clone() };
        let kept = self.settings.checkpoints_kept;
        let waited = self.writer.begin(self.dir.checkpoints(), manifest, states, kept)?;
        if waited > SLOW {
            let secs = waited.as_secs_f64();
            self.recorder.note(format!(
                "step {step}: waited {secs:.1} s for the checkpoint before; the disk is slower than \
                 `run.checkpoint_every` asks of it"
            ));
        }
        Ok(())
    }

    fn note_skips(&mut self) -> Result<(), StageError> {
        if let Some(changes) = &self.changes {
            changes.note(self.quarantine, self.counters)?;
        }
        note_partial(self.flow.shared.take_skips(), self.quarantine, self.counters)
    }
}

/// Writes down inputs that the scan left out.
///
/// # Errors
/// If `quarantine.jsonl` cannot be written.
pub fn note_left_out(
    skips: Vec<Skip>,
    quarantine: &mut Quarantine,
    counters: &mut Counters,
) -> Result<(), StageError> {
    for skip in &skips {
        *counters.inputs_skipped.entry(skip.reason).or_insert(0) += 1;
    }
    quarantine.add_all(&skips)
}

/// Writes down inputs that are in the catalogue and of which something cannot be had.
///
/// # Errors
/// If `quarantine.jsonl` cannot be written.
pub fn note_partial(
    skips: Vec<Skip>,
    quarantine: &mut Quarantine,
    counters: &mut Counters,
) -> Result<(), StageError> {
    for skip in skips {
        if quarantine.add(&skip)? {
            counters.inputs_ok = counters.inputs_ok.saturating_sub(1);
            counters.inputs_partial += 1;
        }
    }
    Ok(())
}

/// Adds what the data path counted.
pub fn add_counts(shared: &Arc<Shared>, counters: &mut Counters) {
    let counts = &shared.counts;
    counters.clips += counts.clips.load(Ordering::Relaxed);
    counters.frames_decoded += counts.frames_decoded.load(Ordering::Relaxed);
    counters.redrawn += counts.redrawn.load(Ordering::Relaxed);
}
