//! The command line: one file a command. Results go to standard output, everything else to standard error.

pub mod bench;
pub mod check;
pub mod doctor;
#[cfg(feature = "torch")]
pub mod eval;
pub mod graph;
pub mod inspect;
pub mod run;
#[cfg(feature = "gst")]
pub mod synth;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Finds every mistake in pipeline files; starts nothing.
    Check(check::Args),
    /// Draws a pipeline.
    Graph(graph::Args),
    /// Lists stages and their parameters.
    Inspect(inspect::Args),
    /// Measures an encoder over labelled clips: nearest neighbours and retrieval.
    #[cfg(feature = "torch")]
    Eval(eval::Args),
    /// Makes a small labelled corpus whose classes only time tells apart.
    #[cfg(feature = "gst")]
    Synth(synth::Args),
    /// Says whether this machine has what reelflow needs.
    Doctor(doctor::Args),
}

/// Prints a result line. A reader that has gone away (`| head -1`) has what it wanted: no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Runs the command line; the exit code is that of RELIABILITY: 0, 1, 2, 69, 74, 75, 78.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Graph(args) => graph::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        #[cfg(feature = "torch")]
        Command::Eval(args) => eval::main(&args),
        #[cfg(feature = "gst")]
        Command::Synth(args) => synth::main(&args),
        Command::Doctor(args) => doctor::main(&args),
    }
}
