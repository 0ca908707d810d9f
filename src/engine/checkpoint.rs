//! One consistent cut of a run: every sink's state after a step, with a manifest that is written last.
//!
//! ```text
//! checkpoints/step=000120/
//!   train/query.safetensors …   parts of the sink `train`
//!   manifest.json               step, seed, catalogue, pipeline, and a checksum of every part and of itself
//! ```
//!
//! The folder is written under a temporary name, synced and renamed, so a checkpoint is whole or not
//! there, whenever the power fails. A damaged one is named and the one before it is used. What changes a
//! checkpoint afterwards writes a new generation beside it, `step=000120+1`, which comes after it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use reelflow_api::error::StageError;
use reelflow_api::stage::Parts;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::blame;
use crate::bank::sealed;
use crate::edge::{clock, failpoint, files, threads};

/// Version of the folder's layout; a newer one is refused. From 2 on a seal ends the manifest.
const FORMAT: u32 = 2;
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

/// Writes a checkpoint below `root`, whose own folder must be there, and removes all older ones but the newest
/// `kept`, this one among them.
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
    purge(root, step, kept)?;
    Ok(dir)
}

/// Writes checkpoints on a thread of its own while the run goes on, one after the other. The state was taken
/// at the cut, so nothing that happens meanwhile is in it; a kill before the end leaves the one before.
#[derive(Default)]
pub struct Writer {
    under_way: Option<JoinHandle<Result<PathBuf, StageError>>>,
}

impl Writer {
    /// Starts what [`write`] does, when the one before is done; how long that took.
    ///
    /// # Errors
    /// If the one before failed, or no thread can be started.
    pub fn begin(
        &mut self,
        root: PathBuf,
        manifest: Manifest,
        sinks: BTreeMap<String, Parts>,
        kept: u32,
    ) -> Result<Duration, StageError> {
        let since = clock::now();
        self.finish()?;
        self.under_way = Some(threads::spawn("checkpoint", move || write(&root, manifest, &sinks, kept))?);
        Ok(since.elapsed())
    }

    /// Does not wait: a failure is told soon after it happened, not at the next checkpoint.
    ///
    /// # Errors
    /// If one was under way, and has failed.
    pub fn check(&mut self) -> Result<(), StageError> {
        if self.under_way.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(()) }
    }

    /// Waits for the one under way.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(&mut self) -> Result<(), StageError> {
        let Some(writing) = self.under_way.take() else { return Ok(()) };
        writing.join().unwrap_or_else(|panic| Err(blame::failure(&*panic, "checkpoint"))).map(drop)
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
    manifest: Manifest,
    sinks: &BTreeMap<String, Parts>,
    replaced: &[PathBuf],
) -> Result<PathBuf, StageError> {
    // A run's folder that was removed meanwhile is not made again: it would have lost all but this.
    if files::make_last_dir(root)? {
        files::sync_dir("ckpt", root.parent().unwrap_or(Path::new("")))?;
    }
    let dir = root.join(name);
    let temporary = root.join(format!("{name}.new{UNFINISHED}"));
    files::remove_dir(&temporary)?;
    let filled = fill(&temporary, manifest, sinks);
    if filled.is_err() {
        // A full disk needs the room. That it cannot be removed is no news beside that it cannot be written.
        let _ = files::remove_dir(&temporary);
    }
    filled?;
    replaced.iter().try_for_each(|old| remove(old))?;
    files::rename("ckpt", &temporary, &dir)?;
    Ok(dir)
}

/// Writes all of a checkpoint into a new folder at `temporary` and makes it durable, but for its name.
fn fill(temporary: &Path, mut manifest: Manifest, sinks: &BTreeMap<String, Parts>) -> Result<(), StageError> {
    files::make_last_dir(temporary)?;
    for (sink, parts) in sinks {
        let folder = temporary.join(sink);
        files::make_last_dir(&folder)?;
        for (name, bytes) in parts {
            let points = if name.starts_with("bank.") { "bank" } else { "ckpt" };
            files::write_synced(points, &folder.join(name), bytes)?;
            manifest.parts.push(PartEntry {
                sink: sink.clone(),
                name: name.clone(),
                bytes: bytes.len() as u64,
                xxh3: files::checksum(bytes),
            });
        }
        files::sync_dir("bank", &folder)?;
    }
    files::write_synced("manifest", &temporary.join(MANIFEST), &manifest.to_text())?;
    files::sync_dir("manifest", temporary)
}

