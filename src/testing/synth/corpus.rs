//! Makes the corpus: one file a video, a list of labels, and a record of the arguments.
//!
//! Everything is written into `OUT.partial` and renamed at the end, so `OUT` is whole or not there. The same
//! arguments, videos and libraries give the same bytes on any number of cores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use reelflow_api::error::StageError;
use reelflow_api::rng::Key;
use serde::{Deserialize, Serialize};

use super::footage::{self, Footage, Piece};
use super::laws::{LAWS, Law};
use super::scene::{Mode, Scene};
use crate::decode::gst::Encoder;
use crate::edge::files;

/// Frames from one key frame to the next: half a second at 24 frames a second, so windows seek cheaply.
const GOP: u32 = 12;

/// What is asked for; `classes.json` holds it, and a corpus with equal arguments is not made again.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// Videos and folders that textures are taken from.
    pub from: Vec<PathBuf>,
    /// Training videos of each class.
    pub train: u32,
    /// Test videos of each class.
    pub test: u32,
    /// Width and height, pixels, even.
    pub size: u32,
    /// Frames of each video.
    pub frames: u32,
    /// Frames a second.
    pub fps: u32,
    /// Root of all chance.
    pub seed: u64,
}

/// What [`make`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    /// So many bytes of video were written.
    Fresh(u64),
    /// A corpus with equal arguments was there already.
    Kept,
}

/// Makes the corpus in the folder `out`; `note` gets lines for people.
///
/// # Errors
/// 1 without usable videos, 69 without encoder, 74 if `out` cannot be written, 78 if `out` holds something
/// else (`force` replaces another corpus, but never anything that is none).
pub fn make(
    out: &Path,
    arguments: &Arguments,
    force: bool,
    note: &(dyn Fn(&str) + Sync),
) -> Result<Made, StageError> {
    if !is_free(out, arguments, force)? {
        return Ok(Made::Kept);
    }
    let key = Key::new(arguments.seed).part("synth");
    let found = footage::find(&arguments.from)?;
    note(&format!("taking textures from {} files", found.len()));
    let footage = footage::collect(&found, arguments.train, arguments.test, key.part("footage"))?;
    footage.notes.iter().for_each(|line| note(line));
    note(&format!("textures for train: {}", footage::by_group(&footage.train)));
    note(&format!("textures for test: {}", footage::by_group(&footage.test)));
    let partial = beside(out);
    files::remove_dir(&partial)?;
    let written = write(&partial, arguments, &footage, key, note).and_then(|bytes| {
        files::remove_dir(out)?;
        files::rename("file", &partial, out)?;
        Ok(bytes)
    });
    if written.is_err() {
        // The error itself says more than one about cleaning up.
        let _ = files::remove_dir(&partial);
    }
    Ok(Made::Fresh(written?))
}

/// `OUT.partial`, beside `OUT` so that it can be renamed.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.components().as_path().as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Whether the corpus must be made; false if it is there.
fn is_free(out: &Path, arguments: &Arguments, force: bool) -> Result<bool, StageError> {
    let refused = |what: String| Err(StageError::refused("synth", format!("`{}` {what}", out.display())));
    if out.exists() && !out.is_dir() {
        return refused("is no folder; choose another".to_owned());
    }
    if files::list_dir(out)?.is_empty() {
        return Ok(true);
    }
    let record = out.join("classes.json");
    if !record.exists() {
        return refused(
            "holds files that are no corpus (there is no classes.json); choose another".to_owned(),
        );
    }
    if force {
        return Ok(true);
    }
    match serde_json::from_slice::<Arguments>(&files::read(&record)?) {
        Ok(there) if there == *arguments => Ok(false),
        Ok(_) => {
            refused("holds a corpus made with other arguments; choose another or give --force".to_owned())
        }
        Err(error) => refused(format!(
            "has a classes.json that cannot be read ({error}); choose another or give --force"
        )),
    }
}

