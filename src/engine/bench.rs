//! Runs a plan's data path as fast as it goes, with nothing behind it, and measures it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reelflow_api::error::{Skip, StageError};
use reelflow_api::item::Catalogue;

use super::blind;
use super::deliver::Delivery;
use super::flow::{Flow, Next};
use super::layout::{Layout, Parts};
use super::run::workers;
use super::scan::scan;
use super::shared::Shared;
use super::tally::{Depth, Moment, Tally, Warmup};
use crate::config::Plan;
use crate::edge::signal::Stop;
use crate::edge::{clock, files, process};
use crate::observe::bench::{Measured, Queue, StageRow};
use crate::source::catalogue::Guide;

/// How long to wait for a step before looking at signals.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the command line adds to a plan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How many of the first steps are made once before the measuring begins.
    pub warmup: u64,
    /// Decode the frames that the clips want and throw them away.
    pub decode_only: bool,
    /// Take the files out of the system's memory after the scan, so that they come from the disk.
    pub cold: bool,
    /// The wish to stop; what was done until then is measured.
    pub stop: Stop,
}

/// Runs `plan` without opening its sinks or banks: every batch is taken and forgotten, and no file is written.
///
/// # Errors
/// If the pipeline never ends, the warm-up leaves nothing to measure, or the run fails.
pub fn bench(plan: Plan, options: &Options) -> Result<Measured, StageError> {
    let plan = if options.decode_only { blind::decode_only(plan) } else { plan };
    let name = plan.name.clone();
    let parts = Parts::of(plan);
    let settings = parts.run.clone();
    let begun = clock::now();
    let scans = scan(&parts, Guide::default())?;
    let scan_s = begun.elapsed().as_secs_f64();
    scans.check_budget(&settings, "`reelflow run`, which lists them in quarantine.jsonl")?;
    if options.cold {
        forget(&scans.catalogues)?;
    }
    // What is watched is measured as it is now.
    let feeds: Vec<&str> =
        scans.changing.iter().flat_map(|all| all.feeds.keys()).map(String::as_str).collect();
    if !feeds.is_empty() {
        let message =
            format!("{} gives what comes and not as fast as it can be used; measure files", feeds.join(", "));
        return Err(StageError::refused("bench", message));
    }
    let (mut layout, _) = parts.layout(scans.catalogues, 0)?;
    let steps = finite(&layout, options.warmup)?;
    layout.warm_up(options.warmup);
    let workers = workers(&settings);
    let mut bench = Bench {
        flow: Flow::start_with(layout, workers, Warmup::new(options.warmup))?,
        options,
        used: Used::default(),
        waited: Tally::default(),
        busy: Tally::default(),
    };
    let ended = bench.drive();
    let Bench { flow, used, waited, busy, .. } = bench;
    let shared = flow.finish()?;
    let (Some(begun), Some(ended)) = (shared.warmup.begun(), ended) else {
        return Err(StageError::failed("bench", "stopped before anything was measured"));
    };
    let wall_s = ended.at.duration_since(begun.at).as_secs_f64();
    Ok(Measured {
        name,
        workers,
        decode_only: options.decode_only,
        finished: used.steps == steps,
        wall_s,
        cpu_s: ended.cpu_secs - begun.cpu_secs,
        scan_s,
        peak_bytes: process::peak_memory(),
        steps: used.steps,
        warmup_steps: options.warmup,
        clips: used.clips,
        frames: used.frames,
        frames_wanted: shared.counts.frames_decoded.load(Ordering::Relaxed),
        pictures: shared.counts.pictures.load(Ordering::Relaxed),
        slots_empty: shared.counts.slots_empty.load(Ordering::Relaxed),
        stages: rows(&shared, &used, wall_s, (&waited, &busy)),
        skipped: scans
            .skipped
            .into_iter()
            .chain(scans.partial)
            .chain(shared.take_skips())
            .collect::<Vec<Skip>>(),
    })
}

/// Has the system forget the content of all files.
fn forget(catalogues: &HashMap<String, Catalogue>) -> Result<(), StageError> {
    let media = catalogues.values().flat_map(|catalogue| &catalogue.segments).map(|segment| &segment.media);
    let paths: BTreeSet<&Path> = media.filter_map(|media| media.origin.file()).collect();
    paths.into_iter().try_for_each(files::forget)
}

