//! One consistent cut of a run: every sink's state after a step, with a manifest that is written last.
//!
//! ```text
//! checkpoints/step=000120/
//!   train/query.safetensors …   parts of the sink `train`
//!   manifest.json               step, seed, catalogue, pipeline, and a checksum of every part
//! ```
//!
//! The folder is written under a temporary name, synced and renamed, so a checkpoint is whole or not
//! there. A damaged one is named and the one before it is used. What changes a checkpoint afterwards writes
//! a new generation beside it, `step=000120+1`, which comes after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use reelflow_api::error::StageError;
use reelflow_api::stage::Parts;
use serde::{Deserialize, Serialize};

use crate::edge::{files, threads};

/// Version of the folder's layout; a newer one is refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// End of the name of a folder that is being written or removed.
const UNFINISHED: &str = ".tmp";

/// What a checkpoint belongs to, and what it consists of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// The first step that is not in it.
    pub step: u64,
    /// Version of each sampler's catalogue.
    pub catalogues: BTreeMap<String, String>,
    /// The pipeline with all defaults.
    pub pipeline: String,
    /// Checksum of each file that settings name and that decides what is sampled, by operator and path; checkpoints
    /// from before this was noted have none.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Every file, with its size and checksum.
    pub parts: Vec<PartEntry>,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PartEntry {
    /// The sink it belongs to.
    pub sink: String,
    /// File name below the sink's folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// XXH3 of the content.
    pub xxh3: String,
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Parts of each sink.
    pub sinks: BTreeMap<String, Parts>,
}

impl Manifest {
    /// A manifest for the state before `step`; parts are filled in when it is written.
    #[must_use]
    pub fn new(
        step: u64,
        catalogues: BTreeMap<String, String>,
        pipeline: String,
        files: BTreeMap<String, String>,
    ) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, program, step, catalogues, pipeline, files, parts: Vec::new() }
    }
}

/// Writes a checkpoint below `root` and removes all but the newest `kept`.
///
/// # Errors
/// If anything cannot be written; older checkpoints stay as they are.
pub fn write(
    root: &Path,
    manifest: Manifest,
    sinks: &BTreeMap<String, Parts>,
    kept: u32,
) -> Result<PathBuf, StageError> {
    let step = manifest.step;
    // A resumed run may come to a step it had already saved; the new one is the same and replaces it, and
    // what was made of the old one.
    let mut replaced = complete(root)?;
    replaced.retain(|dir| place(dir).is_some_and(|(of, _)| of == step));
    let dir = write_folder(root, &format!("step={step:08}"), manifest, sinks, &replaced)?;
    purge(root, kept)?;
    Ok(dir)
}

/// Writes checkpoints on a thread of its own while the run goes on, one after the other. The state was taken
/// at the cut, so nothing that happens meanwhile is in it; a kill before the end leaves the one before.
#[derive(Default)]
pub struct Writer {
    under_way: Option<JoinHandle<Result<PathBuf, StageError>>>,
}

impl Writer {
    /// Starts what [`write`] does, when the one before is done.
    ///
    /// # Errors
    /// If the one before failed, or no thread can be started.
    pub fn begin(
        &mut self,
        root: PathBuf,
        manifest: Manifest,
        sinks: BTreeMap<String, Parts>,
        kept: u32,
    ) -> Result<(), StageError> {
        self.finish()?;
        self.under_way = Some(threads::spawn("checkpoint", move || write(&root, manifest, &sinks, kept))?);
        Ok(())
    }

    /// Waits for the one under way.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(&mut self) -> Result<(), StageError> {
        let Some(writing) = self.under_way.take() else { return Ok(()) };
        let panicked =
            |_| Err(StageError::storage("checkpoint", "the thread that writes them panicked; this is a bug"));
        writing.join().unwrap_or_else(panicked).map(drop)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nothing may be written once the run's lock is gone. Whoever drops it has an error to tell already.
        drop(self.finish());
    }
}

/// Writes a changed checkpoint as the next generation of its step. Nothing is removed.
///
/// # Errors
/// If anything cannot be written.
pub fn write_generation(root: &Path, checkpoint: &Checkpoint) -> Result<PathBuf, StageError> {
    let step = checkpoint.manifest.step;
    let generations = complete(root)?.iter().filter_map(|dir| place(dir)).filter(|(of, _)| *of == step).max();
    let next = generations.map_or(1, |(_, generation)| generation + 1);
    let manifest = Manifest { parts: Vec::new(), ..checkpoint.manifest.clone() };
    write_folder(root, &format!("step={step:08}+{next}"), manifest, &checkpoint.sinks, &[])
}

