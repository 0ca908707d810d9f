//! The text of a pipeline file together with its `--set` options, as one string with places.
//!
//! Each option is appended as a line of its own behind the file. So every span, wherever it comes from,
//! is a range of one string, and [`Text::place`] says to which of them it belongs.

use std::ops::Range;
use std::path::{Path, PathBuf};

use reelflow_api::spec::Problem;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::edge::secrets::mask_in_place;

/// Largest pipeline file, bytes. A file that a person writes has a few kilobytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Deepest dotted key. TOML's parser bounds the depth of brackets (80), but not of dots.
const KEY_PARTS_MAX: usize = 32;

/// A pipeline file's text with its `--set` options behind it.
#[derive(Clone, Debug)]
pub struct Text {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Text of the file, then each option on a line of its own.
    whole: String,
    /// Bytes of the file in `whole`.
    file_len: usize,
    /// Bytes of each option in `whole`.
    options: Vec<Range<usize>>,
}

/// Where a span lies, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place<'t> {
    /// The file, or `--set`.
    pub path: String,
    /// All text that has this path.
    pub text: &'t str,
    /// Bytes of `text`.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place<'_> {
    /// Line and column behind the last character, from 1.
    #[must_use]
    pub fn end(&self) -> (usize, usize) {
        line_column(self.text, self.span.end)
    }
}

/// Line and column in characters of a byte, from 1.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl Text {
    /// Puts file and options together.
    #[must_use]
    pub fn new(file: &Path, text: &str, sets: &[String]) -> Self {
        let mut whole = text.to_owned();
        let mut options = Vec::new();
        for set in sets {
            whole.push('\n');
            options.push(whole.len()..whole.len() + set.len());
            whole.push_str(set);
        }
        Self { file: file.to_owned(), whole, file_len: text.len(), options }
    }

    /// The same with passwords masked byte by byte, so that every place stays.
    #[must_use]
    pub fn masked(self) -> Self {
        Self { whole: mask_in_place(&self.whole), ..self }
    }

    /// The part that came from the file.
    #[must_use]
    pub fn file_text(&self) -> &str {
        &self.whole[..self.file_len]
    }

    /// The text at `span`, whether of the file or of an option.
    #[must_use]
    pub fn slice(&self, span: Range<usize>) -> &str {
        self.whole.get(span).unwrap_or_default()
    }

    /// To which text `span` belongs, and where it is there.
    #[must_use]
    pub fn place(&self, span: &Range<usize>) -> Place<'_> {
        let option = self.options.iter().find(|option| option.contains(&span.start) || **option == *span);
        let (path, base) = match option {
            Some(option) => ("--set".to_owned(), option.clone()),
            None => (self.file.display().to_string(), 0..self.file_len),
        };
        let text = &self.whole[base.clone()];
        let clamp = |at: usize| {
            let at = at.clamp(base.start, base.end) - base.start;
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let span = clamp(span.start)..clamp(span.end);
        let (line, column) = line_column(text, span.start);
        Place { path, text, span, line, column }
    }

    /// Parses file and options; what cannot be read is left out of the table.
    ///
    /// The second value are the problems. With a P001 among them the table has holes.
    pub fn parse(&self) -> (DeTable<'_>, Vec<Problem>) {
        let mut problems = self.refuse();
        if !problems.is_empty() {
            return (DeTable::new(), problems);
        }
        let (root, errors) = DeTable::parse_recoverable(self.file_text());
        let mut root = root.into_inner();
        for error in errors {
            let end = self.file_len;
            let span = error.span().unwrap_or(end..end);
            let message =
                format!("not TOML: {}", error.message().trim().trim_end_matches(", expected nothing"));
            problems.push(Problem::new("P001", span, message).label("here"));
        }
        for option in &self.options {
            problems.extend(self.set(&mut root, option.clone()).err());
        }
        (root, problems)
    }

    /// Texts that are not worth or not safe to parse.
    fn refuse(&self) -> Vec<Problem> {
        let text = self.file_text();
        if text.len() as u64 > FILE_BYTES_MAX {
            return vec![too_large(text.len() as u64)];
        }
        if text.trim_start_matches('\u{feff}').trim().is_empty() {
            let help = "a pipeline starts with `version = 1`; see pipelines/ for examples";
            return vec![Problem::new("P005", 0..0, "the file is empty").help(help)];
        }
        let deep = deep_key(text).map(|span| {
            let message = format!("a key with more than {KEY_PARTS_MAX} parts");
            Problem::new("P006", span, message).label("nested too deep")
        });
        deep.into_iter().collect()
    }

    /// Applies one option `path=value`: it wins over the file and may name what is not in the file.
    fn set<'t>(&'t self, root: &mut DeTable<'t>, option: Range<usize>) -> Result<(), Problem> {
        let text = &self.whole[option.clone()];
        let bad = |message: String| {
            Problem::new("P008", option.clone(), format!("`--set {text}`: {message}"))
                .help("write `--set path=value`, such as `--set run.steps=100`")
        };
        let Some((path, value)) = text.split_once('=') else {
            return Err(bad("there is no `=`".to_owned()));
        };
        let mut at = option.start;
        let mut keys = Vec::new();
        for part in path.split('.') {
            let name = part.trim();
            if name.is_empty() {
                return Err(bad("the path has an empty part".to_owned()));
            }
            let start = at + (part.len() - part.trim_start().len());
            keys.push((name, start..start + name.len()));
            at += part.len() + 1;
        }
        if keys.len() > KEY_PARTS_MAX {
            return Err(bad(format!("the path has more than {KEY_PARTS_MAX} parts")));
        }
        let value = set_value(value, option.start + path.len() + 1);
        insert(root, &keys, value).map_err(bad)
    }
}

