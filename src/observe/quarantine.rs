//! Keeps the list of inputs that could not be used: `quarantine.jsonl`, one JSON object a skip.
//!
//! ```json
//! {"file":"a.mp4","stage":"probe","reason":"corrupt","message":"…","at_secs":3.2}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use reelflow_api::error::{Skip, SkipReason, StageError};

use crate::edge::files::storage;

/// Warnings of a run on standard error; with more bad inputs than that, the list and the summary tell the rest.
const WARNINGS_MAX: usize = 20;

/// An open `quarantine.jsonl`. A run that goes on adds to what is there.
pub struct Quarantine {
    file: File,
    path: PathBuf,
    known: BTreeSet<(String, String, SkipReason)>,
    warned: BTreeSet<PathBuf>,
    by_reason: BTreeMap<SkipReason, u64>,
    warnings: Box<dyn Write + Send>,
}

impl Quarantine {
    /// Opens or makes the list below `run_dir`, which must exist. A torn last line is cut off.
    ///
    /// # Errors
    /// Storage, if it cannot be read, cut or made.
    pub fn open(run_dir: &Path) -> Result<Self, StageError> {
        Self::with_warnings(run_dir, Box::new(std::io::stderr()))
    }

    fn with_warnings(run_dir: &Path, warnings: Box<dyn Write + Send>) -> Result<Self, StageError> {
        let path = run_dir.join("quarantine.jsonl");
        let mut text = Vec::new();
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let opened = opened.and_then(|mut file| {
            file.read_to_end(&mut text)?;
            Ok(file)
        });
        let mut file = opened.map_err(|error| storage("open", &path, &error))?;
        let (kept_bytes, earlier) = complete_lines(&text);
        file.set_len(kept_bytes as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| storage("cut", &path, &error))?;
        let mut list = Self {
            file,
            path,
            known: BTreeSet::new(),
            warned: BTreeSet::new(),
            by_reason: BTreeMap::new(),
            warnings,
        };
        for skip in earlier {
            list.remember(&skip);
        }
        Ok(list)
    }

    /// Notes one skip: a line in the list the first time this file is skipped for this reason at this
    /// stage, and a warning on standard error the first time in this run that the file is skipped at all, for the
    /// first 20 of them. Returns whether this was that first time.
    ///
    /// # Errors
    /// Storage, if the list cannot be written.
    pub fn add(&mut self, skip: &Skip) -> Result<bool, StageError> {
        let is_first = self.warned.insert(skip.file.clone());
        if is_first {
            // A progress line may stand there; a warning must not begin behind it.
            let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
            let line = match self.warned.len() {
                count if count <= WARNINGS_MAX => Some(warning(skip)),
                count if count == WARNINGS_MAX + 1 => {
                    let path = escaped(&self.path.to_string_lossy());
                    Some(format!("warning: more inputs cannot be used; all are listed in {path}"))
                }
                _ => None,
            };
            // A closed standard error must not end a run.
            let _ = line.map(|line| writeln!(self.warnings, "{clear}{line}"));
        }
        if self.remember(skip) {
            let line = line(skip);
            self.file.write_all(line.as_bytes()).map_err(|error| storage("write", &self.path, &error))?;
        }
        Ok(is_first)
    }

    fn remember(&mut self, skip: &Skip) -> bool {
        let is_new = self.known.insert((listed_name(skip), skip.stage.clone(), skip.reason));
        if is_new {
            *self.by_reason.entry(skip.reason).or_default() += 1;
        }
        is_new
    }

    /// Lines of the list by reason, those of earlier parts of the run included.
    #[must_use]
    pub fn by_reason(&self) -> &BTreeMap<SkipReason, u64> {
        &self.by_reason
    }

