//! `reelflow run`: runs a pipeline.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::engine::run::{Options, Outcome, run};
use crate::engine::run_dir::Start;

/// Arguments of `reelflow run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The pipeline file.
    pipeline: PathBuf,
    /// Change a setting: `--set operators.clips.stride=4`. May be given often.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Folder of the run (`run.out`).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker threads (`run.workers`); 0 for one a core.
    #[arg(short, long, value_name = "N", env = "REELFLOW_WORKERS")]
    workers: Option<u32>,
    /// Steps to run (`run.steps`).
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Root of all chance (`run.seed`).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on from the newest checkpoint; starts afresh if there is none.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace what an earlier run left in the folder.
    #[arg(long)]
    overwrite: bool,
    /// No progress and no summary on standard error.
    #[arg(short, long)]
    quiet: bool,
    /// Also print the closing summary as one JSON line on standard output.
    #[arg(long, value_enum, value_name = "FORMAT")]
    summary: Option<SummaryFormat>,
    /// Seconds between progress lines where standard error is no terminal.
    #[arg(long, default_value_t = 10.0, value_name = "SECS")]
    interval_secs: f64,
}

/// Forms of the summary on standard output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SummaryFormat {
    /// One JSON object on one line.
    Json,
}

impl Args {
    /// The short options as settings.
    fn settings(&self) -> Vec<String> {
        let mut sets = self.sets.clone();
        if let Some(out) = &self.out {
            let out = toml::Value::String(out.to_string_lossy().into_owned());
            sets.push(format!("run.out={out}"));
        }
        sets.extend(self.workers.map(|n| format!("run.workers={n}")));
        sets.extend(self.steps.map(|n| format!("run.steps={n}")));
        sets.extend(self.seed.map(|n| format!("run.seed={n}")));
        sets
    }

    fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (_, true) => Start::Overwrite,
            _ => Start::Fresh,
        }
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let (plan, stop) = match super::ready(&args.pipeline, &args.settings()) {
        Ok(ready) => ready,
        Err(code) => return code,
    };
    let options = Options {
        pipeline: args.pipeline.clone(),
        start: args.start(),
        quiet: args.quiet,
        terminal: std::io::stderr().is_terminal(),
        interval: Duration::from_secs_f64(args.interval_secs.clamp(0.1, 86_400.0)),
        stop,
    };
    match run(plan, options) {
        Ok(outcome) => tell(args, &outcome),
        Err(error) => super::fail(&error),
    }
}

fn tell(args: &Args, outcome: &Outcome) -> ExitCode {
    if !args.quiet {
        super::tell(&outcome.summary.to_text());
    }
    if let Some(SummaryFormat::Json) = args.summary {
        super::say(&outcome.summary.to_json().to_string());
    }
    for line in &outcome.results {
        super::say(line);
    }
    ExitCode::SUCCESS
}
