//! A checked plan from first scan to closing summary.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::error::StageError;
use reelflow_api::feed::FeedCounts;
use reelflow_api::item::{Catalogue, SegmentId};
use reelflow_api::rng::Key;
use reelflow_api::stage::SinkContext;

use super::blame;
use super::changes::{self, Prepared};
use super::checkpoint::{self, Checkpoint, Manifest};
use super::driver::{self, Driver, OpenSink, Watcher};
use super::flow::Flow;
use super::known;
use super::layout::{Layout, Parts, SinkEntry};
use super::run_dir::{self, RunDir, Start};
use super::scan::{self, Scans, scan};
#[cfg(not(feature = "torch"))]
use crate::config::EvalSettings;
use crate::config::{Plan, RunSettings};
use crate::edge::signal::Stop;
use crate::edge::{failpoint, process, threads};
#[cfg(feature = "torch")]
use crate::eval::during::watcher;
use crate::observe::quarantine::Quarantine;
use crate::observe::recorder::{Learnt, Recorder, RecorderOptions};
use crate::observe::summary::{Counters, Ending, Summary};
use crate::source::catalogue::Guide;

/// What the command line adds to a plan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The pipeline file as typed, for messages.
    pub pipeline: PathBuf,
    /// What to do with a used run folder.
    pub start: Start,
    /// No progress on standard error.
    pub quiet: bool,
    /// Whether standard error is a terminal.
    pub terminal: bool,
    /// Time between progress lines where it is not.
    pub interval: Duration,
    /// The wish to stop.
    pub stop: Stop,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// Result lines of the sinks; empty unless all steps were done.
    pub results: Vec<String>,
    /// What to tell a person.
    pub summary: Summary,
}

/// Runs a plan on a thread called `trainer`, which owns the device; the caller waits.
///
/// # Errors
/// Whatever ended the run, with the exit code to use.
pub fn run(plan: Plan, options: Options) -> Result<Outcome, StageError> {
    let trainer = threads::spawn("trainer", move || {
        let ran = catch_unwind(AssertUnwindSafe(|| run_here(plan, &options)));
        ran.unwrap_or_else(|panic| Err(blame::failure(&*panic, "trainer")))
    })?;
    trainer.join().unwrap_or_else(|panic| Err(blame::failure(&*panic, "trainer")))
}

fn run_here(plan: Plan, options: &Options) -> Result<Outcome, StageError> {
    let resolved = plan.resolved.clone();
    let evals = plan.evals.clone();
    let default = Path::new("runs").join(&plan.name);
    let parts = Parts::of(plan);
    let settings = parts.run.clone();
    let out = settings.out.clone().ok_or_else(|| StageError::refused("run", "`run.out` names no folder"))?;
    let out = if out == default { run_dir::choose(&default, options.start) } else { out };
    process::allow_files(files_needed(&settings))?;
    let dir = RunDir::enter(&out, options.start)?;
    let resume_point = match options.start {
        Start::Resume => dir.resume_point(&resolved)?,
        Start::Fresh | Start::Overwrite => None,
    };
    dir.write_config(&resolved)?;
    let mut quarantine = Quarantine::open(&dir.path)?;
    let mut counters = Counters::default();
    let kept = scan::kept(&dir.path, &settings)?;
    let scans = blame::within("scan", || {
        let scans = scan(&parts, Guide { kept: Some(&kept), stop: Some(&options.stop) });
        failpoint::hit("scan::after");
        scans
    });
    scan::save(kept);
    let steps = resume_point.as_ref().map_or(0, |(checkpoint, _)| checkpoint.manifest.step);
    let mut scans = match scans {
        Err(_) if options.stop.is_asked() => return stopped_at(steps, &dir, options),
        scans => scans?,
    };
    counters.inputs_seen = scans.inputs_seen;
    counters.inputs_ok = scans.inputs_ok;
    counters.segments = scans.segments;
    driver::note_left_out(std::mem::take(&mut scans.skipped), &mut quarantine, &mut counters)?;
    driver::note_partial(std::mem::take(&mut scans.partial), &mut quarantine, &mut counters)?;
    scans.check_budget(&settings, "quarantine.jsonl")?;
    let files = parts.files();
    let checkpoint = resume_point.map(|point| fitting(point, &scans.fixed, &files)).transpose()?;
    let first = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.manifest.step);
    let banks = parts.banks.clone();
    let labels = labels_of(scans.catalogues.values());
    let versions = std::mem::take(&mut scans.fixed);
    let (layout, entries, prepared) = lay_out(parts, scans, first, checkpoint.as_ref())?;
    let mut watcher = watcher(&evals, &resolved, &settings, layout.steps)?;
    let recorder_options = RecorderOptions {
        steps: layout.steps,
        start_step: first,
        quiet: options.quiet,
        interval: options.interval,
        terminal: options.terminal,
    };
    let mut recorder = Recorder::open(&dir.path, recorder_options)?;
    let opening = Opening { settings: &settings, dir: &dir, banks: &banks, steps: layout.steps, labels };
    let sinks = opening.open(entries, checkpoint.as_ref())?;
    let manifest = Manifest::new(first, versions, resolved, files);
    let books = Books {
        recorder: &mut recorder,
        quarantine: &mut quarantine,
        counters: &mut counters,
        watcher: watcher.as_mut(),
    };
    let flowed = flow((layout, prepared), sinks, &dir, &settings, manifest, options, books);
    recorder.finish()?;
    let (ending, results) = flowed?;
    let sheets = dir.path.join("contact_sheets");
    let summary = Summary {
        pipeline: options.pipeline.clone(),
        run_dir: dir.path.clone(),
        ending,
        counters,
        learnt: recorder.learnt(),
        evals: watcher.map(|watcher| watcher.lines()).unwrap_or_default(),
        checkpoint: checkpoint::newest_dir(&dir.checkpoints())?,
        contact_sheets: if sheets.is_dir() { vec![sheets] } else { Vec::new() },
    };
    Ok(Outcome { results, summary })
}

