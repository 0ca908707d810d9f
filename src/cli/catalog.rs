//! `reelflow catalog`: what the sources of a pipeline, or folders and lists, hold, and what changed since last time.

mod inventory;
mod print;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use reelflow_api::error::{SkipReason, StageError};
use reelflow_api::item::{Media, Origin};
use reelflow_api::stage::{Listing, OnError, Source};

use crate::config;
use crate::engine::layout::Parts;
use inventory::Inventory;

/// Arguments of `reelflow catalog`.
///
/// Without a filter, numbers; with one, a line a segment.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A pipeline file (`.toml`), or files, folders, globs and lists.
    #[arg(required = true, value_name = "PIPELINE|PATH")]
    inputs: Vec<String>,
    /// Change a setting of the pipeline: `--set sources.archive.segment_secs=10`. May be given often.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Folder of the media that lists name, where it is not the list's own.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File that keeps what is found for the next look, which then probes only what changed. If not given, the
    /// pipeline's `run.catalogue`, or one in `$XDG_CACHE_HOME/reelflow` (`~/.cache/reelflow`).
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// `text` for people; `json`: one object, or with a filter one object a line.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What is listed.
#[derive(clap::Args, Debug)]
struct Filter {
    /// List segments, one a line.
    #[arg(long)]
    list: bool,
    /// Only segments of this source.
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Only segments of this class.
    #[arg(long, value_name = "CLASS")]
    label: Option<String>,
    /// Only segments of this split.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Only files whose path or name fits: `*.mp4`, `videos/2024-*`. Lists what is left out too.
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    path: Option<globset::GlobMatcher>,
    /// Only segments that are there more than once, those with equal content one after the other.
    #[arg(long)]
    duplicates: bool,
    /// Inputs that are left out for this reason; `any` for all.
    #[arg(long, value_name = "REASON", value_parser = reason, conflicts_with_all = ["list", "label", "split", "duplicates"])]
    reason: Option<Reason>,
}

impl Filter {
    /// Whether lines are wanted, not numbers.
    fn lists(&self) -> bool {
        let Self { list, source, label, split, path, duplicates, reason } = self;
        *list
            || *duplicates
            || reason.is_some()
            || path.is_some()
            || [source, label, split].iter().any(|text| text.is_some())
    }
}

/// Why an input is left out; `None` for any reason.
#[derive(Clone, Copy, Debug)]
struct Reason(Option<SkipReason>);

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

fn glob(text: &str) -> Result<globset::GlobMatcher, String> {
    Ok(globset::Glob::new(text).map_err(|error| error.to_string())?.compile_matcher())
}

fn reason(text: &str) -> Result<Reason, String> {
    if text == "any" {
        return Ok(Reason(None));
    }
    let reason = serde_json::from_value(text.into());
    reason
        .map(|reason| Reason(Some(reason)))
        .map_err(|_| "is no reason; `any` lists all with theirs".to_owned())
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match look(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Refused(code)) => code,
        Err(Ended::Failed(error)) => super::fail(&error),
    }
}

/// Why there is nothing to show; what the pipeline's report says has been said.
enum Ended {
    Refused(ExitCode),
    Failed(StageError),
}

impl From<StageError> for Ended {
    fn from(error: StageError) -> Self {
        Self::Failed(error)
    }
}

fn look(args: &Args) -> Result<(), Ended> {
    let given = given(args)?;
    let inventory = Inventory::take(&given)?;
    inventory.check(&args.filter)?;
    print::print(&inventory, args);
    Ok(())
}

/// What is to be looked at.
struct Given {
    /// What the look is called: the same arguments from the same folder are the same look.
    name: String,
    /// Sources by id, with the frames that a segment needs to be of use.
    sources: BTreeMap<String, (Box<dyn Source>, u32)>,
    /// Where it is kept; `None`: nowhere.
    file: Option<PathBuf>,
    /// Whether we chose that place.
    is_own_file: bool,
}

