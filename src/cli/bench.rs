//! `reelflow bench`: measures how fast a pipeline's batches come when nothing slows them down.

use std::path::PathBuf;
use std::process::ExitCode;

use reelflow_api::error::Skip;

use crate::engine::bench::{Options, bench};
use crate::observe::quarantine::warning;

/// Arguments of `reelflow bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The pipeline file. Its sinks and banks are not opened: batches are taken and forgotten.
    pipeline: PathBuf,
    /// Change a setting: `--set operators.batch.size=8`. May be given often.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Worker threads (`run.workers`); 0 for one a core.
    #[arg(short, long, value_name = "N", env = "REELFLOW_WORKERS")]
    workers: Option<u32>,
    /// Steps to run (`run.steps`); needed where the sampler never ends.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Root of all chance (`run.seed`).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many of the first steps to make once before the measuring begins; they are not counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Decode the frames that the clips want and throw them away: the ceiling of the whole job.
    #[arg(long)]
    decode_only: bool,
    /// Have the system forget the files after the scan, so that what is measured reads them from the disk.
    #[arg(long)]
    cold: bool,
    /// No warnings on standard error.
    #[arg(short, long)]
    quiet: bool,
    /// What to write to standard output; the last line is JSON either way.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Forms of the result.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// A table, then a JSON object on one line.
    Text,
    /// Only the JSON object.
    Json,
}

/// Skipped inputs that are named; the others are counted.
const TOLD: usize = 3;

impl Args {
    /// The short options as settings.
    fn settings(&self) -> Vec<String> {
        let mut sets = self.sets.clone();
        sets.extend(self.workers.map(|n| format!("run.workers={n}")));
        sets.extend(self.steps.map(|n| format!("run.steps={n}")));
        sets.extend(self.seed.map(|n| format!("run.seed={n}")));
        sets
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let (plan, stop) = match super::ready(&args.pipeline, &args.settings()) {
        Ok(ready) => ready,
        Err(code) => return code,
    };
    let options = Options { warmup: args.warmup, decode_only: args.decode_only, cold: args.cold, stop };
    match bench(plan, &options) {
        Ok(measured) => {
            if !args.quiet {
                warn(&measured.skipped);
            }
            if args.format == Format::Text {
                super::say(&measured.to_text());
            }
            super::say(&measured.to_json().to_string());
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

/// A bench keeps no `quarantine.jsonl`, so what is missing from the numbers is said here.
fn warn(skipped: &[Skip]) {
    for skip in skipped.iter().take(TOLD) {
        eprintln!("{}", warning(skip));
    }
    if skipped.len() > TOLD {
        eprintln!("warning: {} more could not be used", skipped.len() - TOLD);
    }
}
