//! The command line: one file a command. Results go to standard output, everything else to standard error.

pub mod bank;
pub mod bench;
pub mod catalog;
pub mod check;
pub mod doctor;
#[cfg(feature = "torch")]
pub mod embed;
#[cfg(feature = "torch")]
mod encoders;
#[cfg(feature = "torch")]
pub mod eval;
pub mod graph;
pub mod inspect;
pub mod run;
#[cfg(feature = "torch")]
pub mod search;
#[cfg(feature = "gst")]
pub mod synth;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reelflow_api::error::StageError;

use crate::config::{self, Plan};
use crate::edge::failpoint;
use crate::edge::signal::{self, Stop};
use crate::engine::checkpoint::{self, Checkpoint};

/// Learns video representations without labels, as a streaming dataflow.
#[derive(Debug, Parser)]
#[command(name = "reelflow", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a pipeline.
    Run(run::Args),
    /// Measures how fast a pipeline's batches come when nothing slows them down.
    Bench(bench::Args),
    /// Says what sources hold, segment by segment if asked, and what changed since the last look.
    Catalog(catalog::Args),
    /// Finds every mistake in pipeline files; starts nothing.
    Check(check::Args),
    /// Draws a pipeline.
    Graph(graph::Args),
    /// Lists stages and their parameters.
    Inspect(inspect::Args),
    /// Measures an encoder over labelled clips: nearest neighbours, linear probe, retrieval.
    #[cfg(feature = "torch")]
    Eval(eval::Args),
    /// Writes the embedding of every clip as a NumPy array, with a table of whose it is.
    #[cfg(feature = "torch")]
    Embed(embed::Args),
    /// Finds the moments of an archive that are nearest to a clip.
    #[cfg(feature = "torch")]
    Search(search::Args),
    /// Makes a small labelled corpus whose classes only time tells apart.
    #[cfg(feature = "gst")]
    Synth(synth::Args),
    /// Looks into the memory banks of a run or checkpoint, checks them, takes segments out.
    Bank(bank::Args),
    /// Says whether this machine has what reelflow needs.
    Doctor(doctor::Args),
}

/// The checked plan of a pipeline file, and the wish to stop as signals tell it; the exit code if there is none.
fn ready(pipeline: &Path, sets: &[String]) -> Result<(Plan, Stop), ExitCode> {
    let stop = Stop::on_signals().map_err(|error| fail(&error))?;
    let plan = config::load_file(pipeline, sets).map_err(|report| {
        tell(report.to_string().trim_end());
        ExitCode::from(78)
    })?;
    Ok((plan, stop))
}

/// A number of seconds above 0, at most a million, for the command line.
#[cfg(feature = "torch")]
fn secs(text: &str) -> Result<f64, String> {
    let secs: f64 = text.parse().map_err(|_| "is no number of seconds".to_owned())?;
    if (0.01..=1e6).contains(&secs) {
        Ok(secs)
    } else {
        Err("must be from 0.01 to 1000000 seconds".to_owned())
    }
}

/// A checkpoint's folder as it is, or the newest checkpoint of a run's folder; `command` asks.
fn checkpoint(command: &str, path: &Path) -> Result<Checkpoint, StageError> {
    if path.join("manifest.json").is_file() {
        return checkpoint::open(path);
    }
    match checkpoint::newest(&path.join("checkpoints"))? {
        Some((checkpoint, damaged)) => {
            for line in damaged {
                tell(&format!("warning: checkpoint: {line}"));
            }
            Ok(checkpoint)
        }
        None => Err(StageError::refused(
            command,
            format!(
                "`{}` is neither a checkpoint nor a run with one; train first: reelflow run",
                path.display()
            ),
        )),
    }
}

/// Says what ended a command; the exit code it asks for.
fn fail(error: &StageError) -> ExitCode {
    tell(&format!("error: {error}"));
    ExitCode::from(error.code)
}

/// Prints a line for a person. A terminal that has gone away must not turn a good end into a bad one.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a result line. A reader that has gone away (`| head -1`) has what it wanted: no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Runs the command line; the exit code is that of RELIABILITY: 0, 1, 2, 69, 74, 75, 78, 101.
#[must_use]
pub fn main() -> ExitCode {
    failpoint::arm();
    if let Err(error) = signal::report_full_files() {
        return fail(&error);
    }
    match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Catalog(args) => catalog::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Graph(args) => graph::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        #[cfg(feature = "torch")]
        Command::Eval(args) => eval::main(&args),
        #[cfg(feature = "torch")]
        Command::Embed(args) => embed::main(&args),
        #[cfg(feature = "torch")]
        Command::Search(args) => search::main(&args),
        #[cfg(feature = "gst")]
        Command::Synth(args) => synth::main(&args),
        Command::Bank(args) => bank::main(&args),
        Command::Doctor(args) => doctor::main(&args),
    }
}
