//! `reelflow eval`: Measures an encoder over labelled clips.

use std::process::ExitCode;

/// Arguments of `reelflow eval`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
