//! `reelflow synth`: Makes a small labelled corpus.

use std::process::ExitCode;

/// Arguments of `reelflow synth`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn main(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