/// The end of a run that was asked to stop before its first step, with `steps` done by the run it goes on from.
fn stopped_at(steps: u64, dir: &RunDir, options: &Options) -> Result<Outcome, StageError> {
    let summary = Summary {
        pipeline: options.pipeline.clone(),
        run_dir: dir.path.clone(),
        ending: Ending::Stopped,
        counters: Counters::default(),
        learnt: Learnt { steps, ..Learnt::default() },
        evals: Vec::new(),
        checkpoint: checkpoint::newest_dir(&dir.checkpoints())?,
        contact_sheets: Vec::new(),
    };
    Ok(Outcome { results: Vec::new(), summary })
}

/// Without libtorch there is no `train` sink, so a plan with an `[[eval]]` was refused.
#[cfg(not(feature = "torch"))]
fn watcher(
    _: &[EvalSettings],
    _: &str,
    _: &RunSettings,
    _: Option<u64>,
) -> Result<Option<Box<dyn Watcher>>, StageError> {
    Ok(None)
}

/// Where a run writes down what happens.
struct Books<'a> {
    recorder: &'a mut Recorder,
    quarantine: &'a mut Quarantine,
    counters: &'a mut Counters,
    watcher: Option<&'a mut Box<dyn Watcher>>,
}

fn flow(
    (layout, prepared): (Layout, Option<Prepared>),
    sinks: Vec<OpenSink>,
    dir: &RunDir,
    settings: &RunSettings,
    manifest: Manifest,
    options: &Options,
    books: Books<'_>,
) -> Result<(Ending, Vec<String>), StageError> {
    let first = layout.first_step;
    let steps = layout.steps;
    let flow = Flow::start(layout, workers(settings))?;
    let shared = Arc::clone(&flow.shared);
    let changes = prepared.map(|prepared| prepared.start(&shared)).transpose()?;
    let mut driver = Driver {
        flow,
        sinks,
        dir,
        settings,
        manifest,
        writer: checkpoint::Writer::default(),
        stop: &options.stop,
        recorder: books.recorder,
        quarantine: books.quarantine,
        counters: books.counters,
        watcher: books.watcher,
        changes,
        steps,
    };
    let driven = driver.drive(first);
    let results = match &driven {
        Ok(Ending::Finished) => driver.results(),
        _ => Ok(Vec::new()),
    };
    let Driver { flow, quarantine, counters, recorder, changes, .. } = driver;
    let joined = flow.finish();
    // Not before the last clip was made: what it was made of counts as used.
    let changed = changes.map(|mut changes| changes.finish(quarantine, counters));
    driver::note_partial(shared.take_skips(), quarantine, counters)?;
    driver::add_counts(&shared, counters);
    // A sink's own failure comes first: what the workers say after it is a consequence.
    let ending = driven?;
    joined?;
    if let Some(changed) = changed {
        changed?;
        if ending == Ending::Finished {
            let line = ended_early((first, recorder.learnt().steps, steps), &counters.feeds)?;
            line.into_iter().for_each(|line| recorder.note(line));
        }
    }
    Ok((ending, results?))
}

