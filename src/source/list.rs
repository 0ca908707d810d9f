//! Reads lists of media: a path a line, a table with labels, splits, groups and time ranges, or the lists that
//! UCF101, HMDB51 and Kinetics are published with.

mod published;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::StageError;

use crate::edge::files;

/// One line of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The file, as it can be opened from the current folder.
    pub path: PathBuf,
    /// Its class.
    pub label: Option<Arc<str>>,
    /// `train`, `test` or whatever the list says.
    pub split: Option<Arc<str>>,
    /// Recording or person.
    pub group: Option<Arc<str>>,
    /// The part to use, seconds `[start, end)`; `f64::MAX` where the list gives no end.
    pub span_secs: Option<(f64, f64)>,
}

/// A line that does not fit: its number, from 1, and what is wrong. Number 0 is the list as a whole.
type Bad = (u64, String);

/// Reads a list by its name:
///
/// * `.csv`, `.tsv`: a table with a header; see [`table::read`], which also reads Kinetics' lists;
/// * `trainlist01.txt`, `testlist01.txt`: UCF101's; `CLASS_test_split1.txt`: HMDB51's; see [`published`];
/// * any other `.txt`: a path a line; blank lines and lines with `#` in front are left out.
///
/// Paths are looked for below `root`, then beside the list, then from the current folder. A byte order mark and
/// CRLF are accepted.
///
/// # Errors
/// If it cannot be read, is not UTF-8, or a line does not fit; the message names file and line.
pub fn read(list: &Path, root: Option<&Path>) -> Result<Vec<Entry>, StageError> {
    parse(list, files::read(list)?, root)
}

/// [`read`] of the content of a list.
pub(crate) fn parse(list: &Path, bytes: Vec<u8>, root: Option<&Path>) -> Result<Vec<Entry>, StageError> {
    let text = text(list, bytes)?;
    let places = Places { root, beside: list.parent().unwrap_or(Path::new("")) };
    let name = list.file_name().unwrap_or_default().to_string_lossy();
    let extension = list.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let entries = match extension.as_str() {
        "csv" => table::read(&text, b',', &places),
        "tsv" => table::read(&text, b'\t', &places),
        _ => match published::of_name(&name) {
            Some(published::Kind::Ucf { split }) => {
                let index = list.with_file_name("classInd.txt");
                let classes = if index.is_file() { published::classes(&index)? } else { Vec::new() };
                published::ucf(&text, split, &classes, &places)
            }
            Some(published::Kind::Hmdb { class }) => published::hmdb(&text, &class, &places),
            None => Ok(lines(&text, &places)),
        },
    };
    entries.map_err(|bad| refused(list, bad))
}

fn text(list: &Path, bytes: Vec<u8>) -> Result<String, StageError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        refused(list, (line, "is not UTF-8; save the list as UTF-8".to_owned()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn refused(list: &Path, (line, what): Bad) -> StageError {
    let place = if line > 0 { format!("{}:{line}", list.display()) } else { list.display().to_string() };
    StageError::refused("files", format!("list {place}: {what}"))
}

/// Lines that say something, with their numbers from 1.
fn said(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at as u64 + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn lines(text: &str, places: &Places<'_>) -> Vec<Entry> {
    said(text).map(|(_, line)| Entry { path: places.find(&[line]), ..Entry::default() }).collect()
}

/// Where the files of a list may lie.
struct Places<'a> {
    root: Option<&'a Path>,
    beside: &'a Path,
}

impl Places<'_> {
    /// The first of `names` that is there, below the root or beside the list; else the first name below the root, or
    /// as written, so that the message about it says what was looked for.
    fn find<N: AsRef<str>>(&self, names: &[N]) -> PathBuf {
        let folders = self.root.into_iter().chain([self.beside]);
        let there = folders
            .flat_map(|folder| names.iter().map(move |name| folder.join(name.as_ref())))
            .find(|path| path.exists());
        there.unwrap_or_else(|| {
            let first = names.first().map_or("", |name| name.as_ref());
            self.root.map_or_else(|| PathBuf::from(first), |root| root.join(first))
        })
    }
}

#[cfg(test)]
mod tests;
