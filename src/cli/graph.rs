//! `reelflow graph`: Draws a pipeline.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::draw::{self, Format};
use crate::config::load_file;

/// Arguments of `reelflow graph`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline file.
    file: PathBuf,
    /// How to write it down; it goes to standard output.
    #[arg(long, default_value = "mermaid")]
    format: Format,
    /// Shows what the engine puts in between: decoding, exchanges between workers, queues, threads.
    #[arg(long)]
    physical: bool,
    /// Sets a value over the file's: `run.workers=8`. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// Runs the command: 0, or 78 if the file has mistakes.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let plan = match load_file(&args.file, &args.set) {
        Ok(plan) => plan,
        Err(report) => return report.refuse(),
    };
    let drawing = if args.physical { draw::physical(&plan) } else { draw::logical(&plan) };
    print!("{}", drawing.render(args.format));
    ExitCode::SUCCESS
}
