//! Video files: named one by one, by glob, by folder, in lists, or in archives. Opens none of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;
use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::Origin;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Candidate, Limits, Listing, OnError, Source, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::{list, shards};
use crate::archive;

/// How `files` describes itself.
pub const SPEC: Spec = Spec {
    name: "files",
    kind: Kind::Source,
    summary: "Video files: paths, globs, folders, lists, tar and zip archives.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "paths = [\"videos\", \"more/**/*.mp4\", \"list.csv\"]",
    schema: schema_of::<FilesSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<FilesSettings>(table)?))),
};

/// Names that are looked at inside a folder; a file that is named itself is always tried.
const EXTENSIONS: [&str; 22] = [
    "3gp", "asf", "avi", "flv", "h264", "h265", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4", "mpeg", "mpg",
    "mts", "mxf", "ogg", "ogv", "ts", "vob", "webm", "wmv",
];

/// Names of lists.
const LISTS: [&str; 3] = ["txt", "csv", "tsv"];

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct FilesSettings {
    /// Files, folders (with all below), globs (`*`, `**`, `?`, `[…]`, `{a,b}`), archives (`.tar`, `.tar.gz`, `.tgz`,
    /// `.tar.zst`, `.zip`; read where they lie, with labels from `key.cls`, `key.json` or `key.txt` beside
    /// `key.mp4`), and lists: `.txt` with a path
    /// a line, `.csv` or `.tsv` with a header (`path`, and optionally `label`, `split`, `group`, `start_secs`,
    /// `end_secs`), and the lists of UCF101 (`trainlist01.txt`), HMDB51 (`CLASS_test_split1.txt`) and Kinetics
    /// (`.csv` with `youtube_id`) as published. Relative to the current folder; inside a list, to `root` or the
    /// list's folder first.
    paths: Vec<String>,
    /// Folder of the media that lists name, where it is not the list's own.
    #[serde(default)]
    root: Option<PathBuf>,
    /// Only media of this split (`train`), as lists or folders name it; all if not given.
    #[serde(default)]
    split: Option<String>,
    /// Where the class of a file comes from; a list's own `label` comes first. Never shown to a pretext task.
    #[serde(default)]
    labels: Labels,
    /// Seconds of the pieces a longer file is cut into; whole files if not given.
    #[serde(default)]
    #[schemars(range(min = 0.001, max = 1e6))]
    segment_secs: Option<f64>,
    /// What becomes of an input that cannot be used.
    #[serde(default)]
    on_error: OnError,
    /// Look again while the run goes on: files that are added are used, and what is removed or changed is forgotten in
    /// the banks as well.
    #[serde(default)]
    watch: bool,
    /// Seconds between two looks. A new file is used when two looks in a row find it with the same size and time.
    #[serde(default = "watch_secs")]
    #[schemars(range(min = 0.01, max = 86400.0))]
    watch_secs: f64,
    /// Most pixels of a picture; larger ones are left out before a decoder makes one. 8192x4320 if not given.
    #[serde(default = "pixels_max")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pixels_max: u64,
    /// Most MiB of a file; larger ones are left out.
    #[serde(default = "file_mib_max")]
    #[schemars(range(min = 1))]
    file_mib_max: u64,
    /// Most seconds that looking at a file may take when it is scanned.
    #[serde(default = "probe_secs_max")]
    #[schemars(range(min = 1.0, max = 1e6))]
    probe_secs_max: f64,
    /// MiB of memory for unpacked members of archives, and the most of a single one; of several sources the largest
    /// counts. Members of a plain tar are not unpacked. A tar that is compressed as a whole and does not fit is
    /// unpacked again from its start whenever a member is wanted that is not in memory.
    #[serde(default = "unpacked_mib")]
    #[schemars(range(min = 1, max = 1_000_000))]
    unpacked_mib: u64,
}

fn pixels_max() -> u64 {
    Limits::default().pixels
}

fn file_mib_max() -> u64 {
    Limits::default().bytes >> 20
}

fn probe_secs_max() -> f64 {
    Limits::default().probe_secs
}

fn unpacked_mib() -> u64 {
    256
}

fn watch_secs() -> f64 {
    3.0
}

/// Where classes come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Labels {
    /// Only from lists.
    #[default]
    None,
    /// The name of the file's folder; a folder `train`, `val` or `test` above it is the split.
    Folder,
}

impl Labels {
    /// Label and split of a path.
    fn of(self, path: &Path) -> (Option<Arc<str>>, Option<Arc<str>>) {
        match self {
            Self::None => (None, None),
            Self::Folder => (folder_name(path), split_name(path)),
        }
    }
}

