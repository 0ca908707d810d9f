//! Reads the tables of a pipeline file, one stage each, and builds the stages.

use std::ops::Range;

use reelflow_api::spec::{Kind, Problem, Spec, Table, nearest, read};
use reelflow_api::stage::Stage;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::plan::{EvalSettings, RunSettings};

/// The only version of the format so far.
const VERSION: &str = "1";

const KINDS: [Kind; 4] = [Kind::Source, Kind::Operator, Kind::Bank, Kind::Sink];

/// Everything a file says, before the graph is checked.
pub struct Draft<'a> {
    /// `name`, or the file's stem.
    pub name: String,
    /// `[run]`; the defaults if it has mistakes.
    pub run: RunSettings,
    /// What `[run]` says, as written.
    pub run_entries: DeTable<'a>,
    /// `[[eval]]`, in the order of the file.
    pub evals: Vec<EvalDraft<'a>>,
    /// In the order of the file.
    pub stages: Vec<StageDraft<'a>>,
}

/// An `[[eval]]` as written, with places.
pub struct EvalDraft<'a> {
    /// What it says; `None` if it has mistakes.
    pub settings: Option<EvalSettings>,
    /// What is written.
    pub table: Table<'a>,
}

/// A stage as written, with places.
pub struct StageDraft<'a> {
    /// The id.
    pub id: String,
    /// Bytes of the id.
    pub id_span: Range<usize>,
    /// Which table it stands in.
    pub kind: Kind,
    /// What its `type` names, if there is such a thing.
    pub spec: Option<&'static Spec>,
    /// Ids it reads, with places.
    pub inputs: Vec<(String, Range<usize>)>,
    /// Whether `inputs` was given and could be read.
    pub has_inputs: bool,
    /// What is written besides `type` and `inputs`.
    pub table: Table<'a>,
    /// The stage, if its parameters are right.
    pub stage: Option<Stage>,
}

/// Reads everything; what is wrong goes to `problems`.
pub fn read_all<'a>(
    mut root: DeTable<'a>,
    stem: &str,
    registry: &[&'static Spec],
    problems: &mut Vec<Problem>,
) -> Draft<'a> {
    check_version(&mut root, problems);
    let name = take_name(&mut root, stem, problems);
    let (run, run_entries) = read_run(&mut root, problems);
    let evals = read_evals(&mut root, problems);
    let mut stages = Vec::new();
    for kind in KINDS {
        let Some(value) = root.remove(kind.table()) else { continue };
        let span = value.span();
        let DeValue::Table(entries) = value.into_inner() else {
            problems.push(not_a_table(kind.table(), span));
            continue;
        };
        for (id, value) in entries {
            stages.extend(read_stage(kind, &id, value, registry, problems));
        }
    }
    for key in root.keys() {
        problems.push(unknown_section(key));
    }
    stages.sort_by_key(|stage| stage.id_span.start);
    Draft { name, run, run_entries, evals, stages }
}

fn check_version(root: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
    let Some(version) = root.remove("version") else {
        let problem = Problem::new("P007", 0..1, "`version` is missing");
        return problems
            .push(problem.label("a pipeline file starts here").help("add `version = 1` as the first line"));
    };
    if version.get_ref().as_integer().is_none_or(|number| number.as_str() != VERSION) {
        let problem = Problem::new("P007", version.span(), "this version of the format is not supported");
        problems.push(problem.label("unsupported").help("this reelflow reads `version = 1`"));
    }
}

fn take_name(root: &mut DeTable<'_>, stem: &str, problems: &mut Vec<Problem>) -> String {
    let Some(value) = root.remove("name") else {
        let safe = stem.chars().map(|c| if name_char(c) { c } else { '_' }).collect::<String>();
        return if safe.is_empty() { "pipeline".to_owned() } else { safe };
    };
    let Some(name) = value.get_ref().as_str() else {
        let message = format!("`name`: expected a string, found a {}", value.get_ref().type_str());
        problems.push(Problem::new("P011", value.span(), message));
        return String::new();
    };
    // It becomes the name of a folder.
    if name.is_empty() || name.len() > 100 || name.starts_with('-') || !name.chars().all(name_char) {
        let problem =
            Problem::new("P009", value.span(), format!("{name:?} cannot be the name of a pipeline"));
        problems.push(problem.help("use letters, digits, `-` and `_`, at most 100"));
    }
    name.to_owned()
}

