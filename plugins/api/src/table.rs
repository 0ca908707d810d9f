//! A TOML table that knows where in the text each of its keys and values stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

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
