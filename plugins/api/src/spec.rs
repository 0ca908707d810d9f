//! How a stage names itself, lists its parameters and is built from a TOML table.
//!
//! A [`Spec`] is a constant beside the stage's code. Help, manual, editor schema, checks and tests are
//! all derived from the same list of specs, so there is one place to say a thing.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::stage::Stage;

/// JSON Schema 2020-12 of a stage's parameters.
pub type Schema = schemars::Schema;

/// Which TOML table a stage is declared in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `[sources.ID]`
    Source,
    /// `[operators.ID]`
    Operator,
    /// `[banks.ID]`
    Bank,
    /// `[sinks.ID]`
    Sink,
}

impl Kind {
    /// The TOML table: `sources`, `operators`, `banks`, `sinks`.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Source => "sources",
            Self::Operator => "operators",
            Self::Bank => "banks",
            Self::Sink => "sinks",
        }
    }
}

/// What an edge carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// Segments of a catalogue.
    Segments,
    /// Decoded clips, YUV.
    Clips,
    /// Augmented views of one slot.
    Views,
    /// Views of all slots of a step.
    Batches,
}

impl Port {
    /// Lower-case plural for messages and drawings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Clips => "clips",
            Self::Views => "views",
            Self::Batches => "batches",
        }
    }
}

/// What leaves a stage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Nothing: a sink or a bank.
    Nothing,
    /// This.
    Carries(Port),
    /// The same as what came in.
    SameAsInput,
}

/// How a stage describes itself.
pub struct Spec {
    /// `type` in TOML; sources and sinks are nouns, operators verbs.
    pub name: &'static str,
    /// Where it is declared.
    pub kind: Kind,
    /// One line for people.
    pub summary: &'static str,
    /// What it accepts; empty for a source or a bank.
    pub accepts: &'static [Port],
    /// What it hands on.
    pub output: Output,
    /// Parameters as TOML lines that parse and build.
    pub example: &'static str,
    /// Schema of the parameters, from [`schema_of`].
    pub schema: fn() -> Schema,
    /// Reads the parameters and builds the stage.
    pub build: fn(&Table<'_>) -> Result<Stage, Vec<Problem>>,
}

/// One mistake in a pipeline file.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Stable code, `P012`.
    pub code: &'static str,
    /// Bytes of the pipeline text it is about.
    pub span: Range<usize>,
    /// What is wrong, with operands; one line, lower case, no full stop.
    pub message: String,
    /// Shown beside the marked text.
    pub label: String,
    /// What to type instead.
    pub help: Option<String>,
    /// Another place that belongs to it: bytes and label.
    pub other: Option<(Range<usize>, String)>,
}

impl Problem {
    /// A problem with a message and a place.
    #[must_use]
    pub fn new(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), label: String::new(), help: None, other: None }
    }

    /// Adds what is shown beside the marked text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds what to type instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A parameter whose value has the right type and is still wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// Dotted path below the table: `steps.0.size`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
}

impl Invalid {
    /// A wrong value at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None }
    }

    /// Adds what to type instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Parameters of a stage. Derive the rest; say ranges with `#[schemars(range(min = …, max = …))]`, they
/// are shown by `inspect` and enforced here. Always add `#[serde(deny_unknown_fields)]`.
pub trait Settings: DeserializeOwned + JsonSchema + Serialize {
    /// What no type and no single range can say.
    fn check(&self) -> Vec<Invalid> {
        Vec::new()
    }
}

impl Settings for crate::bank::BankSettings {
    fn check(&self) -> Vec<Invalid> {
        if self.shards > self.rows {
            return vec![Invalid::new(
                "shards",
                format!("{} shards cannot share {} rows", self.shards, self.rows),
            )];
        }
        Vec::new()
    }
}

/// Schema of a settings type.
#[must_use]
pub fn schema_of<S: Settings>() -> Schema {
    schemars::schema_for!(S)
}

/// A TOML table with the places of its keys and values; `type` and `inputs` are already taken out.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    /// Dotted path in the file: `operators.clip`.
    pub path: String,
    /// Bytes of the table's header or of the inline table.
    pub span: Range<usize>,
    /// What is left to read.
    pub entries: DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Takes the nested table `key` out, if it is there and is a table.
    pub fn take_table(&mut self, key: &str) -> Option<Table<'a>> {
        let at = self.entries.iter().find(|(k, v)| k.get_ref() == key && v.get_ref().is_table())?.0.clone();
        let value = self.entries.remove(&at)?;
        let span = value.span();
        let DeValue::Table(entries) = value.into_inner() else { return None };
        Some(Table { path: format!("{}.{key}", self.path), span, entries })
    }

    /// Takes the string `key` out, with its place.
    pub fn take_string(&mut self, key: &str) -> Option<(String, Range<usize>)> {
        let at = self.entries.iter().find(|(k, v)| k.get_ref() == key && v.get_ref().is_str())?.0.clone();
        let value = self.entries.remove(&at)?;
        let span = value.span();
        value.get_ref().as_str().map(|text| (text.to_owned(), span))
    }

    /// Bytes of the value at a dotted path below this table; the table itself if there is none.
    #[must_use]
    pub fn span_of(&self, path: &str) -> Range<usize> {
        let mut span = self.span.clone();
        let root = Spanned::new(span.clone(), DeValue::Table(self.entries.clone()));
        let mut value = &root;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            let next = match (value.get_ref(), name.parse::<usize>()) {
                (DeValue::Array(items), Ok(index)) => items.get(index),
                (other, _) => other.get(name),
            };
            let Some(next) = next else { break };
            value = next;
            span = value.span();
        }
        span
    }
}