fn name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn read_run<'a>(root: &mut DeTable<'a>, problems: &mut Vec<Problem>) -> (RunSettings, DeTable<'a>) {
    let Some(value) = root.remove("run") else { return (RunSettings::default(), DeTable::new()) };
    let span = value.span();
    let DeValue::Table(entries) = value.into_inner() else {
        problems.push(not_a_table("run", span));
        return (RunSettings::default(), DeTable::new());
    };
    let table = Table { path: "run".to_owned(), span, entries };
    let run = read::<RunSettings>(&table).unwrap_or_else(|found| {
        problems.extend(found);
        RunSettings::default()
    });
    (run, table.entries)
}

fn read_evals<'a>(root: &mut DeTable<'a>, problems: &mut Vec<Problem>) -> Vec<EvalDraft<'a>> {
    let Some(value) = root.remove("eval") else { return Vec::new() };
    let span = value.span();
    let help = "write `[[eval]]`, with two brackets, for every measurement";
    let DeValue::Array(items) = value.into_inner() else {
        problems.push(Problem::new("P011", span, "`eval`: expected a list of tables").help(help));
        return Vec::new();
    };
    let mut evals = Vec::new();
    for (number, item) in items.into_iter().enumerate() {
        let span = item.span();
        let DeValue::Table(entries) = item.into_inner() else {
            problems
                .push(Problem::new("P011", span, format!("`eval.{number}`: expected a table")).help(help));
            continue;
        };
        let table = Table { path: format!("eval.{number}"), span, entries };
        let settings = match read::<EvalSettings>(&table) {
            Ok(settings) => Some(settings),
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        evals.push(EvalDraft { settings, table });
    }
    evals
}

fn read_stage<'a>(
    kind: Kind,
    id: &Spanned<std::borrow::Cow<'_, str>>,
    value: Spanned<DeValue<'a>>,
    registry: &[&'static Spec],
    problems: &mut Vec<Problem>,
) -> Option<StageDraft<'a>> {
    let path = format!("{}.{}", kind.table(), id.get_ref());
    let span = value.span();
    let DeValue::Table(entries) = value.into_inner() else {
        problems.push(not_a_table(&path, span));
        return None;
    };
    check_id(id, problems);
    let mut table = Table { path, span, entries };
    let type_given = table.entries.remove("type");
    let inputs_given = table.entries.remove("inputs");
    let has_inputs = inputs_given.is_some();
    let inputs =
        inputs_given.map(|value| read_inputs(kind, &table.path, &value, problems)).unwrap_or_default();
    let spec = find_spec(kind, &table, type_given, registry, problems);
    let stage = spec.and_then(|spec| match (spec.build)(&table) {
        Ok(stage) => Some(stage),
        Err(found) => {
            problems.extend(found);
            None
        }
    });
    let id_span = id.span();
    Some(StageDraft { id: id.get_ref().to_string(), id_span, kind, spec, inputs, has_inputs, table, stage })
}

fn check_id(id: &Spanned<std::borrow::Cow<'_, str>>, problems: &mut Vec<Problem>) {
    let text = id.get_ref();
    let starts = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let all = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts && all && text.len() <= 64 {
        return;
    }
    let problem = Problem::new("P009", id.span(), format!("`{text}` cannot be an id"));
    let help = "ids are snake_case: a small letter, then small letters, digits and `_`, at most 64";
    problems.push(problem.label("not snake_case").help(help));
}

