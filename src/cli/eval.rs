//! `reelflow eval`: what an encoder knows, by nearest neighbours, a linear probe and retrieval over
//! labelled clips; and how a fine-tuned classifier does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum as _;
use reelflow_api::error::StageError;

use super::encoders::{self, BATCH, Encoders};
use crate::edge::files;
use crate::eval::embed::{Choice, Clips, Pass};
use crate::eval::labelled::LabelledSet;
use crate::eval::plane::plane;
use crate::eval::recipe::{self, Wishes};
use crate::eval::report::{Column, controls, to_json};
use crate::eval::{EvalOptions, Protocol, Voting, evaluate, side_by_side};
use crate::observe::{confusion, map};

/// Arguments of `reelflow eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder (its newest checkpoint) or one checkpoint's folder.
    run: PathBuf,
    /// Labelled clips: a folder of class folders; a list (.csv, .tsv) with columns path, label, and optionally
    /// split, group, start_secs and end_secs; or lists of UCF101, HMDB51 or Kinetics. May be given often.
    #[arg(long, required = true, value_name = "PATH")]
    data: Vec<String>,
    /// Folder of the media that lists name, where it is not the list's own.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only these classes: `--classes falling,standup`.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    classes: Vec<String>,
    /// Only media whose path contains this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Who may find whom: `split`, `leave_group_out` or `leave_one_out`; chosen from the data if not given.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolName>,
    /// Clips of every segment, evenly spaced; their embeddings are averaged, a classifier's probabilities summed. 5
    /// if not given, 10 for a classifier.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clips: Option<u32>,
    /// Neighbours that vote, weighted by exp(cosine / 0.07).
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    k: u32,
    /// Subtract the mean embedding of the set first.
    #[arg(long)]
    centre: bool,
    /// Order of a clip's frames; `middle_frame` and `shuffled` are controls that take the motion away. Several,
    /// as `--order forward,middle_frame,shuffled`, give one table.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "forward")]
    order: Vec<Order>,
    /// Without the linear probe.
    #[arg(long)]
    no_probe: bool,
    /// Also the encoder as it was before training, side by side.
    #[arg(long)]
    untrained: bool,
    /// Also draw who was taken for whom (PNG), by kNN, probe and the run's own classifier, of every encoder.
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,
    /// Also draw the embeddings on the plane of their first two principal components (PNG), a colour a class.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// `auto`, `cpu`, `cuda`, `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Form of the report on standard output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Clips of a segment whose embeddings are averaged.
const CLIPS: u32 = 5;
/// Clips of a segment that a classifier is tested on: the protocol of VCOP and of those who compare with it.
const CLIPS_OF_A_CLASSIFIER: u32 = 10;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The sampler's `order`.
#[derive(Clone, Copy, Debug, clap::ValueEnum, PartialEq)]
#[value(rename_all = "snake_case")]
enum Order {
    /// As recorded.
    Forward,
    /// Repeats one picture.
    MiddleFrame,
    /// Destroys the order.
    Shuffled,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum ProtocolName {
    Split,
    LeaveGroupOut,
    LeaveOneOut,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match report(args) {
        Ok(text) => {
            super::say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

fn report(args: &Args) -> Result<String, StageError> {
    let encoders = encoders::open(&args.run, &args.device, args.untrained)?;
    let columns = measure(args, &encoders)?;
    if let Some(file) = &args.confusion {
        // With several orders the first is drawn.
        files::write_atomic(file, &confusion(&columns[..encoders.names.len()])?)?;
    }
    Ok(match args.format {
        Format::Json => to_json(&columns).to_string(),
        Format::Text if args.order.len() > 1 => controls(&columns),
        Format::Text => side_by_side(&columns),
    })
}

/// One column an order and encoder; each order is a pass over the data.
fn measure(args: &Args, encoders: &Encoders) -> Result<Vec<Column>, StageError> {
    let options = args.options(encoders.recipe.classes.clone());
    let of_segment =
        args.clips.unwrap_or(if options.outputs.is_empty() { CLIPS } else { CLIPS_OF_A_CLASSIFIER });
    let choice = Choice { only: args.only.as_deref(), classes: &args.classes, span_secs: None };
    let mut columns = Vec::new();
    for (number, order) in args.order.iter().enumerate() {
        let order = order.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let wishes = Wishes {
            source: recipe::files(&args.data, args.root.as_deref()),
            clips: of_segment,
            order: order.clone(),
            batch: BATCH,
            workers: 0,
        };
        let clips = Clips::find(encoders.recipe.pipeline(&wishes), choice)?;
        let pass = clips.embed(&encoders.networks)?;
        if number == 0 {
            encoders::tell_skips(&clips, &pass);
            if let Some(file) = &args.map {
                files::write_atomic(file, &map(&encoders.names, &pass, &options)?)?;
            }
        }
        for (encoder, items) in encoders.names.iter().zip(&pass.embeddings) {
            let report = evaluate(items, &options)?;
            columns.push(Column { encoder: encoder.clone(), order: order.clone(), report });
        }
    }
    Ok(columns)
}

fn undrawn(message: String) -> StageError {
    StageError::failed("eval", format!("the picture cannot be made: {message}"))
}

fn confusion(columns: &[Column]) -> Result<Vec<u8>, StageError> {
    let mut panels = Vec::new();
    for Column { encoder, report, .. } in columns {
        let probe = report.probe.as_ref().map(|it| &it.figures);
        let classifiers =
            [("kNN", Some(&report.knn)), ("probe", probe), ("classifier", report.classifier.as_ref())];
        panels.extend(classifiers.into_iter().filter_map(|(name, figures)| {
            let figures = figures?;
            let title = format!("{encoder}: {name} {:.1} percent", 100.0 * figures.accuracy);
            Some(confusion::Panel { title, counts: figures.confusion.clone() })
        }));
    }
    let by_class = columns.first().map(|column| column.report.knn.by_class.as_slice()).unwrap_or_default();
    let classes: Vec<String> = by_class.iter().map(|class| class.name.clone()).collect();
    confusion::png(&classes, &panels).map_err(undrawn)
}

fn map(names: &[String], pass: &Pass, options: &EvalOptions) -> Result<Vec<u8>, StageError> {
    let sets: Vec<LabelledSet> =
        pass.embeddings.iter().map(|items| LabelledSet::new(items, options)).collect::<Result<_, _>>()?;
    let panel = |(name, set): (&String, &LabelledSet)| {
        let plane = plane(set);
        let [first, second] = plane.explained.map(|share| 100.0 * share);
        let note = format!("principal components with {first:.0} and {second:.0} percent of the variance");
        map::Panel { title: name.clone(), note, points: plane.points }
    };
    let panels: Vec<map::Panel> = names.iter().zip(&sets).map(panel).collect();
    let Some(set) = sets.first() else { return Ok(Vec::new()) };
    let classes: Vec<String> = set.classes.iter().map(|name| name.to_string()).collect();
    map::png(&classes, &set.class, &panels).map_err(undrawn)
}

impl Args {
    fn options(&self, outputs: Vec<String>) -> EvalOptions {
        EvalOptions {
            protocol: self.protocol.map(|name| match name {
                ProtocolName::Split => Protocol::Split,
                ProtocolName::LeaveGroupOut => Protocol::LeaveGroupOut,
                ProtocolName::LeaveOneOut => Protocol::LeaveOneOut,
            }),
            voting: Voting::Weighted { k: self.k as usize, temperature: 0.07 },
            centre: self.centre,
            probe: !self.no_probe,
            outputs,
            ..EvalOptions::default()
        }
    }
}