/// Files that may be open at once: a decoder of a file holds it and its pipeline's pipes, scanning takes one a core.
fn files_needed(settings: &RunSettings) -> u64 {
    32 + 16 * workers(settings).max(threads::cores()) as u64
}

/// What to say if sources that change left nothing to sample from before the last of `steps`, after `done` steps of
/// which `first` are of runs before.
///
/// # Errors
/// If a camera was given up, which may be better next time, or if that was before the first step.
fn ended_early(
    (first, done, steps): (u64, u64, Option<u64>),
    feeds: &BTreeMap<String, FeedCounts>,
) -> Result<Option<String>, StageError> {
    let Some(steps) = steps.filter(|steps| *steps > done) else { return Ok(None) };
    if let Some((id, counts)) = feeds.iter().find(|(_, counts)| counts.state == "given_up") {
        let message = format!(
            "the camera was away for longer than `give_up_secs`, and nothing is left to sample from after {done} of \
             {steps} steps; last seen: {}; `--resume` goes on from there",
            counts.last_reason
        );
        return Err(StageError::transient(format!("sources.{id}"), message));
    }
    if done == first {
        let message = "nothing to sample from: all sources ended before they gave a usable segment";
        return Err(StageError::failed("run", message));
    }
    Ok(Some(format!("all sources ended and nothing is left to sample from after {done} of {steps} steps")))
}

/// Puts the parts together on one catalogue, or on versions of it if it changes.
fn lay_out(
    parts: Parts,
    scans: Scans,
    first: u64,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Layout, Vec<SinkEntry>, Option<Prepared>), StageError> {
    let Some(changing) = scans.changing else {
        let (layout, entries) = parts.layout(scans.catalogues, first)?;
        return Ok((layout, entries, None));
    };
    let mut fixed = scans.catalogues;
    fixed.retain(|id, _| !changing.readers[changing.numbers[id]].changes);
    let timeline = changes::timeline(&changing, first);
    let (layout, entries) = parts.layout_on(&timeline, &changing.numbers, &fixed, first)?;
    let before = checkpoint.and_then(|checkpoint| checkpoint.sinks.get(known::PART));
    let removed = changes::removed_since(before, &changes::known(&changing))?;
    let prepared = Prepared::new(changing, timeline, removed, &layout);
    Ok((layout, entries, Some(prepared)))
}

/// The checkpoint to go on from, if what it was made of is there now; sources that change are not compared.
fn fitting(
    (checkpoint, damaged): (Checkpoint, Vec<String>),
    fixed: &BTreeMap<String, String>,
    files: &BTreeMap<String, String>,
) -> Result<Checkpoint, StageError> {
    for line in damaged {
        let step = checkpoint.manifest.step;
        // A closed standard error must not end a run.
        let _ = writeln!(std::io::stderr(), "warning: checkpoint: {line}; using step {step}");
    }
    same_catalogue(&checkpoint, fixed)?;
    same_files(&checkpoint.manifest.files, files)?;
    Ok(checkpoint)
}

/// Worker threads to start.
#[must_use]
pub fn workers(settings: &RunSettings) -> usize {
    match settings.workers {
        0 => threads::cores(),
        count => count as usize,
    }
}

fn same_catalogue(checkpoint: &Checkpoint, now: &BTreeMap<String, String>) -> Result<(), StageError> {
    if checkpoint.manifest.catalogues == *now {
        return Ok(());
    }
    Err(StageError::refused(
        "resume",
        "the media found now are not those of the checkpoint (files added, removed or changed), so the same \
         steps cannot be repeated; restore the media, or start a new run with --overwrite or another --out",
    ))
}

