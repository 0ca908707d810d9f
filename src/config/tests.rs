//! Texts in, plans or problems out, with stages that exist only here.

use std::path::Path;
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, Catalogue, Clip, Media, SamplePlan, View};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{
    Augment, Listing, OnError, Place, Sampler, Sink, SinkContext, SinkPlan, Source, Stage, ViewMap,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Plan, Report, load_with};

macro_rules! settings {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
        #[serde(deny_unknown_fields)]
        struct $name { $($(#[$meta])* $field: $type),* }
        impl Settings for $name {}
    };
}

settings!(Tape {
    /// Length of a piece, seconds.
    #[serde(default)]
    #[schemars(range(min = 0.1))]
    segment_secs: Option<f64>,
});
settings!(Cut {
    /// Frames of a clip.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 256))]
    frames: u32,
    /// Weights of something.
    #[serde(default)]
    weights: Vec<f64>,
});
settings!(Paint { steps: Vec<Step> });
settings!(Empty {});
settings!(Learn { bank: Option<String>, view: String });

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    /// Mirrors.
    Flip {
        /// How often.
        #[serde(default = "half")]
        #[schemars(range(min = 0.0, max = 1.0))]
        p: f64,
    },
    /// Resizes.
    Resize {
        /// Side in pixels.
        #[schemars(range(min = 8))]
        size: u32,
    },
}

fn sixteen() -> u32 {
    16
}

fn half() -> f64 {
    0.5
}

impl Source for Tape {
    fn list(&self) -> Result<Listing, StageError> {
        Ok(Listing::default())
    }
    fn segment_secs(&self) -> Option<f64> {
        self.segment_secs
    }
    fn on_error(&self) -> OnError {
        OnError::Fail
    }
}

impl Sampler for Cut {
    fn views(&self) -> Vec<(Arc<str>, u32)> {
        vec![("anchor".into(), self.frames), ("positive".into(), self.frames)]
    }
    fn frames_min(&self) -> u32 {
        self.frames
    }
    fn samples(&self, _: &Catalogue) -> Option<u64> {
        None
    }
    fn plan(&self, _: &Catalogue, _: Place, _: Key) -> Option<SamplePlan> {
        None
    }
}

impl Augment for Paint {
    fn shape(&self, frames: u32) -> [usize; 4] {
        [3, frames as usize, 8, 8]
    }
    fn apply(&self, _: &Clip, _: &Media, _: Key) -> Result<View, StageError> {
        Err(StageError::failed("paint", "a test stage"))
    }
}

/// Looks at the whole batch.
struct Mix;

impl ViewMap for Mix {
    fn needs_batch(&self) -> bool {
        true
    }
    fn apply(&self, _: &mut Batch, _: Key) -> Result<(), StageError> {
        Ok(())
    }
}

impl SinkPlan for Learn {
    fn banks(&self) -> Vec<String> {
        self.bank.iter().cloned().collect()
    }
    fn views(&self) -> Vec<String> {
        vec![self.view.clone()]
    }
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        Err(StageError::failed("learn", "a test stage"))
    }
}

