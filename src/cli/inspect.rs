//! `reelflow inspect`: Lists stages and their parameters.

use std::process::ExitCode;

/// Arguments of `reelflow inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
