//! Keeps the books of a run: metrics, TensorBoard events and the progress line, one call a step.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reelflow_api::error::StageError;
use reelflow_api::stage::Scalars;

use super::events::EventFile;
use super::loss::Smoothed;
use super::metrics::MetricsFile;
use super::progress::{Meter, share, text};
use crate::edge::clock;
use crate::edge::files::storage;

/// How a recorder shows and where it starts.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Steps of the whole run, counted from step 0; `None` if it never ends.
    pub steps: Option<u64>,
    /// First step that will be reported: 0, or where a checkpoint left off. Books of this and later steps
    /// are dropped.
    pub start_step: u64,
    /// Say nothing on standard error; files are written all the same.
    pub quiet: bool,
    /// Time between two progress lines where standard error is no terminal.
    pub interval: Duration,
    /// Whether standard error is a terminal, so that one line can be drawn over.
    pub terminal: bool,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        let interval = Duration::from_secs(10);
        Self { steps: None, start_step: 0, quiet: false, interval, terminal: false }
    }
}

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// The step, from 0; reports come in order.
    pub step: u64,
    /// Numbers of all sinks; `loss` is the one that is shown.
    pub scalars: &'a Scalars,
    /// Slots of this step.
    pub clips: u32,
    /// Time the sinks waited for data.
    pub wait: Duration,
    /// Time the sinks worked.
    pub busy: Duration,
}

/// What was learnt so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learnt {
    /// Steps done since step 0, those before a resume included.
    pub steps: u64,
    /// Mean loss of the first [`super::loss::SMOOTHED_OVER`] steps.
    pub first_loss: Option<f64>,
    /// Mean loss of the last steps.
    pub last_loss: Option<f64>,
    /// Lowest such mean.
    pub best_loss: Option<f64>,
    /// Share of this run's sink time that was waiting for data, 0 to 1.
    pub data_wait_share: f64,
    /// Slots used since this run began or went on.
    pub clips: u64,
    /// Wall time of this run in seconds, from opening the recorder to the last step.
    pub secs: f64,
}

/// Keeps the books of one run. Owned by whoever drives the sinks.
pub struct Recorder {
    metrics: MetricsFile,
    metrics_path: PathBuf,
    events: EventFile,
    options: RecorderOptions,
    meter: Meter,
    loss: Smoothed,
    wait: Duration,
    busy: Duration,
    clips: u64,
    next_step: u64,
    opened: Instant,
    last_step: Instant,
    last_line: Option<Instant>,
    voice: Voice,
}

/// Where lines for people go.
enum Voice {
    Silent,
    /// One line after the other.
    Lines(Box<dyn Write + Send>),
    /// One line that is drawn over.
    Bar(ProgressBar),
}

impl Recorder {
    /// Opens the books below `run_dir`, which must exist: `metrics.jsonl` and a TensorBoard event file.
    ///
    /// # Errors
    /// Storage, if a file cannot be made, cut or written.
    pub fn open(run_dir: &Path, options: RecorderOptions) -> Result<Self, StageError> {
        let voice = match (options.quiet, options.terminal) {
            (true, _) => Voice::Silent,
            (false, true) => Voice::Bar(bar(&options)),
            (false, false) => Voice::Lines(Box::new(io::stderr())),
        };
        Self::with_voice(run_dir, options, voice, clock::now())
    }

    fn with_voice(
        run_dir: &Path,
        options: RecorderOptions,
        voice: Voice,
        opened: Instant,
    ) -> Result<Self, StageError> {
        let path = run_dir.join("metrics.jsonl");
        let (metrics, earlier) =
            MetricsFile::open(&path, options.start_step).map_err(|error| storage("open", &path, &error))?;
        let events = EventFile::create(run_dir, clock::unix_secs(), options.start_step)
            .map_err(|error| storage("make", &run_dir.join("events.out.tfevents.*"), &error))?;
        let mut loss = Smoothed::default();
        for value in earlier.iter().filter_map(|line| line.get("loss")?.as_f64()) {
            loss.push(value);
        }
        Ok(Self {
            metrics,
            metrics_path: path,
            events,
            meter: Meter::default(),
            loss,
            wait: Duration::ZERO,
            busy: Duration::ZERO,
            clips: 0,
            next_step: options.start_step,
            opened,
            last_step: opened,
            last_line: None,
            voice,
            options,
        })
    }

