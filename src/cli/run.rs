//! `reelflow run`: Runs a pipeline.

use std::process::ExitCode;

/// Arguments of `reelflow run`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