/// Reads `table` into settings; reports every wrong key, type, range and combination, not only the first.
///
/// # Errors
/// One [`Problem`] a mistake.
pub fn read<S: Settings>(table: &Table<'_>) -> Result<S, Vec<Problem>> {
    let schema = schema_of::<S>();
    let mut problems = Vec::new();
    let mut rest = table.clone();
    drop_unknown_keys(&mut rest, &schema, &mut problems);
    let mut removed: Vec<String> = Vec::new();
    loop {
        let value = Spanned::new(rest.span.clone(), DeValue::Table(rest.entries.clone()));
        let error = match serde_path_to_error::deserialize::<_, S>(ValueDeserializer::from(value)) {
            Ok(settings) => {
                if !removed.is_empty() {
                    break;
                }
                let ranges = out_of_range(&settings, &schema);
                for invalid in ranges.into_iter().chain(settings.check()) {
                    problems.push(Problem {
                        help: invalid.help,
                        ..Problem::new(
                            "P014",
                            table.span_of(&invalid.path),
                            format!("`{}.{}`: {}", table.path, invalid.path, invalid.message),
                        )
                    });
                }
                return if problems.is_empty() { Ok(settings) } else { Err(problems) };
            }
            Err(error) => error,
        };
        // One mistake found: note it, take its top-level key out and look for the next.
        let path = error.path().to_string().trim_matches('.').to_owned();
        let inner = error.into_inner();
        let message = inner.message().to_owned();
        let is_missing = message.starts_with("missing field");
        let top = path.split(['.', '[']).next().unwrap_or_default().to_owned();
        let echo = is_missing && removed.iter().any(|key| message.contains(&format!("`{key}`")));
        if !echo {
            let span = inner.span().unwrap_or_else(|| table.span.clone());
            let place = if path.is_empty() { table.path.clone() } else { format!("{}.{path}", table.path) };
            problems.push(Problem::new(
                if is_missing { "P013" } else { "P011" },
                span,
                format!("`{place}`: {message}"),
            ));
        }
        let key = rest.entries.iter().find(|(k, _)| k.get_ref() == top.as_str()).map(|(k, _)| k.clone());
        match key {
            Some(key) => {
                rest.entries.remove(&key);
                removed.push(top);
            }
            // A missing field has no key to take out: nothing more can be found by reading on.
            None => break,
        }
    }
    Err(problems)
}

fn drop_unknown_keys(table: &mut Table<'_>, schema: &Schema, problems: &mut Vec<Problem>) {
    let Some(known) = schema.get("properties").and_then(|p| p.as_object()) else { return };
    let unknown: Vec<_> =
        table.entries.keys().filter(|key| !known.contains_key(key.get_ref().as_ref())).cloned().collect();
    for key in unknown {
        let name = key.get_ref().to_string();
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let mut problem =
            Problem::new("P012", key.span(), format!("unknown parameter `{name}` in `{}`", table.path))
                .label("not a parameter here");
        problem.help = Some(match nearest(&name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("parameters: {}", names.join(", ")),
        });
        problems.push(problem);
        table.entries.remove(&key);
    }
}

/// Values outside the `minimum`/`maximum` that the schema states, top level and one level of objects.
fn out_of_range<S: Settings>(settings: &S, schema: &Schema) -> Vec<Invalid> {
    let (Ok(value), Some(properties)) =
        (serde_json::to_value(settings), schema.get("properties").and_then(|p| p.as_object()))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, rule) in properties {
        let Some(number) = value.get(name).and_then(serde_json::Value::as_f64) else { continue };
        let bound = |key: &str| rule.get(key).and_then(serde_json::Value::as_f64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
        let outside = min.is_some_and(|m| number < m)
            || max.is_some_and(|m| number > m)
            || above.is_some_and(|m| number <= m)
            || below.is_some_and(|m| number >= m);
        if outside {
            let parts = [
                min.map(|m| format!("at least {m}")),
                above.map(|m| format!("above {m}")),
                max.map(|m| format!("at most {m}")),
                below.map(|m| format!("below {m}")),
            ];
            let range = parts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            found.push(Invalid::new(name.clone(), format!("{number} is out of range, expected {range}")));
        }
    }
    found
}

/// The name in `names` that `word` was probably meant to be: at most a third of it, and at least one
/// letter, may be wrong.
#[must_use]
pub fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let allowed = (word.chars().count() / 3).max(1);
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}
