//! Writes `metrics.jsonl`: one JSON object a step, for people's own plots and scripts.
//!
//! ```json
//! {"step":12,"loss":5.4321,"lr":0.03,"data_wait_share":0.0312,"clips_per_sec":61.2}
//! ```
//!
//! A number that is not finite is written as `null`, which is what JSON has for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Map, Number, Value};

/// An open `metrics.jsonl`; every call is one complete line.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
}

/// What an earlier part of the run already wrote: the lines before the step it goes on from.
pub type Earlier = Vec<Map<String, Value>>;

impl MetricsFile {
    /// Opens or makes the file at `path` and cuts off everything from step `start_step` on, so that a run
    /// that goes on from a checkpoint has each step once. A torn last line is cut off as well.
    ///
    /// # Errors
    /// If the file cannot be read, cut or written.
    pub fn open(path: &Path, start_step: u64) -> io::Result<(Self, Earlier)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (kept_bytes, earlier) = lines_before(&text, start_step);
        file.set_len(kept_bytes as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file }, earlier))
    }

    /// Adds the line of one step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, step: u64, numbers: &[(String, f64)]) -> io::Result<()> {
        self.file.write_all(line(step, numbers).as_bytes())
    }

    /// Puts everything on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Written by hand to keep the order of the scalars.
fn line(step: u64, numbers: &[(String, f64)]) -> String {
    let mut text = format!("{{\"step\":{step}");
    for (name, value) in numbers {
        let value = Number::from_f64(*value).map_or(Value::Null, Value::Number);
        text += &format!(",{}:{value}", Value::from(name.as_str()));
    }
    text + "}\n"
}

/// The complete lines before `start_step`, and how many bytes they take.
///
/// Steps come in order, so everything after the first other line is of a later step, or damaged.
fn lines_before(text: &[u8], start_step: u64) -> (usize, Earlier) {
    let (mut kept_bytes, mut earlier) = (0, Earlier::new());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Ok(Value::Object(object)) = serde_json::from_slice(line) else { break };
        let is_before = object.get("step").and_then(Value::as_u64).is_some_and(|step| step < start_step);
        if !is_before || !line.ends_with(b"\n") {
            break;
        }
        kept_bytes += line.len();
        earlier.push(object);
    }
    (kept_bytes, earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file holds after it is opened at `start_step` over `before` and one line is added.
    #[track_caller]
    fn check(before: &str, start_step: u64, after: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, before).unwrap();
        let (mut metrics, _) = MetricsFile::open(&path, start_step).unwrap();
        metrics.write(start_step, &[("loss".to_owned(), 0.5)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
    }

    #[test]
    fn a_run_that_goes_on_has_each_step_once() {
        let before = "{\"step\":0,\"loss\":2.0}\n{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"loss\":0.9}\n";
        check(before, 1, "{\"step\":0,\"loss\":2.0}\n{\"step\":1,\"loss\":0.5}\n");
        check(before, 0, "{\"step\":0,\"loss\":0.5}\n");
        check(before, 3, &format!("{before}{{\"step\":3,\"loss\":0.5}}\n"));
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        check("{\"step\":0}\n{\"step\":1,\"lo", 2, "{\"step\":0}\n{\"step\":2,\"loss\":0.5}\n");
        check("{\"step\":0}\n{\"step\":1}", 2, "{\"step\":0}\n{\"step\":2,\"loss\":0.5}\n");
        check("not json\n", 2, "{\"step\":2,\"loss\":0.5}\n");
    }

    #[test]
    fn numbers_come_back_bit_by_bit_and_keep_their_order() {
        let value = f64::from(0.1_f32) / 3.0;
        let text = line(7, &[("z".to_owned(), value), ("a".to_owned(), f64::NAN)]);
        assert!(text.starts_with("{\"step\":7,\"z\":"), "{text}");
        assert!(text.ends_with(",\"a\":null}\n"), "{text}");
        let number = text.split("\"z\":").nth(1).unwrap().split(',').next().unwrap();
        assert_eq!(number.parse::<f64>().unwrap().to_bits(), value.to_bits());
    }
}