fn read_inputs(
    kind: Kind,
    path: &str,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Range<usize>)> {
    if matches!(kind, Kind::Source | Kind::Bank) {
        let problem =
            Problem::new("P024", value.span(), format!("`{path}`: {} has no inputs", with_article(kind)));
        problems.push(problem.help("remove `inputs`"));
        return Vec::new();
    }
    let Some(items) = value.get_ref().as_array() else {
        let message = format!("`{path}.inputs`: expected a list of ids");
        let problem = Problem::new("P011", value.span(), message);
        problems.push(match value.get_ref().as_str() {
            Some(id) => problem.help(format!("write `inputs = [{id:?}]`")),
            None => problem,
        });
        return Vec::new();
    };
    let mut inputs = Vec::new();
    for item in items {
        match item.get_ref().as_str() {
            Some(id) => inputs.push((id.to_owned(), item.span())),
            None => {
                let message = format!("`{path}.inputs`: expected an id in quotes");
                problems.push(Problem::new("P011", item.span(), message));
            }
        }
    }
    inputs
}

fn find_spec(
    kind: Kind,
    table: &Table<'_>,
    given: Option<Spanned<DeValue<'_>>>,
    registry: &[&'static Spec],
    problems: &mut Vec<Problem>,
) -> Option<&'static Spec> {
    let names: Vec<&str> = registry.iter().filter(|spec| spec.kind == kind).map(|spec| spec.name).collect();
    let Some(given) = given else {
        let problem = Problem::new("P010", table.span.clone(), format!("`{}` has no `type`", table.path));
        problems
            .push(problem.label("`type` must be given here").help(format!("one of: {}", names.join(", "))));
        return None;
    };
    let Some(name) = given.get_ref().as_str() else {
        let message = format!("`{}.type`: expected a string", table.path);
        problems.push(Problem::new("P011", given.span(), message));
        return None;
    };
    let found = registry.iter().find(|spec| spec.kind == kind && spec.name == name).copied();
    if found.is_none() {
        let problem = Problem::new("P020", given.span(), format!("unknown {} `{name}`", noun(kind)));
        problems.push(problem.label("no such type").help(type_help(kind, name, &names, registry)));
    }
    found
}

/// What a person who wrote `name` probably wants.
fn type_help(kind: Kind, name: &str, names: &[&str], registry: &[&'static Spec]) -> String {
    if let Some(feature) = crate::engine::registry::missing_feature(kind, name) {
        return format!("`{name}` needs a build with the feature `{feature}`, which the default build has");
    }
    if let Some(other) = registry.iter().find(|spec| spec.name == name) {
        let table = other.kind.table();
        return format!(
            "`{name}` is {}, not {}: declare it as `[{table}.ID]`",
            with_article(other.kind),
            with_article(kind)
        );
    }
    if let Some(near) = nearest(name, names) {
        return format!("did you mean `{near}`?");
    }
    let others: Vec<&str> = registry.iter().map(|spec| spec.name).collect();
    match nearest(name, &others).and_then(|near| registry.iter().find(|spec| spec.name == near)) {
        Some(other) => format!(
            "did you mean the {} `{}`, in `[{}.ID]`?",
            noun(other.kind),
            other.name,
            other.kind.table()
        ),
        None => format!("types: {}", names.join(", ")),
    }
}

/// `source`, `operator`, `bank`, `sink`.
pub fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "source",
        Kind::Operator => "operator",
        Kind::Bank => "bank",
        Kind::Sink => "sink",
    }
}

/// [`noun`] as in "it is a source".
pub fn with_article(kind: Kind) -> String {
    let article = if kind == Kind::Operator { "an" } else { "a" };
    format!("{article} {}", noun(kind))
}

fn not_a_table(path: &str, span: Range<usize>) -> Problem {
    Problem::new("P011", span, format!("`{path}`: expected a table"))
        .help(format!("write `[{path}]` and its parameters below"))
}

fn unknown_section(key: &Spanned<std::borrow::Cow<'_, str>>) -> Problem {
    const SECTIONS: [&str; 8] = ["version", "name", "run", "eval", "sources", "operators", "banks", "sinks"];
    let name = key.get_ref();
    let problem =
        Problem::new("P012", key.span(), format!("unknown section `{name}`")).label("not known here");
    problem.help(match nearest(name, &SECTIONS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a pipeline file has: {}", SECTIONS.join(", ")),
    })
}