fn given(args: &Args) -> Result<Given, Ended> {
    let here = std::env::current_dir().unwrap_or_default();
    let absolute = |path: &str| here.join(path).to_string_lossy().into_owned();
    let mut name = args.inputs.iter().map(|input| absolute(input)).collect::<Vec<_>>().join("\n");
    let (sources, of_pipeline) = match &args.inputs[..] {
        [file] if Path::new(file).extension().is_some_and(|extension| extension == "toml") => {
            of_pipeline(Path::new(file), &args.sets)?
        }
        _ => (of_paths(args)?, None),
    };
    args.root.iter().for_each(|root| name += &format!("\nroot {}", root.display()));
    args.sets.iter().for_each(|set| name += &format!("\nset {set}"));
    let chosen = args.catalogue.clone().or(of_pipeline);
    let is_own_file = chosen.is_none();
    let file = chosen
        .or_else(|| Some(cache()?.join(format!("{:016x}.bin", xxhash_rust::xxh3::xxh3_64(name.as_bytes())))));
    Ok(Given { name, sources, file, is_own_file })
}

/// The folder for files that can always be made anew.
fn cache() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(cache.join("reelflow/catalogues"))
}

type Sources = BTreeMap<String, (Box<dyn Source>, u32)>;

/// The sources of a pipeline, with the frames that the least demanding sampler needs.
fn of_pipeline(file: &Path, sets: &[String]) -> Result<(Sources, Option<PathBuf>), Ended> {
    let plan = config::load_file(file, sets).map_err(|report| {
        eprint!("{report}");
        Ended::Refused(ExitCode::from(78))
    })?;
    let mut parts = Parts::of(plan);
    let mut least: HashMap<String, u32> = HashMap::new();
    for (sampler, inputs) in &parts.samplers {
        for input in inputs {
            let wanted = parts.frames_min(sampler);
            least.entry(input.clone()).and_modify(|least| *least = wanted.min(*least)).or_insert(wanted);
        }
    }
    let sources = std::mem::take(&mut parts.sources).into_iter();
    let sources = sources.map(|(id, source)| {
        let frames = least.get(&id).copied().unwrap_or(1);
        (id, (Box::new(Lenient(source)) as Box<dyn Source>, frames))
    });
    Ok((sources.collect(), parts.run.catalogue))
}

/// A pipeline that reads the paths on the command line, with folders as classes; only its source is used.
fn of_paths(args: &Args) -> Result<Sources, Ended> {
    if !args.sets.is_empty() {
        let message = "--set changes a pipeline, and these are paths";
        return Err(StageError { code: 2, ..StageError::refused("catalog", message) }.into());
    }
    if cfg!(not(feature = "gst")) {
        let message =
            "this build has no GStreamer and reads no files; name a pipeline (`.toml`) of computed media";
        return Err(StageError::unavailable("catalog", message).into());
    }
    let mut source = toml::Table::from_iter([
        ("type".to_owned(), "files".into()),
        ("paths".to_owned(), args.inputs.clone().into()),
        ("labels".to_owned(), "folder".into()),
    ]);
    if let Some(root) = &args.root {
        source.insert("root".to_owned(), root.to_string_lossy().into_owned().into());
    }
    let sources = toml::Table::from_iter([("data".to_owned(), source.into())]);
    let text = format!("{REST}\n{}", toml::Table::from_iter([("sources".to_owned(), sources.into())]));
    let plan = config::load(&text, Path::new("catalog"), &[]).map_err(|report| {
        eprint!("{report}");
        Ended::Refused(ExitCode::from(78))
    })?;
    let sources = Parts::of(plan).sources.into_iter();
    Ok(sources.map(|(id, source)| (id, (Box::new(Lenient(source)) as Box<dyn Source>, 1))).collect())
}

/// What a pipeline needs besides a source.
const REST: &str = r#"
version = 1
[operators.windows]
type = "uniform"
inputs = ["data"]
frames = 2
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }, { op = "normalize" }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 1
[sinks.none]
type = "null"
inputs = ["batch"]
"#;

/// A source whose bad inputs are listed, never the end of it.
struct Lenient(Arc<dyn Source>);

impl Source for Lenient {
    fn list(&self) -> Result<Listing, StageError> {
        // What a camera will send is not known before it runs.
        if self.0.feed().is_some() {
            return Ok(Listing::default());
        }
        self.0.list()
    }

    fn segment_secs(&self) -> Option<f64> {
        self.0.segment_secs()
    }

    fn on_error(&self) -> OnError {
        OnError::Quarantine
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        self.0.describe(origin)
    }
}
