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

/// Inputs with one reason that are each named on standard error when they are found together.
const NAMED_MAX: usize = 10;

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
    /// stage, and a warning on standard error the first time in this run that the file is skipped at all.
    /// Returns whether this was that first time.
    ///
    /// # Errors
    /// Storage, if the list cannot be written.
    pub fn add(&mut self, skip: &Skip) -> Result<bool, StageError> {
        let is_first = self.warned.insert(skip.file.clone());
        if is_first {
            // A progress line may stand there; a warning must not begin behind it.
            let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
            // A closed standard error must not end a run.
            let _ = writeln!(self.warnings, "{clear}{}", warning(skip));
        }
        if self.remember(skip) {
            let line = line(skip);
            self.file.write_all(line.as_bytes()).map_err(|error| storage("write", &self.path, &error))?;
        }
        Ok(is_first)
    }

    /// Notes skips that were found together. Of more than [`NAMED_MAX`] with one reason, one warning tells the number and
    /// the first; the list has them all.
    ///
    /// # Errors
    /// Storage, if the list cannot be written.
    pub fn add_all(&mut self, skips: &[Skip]) -> Result<(), StageError> {
        let mut alike: BTreeMap<(&str, SkipReason), Vec<&Skip>> = BTreeMap::new();
        for skip in skips.iter().filter(|skip| !self.warned.contains(&skip.file)) {
            alike.entry((&skip.stage, skip.reason)).or_default().push(skip);
        }
        for ((stage, reason), alike) in alike.iter().filter(|(_, alike)| alike.len() > NAMED_MAX) {
            let such = escaped(&alike[0].file.to_string_lossy());
            let (count, reason, path) = (alike.len(), reason.as_str(), self.path.display());
            let line = format!(
                "warning: {}: {count} inputs: {reason}: such as {such}; all are in {path}",
                escaped(stage)
            );
            let _ = writeln!(self.warnings, "{line}");
            self.warned.extend(alike.iter().map(|skip| skip.file.clone()));
        }
        skips.iter().try_for_each(|skip| self.add(skip).map(drop))
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
    fn many_alike_are_one_warning_and_all_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let mut skips: Vec<Skip> =
            (0..1000).map(|number| skip(&format!("{number}.mp4"), "scan", SkipReason::Empty)).collect();
        skips.push(skip("odd.mp4", "probe", SkipReason::NoVideo));
        let (sender, said) = channel();
        let mut list = Quarantine::with_warnings(folder.path(), Box::new(Lines(sender))).unwrap();
        list.add_all(&skips).unwrap();
        assert_eq!(list.by_reason()[&SkipReason::Empty], 1000);
        drop(list);
        let said: String = said.into_iter().collect();
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.starts_with("warning: scan: 1000 inputs: empty: such as 0.mp4; all are in "), "{said}");
        assert!(said.contains("warning: probe: odd.mp4: no_video: "), "{said}");
        let listed = std::fs::read_to_string(folder.path().join("quarantine.jsonl")).unwrap();
        assert_eq!(listed.lines().count(), 1001);
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
