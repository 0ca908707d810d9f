//! `reelflow search`: the moments of an archive nearest to a clip, or how often half a video finds its other half.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use reelflow_api::error::StageError;
use serde_json::json;

use super::encoders::{self, BATCH, Encoders};
use crate::edge::files;
use crate::eval::Embedded;
use crate::eval::embed::{Choice, Clips, pictures};
use crate::eval::moments::{self, Found, Moment};
use crate::eval::recipe::{self, Recipe, Wishes};
use crate::eval::report::aligned;
use crate::observe::contact_sheet::{self, Light};
use crate::train::Embedder;

/// Arguments of `reelflow search`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder (its newest checkpoint) or one checkpoint's folder.
    run: PathBuf,
    /// Where to search: files, folders or lists. May be given often.
    #[arg(long, required_unless_present = "index", value_name = "PATH")]
    data: Vec<String>,
    /// Instead, search what `embed` wrote of the same encoder (Parquet): nothing but the query is decoded. Moments are
    /// its segments.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "halves", "sheet"])]
    index: Option<PathBuf>,
    /// What to look for: a file, or a part of one as `FILE@START-END` in seconds.
    #[arg(long, value_name = "FILE[@START-END]", required_unless_present = "halves")]
    query: Option<String>,
    /// Instead, let each half of every file look for its other half, and tell how often it is found.
    #[arg(long, conflicts_with = "query")]
    halves: bool,
    /// Moments to list.
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    k: u32,
    /// Length of a moment: longer files are cut into pieces of so many seconds.
    #[arg(long, default_value = "4", value_name = "SECS", value_parser = super::secs)]
    moment_secs: f64,
    /// Clips of a moment (with `--halves`, of a file), evenly spaced; their embeddings are averaged.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clips: u32,
    /// Also draw the query and the moments found, a row each (PNG).
    #[arg(long, value_name = "FILE", conflicts_with = "halves")]
    sheet: Option<PathBuf>,
    /// Also, or with `--query` instead, by the encoder as it was before training.
    #[arg(long)]
    untrained: bool,
    /// `auto`, `cpu`, `cuda`, `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Form of the result on standard output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let found =
        encoders::open(&args.run, &args.device, args.untrained).and_then(|encoders| match &args.query {
            Some(query) => search(args, &encoders, query),
            None => halves(args, &encoders),
        });
    match found {
        Ok(text) => {
            super::say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

/// The part behind `@`, if it is a time range.
fn parse(query: &str) -> (&str, Option<(f64, f64)>) {
    let range = |text: &str| {
        let (start, end) = text.split_once('-')?;
        let (start, end): (f64, f64) = (start.parse().ok()?, end.parse().ok()?);
        (start >= 0.0 && start < end && end.is_finite()).then_some((start, end))
    };
    match query.rsplit_once('@').and_then(|(file, text)| Some((file, range(text)?))) {
        Some((file, span)) => (file, Some(span)),
        None => (query, None),
    }
}

fn wishes(source: toml::Table, clips: u32) -> Wishes {
    Wishes { source, clips, order: "forward".to_owned(), batch: BATCH, workers: 0 }
}

/// Clips of a source and their embeddings by one encoder or by all.
fn embedded(
    encoders: &Encoders,
    wishes: &Wishes,
    choice: Choice<'_>,
) -> Result<Vec<Vec<Embedded>>, StageError> {
    let clips = Clips::find(encoders.recipe.pipeline(wishes), choice)?;
    let pass = clips.embed(&encoders.networks)?;
    encoders::tell_skips(&clips, &pass);
    Ok(pass.embeddings)
}

fn search(args: &Args, encoders: &Encoders, query: &str) -> Result<String, StageError> {
    let (file, span_secs) = parse(query);
    let asked = wishes(recipe::files(&[file.to_owned()], None), args.clips);
    let asked = embedded(encoders, &asked, Choice { span_secs, ..Choice::default() })?;
    let archive = match &args.index {
        Some(file) => vec![indexed(file, &encoders.networks[0])?],
        None => {
            let mut source = recipe::files(&args.data, None);
            source.insert("segment_secs".to_owned(), args.moment_secs.into());
            embedded(encoders, &wishes(source, args.clips), Choice::default())?
        }
    };
    // With `--untrained` that encoder is the first.
    let first = |mut of: Vec<Vec<Embedded>>| moments::moments(&of.swap_remove(0));
    let (asked, archive) = (first(asked)?, first(archive)?);
    let Some(asked) = asked.into_iter().next() else {
        return Err(StageError::failed("search", format!("`{query}` holds nothing that can be looked for")));
    };
    let found = moments::nearest(&asked, &archive, args.k as usize);
    if let Some(path) = &args.sheet {
        files::write_atomic(path, &sheet(&encoders.recipe, &asked, &archive, &found)?)?;
    }
    let hits = || found.iter().map(|found| (found.cosine, &archive[found.index]));
    Ok(match args.format {
        Format::Json => {
            let hit = |(cosine, moment): (f32, &Moment)| {
                json!({
                    "cosine": cosine,
                    "path": moment.segment.media.name,
                    "start_secs": moment.span_secs.0,
                    "end_secs": moment.span_secs.1,
                    "label": moment.segment.label.as_deref(),
                    "id": format!("{:016x}", moment.segment.id.0),
                })
            };
            json!({ "query": query, "encoder": encoders.names[0], "moments": hits().map(hit).collect::<Vec<_>>() })
                .to_string()
        }
        Format::Text => {
            let mut rows =
                vec![["".into(), "cosine".into(), "from".into(), "to".into(), "path".into()].to_vec()];
            rows.extend(hits().enumerate().map(|(at, (cosine, moment))| {
                let (start, end) = moment.span_secs;
                let name = moment.segment.media.name.clone();
                vec![(at + 1).to_string(), format!("{cosine:.3}"), clock(start), clock(end), name]
            }));
            aligned(&rows)
        }
    })
}

/// The embeddings that `embed` wrote to `file`, if they are by `encoder`.
#[cfg(feature = "parquet")]
fn indexed(file: &Path, encoder: &Embedder) -> Result<Vec<Embedded>, StageError> {
    let archive = crate::eval::archive::read(file)?;
    let (written, own) = (archive.encoder, encoder.fingerprint()?);
    if written == own {
        return Ok(archive.items);
    }
    let message = format!(
        "`{}` was written by the encoder {written}, this one is {own}; embeddings of two encoders cannot be compared: \
         write it again with `reelflow embed`",
        file.display()
    );
    Err(StageError::refused("search", message))
}

#[cfg(not(feature = "parquet"))]
fn indexed(_: &Path, _: &Embedder) -> Result<Vec<Embedded>, StageError> {
    let message =
        "this program was built without the feature `parquet`; give `--data`, or build it with the feature";
    Err(StageError::unavailable("search", message))
}

/// `1:02.5`, minutes and seconds.
fn clock(secs: f64) -> String {
    let tenths = (secs * 10.0).round() as u64;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

fn sheet(
    recipe: &Recipe,
    asked: &Moment,
    archive: &[Moment],
    found: &[Found],
) -> Result<Vec<u8>, StageError> {
    let moments: Vec<&Moment> =
        [asked].into_iter().chain(found.iter().map(|found| &archive[found.index])).collect();
    let segments = moments.iter().map(|moment| Arc::clone(&moment.segment)).collect();
    let one =
        Wishes { batch: moments.len() as u32, ..wishes(recipe::files(&["archive".to_owned()], None), 1) };
    let batch = pictures(&recipe.unnormalised().pipeline(&one), segments)?;
    let title = |at: usize| {
        let Moment { segment, span_secs: (start, end), .. } = moments[at];
        let what = match at.checked_sub(1) {
            None => "query".to_owned(),
            Some(rank) => format!("{at}: cosine {:.3}", found[rank].cosine),
        };
        let name = Path::new(&segment.media.name).file_name().unwrap_or_default().to_string_lossy();
        format!("{what}  {name}  {} - {}", clock(*start), clock(*end))
    };
    // A moment that cannot be decoded again has no slot.
    let titles: Vec<String> = batch.slots.iter().map(|slot| title(slot.slot as usize)).collect();
    contact_sheet::titled_png(&batch, &titles, Light::PLAIN)
        .map_err(|message| StageError::failed("search", format!("the picture cannot be made: {message}")))
}

fn halves(args: &Args, encoders: &Encoders) -> Result<String, StageError> {
    let asked = wishes(recipe::files(&args.data, None), args.clips);
    let items = embedded(encoders, &asked, Choice::default())?;
    let found: Vec<moments::Halves> =
        items.iter().map(|items| moments::halves(items)).collect::<Result<_, _>>()?;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    Ok(match args.format {
        Format::Json => {
            let entries = encoders.names.iter().zip(&found);
            serde_json::Value::Object(entries.map(|(name, halves)| (name.clone(), json!(halves))).collect())
                .to_string()
        }
        Format::Text => {
            let Some(first) = found.first() else { return Ok(String::new()) };
            let mut rows: Vec<Vec<String>> = vec![["", "hit@1", "hit@5"].map(str::to_owned).to_vec()];
            let guess = [first.chance, (5.0 * first.chance).min(1.0)].map(percent);
            rows.push([vec!["guessing".to_owned()], guess.to_vec()].concat());
            rows.extend(
                encoders
                    .names
                    .iter()
                    .zip(&found)
                    .map(|(name, halves)| vec![name.clone(), percent(halves.hit_1), percent(halves.hit_5)]),
            );
            let (videos, left_out) = (first.videos, first.left_out);
            format!(
                "each half of {videos} videos among the other halves of all; {left_out} too short for a clip in \
                 each half\n\n{}",
                aligned(&rows)
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_have_a_time_range() {
        assert_eq!(parse("a/b.mp4"), ("a/b.mp4", None));
        assert_eq!(parse("a.mp4@3-4.5"), ("a.mp4", Some((3.0, 4.5))));
        // A file may have `@` in its name.
        assert_eq!(parse("me@home.mp4"), ("me@home.mp4", None));
        assert_eq!(parse("me@home.mp4@0-2"), ("me@home.mp4", Some((0.0, 2.0))));
        assert_eq!(parse("a.mp4@5-4"), ("a.mp4@5-4", None));
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(
            (clock(0.0), clock(62.54), clock(599.96)),
            ("0:00.0".into(), "1:02.5".into(), "10:00.0".into())
        );
    }
}