const fn spec(
    name: &'static str,
    kind: Kind,
    accepts: &'static [Port],
    output: Output,
    schema: fn() -> reelflow_api::spec::Schema,
    build: fn(&reelflow_api::spec::Table<'_>) -> Result<Stage, Vec<reelflow_api::spec::Problem>>,
) -> Spec {
    Spec { name, kind, summary: "Only for tests.", accepts, output, example: "", schema, build }
}

static TAPE: Spec =
    spec("tape", Kind::Source, &[], Output::Carries(Port::Segments), schema_of::<Tape>, |table| {
        Ok(Stage::Source(Box::new(read::<Tape>(table)?)))
    });
static CUT: Spec =
    spec("cut", Kind::Operator, &[Port::Segments], Output::Carries(Port::Clips), schema_of::<Cut>, |table| {
        Ok(Stage::Sampler(Box::new(read::<Cut>(table)?)))
    });
static PAINT: Spec = spec(
    "paint",
    Kind::Operator,
    &[Port::Clips],
    Output::Carries(Port::Views),
    schema_of::<Paint>,
    |table| Ok(Stage::Augment(Box::new(read::<Paint>(table)?))),
);
static MIX: Spec = spec(
    "mix",
    Kind::Operator,
    &[Port::Views, Port::Batches],
    Output::SameAsInput,
    schema_of::<Empty>,
    |table| read::<Empty>(table).map(|_| Stage::Views(Box::new(Mix))),
);
static MEMORY: Spec = spec(
    "memory",
    Kind::Bank,
    &[],
    Output::Nothing,
    schema_of::<reelflow_api::bank::BankSettings>,
    |table| Ok(Stage::Bank(read(table)?)),
);
static LEARN: Spec =
    spec("learn", Kind::Sink, &[Port::Batches], Output::Nothing, schema_of::<Learn>, |table| {
        Ok(Stage::Sink(Box::new(read::<Learn>(table)?)))
    });

fn registry() -> Vec<&'static Spec> {
    let mut all = vec![&TAPE, &CUT, &PAINT, &MIX, &MEMORY, &LEARN];
    all.extend(crate::batch::ALL);
    all
}

const GOOD: &str = r#"version = 1
name = "good"

[sinks.learn]
type = "learn"
inputs = ["mixed"]
bank = "keys"
view = "anchor"

[banks.keys]
type = "memory"
rows = 64

[sources.a]
type = "tape"
segment_secs = 2.5
[sources.b]
type = "tape"

[operators.clips]
type = "cut"
inputs = ["a", "b"]

[operators.views]
type = "paint"
inputs = ["clips"]
steps = [{ op = "resize", size = 16 }, { op = "flip" }]

[operators.batch]
type = "batch"
inputs = ["views"]
size = 4

[operators.mixed]
type = "mix"
inputs = ["batch"]
"#;

fn load(text: &str, sets: &[&str]) -> Result<Plan, Report> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    load_with(&registry(), text, Path::new("pipelines/test.toml"), &sets)
}

/// `LINE:COLUMN CODE` of every problem; `set` instead of the line for options.
fn refused(text: &str, sets: &[&str]) -> Vec<String> {
    let report = load(text, sets).err().expect("a mistake");
    let line = |line: &str| {
        let (place, message) = line.split_once(": error[").unwrap();
        let place = place.replace("pipelines/test.toml:", "").replace("--set:1:", "set:");
        format!("{place} {}", &message[..4])
    };
    report.short().lines().map(line).collect()
}

/// The one problem of `GOOD` with `from` replaced by `to`.
fn only(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the test replaces {from:?}, which is not there");
    let report = load(&GOOD.replace(from, to), &[]).err().expect("a mistake");
    assert_eq!(report.problems().len(), 1, "{report}");
    let problem = &report.problems()[0];
    format!("{} {} | {}", problem.code, problem.message, problem.help.clone().unwrap_or_default())
}

#[test]
fn a_good_pipeline_is_in_the_order_of_the_flow() {
    let plan = load(GOOD, &[]).unwrap();
    let ids: Vec<&str> = plan.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["keys", "a", "b", "clips", "views", "batch", "mixed", "learn"]);
    assert_eq!(plan.nodes[3].inputs, ["a", "b"]);
    assert_eq!(plan.nodes[6].output, Some(Port::Batches));
    assert_eq!(plan.run.out.as_deref(), Some(Path::new("runs/good")));
    assert_eq!(plan.nodes[3].type_name, "cut");
}

#[test]
fn the_resolved_text_has_every_default_and_loads_to_itself() {
    let plan = load(GOOD, &["run.seed=7"]).unwrap();
    for line in
        ["frames = 16", "p = 0.5", "dim = 128", "seed = 7", "out = \"runs/good\"", "checkpoints_kept = 2"]
    {
        assert!(plan.resolved.contains(line), "{line} is missing in\n{}", plan.resolved);
    }
    let again = load(&plan.resolved, &[]).unwrap();
    assert_eq!(again.resolved, plan.resolved);
    assert_eq!(again.run, plan.run);
}