    /// Writes down one step and shows progress if it is time.
    ///
    /// # Errors
    /// Storage, if a file cannot be written.
    pub fn step(&mut self, report: &StepReport<'_>) -> Result<(), StageError> {
        self.step_at(report, clock::now(), clock::unix_secs())
    }

    fn step_at(&mut self, report: &StepReport<'_>, at: Instant, unix_secs: f64) -> Result<(), StageError> {
        let numbers = numbers(report);
        self.metrics
            .write(report.step, &numbers)
            .map_err(|error| storage("write", &self.metrics_path, &error))?;
        self.events
            .scalars(unix_secs, report.step, &numbers)
            .map_err(|error| storage("write", self.events.path(), &error))?;
        if let Some((_, loss)) = numbers.iter().find(|(name, _)| name == "loss") {
            self.loss.push(*loss);
        }
        self.wait += report.wait;
        self.busy += report.busy;
        self.clips += u64::from(report.clips);
        self.next_step = report.step + 1;
        self.last_step = at;
        self.meter.push(at, report.clips, report.wait, report.busy);
        self.show(at);
        Ok(())
    }

    fn show(&mut self, at: Instant) {
        // A bar limits its own drawing; making the text often is cheap, but not at a thousand steps a second.
        let pause = match &self.voice {
            Voice::Silent => return,
            Voice::Lines(_) => self.options.interval,
            Voice::Bar(_) => Duration::from_millis(100),
        };
        let due = self.last_line.is_none_or(|last| at.duration_since(last) >= pause);
        let is_last = self.options.steps == Some(self.next_step);
        if !due && !is_last {
            return;
        }
        self.last_line = Some(at);
        let left = self.options.steps.map(|steps| steps.saturating_sub(self.next_step));
        let text = text(self.meter.rates(), self.loss.last(), left);
        match &mut self.voice {
            Voice::Silent => {}
            Voice::Lines(to) => {
                let of = self.options.steps.map(|steps| format!("/{steps}")).unwrap_or_default();
                let separator = if text.is_empty() { "" } else { ": " };
                // A closed standard error must not end a run.
                let _ = writeln!(to, "step {}{of}{separator}{text}", self.next_step);
            }
            Voice::Bar(bar) => {
                bar.set_position(self.next_step);
                bar.set_message(text);
            }
        }
    }

    /// Says one line, above the progress line if there is one.
    pub fn note(&mut self, line: impl AsRef<str>) {
        match &mut self.voice {
            Voice::Silent => {}
            Voice::Lines(to) => {
                let _ = writeln!(to, "{}", line.as_ref());
            }
            Voice::Bar(bar) => bar.suspend(|| _ = writeln!(io::stderr(), "{}", line.as_ref())),
        }
    }

    /// Takes the progress line away and puts the books on the disk. Call it on success and on failure.
    ///
    /// # Errors
    /// Storage, if the disk refuses.
    pub fn finish(&mut self) -> Result<(), StageError> {
        if let Voice::Bar(bar) = &self.voice {
            bar.finish_and_clear();
        }
        self.metrics.sync().map_err(|error| storage("sync", &self.metrics_path, &error))?;
        self.events.sync().map_err(|error| storage("sync", self.events.path(), &error))
    }

    /// What was learnt so far, for the closing summary.
    #[must_use]
    pub fn learnt(&self) -> Learnt {
        Learnt {
            steps: self.next_step,
            first_loss: self.loss.first(),
            last_loss: self.loss.last(),
            best_loss: self.loss.best(),
            data_wait_share: share(self.wait, self.busy),
            clips: self.clips,
            secs: self.last_step.duration_since(self.opened).as_secs_f64(),
        }
    }
}

