//! Measures the encoder of a `train` sink while it learns, from a copy of its saved state.
//!
//! The copy is loaded into a network of its own, which goes by its running statistics and is only read, and the clips
//! come from a dataflow of their own. So nothing of the run can change: no weight, no batch statistic, no draw.

use reelflow_api::error::{Skip, StageError};
use reelflow_api::stage::{Parts, Scalars};

use super::embed::{Choice, Clips};
use super::recipe::{Recipe, Wishes};
use super::{EvalOptions, Report, Voting, evaluate, labelled};
use crate::config::{EvalSettings, RunSettings};
use crate::edge::threads;
use crate::engine::driver::Watcher;
use crate::train;

/// Clips embedded at a time.
const BATCH: u32 = 16;

/// All `[[eval]]` of a pipeline.
pub struct During {
    sink: String,
    evals: Vec<Eval>,
    device: String,
    threads: usize,
    skipped: Vec<Skip>,
    last: Option<u64>,
}

/// One `[[eval]]`, its media found.
struct Eval {
    settings: EvalSettings,
    clips: Clips,
    options: EvalOptions,
    names: Names,
    /// Of the newest measurement.
    line: Option<String>,
}

/// What the figures are called in the metrics.
#[derive(Clone, Copy)]
struct Names {
    knn: &'static str,
    knn_balanced: &'static str,
    probe: &'static str,
    probe_balanced: &'static str,
    classifier: &'static str,
    classifier_balanced: &'static str,
}

impl Names {
    /// Lives as long as the program, as the names of all scalars do: six short words an `[[eval]]`.
    fn of(source: &str) -> Self {
        let name = |what: &str| -> &'static str { format!("eval.{source}.{what}").leak() };
        Self {
            knn: name("knn"),
            knn_balanced: name("knn_balanced"),
            probe: name("probe"),
            probe_balanced: name("probe_balanced"),
            classifier: name("classifier"),
            classifier_balanced: name("classifier_balanced"),
        }
    }
}

impl During {
    /// Finds the media of every evaluation and checks that they can be measured; `resolved` is the run's pipeline
    /// with every default written out, `steps` its last step if it has one.
    ///
    /// # Errors
    /// If the media have no labels, or do not fit the protocol.
    pub fn open(
        evals: &[EvalSettings],
        resolved: &str,
        run: &RunSettings,
        steps: Option<u64>,
    ) -> Result<Self, StageError> {
        let recipe = Recipe::of(resolved)?;
        let mut skipped = Vec::new();
        let mut opened = Vec::new();
        for settings in evals {
            let wishes = Wishes {
                source: recipe.source(&settings.source)?,
                clips: settings.clips,
                order: "forward".to_owned(),
                batch: BATCH,
                workers: run.workers,
            };
            let choice = Choice { only: None, classes: &settings.classes, span_secs: None };
            let mut clips = Clips::find(recipe.pipeline(&wishes), choice)?;
            skipped.append(&mut clips.skipped);
            let protocol = labelled::choose(clips.segments(), settings.protocol)
                .map_err(|error| StageError { stage: format!("eval of `{}`", settings.source), ..error })?;
            let options = EvalOptions {
                protocol: Some(protocol),
                voting: Voting::Weighted { k: settings.k as usize, temperature: 0.07 },
                probe: settings.probe,
                ranks: vec![1],
                outputs: recipe.classes.clone(),
                ..EvalOptions::default()
            };
            let names = Names::of(&settings.source);
            opened.push(Eval { settings: settings.clone(), clips, options, names, line: None });
        }
        let threads = match run.threads {
            0 => threads::for_training(),
            count => count as usize,
        };
        Ok(Self {
            sink: recipe.train,
            evals: opened,
            device: run.device.clone(),
            threads,
            skipped,
            last: steps,
        })
    }

    fn is_due(&self, eval: &Eval, steps: u64) -> bool {
        self.last == Some(steps) || (eval.settings.every > 0 && steps.is_multiple_of(eval.settings.every))
    }
}

impl Watcher for During {
    fn sink(&self) -> &str {
        &self.sink
    }

    fn wants(&self, steps: u64) -> bool {
        self.evals.iter().any(|eval| self.is_due(eval, steps))
    }

    fn look(&mut self, steps: u64, state: &Parts) -> Result<Scalars, StageError> {
        let network = train::embedder(state, self.threads, &self.device, true)?;
        let due: Vec<usize> =
            (0..self.evals.len()).filter(|at| self.is_due(&self.evals[*at], steps)).collect();
        let mut scalars = Scalars::new();
        for at in due {
            let eval = &mut self.evals[at];
            let mut pass = eval.clips.embed(std::slice::from_ref(&network))?;
            self.skipped.append(&mut pass.skipped);
            let items = pass.embeddings.pop().unwrap_or_default();
            let report = evaluate(&items, &eval.options)?;
            let names = eval.names;
            scalars.push((names.knn, report.knn.accuracy));
            scalars.push((names.knn_balanced, report.knn.balanced_accuracy));
            if let Some(probe) = &report.probe {
                scalars.push((names.probe, probe.figures.accuracy));
                scalars.push((names.probe_balanced, probe.figures.balanced_accuracy));
            }
            if let Some(figures) = &report.classifier {
                scalars.push((names.classifier, figures.accuracy));
                scalars.push((names.classifier_balanced, figures.balanced_accuracy));
            }
            eval.line = Some(line(&eval.settings.source, steps, &report));
        }
        Ok(scalars)
    }

    fn lines(&self) -> Vec<String> {
        self.evals.iter().filter_map(|eval| eval.line.clone()).collect()
    }

    fn take_skips(&mut self) -> Vec<Skip> {
        std::mem::take(&mut self.skipped)
    }
}

/// `labelled after 200 steps: kNN 35.2 %, probe 44.1 %, classifier 51.0 % (guessing 6.2 %)`.
fn line(source: &str, steps: u64, report: &Report) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let probe = report.probe.as_ref().map(|probe| format!(", probe {}", percent(probe.figures.accuracy)));
    let own = report.classifier.as_ref().map(|it| format!(", classifier {}", percent(it.accuracy)));
    format!(
        "{source} after {steps} steps: kNN {}{}{} (guessing {})",
        percent(report.knn.accuracy),
        probe.unwrap_or_default(),
        own.unwrap_or_default(),
        percent(report.majority)
    )
}

/// The watcher of a pipeline with `evals`; none if there are none.
///
/// # Errors
/// As [`During::open`].
pub fn watcher(
    evals: &[EvalSettings],
    resolved: &str,
    run: &RunSettings,
    steps: Option<u64>,
) -> Result<Option<Box<dyn Watcher>>, StageError> {
    if evals.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(During::open(evals, resolved, run, steps)?)))
}