fn write_folder(
    root: &Path,
    name: &str,
    mut manifest: Manifest,
    sinks: &BTreeMap<String, Parts>,
    replaced: &[PathBuf],
) -> Result<PathBuf, StageError> {
    let dir = root.join(name);
    let temporary = root.join(format!("{name}.new{UNFINISHED}"));
    files::remove_dir(&temporary)?;
    files::make_dir(&temporary)?;
    for (sink, parts) in sinks {
        let folder = temporary.join(sink);
        files::make_dir(&folder)?;
        for (name, bytes) in parts {
            files::write_synced(&folder.join(name), bytes)?;
            manifest.parts.push(PartEntry {
                sink: sink.clone(),
                name: name.clone(),
                bytes: bytes.len() as u64,
                xxh3: files::checksum(bytes),
            });
        }
        files::sync_dir(&folder)?;
    }
    let text = serde_json::to_string_pretty(&manifest).expect("plain data serialises");
    files::write_synced(&temporary.join(MANIFEST), text.as_bytes())?;
    files::sync_dir(&temporary)?;
    replaced.iter().try_for_each(|old| remove(old))?;
    files::rename_dir(&temporary, &dir)?;
    Ok(dir)
}

/// The newest checkpoint below `root` that is whole, and a line about each newer one that is not.
///
/// # Errors
/// If there are checkpoints and all are damaged, or one is from a newer program.
pub fn newest(root: &Path) -> Result<Option<(Checkpoint, Vec<String>)>, StageError> {
    let mut damaged = Vec::new();
    for dir in complete(root)?.into_iter().rev() {
        match open(&dir) {
            Ok(checkpoint) => return Ok(Some((checkpoint, damaged))),
            Err(error) if error.code == 78 => return Err(error),
            Err(error) => damaged.push(error.message),
        }
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    Err(StageError::storage(
        "checkpoint",
        format!("no checkpoint below `{}` is whole: {}", root.display(), damaged.join("; ")),
    ))
}

/// Folder of the newest checkpoint below `root`, unread.
///
/// # Errors
/// If the folder cannot be listed.
pub fn newest_dir(root: &Path) -> Result<Option<PathBuf>, StageError> {
    Ok(complete(root)?.pop())
}

/// Reads and verifies one checkpoint folder.
///
/// # Errors
/// If a file is missing or differs from the manifest (code 74), or it is from a newer program (78).
pub fn open(dir: &Path) -> Result<Checkpoint, StageError> {
    let path = dir.join(MANIFEST);
    let bad =
        |path: &Path, what: String| StageError::storage("checkpoint", format!("`{}` {what}", path.display()));
    let manifest: Manifest = serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| bad(&path, format!("is not a manifest: {error}")))?;
    if manifest.format > FORMAT {
        return Err(StageError::refused(
            "checkpoint",
            format!("`{}` has format {}, this program reads up to {FORMAT}", path.display(), manifest.format),
        ));
    }
    let mut sinks: BTreeMap<String, Parts> = BTreeMap::new();
    for entry in &manifest.parts {
        let path = dir.join(&entry.sink).join(&entry.name);
        let bytes = files::read(&path)?;
        if bytes.len() as u64 != entry.bytes || files::checksum(&bytes) != entry.xxh3 {
            let found = bytes.len();
            return Err(bad(
                &path,
                format!("is damaged: {found} bytes, {} expected, or the checksum differs", entry.bytes),
            ));
        }
        sinks.entry(entry.sink.clone()).or_default().insert(entry.name.clone(), bytes);
    }
    Ok(Checkpoint { dir: dir.to_owned(), manifest, sinks })
}

/// Folders with a final name below `root`, oldest first; none if it is not there.
///
/// # Errors
/// If the folder cannot be listed.
pub fn complete(root: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut dirs: Vec<((u64, u64), PathBuf)> =
        files::list_dir(root)?.into_iter().filter_map(|path| Some((place(&path)?, path))).collect();
    dirs.sort();
    Ok(dirs.into_iter().map(|(_, path)| path).collect())
}

/// Step and generation of a folder with a final name.
fn place(dir: &Path) -> Option<(u64, u64)> {
    let name = dir.file_name()?.to_str()?.strip_prefix("step=")?;
    let (step, generation) = name.split_once('+').unwrap_or((name, "0"));
    Some((step.parse().ok()?, generation.parse().ok()?))
}

/// Removes all but the newest `kept`, and what a kill left unfinished.
fn purge(root: &Path, kept: u32) -> Result<(), StageError> {
    let dirs = complete(root)?;
    for dir in dirs.iter().take(dirs.len().saturating_sub(kept as usize)) {
        remove(dir)?;
    }
    let unfinished = |path: &PathBuf| path.to_string_lossy().ends_with(UNFINISHED);
    files::list_dir(root)?.iter().filter(|path| unfinished(path)).try_for_each(|path| files::remove_dir(path))
}

