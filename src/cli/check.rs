//! `reelflow check`: Finds every mistake in pipeline files.

use std::process::ExitCode;

/// Arguments of `reelflow check`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