/// One video to be made.
struct Job<'a> {
    split: &'static str,
    law: &'static Law,
    number: u32,
    /// Path within the corpus.
    path: String,
    front: &'a Piece,
    back: &'a Piece,
}

fn write(
    folder: &Path,
    arguments: &Arguments,
    footage: &Footage,
    key: Key,
    note: &(dyn Fn(&str) + Sync),
) -> Result<u64, StageError> {
    let jobs = jobs(arguments, footage, key)?;
    for job in &jobs {
        let parent = folder.join(job.split).join(job.law.name);
        files::make_dir(&parent)?;
    }
    let done = AtomicUsize::new(0);
    let sizes: Vec<u64> = jobs
        .par_iter()
        .map(|job| {
            let bytes = render(folder, arguments, job, key)?;
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(64) {
                note(&format!("{count} of {} videos", jobs.len()));
            }
            Ok(bytes)
        })
        .collect::<Result<_, StageError>>()?;
    let labels: String = std::iter::once("path,split,label,group,family,mode\n".to_owned())
        .chain(jobs.iter().map(line))
        .collect();
    files::write_atomic(&folder.join("labels.csv"), labels.as_bytes())?;
    let record = serde_json::to_string_pretty(arguments)
        .map_err(|error| StageError::failed("synth", format!("the arguments cannot be written: {error}")))?;
    files::write_atomic(&folder.join("classes.json"), format!("{record}\n").as_bytes())?;
    Ok(sizes.iter().sum())
}

/// All videos: twins of one number and split have the same textures.
fn jobs<'a>(arguments: &Arguments, footage: &'a Footage, key: Key) -> Result<Vec<Job<'a>>, StageError> {
    let mut laws = Vec::new();
    for name in &arguments.classes {
        let law = LAWS.iter().find(|law| law.name == name);
        laws.push(law.ok_or_else(|| StageError::refused("synth", format!("no class `{name}`")))?);
    }
    let mut jobs = Vec::new();
    for (split, count, pieces) in
        [("train", arguments.train, &footage.train), ("test", arguments.test, &footage.test)]
    {
        let order = in_turn(pieces, key.part("order").part(split));
        for &law in &laws {
            for number in 0..count {
                let (at, all) = (number as usize, order.len());
                jobs.push(Job {
                    split,
                    law,
                    number,
                    path: format!("{split}/{0}/{0}_{number:04}.mp4", law.name),
                    front: order[at % all],
                    // Another partner in each round.
                    back: order[(at + 1 + at / all) % all],
                });
            }
        }
    }
    Ok(jobs)
}

/// All pieces by chance, but one recording after the other in turn, so that none fills a small corpus.
fn in_turn(pieces: &[Piece], key: Key) -> Vec<&Piece> {
    let mut order: Vec<&Piece> = pieces.iter().collect();
    key.rng().shuffle(&mut order);
    let mut rounds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, &Piece)> = Vec::with_capacity(order.len());
    for piece in order {
        let round = rounds.entry(&piece.group).or_default();
        placed.push((*round, piece));
        *round += 1;
    }
    // Stable: within a round the order stays that of chance.
    placed.sort_by_key(|(round, _)| *round);
    placed.into_iter().map(|(_, piece)| piece).collect()
}

/// Draws and encodes one video; returns its size in bytes.
fn render(folder: &Path, arguments: &Arguments, job: &Job, key: Key) -> Result<u64, StageError> {
    let Arguments { size, frames, fps, .. } = *arguments;
    let key = key.part(job.split);
    let scene = Scene::new(key, job.number, size, &job.front.texture, &job.back.texture);
    let mut encoder = Encoder::create(&folder.join(&job.path), size, size, fps, GOP)?;
    for frame in scene.frames(job.law, frames, key.number(u64::from(job.number))) {
        encoder.push(&frame)?;
    }
    encoder.finish()
}