impl Settings for FilesSettings {
    fn check(&self) -> Vec<Invalid> {
        if self.paths.is_empty() {
            return vec![Invalid::new("paths", "names no file").help("paths = [\"videos\"]")];
        }
        let empty = self.paths.iter().position(|path| path.trim().is_empty());
        empty.map(|index| Invalid::new(format!("paths.{index}"), "is empty")).into_iter().collect()
    }
}

impl Source for FilesSettings {
    fn list(&self) -> Result<Listing, StageError> {
        archive::allow(self.unpacked_mib << 20);
        let mut found = Found { labels: self.labels, root: self.root.clone(), ..Found::default() };
        for path in &self.paths {
            found.add(path)?;
        }
        let mut listing = found.listing();
        if let Some(split) = &self.split {
            listing.candidates.retain(|candidate| candidate.split.as_deref() == Some(split));
            if listing.candidates.is_empty() && !self.watch {
                let paths = self.paths.join(", ");
                return Err(StageError::failed("files", format!("no video of split `{split}` in {paths}")));
            }
        }
        // What is watched may still come.
        if listing.candidates.is_empty() && listing.skipped.is_empty() && !self.watch {
            return Err(StageError::failed(
                "files",
                format!(
                    "no video below {}: folders are searched for .{}; name a file itself to try any other",
                    self.paths.join(", "),
                    EXTENSIONS.join(" .")
                ),
            ));
        }
        Ok(listing)
    }

    fn segment_secs(&self) -> Option<f64> {
        self.segment_secs
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }

    fn watch_secs(&self) -> Option<f64> {
        self.watch.then_some(self.watch_secs)
    }

    fn limits(&self) -> Limits {
        let bytes = self.file_mib_max.saturating_mul(1 << 20);
        Limits { pixels: self.pixels_max, bytes, probe_secs: self.probe_secs_max }
    }
}

/// Everything below `paths`, for sources that play files.
///
/// # Errors
/// If a folder or list itself cannot be read.
pub(super) fn find(paths: &[String]) -> Result<Listing, StageError> {
    let mut found = Found::default();
    for path in paths {
        found.add(path)?;
    }
    Ok(found.listing())
}

/// What was found so far; a file (or a span of one) that is found twice is used once.
#[derive(Default)]
struct Found {
    labels: Labels,
    root: Option<PathBuf>,
    candidates: BTreeMap<(PathBuf, Option<(u64, u64)>), Candidate>,
    skipped: BTreeMap<PathBuf, Skip>,
}

