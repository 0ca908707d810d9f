//! `reelflow graph`: Draws a pipeline.

use std::process::ExitCode;

/// Arguments of `reelflow graph`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