/// A line of `labels.csv`.
fn line(job: &Job) -> String {
    let group = &job.front.group;
    // A group is a file's name, which may hold anything.
    let group = if group.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", group.replace('"', "\"\""))
    } else {
        group.clone()
    };
    let (path, split, law) = (&job.path, job.split, job.law);
    format!("{path},{split},{},{group},{},{}\n", law.name, law.family, Mode::of(job.number).as_str())
}

#[cfg(test)]
mod tests {
    use super::super::texture::Texture;
    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            classes: vec!["pan_right".into(), "zoom_out".into()],
            from: vec!["clips".into()],
            train: 2,
            test: 1,
            size: 32,
            frames: 4,
            fps: 24,
            seed: 0,
        }
    }

    fn footage() -> Footage {
        let piece = |number: u64, group: &str| Piece {
            texture: Texture::noise(Key::new(number)),
            group: group.to_owned(),
        };
        Footage { train: vec![piece(0, "a"), piece(1, "b, c")], test: vec![piece(2, "d")], notes: Vec::new() }
    }

    fn written(folder: &Path) -> Vec<Vec<u8>> {
        let key = Key::new(0);
        write(folder, &arguments(), &footage(), key, &|_| ()).unwrap();
        jobs(&arguments(), &footage(), key)
            .unwrap()
            .iter()
            .map(|job| std::fs::read(folder.join(&job.path)).unwrap())
            .collect()
    }

    #[test]
    fn every_video_has_its_line() {
        let footage = footage();
        let lines: Vec<String> =
            jobs(&arguments(), &footage, Key::new(0)).unwrap().iter().map(line).collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[0].starts_with("train/pan_right/pan_right_0000.mp4,train,pan_right,"), "{}", lines[0]);
        assert!(lines[1].ends_with(",pan,sprite\n"), "{}", lines[1]);
        assert_eq!(lines[5], "test/zoom_out/zoom_out_0000.mp4,test,zoom_out,d,zoom,camera\n");
        assert!(lines.iter().any(|line| line.contains(",\"b, c\",")), "{lines:?}");
    }

    #[test]
    fn twins_share_their_textures() {
        let footage = footage();
        let jobs = jobs(&arguments(), &footage, Key::new(0)).unwrap();
        for (a, b) in jobs[..2].iter().zip(&jobs[2..4]) {
            assert_eq!((a.number, &a.front.group, &a.back.group), (b.number, &b.front.group, &b.back.group));
        }
        assert_ne!(jobs[0].front.group, jobs[0].back.group);
    }

    #[test]
    fn recordings_take_turns() {
        let piece = |group: &str| Piece { texture: Texture::noise(Key::new(0)), group: group.to_owned() };
        let pieces = ["a", "a", "a", "a", "b", "b"].map(piece);
        let groups: Vec<String> =
            in_turn(&pieces, Key::new(3)).iter().map(|piece| piece.group.clone()).collect();
        for round in [0, 2] {
            assert_ne!(groups[round], groups[round + 1], "{groups:?}");
        }
        assert_eq!(groups.len(), 6);
    }

    #[test]
    fn the_same_arguments_give_the_same_files() {
        let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        assert_eq!(written(a.path()), written(b.path()));
        for name in ["labels.csv", "classes.json"] {
            assert_eq!(
                files::read(&a.path().join(name)).unwrap(),
                files::read(&b.path().join(name)).unwrap()
            );
        }
    }

    #[test]
    fn a_corpus_is_kept_and_foreign_files_are_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("corpus");
        assert!(is_free(&out, &arguments(), false).unwrap());
        write(&out, &arguments(), &footage(), Key::new(0), &|_| ()).unwrap();
        assert_eq!(make(&out, &arguments(), false, &|_| ()).unwrap(), Made::Kept);
        let other = Arguments { seed: 1, ..arguments() };
        assert_eq!(is_free(&out, &other, false).unwrap_err().code, 78);
        assert!(is_free(&out, &other, true).unwrap());
        std::fs::remove_file(out.join("classes.json")).unwrap();
        assert_eq!(is_free(&out, &other, true).unwrap_err().code, 78);
    }
}
