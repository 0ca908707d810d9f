//! Reads tables with a header: one medium, or one time range of a medium, a line.

use std::sync::Arc;

use super::{Bad, Entry, Places};

/// Columns by what they mean; the first name is the house's, the others are what published lists use.
const PATH: [&str; 4] = ["path", "file", "video", "filename"];
const LABEL: [&str; 2] = ["label", "class"];
const START: [&str; 4] = ["start_secs", "start_s", "start", "time_start"];
const END: [&str; 4] = ["end_secs", "end_s", "end", "time_end"];
/// Kinetics' lists name files by this.
const YOUTUBE: [&str; 1] = ["youtube_id"];

/// What Kinetics' clips may be stored as.
const KINETICS_EXTENSIONS: [&str; 3] = ["mp4", "mkv", "webm"];

/// Reads a table. Columns: `path` (or `file`, `video`, `filename`), and optionally `label` (`class`), `split`, `group`,
/// and a time range in seconds, `start_secs` (`start_s`, `start`, `time_start`) to `end_secs` (`end_s`, `end`, `time_end`;
/// empty: to the end). Other columns are left alone.
///
/// Without a path but with `youtube_id` it is a list of Kinetics (`label,youtube_id,time_start,time_end,split`): the
/// file is `ID_START_END.mp4` with six digits each, which is the cut clip already, so the times give its name only. It
/// is looked for as it is, and below folders of its split and of its class, blanks or underscores in the name.
pub fn read(text: &str, delimiter: u8, places: &Places<'_>) -> Result<Vec<Entry>, Bad> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| (1, error.to_string()))?.clone();
    let columns = Columns::of(&header)?;
    let mut entries = Vec::new();
    for record in reader.records() {
        let record =
            record.map_err(|error| (error.position().map_or(0, csv::Position::line), error.to_string()))?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        entries.push(columns.entry(&record, places).map_err(|what| (line, what))?);
    }
    Ok(entries)
}

/// Positions of the columns.
struct Columns {
    path: Option<usize>,
    youtube: Option<usize>,
    label: Option<usize>,
    split: Option<usize>,
    group: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
}

impl Columns {
    fn of(header: &csv::StringRecord) -> Result<Self, Bad> {
        let column = |names: &[&str]| {
            names.iter().find_map(|name| header.iter().position(|cell| cell.trim() == *name))
        };
        let found = Self {
            path: column(&PATH),
            youtube: column(&YOUTUBE),
            label: column(&LABEL),
            split: column(&["split"]),
            group: column(&["group"]),
            start: column(&START),
            end: column(&END),
        };
        if found.path.is_none() && found.youtube.is_none() {
            let header = header.iter().collect::<Vec<_>>().join(", ");
            return Err((1, format!("has no column `path`; its header is: {header}")));
        }
        Ok(found)
    }

    fn entry(&self, record: &csv::StringRecord, places: &Places<'_>) -> Result<Entry, String> {
        let cell = |at: Option<usize>| {
            at.and_then(|at| record.get(at)).map(str::trim).filter(|cell| !cell.is_empty())
        };
        let name = |at| cell(at).map(Arc::from);
        let (start, end) = (secs(cell(self.start))?, secs(cell(self.end))?);
        let entry = Entry {
            label: name(self.label),
            split: name(self.split),
            group: name(self.group),
            ..Entry::default()
        };
        if self.path.is_none() {
            let id = cell(self.youtube).ok_or("column `youtube_id` is empty")?;
            let (Some(start), Some(end)) = (start, end) else {
                return Err(
                    "`time_start` and `time_end` are needed: they are part of the file's name".to_owned()
                );
            };
            let names = kinetics(id, start, end, entry.split.as_deref(), entry.label.as_deref());
            return Ok(Entry { path: places.find(&names), ..entry });
        }
        let path = cell(self.path).ok_or("column `path` is empty")?;
        let span_secs = match (start, end) {
            (None, None) => None,
            (start, end) => Some((start.unwrap_or(0.0), end.unwrap_or(f64::MAX))),
        };
        if let Some((start, end)) = span_secs.filter(|(start, end)| start >= end) {
            return Err(format!("the range {start} to {end} s is empty"));
        }
        Ok(Entry { path: places.find(&[path]), span_secs, ..entry })
    }
}

fn secs(cell: Option<&str>) -> Result<Option<f64>, String> {
    match cell.map(|text| (text, text.parse::<f64>())) {
        None => Ok(None),
        Some((_, Ok(secs))) if secs.is_finite() && secs >= 0.0 => Ok(Some(secs)),
        Some((text, _)) => Err(format!("`{text}` is no time in seconds")),
    }
}

/// Names under which a clip of Kinetics may be stored, the most usual last folder first.
fn kinetics(id: &str, start: f64, end: f64, split: Option<&str>, label: Option<&str>) -> Vec<String> {
    let stem = format!("{id}_{:06}_{:06}", start as u64, end as u64);
    let underscored = label.map(|label| label.replace(' ', "_"));
    let labels: Vec<&str> = label.into_iter().chain(underscored.as_deref()).collect();
    let mut folders = vec![String::new()];
    folders.extend(split.map(|split| format!("{split}/")));
    folders.extend(labels.iter().map(|label| format!("{label}/")));
    folders
        .extend(split.iter().flat_map(|split| labels.iter().map(move |label| format!("{split}/{label}/"))));
    let named = |folder: &String| KINETICS_EXTENSIONS.map(|ending| format!("{folder}{stem}.{ending}"));
    folders.iter().flat_map(named).collect()
}
