//! The folder of a run: who may use it, and what a resumed run must have in common with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reelflow_api::error::StageError;

use super::checkpoint::{self, Checkpoint};
use crate::edge::files::{self, Lock};

/// How to treat a run folder that is not empty.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Start {
    /// Refuse it.
    #[default]
    Fresh,
    /// Remove what an earlier run left and begin.
    Overwrite,
    /// Go on from its newest checkpoint.
    Resume,
}

/// A run folder, locked for this process.
#[derive(Debug)]
pub struct RunDir {
    /// The folder.
    pub path: PathBuf,
    _lock: Lock,
}

const CONFIG: &str = "config.resolved.toml";
const LOCK: &str = "run.lock";

/// What a run writes; `--overwrite` removes these and nothing else.
const OURS: [&str; 7] = [
    CONFIG,
    "metrics.jsonl",
    "quarantine.jsonl",
    "environment.json",
    "checkpoints",
    "contact_sheets",
    "exported",
];

/// Settings that may change when a run goes on: they choose how fast and where, not what.
const FREE_TO_CHANGE: [&str; 12] = [
    "name",
    "eval",
    "run.out",
    "run.catalogue",
    "run.steps",
    "run.epochs",
    "run.workers",
    "run.ahead",
    "run.checkpoint_every",
    "run.checkpoints_kept",
    "run.device",
    "run.threads",
];

/// The folder of a run that names none: `default` (`runs/NAME`), or `runs/NAME-2` and so on where earlier
/// runs of that name lie. A fresh run takes the first free one, the others the newest that is used.
#[must_use]
pub fn choose(default: &Path, start: Start) -> PathBuf {
    let numbered = |number: u32| match number {
        0 | 1 => default.to_owned(),
        number => PathBuf::from(format!("{}-{number}", default.display())),
    };
    let free = (1..u32::MAX).find(|number| !numbered(*number).join(CONFIG).exists()).unwrap_or(1);
    match start {
        Start::Fresh => numbered(free),
        Start::Overwrite | Start::Resume => numbered(free - 1),
    }
}

/// Whether `path` is the folder of a run.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// Takes the lock of the run in `path`, so that no other process goes on with it meanwhile.
///
/// # Errors
/// If another process holds it.
pub fn lock(path: &Path) -> Result<Lock, StageError> {
    files::lock(&path.join(LOCK))
}

impl RunDir {
    /// Makes or enters `path` and takes its lock.
    ///
    /// # Errors
    /// If another run holds it, or an earlier one is in it and `start` does not say what to do.
    pub fn enter(path: &Path, start: Start) -> Result<Self, StageError> {
        files::make_dir(path)?;
        let lock = lock(path)?;
        let used = path.join(CONFIG).exists();
        if used && start == Start::Fresh {
            return Err(StageError::refused(
                "run",
                format!(
                    "`{}` holds an earlier run; go on with --resume, replace it with --overwrite, or choose another folder with --out",
                    path.display()
                ),
            ));
        }
        if start == Start::Overwrite {
            for entry in files::list_dir(path)? {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if OURS.contains(&name.as_str()) || name.starts_with("events.out.tfevents.") {
                    remove(&entry)?;
                }
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Folder of the checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes the pipeline as it will run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_config(&self, resolved: &str) -> Result<(), StageError> {
        files::write_atomic(&self.path.join(CONFIG), resolved.as_bytes())
    }

    /// The checkpoint to go on from, if there is one; refuses one of another pipeline.
    ///
    /// # Errors
    /// If settings that decide the result differ, each named with both values.
    pub fn resume_point(&self, resolved: &str) -> Result<Option<(Checkpoint, Vec<String>)>, StageError> {
        let Some((checkpoint, damaged)) = checkpoint::newest(&self.checkpoints())? else { return Ok(None) };
        let changed = differences(&checkpoint.manifest.pipeline, resolved);
        if changed.is_empty() {
            return Ok(Some((checkpoint, damaged)));
        }
        Err(StageError::refused(
            "resume",
            format!(
                "settings differ from the checkpoint's, so this would be another run: {}",
                changed.join("; ")
            ),
        ))
    }
}

fn remove(path: &Path) -> Result<(), StageError> {
    if path.is_dir() {
        return files::remove_dir(path);
    }
    std::fs::remove_file(path).map_err(|error| files::storage("remove", path, &error))
}

/// Settings that differ and matter, `path: before -> now`.
fn differences(before: &str, now: &str) -> Vec<String> {
    let (before, now) = (flat(before), flat(now));
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |value: Option<&String>| value.map_or_else(|| "not set".to_owned(), Clone::clone);
    names
        .into_iter()
        .filter(|name| !FREE_TO_CHANGE.contains(&name.as_str()) && before.get(*name) != now.get(*name))
        .map(|name| format!("`{name}`: {} -> {}", shown(before.get(name)), shown(now.get(name))))
        .collect()
}

/// Dotted path to value, for every leaf of a TOML text.
fn flat(text: &str) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, value, into);
                }
            }
            other => {
                into.insert(prefix.to_owned(), other.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        walk("", &toml::Value::Table(table), &mut leaves);
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_decide_the_result_are_named_and_the_others_are_free() {
        let before = "[run]\nseed = 1\nworkers = 1\n[operators.a]\nframes = 8";
        let now = "[run]\nseed = 2\nworkers = 3\n[operators.a]\nframes = 8\nstride = 2";
        assert_eq!(differences(before, now), ["`operators.a.stride`: not set -> 2", "`run.seed`: 1 -> 2"]);
    }

    #[test]
    fn an_earlier_run_is_neither_touched_nor_removed_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::enter(dir.path(), Start::Fresh).unwrap();
        run.write_config("version = 1").unwrap();
        std::fs::write(dir.path().join("mine.txt"), "x").unwrap();
        drop(run);
        assert_eq!(RunDir::enter(dir.path(), Start::Fresh).unwrap_err().code, 78);
        drop(RunDir::enter(dir.path(), Start::Overwrite).unwrap());
        assert!(!dir.path().join(CONFIG).exists());
        assert!(dir.path().join("mine.txt").exists());
    }

    #[test]
    fn a_run_that_names_no_folder_never_meets_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let default = dir.path().join("digest");
        for name in ["digest", "digest-2", "digest-3"] {
            let path = choose(&default, Start::Fresh);
            assert_eq!(path, dir.path().join(name));
            RunDir::enter(&path, Start::Fresh).unwrap().write_config("version = 1").unwrap();
            assert_eq!(choose(&default, Start::Resume), path);
            assert_eq!(choose(&default, Start::Overwrite), path);
        }
    }

    #[test]
    fn two_runs_cannot_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RunDir::enter(dir.path(), Start::Fresh).unwrap();
        assert_eq!(RunDir::enter(dir.path(), Start::Resume).unwrap_err().code, 74);
    }
}