/// The number of steps.
fn finite(layout: &Layout, warmup: u64) -> Result<u64, StageError> {
    let Some(steps) = layout.steps else {
        let message = "the pipeline never ends, so there is nothing to divide by; say how many steps to run \
                       with `--steps N`";
        return Err(StageError::refused("bench", message));
    };
    if steps < warmup {
        let message = format!("the run has {steps} steps, fewer than the warm-up; lower `--warmup`");
        return Err(StageError::refused("bench", message));
    }
    Ok(steps)
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    steps: u64,
    clips: u64,
    frames: u64,
}

struct Bench<'a> {
    flow: Flow,
    options: &'a Options,
    used: Used,
    waited: Tally,
    busy: Tally,
}

impl Bench<'_> {
    /// Takes every step and forgets it; the moment of the last that was measured.
    fn drive(&mut self) -> Option<Moment> {
        let mut last = None;
        let mut since = clock::now();
        loop {
            match self.flow.next(PATIENCE) {
                Next::Step(delivery) => {
                    let step = delivery.step;
                    if step >= self.options.warmup {
                        self.waited.add_for(self.waited_since(since));
                    }
                    let begun = clock::now();
                    self.forget(delivery);
                    if step + 1 == self.options.warmup {
                        self.begin_again();
                    } else if step >= self.options.warmup {
                        self.busy.add(begun);
                        last = Some(Moment::now());
                    }
                    self.flow.consumed(step);
                    since = clock::now();
                }
                Next::Idle => {}
                Next::End => return last,
            }
            if self.options.stop.is_asked() {
                return last;
            }
        }
    }

    /// Time since `since`, or since the measuring began.
    fn waited_since(&self, since: Instant) -> Duration {
        let begun = self.flow.shared.warmup.begun().map_or(since, |begun| begun.at);
        clock::now().duration_since(begun.max(since))
    }

    fn forget(&mut self, delivery: Delivery) {
        let (mut clips, mut frames) = (0, 0);
        for (_, batch) in delivery.batches {
            // Several sinks may read the same clips.
            clips = clips.max((batch.slots.len() * batch.views.len()) as u64);
            let of_slot = |frames: &Vec<Vec<u32>>| frames.iter().map(Vec::len).sum::<usize>() as u64;
            frames = frames.max(batch.slots.iter().map(|slot| of_slot(&slot.frames)).sum());
            self.flow.shared.arena.give_back(batch);
        }
        self.used.steps += 1;
        self.used.clips += clips;
        self.used.frames += frames;
    }

    /// Forgets the warm-up: nothing is in flight now, and nothing is handed out until its last step is said
    /// to be consumed.
    fn begin_again(&mut self) {
        self.used = Used::default();
        self.flow.shared.times.reset();
        self.flow.shared.counts.reset();
        self.flow.shared.depths.reset();
    }
}

fn rows(shared: &Shared, used: &Used, wall_s: f64, (waited, busy): (&Tally, &Tally)) -> Vec<StageRow> {
    let (times, depths) = (&shared.times, &shared.depths);
    let queue = |depth: &Depth| Some(Queue { mean: depth.mean(), max: depth.max() });
    let (idle, blocked) = (times.decode_idle.secs(), times.decode_blocked.secs());
    let threads_s = idle + blocked + times.decode.secs() + times.augment.secs();
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let row = |name, items, of: &'static str, busy_s| StageRow {
        name,
        of,
        items,
        busy_s,
        items_per_s: share(items as f64, wall_s),
        waiting: None,
        queue: None,
    };
    let pictures = shared.counts.pictures.load(Ordering::Relaxed);
    vec![
        StageRow {
            waiting: Some(share(idle + blocked, threads_s)),
            queue: queue(&depths.jobs),
            ..row("decode", pictures, "pictures", times.decode.secs())
        },
        row("augment", used.frames, "frames", times.augment.secs()),
        row("views", times.views.count(), "batches", times.views.secs()),
        StageRow {
            queue: queue(&depths.made),
            ..row("batch", times.batch.count(), "batches", times.batch.secs())
        },
        StageRow {
            waiting: Some(share(waited.secs(), wall_s)),
            queue: queue(&depths.steps),
            ..row("sink", used.steps, "batches", busy.secs())
        },
    ]
}