/// The complaint about a file of `bytes` bytes.
pub fn too_large(bytes: u64) -> Problem {
    let message = format!("the file has {bytes} bytes, a pipeline file may have {FILE_BYTES_MAX}");
    Problem::new("P003", 0..0, message).help("is this the right file?")
}

/// The value of an option: TOML if it is TOML, otherwise a string. Spans count from `base`.
fn set_value(text: &str, base: usize) -> Spanned<DeValue<'_>> {
    let trimmed = text.trim();
    let base = base + (text.len() - text.trim_start().len());
    if !trimmed.is_empty()
        && let Ok(value) = DeValue::parse(trimmed)
    {
        return shifted(value, base);
    }
    Spanned::new(base..base + trimmed.len(), DeValue::String(trimmed.into()))
}

fn shifted(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let inner = match value.into_inner() {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| shifted(item, by)).collect()),
        DeValue::Table(entries) => {
            let moved = entries.into_iter().map(|(key, value)| {
                let span = key.span().start + by..key.span().end + by;
                (Spanned::new(span, key.into_inner()), shifted(value, by))
            });
            DeValue::Table(moved.collect())
        }
        other => other,
    };
    Spanned::new(span, inner)
}

type Key<'t> = (&'t str, Range<usize>);

fn insert<'t>(table: &mut DeTable<'t>, keys: &[Key<'t>], value: Spanned<DeValue<'t>>) -> Result<(), String> {
    let Some(((name, span), rest)) = keys.split_first() else { return Ok(()) };
    let key = Spanned::new(span.clone(), (*name).into());
    if rest.is_empty() {
        // Removed first, because inserting alone would keep the old key with the old place.
        table.remove(*name);
        table.insert(key, value);
        return Ok(());
    }
    let fresh = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
    insert_below(table.entry(key).or_insert_with(fresh), name, rest, value)
}

fn insert_below<'t>(
    place: &mut Spanned<DeValue<'t>>,
    name: &str,
    keys: &[Key<'t>],
    value: Spanned<DeValue<'t>>,
) -> Result<(), String> {
    let Some(((next, _), rest)) = keys.split_first() else {
        *place = value;
        return Ok(());
    };
    match place.get_mut() {
        DeValue::Table(entries) => insert(entries, keys, value),
        DeValue::Array(items) => {
            let count = items.len();
            let item = next.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            let item = item.ok_or_else(|| format!("`{name}` is a list of {count}, `{next}` is not in it"))?;
            insert_below(item, next, rest, value)
        }
        other => Err(format!("`{name}` is a {}, there is nothing below it", other.type_str())),
    }
}

/// The first key with too many dots, outside of strings and comments.
fn deep_key(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut at, mut start, mut dots) = (0, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at),
            quote @ (b'"' | b'\'') => {
                at = string_end(bytes, at, quote);
                continue;
            }
            b'.' => dots += 1,
            b' ' | b'\t' => {}
            b'=' | b'[' | b']' | b'{' | b'}' | b',' | b'\n' => (start, dots) = (at + 1, 0),
            _ => {}
        }
        if dots >= KEY_PARTS_MAX {
            return Some(start..at);
        }
        at += 1;
    }
    None
}

/// Where the string that opens at `at` ends; a broken one ends with its line.
fn string_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let triple = bytes[at..].starts_with(&[quote; 3]);
    let mut next = at + if triple { 3 } else { 1 };
    while next < bytes.len() {
        match bytes[next] {
            b'\\' if quote == b'"' => next += 1,
            b'\n' if !triple => return next,
            byte if byte == quote && !triple => return next + 1,
            byte if byte == quote && bytes[next..].starts_with(&[quote; 3]) => return next + 3,
            _ => {}
        }
        next += 1;
    }
    bytes.len()
}