/// Removes a checkpoint: first its name, so that what has a final name is whole at any moment.
fn remove(dir: &Path) -> Result<(), StageError> {
    let mut unnamed = dir.as_os_str().to_owned();
    unnamed.push(UNFINISHED);
    let unnamed = PathBuf::from(unnamed);
    files::remove_dir(&unnamed)?;
    files::rename_dir(dir, &unnamed)?;
    files::remove_dir(&unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(root: &Path, step: u64, content: &[u8]) -> PathBuf {
        let parts = Parts::from([("a.bin".to_owned(), content.to_vec())]);
        let sinks = BTreeMap::from([("train".to_owned(), parts)]);
        write(root, Manifest::new(step, BTreeMap::new(), String::new(), BTreeMap::new()), &sinks, 2).unwrap()
    }

    #[test]
    fn the_newest_is_read_and_the_oldest_are_removed() {
        let root = tempfile::tempdir().unwrap();
        for step in [5, 10, 100] {
            save(root.path(), step, &[step as u8]);
        }
        let (checkpoint, damaged) = newest(root.path()).unwrap().unwrap();
        assert_eq!(checkpoint.manifest.step, 100);
        assert_eq!(checkpoint.sinks["train"]["a.bin"], [100]);
        assert!(damaged.is_empty());
        assert_eq!(complete(root.path()).unwrap().len(), 2);
    }

    #[test]
    fn one_is_written_after_the_other_and_a_failure_is_told() {
        let root = tempfile::tempdir().unwrap();
        let mut writer = Writer::default();
        for step in 1..=4u64 {
            let parts = Parts::from([("a.bin".to_owned(), vec![step as u8; 100_000])]);
            let sinks = BTreeMap::from([("train".to_owned(), parts)]);
            let manifest = Manifest::new(step, BTreeMap::new(), String::new(), BTreeMap::new());
            writer.begin(root.path().to_owned(), manifest, sinks, 2).unwrap();
        }
        writer.finish().unwrap();
        let steps = complete(root.path())
            .unwrap()
            .iter()
            .map(|dir| open(dir).unwrap().manifest.step)
            .collect::<Vec<_>>();
        assert_eq!(steps, [3, 4]);
        let manifest = Manifest::new(5, BTreeMap::new(), String::new(), BTreeMap::new());
        // A file where the folder should be.
        let nowhere = root.path().join("step=00000004/manifest.json");
        writer.begin(nowhere, manifest, BTreeMap::new(), 2).unwrap();
        assert_eq!(writer.finish().unwrap_err().code, 74);
    }

    #[test]
    fn every_flipped_bit_is_found_and_the_older_one_used() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), 1, b"older");
        let dir = save(root.path(), 2, b"newer");
        let path = dir.join("train/a.bin");
        for bit in 0..40 {
            let mut bytes = b"newer".to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            files::write_synced(&path, &bytes).unwrap();
            let (checkpoint, damaged) = newest(root.path()).unwrap().unwrap();
            assert_eq!(checkpoint.manifest.step, 1);
            assert!(damaged[0].contains("a.bin"), "{damaged:?}");
        }
    }

    #[test]
    fn nothing_there_is_not_an_error_and_all_damaged_is() {
        let root = tempfile::tempdir().unwrap();
        assert!(newest(root.path()).unwrap().is_none());
        let dir = save(root.path(), 1, b"only");
        std::fs::remove_file(dir.join("train/a.bin")).unwrap();
        assert_eq!(newest(root.path()).unwrap_err().code, 74);
    }

    #[test]
    fn a_new_generation_comes_after_its_step_and_changes_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let old = save(root.path(), 3, b"old");
        for (name, content) in [("step=00000003+1", b"one"), ("step=00000003+2", b"two")] {
            let mut checkpoint = newest(root.path()).unwrap().unwrap().0;
            checkpoint.sinks.get_mut("train").unwrap().insert("a.bin".to_owned(), content.to_vec());
            assert_eq!(write_generation(root.path(), &checkpoint).unwrap(), root.path().join(name));
            assert_eq!(newest(root.path()).unwrap().unwrap().0.sinks["train"]["a.bin"], content);
        }
        assert_eq!(open(&old).unwrap().sinks["train"]["a.bin"], b"old");
        // The run itself comes by again.
        save(root.path(), 3, b"new");
        assert_eq!(complete(root.path()).unwrap(), [old]);
        assert_eq!(newest(root.path()).unwrap().unwrap().0.sinks["train"]["a.bin"], b"new");
    }

    #[test]
    fn a_folder_without_its_final_name_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        let left = root.path().join("step=00000007.tmp");
        std::fs::create_dir_all(left.join("train")).unwrap();
        assert!(newest(root.path()).unwrap().is_none());
        save(root.path(), 9, b"next");
        assert!(!left.exists(), "the next checkpoint clears it away");
    }
}