/// The numbers of a step with their names in the files. Two sinks may use the same name: the second
/// becomes `loss.2`, so that no number hides another.
fn numbers(report: &StepReport<'_>) -> Vec<(String, f64)> {
    let mut numbers: Vec<(String, f64)> = Vec::with_capacity(report.scalars.len() + 2);
    for (name, value) in report.scalars {
        let taken = |candidate: &str| numbers.iter().any(|(other, _)| other == candidate);
        let free = (1..).map(|n| if n == 1 { (*name).to_owned() } else { format!("{name}.{n}") });
        let name = free.into_iter().find(|candidate| !taken(candidate)).unwrap_or_default();
        numbers.push((name, *value));
    }
    let secs = (report.wait + report.busy).as_secs_f64();
    numbers.push(("data_wait_share".to_owned(), share(report.wait, report.busy)));
    let rate = if secs > 0.0 { f64::from(report.clips) / secs } else { 0.0 };
    numbers.push(("clips_per_sec".to_owned(), rate));
    numbers
}

fn bar(options: &RecorderOptions) -> ProgressBar {
    let template = match options.steps {
        Some(_) => "{bar:24} {pos}/{len}  {wide_msg}",
        None => "{spinner} step {pos}  {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).expect("both templates name keys that indicatif has");
    let bar = ProgressBar::with_draw_target(options.steps, ProgressDrawTarget::stderr()).with_style(style);
    bar.set_position(options.start_step);
    bar
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A writer that hands on what is written, for tests that read what was said.
    pub(crate) struct Lines(pub Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Reports steps `from..to`, a quarter of a second each with 8 clips and a loss of 10 - step; gives
    /// what was said and what was learnt.
    fn run(folder: &Path, from: u64, to: u64) -> (String, Learnt) {
        let (sender, lines) = channel();
        let (opened, quarter) = (clock::now(), Duration::from_millis(250));
        let options = RecorderOptions {
            steps: Some(8),
            start_step: from,
            interval: Duration::from_secs(1),
            ..RecorderOptions::default()
        };
        let voice = Voice::Lines(Box::new(Lines(sender)));
        let mut recorder = Recorder::with_voice(folder, options, voice, opened).unwrap();
        for step in from..to {
            let scalars: Scalars = vec![("loss", 10.0 - step as f64)];
            let (wait, busy) = (quarter / 5, quarter * 4 / 5);
            let report = StepReport { step, scalars: &scalars, clips: 8, wait, busy };
            let at = opened + quarter * (step - from + 1) as u32;
            recorder.step_at(&report, at, 1.7e9).unwrap();
        }
        recorder.note("a note");
        recorder.finish().unwrap();
        let learnt = recorder.learnt();
        drop(recorder);
        (lines.into_iter().collect(), learnt)
    }

    #[test]
    fn off_a_terminal_one_line_an_interval_and_one_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (said, _) = run(folder.path(), 0, 8);
        assert_eq!(
            said,
            "step 1/8: loss 10.0000\n\
             step 5/8: 4.00 steps/s, 32.0 clips/s, loss 8.0000, data wait 20 %, 0:01 left\n\
             step 8/8: 4.00 steps/s, 32.0 clips/s, loss 6.5000, data wait 20 %, 0:00 left\n\
             a note\n"
        );
    }

    #[test]
    fn a_run_that_goes_on_has_the_books_of_one_that_never_stopped() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, expected) = run(whole.path(), 0, 8);
        // Stopped after step 5, but the last checkpoint was before step 3.
        run(parts.path(), 0, 6);
        let (_, learnt) = run(parts.path(), 3, 8);
        let read = |folder: &Path| std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        assert_eq!(read(parts.path()), read(whole.path()));
        assert_eq!(read(whole.path()).lines().count(), 8);
        assert_eq!((learnt.steps, learnt.clips), (8, 40));
        assert_eq!((learnt.first_loss, learnt.best_loss), (expected.first_loss, expected.best_loss));
    }

    #[test]
    fn two_sinks_may_use_the_same_name() {
        let scalars: Scalars = vec![("loss", 1.0), ("loss", 2.0), ("loss", 3.0)];
        let wait = Duration::from_secs(1);
        let report = StepReport { step: 0, scalars: &scalars, clips: 8, wait, busy: wait };
        let all: Vec<_> = numbers(&report).into_iter().map(|(name, _)| name).collect();
        assert_eq!(all, ["loss", "loss.2", "loss.3", "data_wait_share", "clips_per_sec"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_storage_error() {
        let error = Recorder::open(Path::new("/nonexistent/run"), RecorderOptions::default()).err().unwrap();
        assert_eq!(error.code, 74);
        assert!(error.message.contains("/nonexistent/run/metrics.jsonl"), "{error}");
    }
}
