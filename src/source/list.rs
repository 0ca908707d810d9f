//! Reads lists of media: a path a line, or a table with labels, splits, groups and time ranges.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::StageError;

use crate::edge::files;

/// One line of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The file, as it can be opened from the current folder.
    pub path: PathBuf,
    /// Column `label` (or `class`).
    pub label: Option<Arc<str>>,
    /// Column `split`.
    pub split: Option<Arc<str>>,
    /// Column `group`: recording or person.
    pub group: Option<Arc<str>>,
    /// Columns `start_secs` and `end_secs` (`end_secs` empty: to the end).
    pub span_secs: Option<(f64, f64)>,
}

/// Reads `.txt` (a path a line; blank lines and lines with `#` in front are left out), `.csv` or `.tsv`
/// (with a header). A byte order mark and CRLF are accepted.
///
/// # Errors
/// If it cannot be read, is not UTF-8, or a line does not fit; the message names file and line.
pub fn read(list: &Path) -> Result<Vec<Entry>, StageError> {
    let bytes = files::read(list)?;
    let bad = |what: String| StageError::refused("files", format!("list `{}`: {what}", list.display()));
    let text = std::str::from_utf8(&bytes).map_err(|error| bad(format!("is not UTF-8: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let folder = list.parent().unwrap_or(Path::new(""));
    let extension = list.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "csv" => table(text, b',', folder).map_err(bad),
        "tsv" => table(text, b'\t', folder).map_err(bad),
        _ => Ok(lines(text, folder)),
    }
}

fn lines(text: &str, folder: &Path) -> Vec<Entry> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| Entry { path: resolve(line, folder), ..Entry::default() })
        .collect()
}

fn table(text: &str, delimiter: u8, folder: &Path) -> Result<Vec<Entry>, String> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |names: &[&str]| header.iter().position(|name| names.contains(&name.trim()));
    let path = column(&["path", "file"]).ok_or_else(|| {
        format!("has no column `path`; its header is: {}", header.iter().collect::<Vec<_>>().join(", "))
    })?;
    let (label, split, group) = (column(&["label", "class"]), column(&["split"]), column(&["group"]));
    let (start, end) = (column(&["start_secs"]), column(&["end_secs"]));
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |at: Option<usize>| {
            at.and_then(|at| record.get(at)).map(str::trim).filter(|cell| !cell.is_empty())
        };
        let Some(name) = cell(Some(path)) else {
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            return Err(format!("line {line}: column `path` is empty"));
        };
        let secs = |at: Option<usize>| match cell(at) {
            None => Ok(None),
            Some(text) => match text.parse::<f64>() {
                Ok(secs) if secs.is_finite() && secs >= 0.0 => Ok(Some(secs)),
                _ => Err(format!("line {line}: `{text}` is no time in seconds")),
            },
        };
        let span_secs = match (secs(start)?, secs(end)?) {
            (None, None) => None,
            (from, to) => Some((from.unwrap_or(0.0), to.unwrap_or(f64::MAX))),
        };
        if let Some((from, to)) = span_secs.filter(|(from, to)| from >= to) {
            return Err(format!("line {line}: the range {from} to {to} s is empty"));
        }
        entries.push(Entry {
            path: resolve(name, folder),
            label: cell(label).map(Arc::from),
            split: cell(split).map(Arc::from),
            group: cell(group).map(Arc::from),
            span_secs,
        });
    }
    Ok(entries)
}

/// Beside the list if it is there, else as written.
fn resolve(name: &str, folder: &Path) -> PathBuf {
    let beside = folder.join(name);
    if beside.exists() { beside } else { PathBuf::from(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Vec<Entry>, StageError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.mp4"), "x").unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut entries = read(&path)?;
        for entry in &mut entries {
            entry.path = entry.path.strip_prefix(dir.path()).unwrap_or(&entry.path).to_owned();
        }
        Ok(entries)
    }

    #[test]
    fn a_plain_list_may_have_a_mark_crlf_blank_lines_and_comments() {
        let entries = read_text("l.txt", "\u{feff}a.mp4\r\n\r\n# no\r\nnone.mp4\r\n").unwrap();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["a.mp4", "none.mp4"]);
    }

    #[test]
    fn a_table_gives_labels_splits_groups_and_ranges() {
        let text = "file\tnote\tlabel\tgroup\tstart_secs\tend_secs\na.mp4\tx\tfall\tcam 1\t1.5\t\n";
        let entry = &read_text("l.tsv", text).unwrap()[0];
        assert_eq!((entry.label.as_deref(), entry.group.as_deref()), (Some("fall"), Some("cam 1")));
        assert_eq!((entry.split.as_deref(), entry.span_secs), (None, Some((1.5, f64::MAX))));
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused_with_its_line() {
        for (text, words) in [
            ("name,label\na,b\n", "no column `path`"),
            ("path,start_secs\na.mp4,soon\n", "line 2: `soon`"),
            ("path,start_secs,end_secs\n\"a.mp4\",2,1\n", "line 2: the range 2 to 1"),
            ("path,label\n,b\n", "line 2: column `path`"),
        ] {
            let error = read_text("l.csv", text).unwrap_err();
            assert_eq!(error.code, 78);
            assert!(error.message.contains(words), "{error}");
        }
    }
}
