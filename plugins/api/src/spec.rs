//! How a stage names itself, lists its parameters and is built from a TOML table.
//!
//! A [`Spec`] is a constant beside the stage's code. Help, manual, editor schema, checks and tests are
//! all derived from the same list of specs, so there is one place to say a thing.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::read::read;
use crate::stage::Stage;
pub use crate::table::Table;

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
    pub other: Option<Box<(Range<usize>, String)>>,
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

    /// Adds another place that belongs to it.
    #[must_use]
    pub fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.other = Some(Box::new((span, label.into())));
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
        shards_fit(self.shards, self.rows)
    }
}

impl Settings for crate::bank::InstanceSettings {
    fn check(&self) -> Vec<Invalid> {
        shards_fit(self.shards, self.rows)
    }
}

fn shards_fit(shards: u32, rows: u32) -> Vec<Invalid> {
    match shards > rows {
        true => vec![Invalid::new("shards", format!("{shards} shards cannot share {rows} rows"))],
        false => Vec::new(),
    }
}

/// Schema of a settings type.
#[must_use]
pub fn schema_of<S: Settings>() -> Schema {
    schemars::schema_for!(S)
}

/// The name in `names` that `word` was probably meant to be: at most a third of it, and at least one
/// letter, may be wrong; or it is the beginning of just one name (`warmup` of `warmup_steps`).
#[must_use]
pub fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let allowed = (word.chars().count() / 3).max(1);
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min();
    let mut longer = names.iter().filter(|name| word.len() >= 3 && name.starts_with(word));
    match (near, longer.next(), longer.next()) {
        (Some((_, name)), _, _) => Some(name),
        (None, Some(name), None) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_third_of_a_word_may_be_wrong() {
        assert_eq!(nearest("strid", &["stride", "frames"]), Some("stride"));
        assert_eq!(nearest("fraems", &["stride", "frames"]), Some("frames"));
        assert_eq!(nearest("pictures", &["stride", "frames"]), None);
        assert_eq!(nearest("q", &["p"]), Some("p"));
    }

    #[test]
    fn the_beginning_of_one_name_is_enough() {
        assert_eq!(nearest("warmup", &["warmup_steps", "floor"]), Some("warmup_steps"));
        assert_eq!(nearest("stride", &["stride_ms", "stride_max_ms"]), None);
        assert_eq!(nearest("st", &["stride_long"]), None);
    }
}