/// Refuses files whose content is not the checkpoint's. That they are named is compared with the settings.
fn same_files(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Result<(), StageError> {
    let is_changed = |name: &&String| before.get(*name).is_some_and(|before| before != &now[*name]);
    let changed: Vec<String> = now.keys().filter(is_changed).map(|name| format!("`{name}`")).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the content of {} is not what it was at the checkpoint, so the same steps cannot be repeated; restore \
         it, or start a new run with --overwrite or another --out",
        changed.join(", ")
    );
    Err(StageError::refused("resume", message))
}

fn labels_of<'a>(catalogues: impl Iterator<Item = &'a Catalogue>) -> Arc<BTreeMap<SegmentId, Arc<str>>> {
    let segments = catalogues.flat_map(|catalogue| &catalogue.segments);
    Arc::new(segments.filter_map(|segment| Some((segment.id, segment.label.clone()?))).collect())
}

/// What every sink is opened with.
struct Opening<'a> {
    settings: &'a RunSettings,
    dir: &'a RunDir,
    banks: &'a BTreeMap<String, reelflow_api::bank::BankSettings>,
    steps: Option<u64>,
    labels: Arc<BTreeMap<SegmentId, Arc<str>>>,
}

impl Opening<'_> {
    fn open(
        &self,
        entries: Vec<SinkEntry>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<OpenSink>, StageError> {
        entries.into_iter().map(|entry| self.open_one(entry, checkpoint)).collect()
    }

    fn open_one(&self, entry: SinkEntry, checkpoint: Option<&Checkpoint>) -> Result<OpenSink, StageError> {
        let has_state = entry.plan.has_state();
        let threads = match self.settings.threads {
            0 => threads::for_training(),
            count => count as usize,
        };
        let mut sink = entry.plan.open(SinkContext {
            id: entry.id.clone(),
            run_dir: self.dir.path.clone(),
            key: Key::new(self.settings.seed).part(&entry.id),
            steps: self.steps,
            batch_size: entry.batch_size,
            epoch_clips: entry.epoch_clips,
            views: entry.views,
            banks: self.banks.clone(),
            labels: Arc::clone(&self.labels),
            device: self.settings.device.clone(),
            threads,
        })?;
        if let Some(checkpoint) = checkpoint.filter(|_| has_state) {
            let parts = checkpoint.sinks.get(&entry.id).ok_or_else(|| {
                let place = checkpoint.dir.display();
                StageError::storage("checkpoint", format!("`{place}` has no state of sink `{}`", entry.id))
            })?;
            sink.restore(parts)?;
        }
        Ok(OpenSink { id: entry.id, has_state, sink })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_run_is_not_resumed_with_another_plan_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("plan.txt"), folder.path().join("out"));
        let text = format!(
            r#"
            version = 1
            [run]
            out = {out:?}
            [sources.patterns]
            type = "pattern"
            media = 3
            [operators.clips]
            type = "plan"
            inputs = ["patterns"]
            plan = {file:?}
            frames = 2
            [operators.views]
            type = "augment"
            inputs = ["clips"]
            steps = [{{ op = "resize", width = 8, height = 8 }}]
            [operators.batch]
            type = "batch"
            inputs = ["views"]
            size = 1
            [sinks.digest]
            type = "digest"
            inputs = ["batch"]
            "#
        );
        let go = |start, lines: &str| {
            std::fs::write(&file, lines).unwrap();
            let plan = config::load(&text, Path::new("test.toml"), &[])
                .map_err(|report| report.to_string())
                .unwrap();
            run(plan, Options { start, quiet: true, ..Options::default() })
        };
        let lines = "pattern:1\t5 0 0 9 9 1 1 1 0.5\npattern:0\t0 1 2 3 4 0 1 1 1\n";
        let results = go(Start::Fresh, lines).unwrap().results;
        assert_eq!(go(Start::Resume, lines).unwrap().results, results);
        let error = go(Start::Resume, &lines.replace("5 0 0", "6 0 0")).unwrap_err();
        assert_eq!(error.code, 78);
        assert!(error.message.contains(&format!("`clips: {}`", file.display())), "{error}");
    }
}
