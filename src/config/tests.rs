//! Texts in, plans or problems out, with stages that exist only here.

use std::path::Path;
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, Catalogue, ClipPlan, Media, SamplePlan};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{
    Augment, Listing, OnError, Place, Sampler, Sink, SinkContext, SinkPlan, Source, Stage, ViewMaker, ViewMap,
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
    #[serde(default)]
    watch: bool,
});
settings!(Cut {
    /// Frames of a clip.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 256))]
    frames: u32,
    /// Weights of something.
    #[serde(default)]
    weights: Vec<f64>,
    #[serde(default)]
    once: bool,
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
    fn watch_secs(&self) -> Option<f64> {
        self.watch.then_some(1.0)
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
        self.once.then_some(0)
    }
    fn plan(&self, _: &Catalogue, _: Place, _: Key) -> Option<SamplePlan> {
        None
    }
}

impl Augment for Paint {
    fn shape(&self, frames: u32) -> [usize; 4] {
        [3, frames as usize, 8, 8]
    }
    fn begin(&self, _: &ClipPlan, _: &Media, _: Key) -> Box<dyn ViewMaker> {
        unreachable!("nothing runs in these tests")
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
fn a_sampler_with_an_end_reads_nothing_that_changes() {
    let watched = GOOD.replace("[sources.b]\ntype = \"tape\"", "[sources.b]\ntype = \"tape\"\nwatch = true");
    assert!(load(&watched, &[]).is_ok());
    assert!(load(GOOD, &["operators.clips.once=true"]).is_ok());
    let found = refused(&watched, &["operators.clips.once=true"]);
    assert!(matches!(&found[..], [one] if one.ends_with(" P036")), "{found:?}");
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

#[test]
fn options_win_over_the_file_and_reach_what_is_not_there() {
    let sets = ["operators.batch.size=9", "run.steps = 12", "operators.views.steps.0.size=32", "name=other"];
    let plan = load(GOOD, &sets).unwrap();
    assert_eq!(plan.run.steps, 12);
    assert_eq!(plan.name, "other");
    assert_eq!(plan.run.out.as_deref(), Some(Path::new("runs/other")));
    assert!(plan.resolved.contains("size = 9"), "{}", plan.resolved);
    assert!(plan.resolved.contains("size = 32"), "{}", plan.resolved);
}

#[test]
fn an_option_that_is_wrong_is_the_place_of_the_problem() {
    assert_eq!(refused(GOOD, &["run.steps=x"]), ["set:11 P011"]);
    assert_eq!(refused(GOOD, &["run.step=1"]), ["set:5 P012"]);
    assert_eq!(refused(GOOD, &["operators.views.steps.0.size=-1"]), ["set:30 P014"]);
    for bad in ["run.steps", "run..steps=1", "version.x=1", "operators.views.steps.7.p=1"] {
        assert_eq!(refused(GOOD, &[bad])[0], "set:1 P008", "{bad}");
    }
    let report = load(GOOD, &["run.steps=x"]).err().unwrap();
    assert!(report.human(false).contains("--> --set:1:11"), "{report}");
}

#[test]
fn all_problems_come_in_one_pass_each_at_its_place() {
    let text = GOOD
        .replace("size = 4", "sise = 4")
        .replace("rows = 64", "rows = 0\ninit = \"spere\"")
        .replace("op = \"resize\", size = 16", "op = \"resise\", size = 16")
        .replace("op = \"flip\"", "op = \"flip\", p = 1.5, q = 1")
        .replace("view = \"anchor\"", "view = 3");
    assert_eq!(
        refused(&text, &[]),
        ["8:8 P011", "12:8 P014", "13:8 P015", "28:17 P015", "28:59 P014", "28:64 P012", "33:1 P012",]
    );
}

#[test]
fn suggestions_name_what_was_meant() {
    for (from, to, expected) in [
        (
            "size = 16",
            "sizes = 16",
            "P012 unknown parameter `sizes` in `operators.views.steps.0` | did you mean `size`?",
        ),
        ("type = \"paint\"", "type = \"pant\"", "P020 unknown operator `pant` | did you mean `paint`?"),
        (
            "type = \"paint\"",
            "type = \"tape\"",
            "P020 unknown operator `tape` | `tape` is a source, not an operator: declare it as `[sources.ID]`",
        ),
        (
            "inputs = [\"clips\"]",
            "inputs = [\"clip\"]",
            "P021 `operators.views` reads `clip`, which is no stage of this pipeline | did you mean `clips`?",
        ),
        (
            "bank = \"keys\"",
            "bank = \"kyes\"",
            "P030 `sinks.learn` uses the bank `kyes`, which is not declared | did you mean `keys`?",
        ),
        (
            "view = \"anchor\"",
            "view = \"ancor\"",
            "P032 `sinks.learn` needs the view `ancor`, which `clips` does not make | did you mean `anchor`?",
        ),
        (
            "size = 4",
            "size = \"4\"",
            "P011 `operators.batch.size`: expected a whole number, found the string \"4\" | write it without quotes",
        ),
        (
            "[operators.clips]",
            "[operators.clips]\nframes = -3",
            "P014 `operators.clips.frames`: -3 is out of range, expected at least 1 and at most 256 | ",
        ),
        (
            "[operators.clips]",
            "[operators.clips]\nweights = [1, nan]",
            "P014 `operators.clips.weights.1`: nan is not a finite number | ",
        ),
        ("name = \"good\"", "nam = \"good\"", "P012 unknown section `nam` | did you mean `name`?"),
    ] {
        let found = only(from, to);
        assert_eq!(found, expected);
    }
}

/// Messages of all problems of `GOOD` with replacements.
fn messages(replacements: &[(&str, &str)]) -> Vec<String> {
    let mut text = GOOD.to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "the test replaces {from:?}, which is not there");
        text = text.replace(from, to);
    }
    let report = load(&text, &[]).err().expect("a mistake");
    report.problems().iter().map(|problem| format!("{} {}", problem.code, problem.message)).collect()
}

#[test]
fn a_cycle_is_printed_once() {
    let found = messages(&[("inputs = [\"views\"]", "inputs = [\"mixed\"]")]);
    assert_eq!(
        found,
        [
            "P026 nothing reads `views`, so it never reaches a sink",
            "P023 the stages `batch` → `mixed` → `batch` form a cycle",
        ]
    );
}

#[test]
fn a_port_mismatch_names_the_missing_stages() {
    let skip = GOOD.replace("inputs = [\"views\"]", "inputs = [\"a\"]").replace("\"a\", \"b\"", "\"b\"");
    let report = load(&skip, &[]).err().unwrap();
    let found = report.problems().iter().find(|problem| problem.code == "P025").unwrap();
    assert_eq!(found.message, "`operators.batch` accepts views, but `a` hands on segments");
    assert_eq!(found.help.as_deref(), Some("put in between: `cut`, then `paint`"));
    let late = messages(&[
        ("inputs = [\"clips\"]", "inputs = [\"batch\"]"),
        ("inputs = [\"views\"]", "inputs = [\"clips\"]"),
    ]);
    assert!(
        late.contains(&"P025 `operators.batch` accepts views, but `clips` hands on clips".to_owned()),
        "{late:?}"
    );
}

#[test]
fn what_stages_ask_of_each_other_is_checked() {
    let before = messages(&[
        ("inputs = [\"views\"]", "inputs = [\"mixed\"]"),
        ("inputs = [\"batch\"]", "inputs = [\"views\"]"),
        ("inputs = [\"mixed\"]\nbank", "inputs = [\"batch\"]\nbank"),
    ]);
    assert_eq!(before, ["P029 `operators.mixed` looks at all slots of a step, but stands before `batch`"]);
    let second = "[operators.half]\ntype = \"batch\"\ninputs = [\"views\"]\nsize = 2\n[sinks.n]\ntype = \"null\"\ninputs = [\"half\"]\n";
    let sizes = messages(&[("[operators.mixed]", &format!("{second}[operators.mixed]"))]);
    assert_eq!(sizes, ["P028 `half` makes batches of 2, `batch` of 4, and both are fed by `clips`"]);
    assert_eq!(messages(&[("bank = \"keys\"\n", "")]), ["P031 no sink uses the bank `keys`"]);
}

#[test]
fn names_and_ends_are_checked() {
    assert_eq!(messages(&[("[sources.b]", "[sources.clips]")])[0], "P022 the id `clips` is used twice");
    let no_sink = messages(&[(
        "[sinks.learn]\ntype = \"learn\"\ninputs = [\"mixed\"]\nbank = \"keys\"\nview = \"anchor\"\n",
        "",
    )]);
    assert_eq!(no_sink, ["P027 the pipeline has no sink", "P031 no sink uses the bank `keys`"]);
    assert_eq!(refused("", &[]), ["1:1 P005"]);
    assert_eq!(refused("version = 2", &[])[0][4..], *"P027");
    assert_eq!(messages(&[("version = 1\n", "")]), ["P007 `version` is missing"]);
    assert_eq!(
        messages(&[("version = 1\n", "version = 2\n")]),
        ["P007 this version of the format is not supported"]
    );
    let camel = messages(&[("[operators.clips]", "[operators.Clips]"), ("[\"clips\"]", "[\"Clips\"]")]);
    assert_eq!(camel, ["P009 `Clips` cannot be an id"]);
    let joined = messages(&[("inputs = [\"clips\"]", "inputs = [\"clips\", \"a\"]")]);
    assert_eq!(joined[0], "P024 `operators.views` reads one stage, 2 are given");
}

#[test]
fn several_syntax_errors_are_found_and_the_rest_is_still_judged() {
    let text = GOOD.replace("rows = 64", "rows = = 64").replace("size = 4", "size = @");
    let text = text.replace("segment_secs", "segment_sec");
    let found = refused(&text, &[]);
    assert!(found.iter().filter(|line| line.ends_with("P001")).count() >= 2, "{found:?}");
    assert!(found.contains(&"16:1 P012".to_owned()), "{found:?}");
    assert!(!found.iter().any(|line| line.ends_with("P013")), "a hole is no missing parameter: {found:?}");
}

#[test]
fn hostile_texts_are_refused_and_do_not_exhaust_the_stack() {
    let dots = format!("version = 1\n{}x = 1\n", "a.".repeat(200_000));
    assert!(refused(&dots, &[])[0].ends_with("P006"));
    let header = format!("version = 1\n[{}x]\n", "a.".repeat(200_000));
    assert!(refused(&header, &[])[0].ends_with("P006"));
    let brackets = format!("version = 1\nx = {}\n", "[".repeat(500_000));
    assert!(refused(&brackets, &[])[0].ends_with("P001"));
    let braces = format!("version = 1\nx = {}\n", "{a=".repeat(100_000));
    assert!(refused(&braces, &[])[0].ends_with("P001"));
    let large = format!("# {}", "x".repeat(1 << 20));
    assert_eq!(refused(&large, &[]), ["1:1 P003"]);
    let dotted_text = format!("version = 1\nname = \"x\"\n# {}\n", "a.".repeat(100));
    assert!(!refused(&dotted_text, &[])[0].ends_with("P006"), "dots in a comment are no key");
    let escape = load("version = 1\n[sources.a]\ntype = \"\\u001b[31mred\"", &[]).err().unwrap();
    assert!(!escape.human(false).contains('\u{1b}'), "a terminal must not obey the file");
}

#[test]
fn every_code_is_listed_once() {
    let mut codes: Vec<&str> = super::codes::ALL.iter().map(|(code, _)| *code).collect();
    let listed = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), listed);
    for text in [
        include_str!("graph.rs"),
        include_str!("meaning.rs"),
        include_str!("mod.rs"),
        include_str!("stages.rs"),
        include_str!("text.rs"),
        include_str!("../../plugins/api/src/read.rs"),
        include_str!("../sample/plan.rs"),
    ] {
        for part in text.split("Problem::new(\"").skip(1) {
            assert!(codes.contains(&&part[..4]), "{} is not in codes.rs", &part[..4]);
        }
    }
}
