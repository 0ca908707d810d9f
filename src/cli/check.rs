//! `reelflow check`: Finds every mistake in pipeline files.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;

/// Arguments of `reelflow check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Sets a value over the file's: `run.steps=100`. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// `human` goes to standard error; `short` (`file:line:column: error[CODE]: …`) and `json` (one object
    /// a line) to standard output.
    #[arg(long, default_value = "human")]
    format: Format,
}

/// How problems are shown.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    Human,
    Short,
    Json,
}

/// Runs the command: 0 if all files are right, 78 otherwise. Starts nothing, and opens no other file but those
/// that a `plan` names.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    for file in &args.files {
        match (config::load_file(file, &args.set), args.format) {
            (Ok(_), Format::Json) => {}
            (Ok(plan), _) => super::say(&format!("ok: {} ({} stages)", file.display(), plan.nodes.len())),
            (Err(report), format) => {
                exit = match format {
                    Format::Human => report.refuse(),
                    Format::Short => report.print(&report.short()),
                    Format::Json => report.print(&report.json()),
                };
            }
        }
    }
    exit
}