impl Found {
    fn add(&mut self, text: &str) -> Result<(), StageError> {
        let path = Path::new(text);
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => self.add_whole_folder(path)?,
            Ok(about) if about.is_file() && archive::is_named(path) => self.add_archive(path)?,
            Ok(_) if has_extension(path, &LISTS) => self.add_list(path)?,
            Ok(_) => self.add_file(path),
            Err(_) if text.contains(['*', '?', '[', '{']) => self.add_glob(text)?,
            Err(error) => self.skip(path, missing(&error), format!("{error}; see `paths`")),
        }
        Ok(())
    }

    /// A folder that was named itself is an input: it is told if there is nothing in it.
    fn add_whole_folder(&mut self, folder: &Path) -> Result<(), StageError> {
        let before = self.candidates.len() + self.skipped.len();
        let wanted = |path: &Path| has_extension(path, &EXTENSIONS) || archive::is_named(path);
        self.add_folder(folder, usize::MAX, &wanted)?;
        if self.candidates.len() + self.skipped.len() == before && has_extension(folder, &EXTENSIONS) {
            self.skip(folder, SkipReason::NotRegular, "is a folder without videos, not a file".to_owned());
        }
        Ok(())
    }

    /// Adds what is wanted, at most `depth` folders down.
    fn add_folder(
        &mut self,
        folder: &Path,
        depth: usize,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), StageError> {
        for entry in WalkDir::new(folder).follow_links(true).max_depth(depth) {
            match entry {
                Ok(entry) if !entry.file_type().is_dir() && wanted(entry.path()) => {
                    let path = entry.path();
                    if entry.file_type().is_file() && archive::is_named(path) {
                        self.add_archive(path)?;
                    } else {
                        self.add_file(path);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    if wanted(&path) || path.is_dir() {
                        self.skip(&path, SkipReason::Unreadable, error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    fn add_archive(&mut self, path: &Path) -> Result<(), StageError> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let labels = self.labels;
        let by_path = |path: &Path| labels.of(path);
        let listing = shards::list(path, &|name| has_extension(name, &EXTENSIONS), &by_path)?;
        for candidate in listing.candidates {
            let path = candidate.origin.path().unwrap_or_default();
            self.candidates.entry((path, None)).or_insert(candidate);
        }
        for skip in listing.skipped {
            self.skipped.entry(skip.file.clone()).or_insert(skip);
        }
        Ok(())
    }

    fn add_glob(&mut self, pattern: &str) -> Result<(), StageError> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|error| StageError::refused("files", format!("`{pattern}`: {error}")))?;
        let matcher = glob.compile_matcher();
        let fixed: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        let from = if fixed.as_os_str().is_empty() { Path::new(".") } else { fixed.as_path() };
        let before = self.candidates.len() + self.skipped.len();
        let matches = |path: &Path| matcher.is_match(path.strip_prefix("./").unwrap_or(path));
        // Folders that nothing of the pattern can lie in are not looked into: they may be closed to us.
        let deepest = Path::new(pattern).components().count() - fixed.components().count();
        let depth = if pattern.contains("**") { usize::MAX } else { deepest };
        self.add_folder(from, depth, &|path| matches(path) && !has_extension(path, &LISTS))?;
        // HMDB51 has a list a class.
        let lists =
            WalkDir::new(from).follow_links(true).max_depth(depth).sort_by_file_name().into_iter().flatten();
        for list in lists.map(walkdir::DirEntry::into_path).filter(|path| has_extension(path, &LISTS)) {
            if matches(&list) && list.is_file() {
                self.add_list(&list)?;
            }
        }
        if self.candidates.len() + self.skipped.len() == before {
            self.skip(Path::new(pattern), SkipReason::Vanished, "no file matches this pattern".to_owned());
        }
        Ok(())
    }

    fn add_list(&mut self, path: &Path) -> Result<(), StageError> {
        for entry in list::read(path, self.root.as_deref())? {
            let Some(mut candidate) = self.candidate(&entry.path) else { continue };
            candidate.label = entry.label.or(candidate.label);
            candidate.split = entry.split.or(candidate.split);
            candidate.group = entry.group;
            candidate.span_secs = entry.span_secs;
            let span = entry.span_secs.map(|(start, end)| (start.to_bits(), end.to_bits()));
            self.candidates.insert((entry.path, span), candidate);
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) {
        let path = path.strip_prefix("./").unwrap_or(path);
        if let Some(candidate) = self.candidate(path) {
            self.candidates.entry((path.to_owned(), None)).or_insert(candidate);
        }
    }

    /// Only regular, readable files with something in them ever reach a decoder: a pipe would block it.
    fn candidate(&mut self, path: &Path) -> Option<Candidate> {
        match fs::metadata(path) {
            Ok(about) if !about.is_file() => {
                let what = if about.is_dir() { "a folder" } else { "a pipe, socket or device" };
                self.skip(path, SkipReason::NotRegular, format!("is {what}, not a file"));
            }
            Ok(about) if about.len() == 0 => self.skip(path, SkipReason::Empty, "has 0 bytes".to_owned()),
            Ok(_) => {
                let (label, split) = self.labels.of(path);
                let origin = Origin::File(path.to_owned());
                return Some(Candidate { origin, label, group: None, split, span_secs: None });
            }
            Err(error) => self.skip(path, missing(&error), error.to_string()),
        }
        None
    }

    fn skip(&mut self, path: &Path, reason: SkipReason, message: String) {
        let skip = Skip { file: path.to_owned(), stage: "scan".to_owned(), reason, message, at_secs: None };
        self.skipped.entry(path.to_owned()).or_insert(skip);
    }

    fn listing(self) -> Listing {
        Listing {
            candidates: self.candidates.into_values().collect(),
            skipped: self.skipped.into_values().collect(),
        }
    }
}

fn missing(error: &io::Error) -> SkipReason {
    match error.kind() {
        io::ErrorKind::NotFound => SkipReason::Vanished,
        _ => SkipReason::Unreadable,
    }
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
    known.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

fn folder_name(path: &Path) -> Option<Arc<str>> {
    Some(path.parent()?.file_name()?.to_string_lossy().into())
}

/// The nearest folder above the class folder that is called like a split.
fn split_name(path: &Path) -> Option<Arc<str>> {
    path.ancestors().skip(2).find_map(|folder| match folder.file_name()?.to_str()? {
        "train" => Some("train".into()),
        "test" => Some("test".into()),
        "val" | "valid" | "validation" => Some("val".into()),
        _ => None,
    })
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
