//! `reelflow doctor`: Says whether this machine has what reelflow needs.

use std::process::ExitCode;

/// Arguments of `reelflow doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
