//! `reelflow eval`: what an encoder knows, by nearest neighbours and retrieval over labelled clips.

use std::path::PathBuf;
use std::process::ExitCode;

use reelflow_api::error::StageError;

use crate::edge::threads;
use crate::eval::embed::{Pass, embed};
use crate::eval::recipe::{Recipe, Wishes};
use crate::eval::{EvalOptions, Protocol, Report, Voting, evaluate, side_by_side};
use crate::observe::quarantine::warning;
use crate::train;

/// Arguments of `reelflow eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder (its newest checkpoint) or one checkpoint's folder.
    run: PathBuf,
    /// Labelled clips: a folder of class folders, or a list (.csv, .tsv) with columns path, label, and
    /// optionally split and group. May be given often.
    #[arg(long, required = true, value_name = "PATH")]
    data: Vec<String>,
    /// Only media whose path contains this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Who may find whom: `split`, `leave_group_out` or `leave_one_out`; chosen from the data if not given.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolName>,
    /// Clips of every segment, evenly spaced; their embeddings are averaged.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clips: u32,
    /// Neighbours that vote, weighted by exp(cosine / 0.07).
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    k: u32,
    /// Subtract the mean embedding of the set first.
    #[arg(long)]
    centre: bool,
    /// Control: `middle_frame` repeats one picture, `shuffled` destroys the order.
    #[arg(long, value_enum, default_value = "forward")]
    order: Order,
    /// Also the encoder as it was before training, side by side.
    #[arg(long)]
    untrained: bool,
    /// `auto`, `cpu`, `cuda`, `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Form of the report on standard output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Order {
    Forward,
    MiddleFrame,
    Shuffled,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum ProtocolName {
    Split,
    LeaveGroupOut,
    LeaveOneOut,
}

/// Clips embedded at a time: enough to fill the cores, small beside the networks.
const BATCH: u32 = 16;

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match report(args) {
        Ok(text) => {
            super::say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.code)
        }
    }
}

fn report(args: &Args) -> Result<String, StageError> {
    let checkpoint = super::checkpoint("eval", &args.run)?;
    let recipe = Recipe::of(&checkpoint.manifest.pipeline)?;
    let parts = checkpoint.sinks.get(&recipe.train).ok_or_else(|| {
        StageError::storage(
            "eval",
            format!("`{}` has no state of `{}`", checkpoint.dir.display(), recipe.train),
        )
    })?;
    let trained_name = format!("step {}", checkpoint.manifest.step);
    let mut names = vec![trained_name];
    let mut networks = vec![train::embedder(parts, threads::for_training(), &args.device, true)?];
    if args.untrained {
        names.insert(0, "untrained".to_owned());
        networks.insert(0, train::embedder(parts, threads::for_training(), &args.device, false)?);
    }
    let order = clap::ValueEnum::to_possible_value(&args.order).map(|value| value.get_name().to_owned());
    let wishes =
        Wishes { data: args.data.clone(), clips: args.clips, order: order.unwrap_or_default(), batch: BATCH };
    let pass = embed(&recipe.pipeline(&wishes), args.only.as_deref(), &networks)?;
    tell_skips(&pass);
    let options = EvalOptions {
        protocol: args.protocol.map(|name| match name {
            ProtocolName::Split => Protocol::Split,
            ProtocolName::LeaveGroupOut => Protocol::LeaveGroupOut,
            ProtocolName::LeaveOneOut => Protocol::LeaveOneOut,
        }),
        voting: Voting::Weighted { k: args.k as usize, temperature: 0.07 },
        centre: args.centre,
        ..EvalOptions::default()
    };
    let reports: Vec<Report> =
        pass.embeddings.iter().map(|items| evaluate(items, &options)).collect::<Result<_, _>>()?;
    let named: Vec<(&str, &Report)> = names.iter().map(String::as_str).zip(&reports).collect();
    Ok(match args.format {
        Format::Text => side_by_side(&named),
        Format::Json => {
            let entries = named.iter().map(|(name, report)| ((*name).to_owned(), report.to_json()));
            serde_json::Value::Object(entries.collect()).to_string()
        }
    })
}

fn tell_skips(pass: &Pass) {
    for skip in &pass.skipped {
        eprintln!("{}", warning(skip));
    }
    if !pass.skipped.is_empty() {
        eprintln!("{} of {} inputs were left out", pass.skipped.len(), pass.inputs_seen);
    }
}