    /// Where the list lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `warning: probe: FILE: reason: message`, one line whatever the file is called.
#[must_use]
pub fn warning(skip: &Skip) -> String {
    let at = skip.at_secs.map(|secs| format!(" at {secs:.2} s")).unwrap_or_default();
    format!(
        "warning: {}: {}: {}{at}: {}",
        escaped(&skip.stage),
        escaped(&skip.file.to_string_lossy()),
        skip.reason.as_str(),
        escaped(&skip.message)
    )
}

/// Control characters written as `\n`, `\u{1b}`: a file name must not steer a terminal or fake a line.
#[must_use]
pub fn escaped(text: &str) -> String {
    let is_unsafe =
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unsafe(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// A path that is no UTF-8 is listed with replacement characters rather than lost.
fn listed_name(skip: &Skip) -> String {
    skip.file.to_string_lossy().into_owned()
}

fn line(skip: &Skip) -> String {
    let skip = Skip { file: listed_name(skip).into(), ..skip.clone() };
    serde_json::to_string(&skip).expect("text and finite numbers always have a JSON form") + "\n"
}

fn complete_lines(text: &[u8]) -> (usize, Vec<Skip>) {
    let (mut kept_bytes, mut skips) = (0, Vec::new());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (true, Ok(skip)) = (line.ends_with(b"\n"), serde_json::from_slice(line)) else { break };
        kept_bytes += line.len();
        skips.push(skip);
    }
    (kept_bytes, skips)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::observe::recorder::tests::Lines;

    fn skip(file: &str, stage: &str, reason: SkipReason) -> Skip {
        let message = "what was seen".to_owned();
        Skip { file: file.into(), stage: stage.to_owned(), reason, message, at_secs: None }
    }

    /// Adds `skips` to the list of `folder`; gives what was said and the list.
    fn add(folder: &Path, skips: &[Skip]) -> (String, String) {
        let (sender, said) = channel();
        let mut list = Quarantine::with_warnings(folder, Box::new(Lines(sender))).unwrap();
        skips.iter().for_each(|skip| assert!(list.add(skip).is_ok()));
        let path = list.path().to_owned();
        drop(list);
        (said.into_iter().collect(), std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_file_is_warned_of_once_and_listed_once_a_stage_and_reason() {
        let folder = tempfile::tempdir().unwrap();
        let bad = skip("a.mp4", "decode", SkipReason::Corrupt);
        let other = skip("a.mp4", "decode", SkipReason::Stalled);
        let (said, list) = add(folder.path(), &[bad.clone(), bad.clone(), other]);
        assert_eq!(said.matches("warning: ").count(), 1, "{said}");
        assert_eq!(
            list,
            "{\"file\":\"a.mp4\",\"stage\":\"decode\",\"reason\":\"corrupt\",\"message\":\"what was seen\"}\n\
             {\"file\":\"a.mp4\",\"stage\":\"decode\",\"reason\":\"stalled\",\"message\":\"what was seen\"}\n"
        );
        // Gone on with: known skips are not listed again, a torn line is repaired.
        std::fs::write(folder.path().join("quarantine.jsonl"), format!("{list}{{\"file\":\"b")).unwrap();
        let (_, again) = add(folder.path(), &[bad]);
        assert_eq!(again, list);
    }

    #[test]
    fn a_thousand_bad_inputs_are_no_thousand_warnings() {
        let folder = tempfile::tempdir().unwrap();
        let bad: Vec<Skip> =
            (0..1000).map(|i| skip(&format!("{i}.mp4"), "scan", SkipReason::Empty)).collect();
        let (said, list) = add(folder.path(), &bad);
        assert_eq!((said.lines().count(), list.lines().count()), (WARNINGS_MAX + 1, 1000));
        assert!(said.lines().last().unwrap().ends_with("quarantine.jsonl"), "{said}");
    }

    #[test]
    fn the_warning_is_one_line_without_control_bytes() {
        let mut bad = skip("a\nerror: all is well\u{1b}[2J.mp4", "probe", SkipReason::NotMedia);
        bad.at_secs = Some(1.5);
        assert_eq!(
            warning(&bad),
            "warning: probe: a\\nerror: all is well\\u{1b}[2J.mp4: not_media at 1.50 s: what was seen"
        );
        assert_eq!(escaped("Büro 1 – Tür.mp4"), "Büro 1 – Tür.mp4");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_utf_8_is_listed_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let mut bad = skip("", "scan", SkipReason::Unreadable);
        bad.file = PathBuf::from(std::ffi::OsStr::from_bytes(b"a\xff.mp4"));
        add(folder.path(), &[bad.clone()]);
        let (_, list) = add(folder.path(), &[bad]);
        assert_eq!(list.lines().count(), 1);
        assert!(list.contains("\"file\":\"a\u{fffd}.mp4\""), "{list}");
    }

    #[test]
    fn skips_are_counted_by_reason() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Quarantine::with_warnings(folder.path(), Box::new(std::io::sink())).unwrap();
        for (file, reason) in [("a", SkipReason::Empty), ("b", SkipReason::Empty), ("c", SkipReason::NoVideo)]
        {
            list.add(&skip(file, "probe", reason)).unwrap();
        }
        let expected = BTreeMap::from([(SkipReason::Empty, 2), (SkipReason::NoVideo, 1)]);
        assert_eq!(*list.by_reason(), expected);
    }
}