/// The newest checkpoint below `root` that is whole, and a line about each newer one that is not.
///
/// # Errors
/// If there are checkpoints and all are damaged, or one is from a newer program.
pub fn newest(root: &Path) -> Result<Option<(Checkpoint, Vec<String>)>, StageError> {
    let mut damaged = Vec::new();
    for dir in complete(root)?.into_iter().rev() {
        match Manifest::read(&dir).and_then(|manifest| manifest.parts_below(&dir).map_err(Unusable::from)) {
            Ok(checkpoint) => return Ok(Some((checkpoint, damaged))),
            Err(Unusable::Newer(error)) => return Err(error),
            Err(Unusable::Damaged(error)) => damaged.push(error.message),
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
/// If a file is missing or differs from the manifest, or it is from a newer program.
pub fn open(dir: &Path) -> Result<Checkpoint, StageError> {
    match Manifest::read(dir) {
        Ok(manifest) => manifest.parts_below(dir),
        Err(Unusable::Newer(error) | Unusable::Damaged(error)) => Err(error),
    }
}

/// Why a checkpoint cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It is whole, and this program is too old for it: to go on from an older one would undo work unasked.
    Newer(StageError),
    /// It is not what was written.
    Damaged(StageError),
}

impl From<StageError> for Unusable {
    fn from(error: StageError) -> Self {
        Self::Damaged(error)
    }
}

fn bad(path: &Path, what: &str) -> StageError {
    StageError::storage("checkpoint", format!("`{}` {what}", path.display()))
}

impl Manifest {
    /// As JSON, whose last entry is a checksum of all before it.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("plain data serialises");
        let body = text.strip_suffix("\n}").expect("an object with entries ends so").as_bytes();
        [body, seal_of(body).as_bytes()].concat()
    }

    /// Reads and verifies the manifest in `dir`.
    fn read(dir: &Path) -> Result<Self, Unusable> {
        let path = dir.join(MANIFEST);
        Self::parse(&path, &files::read(&path)?)
    }

    /// Verifies the text of the manifest at `path`.
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, Unusable> {
        let (body, seal) = text.split_at(text.len().saturating_sub(seal_of(&[]).len()));
        let is_sealed = seal == seal_of(body).as_bytes();
        let no_manifest =
            |error: serde_json::Error| Unusable::Damaged(bad(path, &format!("is not a manifest: {error}")));
        let version: Version = serde_json::from_slice(text).map_err(no_manifest)?;
        // Layout 1 had no seal.
        if !is_sealed && (version.format != 1 || version.seal.is_some()) {
            return Err(bad(path, "is damaged: its last line is not the checksum of the lines before").into());
        }
        if version.format > FORMAT {
            let message = format!("has format {}, this program reads up to {FORMAT}", version.format);
            return Err(Unusable::Newer(bad(path, &message)));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(no_manifest)?;
        let is_name = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        };
        match manifest.parts.iter().find(|part| !is_name(&part.sink) || !is_name(&part.name)) {
            Some(part) => {
                let place = format!("{}/{}", part.sink, part.name).escape_debug().to_string();
                Err(bad(path, &format!("names a part outside the checkpoint: {place}")).into())
            }
            None => Ok(manifest),
        }
    }

    /// Reads and verifies the parts in `dir`.
    fn parts_below(self, dir: &Path) -> Result<Checkpoint, StageError> {
        let mut sinks: BTreeMap<String, Parts> = BTreeMap::new();
        for entry in &self.parts {
            let path = dir.join(&entry.sink).join(&entry.name);
            let found = files::len(&path)?;
            if found != entry.bytes {
                return Err(bad(&path, &format!("is damaged: {found} bytes, {} expected", entry.bytes)));
            }
            let bytes = files::read(&path)?;
            if files::checksum(&bytes) != entry.xxh3 {
                return Err(bad(&path, "is damaged: its checksum is another"));
            }
            sinks.entry(entry.sink.clone()).or_default().insert(entry.name.clone(), bytes);
        }
        Ok(Checkpoint { dir: dir.to_owned(), manifest: self, sinks })
    }
}

/// What every layout has.
#[derive(Deserialize)]
struct Version {
    format: u32,
    #[serde(default)]
    seal: Option<IgnoredAny>,
}

/// The end of a manifest that begins with `body`.
pub(crate) fn seal_of(body: &[u8]) -> String {
    format!(",\n  \"seal\": \"{}\"\n}}\n", sealed::checksum(body))
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

/// Removes all up to `step` but the newest `kept`, and what a kill left unfinished.
///
/// What comes after `step` was damaged when the run went on, or the run would have gone on from there. It counts
/// for nothing, so that it never takes the place of a good one, and stays until the run comes by.
fn purge(root: &Path, step: u64, kept: u32) -> Result<(), StageError> {
    let mut dirs = complete(root)?;
    dirs.retain(|dir| place(dir).is_some_and(|(of, _)| of <= step));
    for dir in dirs.iter().take(dirs.len().saturating_sub(kept.max(1) as usize)) {
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
    files::rename("ckpt", dir, &unnamed)?;
    failpoint::hit("purge::before_unlink");
    files::remove_dir(&unnamed)
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
