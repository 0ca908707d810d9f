//! Takes textures out of real videos, and keeps those for testing apart from those for training.
//!
//! A group is one recording, whatever was made of it. With four groups or more a group is in train or in
//! test; with fewer, the first 60 % of every video are for train and its last 30 % for test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use reelflow_api::error::StageError;
use reelflow_api::item::{Media, Origin};
use reelflow_api::rng::Key;

use super::texture::Texture;
use crate::decode;
use crate::edge::files;

/// Endings of the files that are taken from a folder; a file that is named itself may end in anything.
const ENDINGS: [&str; 15] = [
    "3gp", "avi", "flv", "ivf", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "ts", "webm", "wmv",
];

/// Most files that are opened; of more, this many are spread evenly over the list. 256 files give far more
/// textures than a small corpus shows, and opening each costs milliseconds to seconds.
const FILES_MAX: usize = 256;

/// Pictures of one file for one split, where there are enough files, and where there are few.
const PICTURES: (usize, usize) = (2, 12);

/// Fewest groups that can be divided between train and test.
const GROUPS_MIN: usize = 4;

/// Share of the groups that are for testing.
const TEST_SHARE: f64 = 0.3;

/// A texture and where it is from.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The pixels.
    pub texture: Texture,
    /// The recording; `-first` or `-last` is added if recordings are divided in time.
    pub group: String,
}

/// Textures for training and for testing; no picture, and no group, is in both.
#[derive(Clone, Debug, Default)]
pub struct Footage {
    /// In the order of files and times.
    pub train: Vec<Piece>,
    /// In the order of files and times.
    pub test: Vec<Piece>,
    /// How they were divided and what was left out, for people.
    pub notes: Vec<String>,
}

/// The files that `from` names: files as they are, folders with all video files below them; sorted.
///
/// # Errors
/// If a path does not exist, a folder cannot be listed, or there is no video.
pub fn find(from: &[PathBuf]) -> Result<Vec<PathBuf>, StageError> {
    let mut found = BTreeSet::new();
    for path in from {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else if path.exists() {
            found.insert(path.clone());
        } else {
            let message =
                format!("no file or folder `{}`; give --from videos or folders of them", path.display());
            return Err(StageError::failed("synth", message));
        }
    }
    if found.is_empty() {
        let message = format!("no video below {}; known endings are {}", listed(from), ENDINGS.join(", "));
        return Err(StageError::failed("synth", message));
    }
    Ok(found.into_iter().collect())
}

fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), StageError> {
    for path in files::list_dir(folder)? {
        // A link to a folder above would never end.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|end| ENDINGS.iter().any(|e| end.eq_ignore_ascii_case(e))) {
            found.insert(path);
        }
    }
    Ok(())
}

/// The recording a file is from: its name without ending, and without what tells its version.
fn group_of(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let base = stem.strip_suffix("_pristine").or_else(|| stem.strip_suffix("_distorted"));
    base.unwrap_or(&stem).to_owned()
}

/// Decodes the textures for `train` and `test` videos a class from `files`.
///
/// # Errors
/// If the usable files do not give a texture for both sides.
pub fn collect(files: &[PathBuf], train: u32, test: u32, key: Key) -> Result<Footage, StageError> {
    let mut footage = Footage::default();
    let mut files = files.to_vec();
    if files.len() > FILES_MAX {
        footage.notes.push(format!("taking {FILES_MAX} of {} files", files.len()));
        files = (0..FILES_MAX).map(|at| files[at * files.len() / FILES_MAX].clone()).collect();
    }
    let groups: BTreeSet<String> = files.iter().map(|path| group_of(path)).collect();
    let by_group = (groups.len() >= GROUPS_MIN).then(|| for_test(&groups, key));
    footage.notes.push(match &by_group {
        Some(test) => format!("{} recordings, {} of them for test", groups.len(), test.len()),
        None => {
            format!("{} recordings: every video is divided in time, first 60 % and last 30 %", groups.len())
        }
    });
    let want = (2 * train.max(test) as usize).div_ceil(files.len()).clamp(PICTURES.0, PICTURES.1);
    let taken: Vec<(Result<Taken, String>, &PathBuf)> =
        files.par_iter().map(|path| (take(path, by_group.as_ref(), want), path)).collect();
    for (result, path) in taken {
        match result {
            Ok(taken) => {
                footage.train.extend(taken.train);
                footage.test.extend(taken.test);
            }
            Err(reason) => footage.notes.push(format!("warning: {}: {reason}", path.display())),
        }
    }
    for (side, wanted, found) in [("train", train, &footage.train), ("test", test, &footage.test)] {
        if wanted > 0 && found.is_empty() {
            let mut reasons = footage.notes.iter().filter(|note| note.starts_with("warning"));
            let first = reasons.next().map_or_else(String::new, |note| format!(" ({note})"));
            let message = format!("no picture for {side} in {} files{first}; give more videos", files.len());
            return Err(StageError::failed("synth", message));
        }
    }
    Ok(footage)
}

/// The groups that are for testing: a fixed share, by chance.
fn for_test(groups: &BTreeSet<String>, key: Key) -> BTreeSet<String> {
    let mut order: Vec<&String> = groups.iter().collect();
    key.part("groups").rng().shuffle(&mut order);
    let count = ((groups.len() as f64 * TEST_SHARE).round() as usize).max(1);
    order.into_iter().take(count).cloned().collect()
}

#[derive(Default)]
struct Taken {
    train: Vec<Piece>,
    test: Vec<Piece>,
}

/// The textures of one file, or why it has none.
fn take(path: &Path, by_group: Option<&BTreeSet<String>>, want: usize) -> Result<Taken, String> {
    let told = |failure: decode::Failure| format!("{}: {}", failure.reason.as_str(), failure.message);
    let media = decode::probe(&Origin::File(path.to_owned())).map_err(told)?;
    let group = group_of(path);
    let mut taken = Taken::default();
    match by_group {
        Some(test) => {
            let pieces = pieces(&media, 0.0..1.0, want, &group).map_err(told)?;
            *(if test.contains(&group) { &mut taken.test } else { &mut taken.train }) = pieces;
        }
        None => {
            taken.train = pieces(&media, 0.0..0.6, want, &format!("{group}-first")).map_err(told)?;
            taken.test = pieces(&media, 0.7..1.0, want, &format!("{group}-last")).map_err(told)?;
        }
    }
    if taken.train.is_empty() && taken.test.is_empty() {
        return Err("every picture is blank; leave it out".to_owned());
    }
    Ok(taken)
}

fn pieces(media: &Media, part: Range<f64>, want: usize, group: &str) -> Result<Vec<Piece>, decode::Failure> {
    let wanted = positions(media.times.len(), part, want);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let frames = decode::pictures(decode::decoder().as_mut(), media, &wanted)?;
    // Left, middle and right in turn: neighbouring pictures of one take look much alike.
    let cut = |(at, frame): (usize, &_)| Texture::cut(frame, [0.5, 0.0, 1.0][at % 3]);
    let textures = frames.iter().enumerate().filter_map(cut);
    Ok(textures.map(|texture| Piece { texture, group: group.to_owned() }).collect())
}

/// At most `want` of `count` positions, in the middles of equal shares of the part.
fn positions(count: usize, part: Range<f64>, want: usize) -> Vec<u32> {
    let (first, past) =
        ((count as f64 * part.start).ceil() as usize, (count as f64 * part.end).floor() as usize);
    let room = past.saturating_sub(first);
    let want = want.min(room);
    (0..want).map(|at| (first + (2 * at + 1) * room / (2 * want)) as u32).collect()
}

/// How many textures each group gave, `name 12, name 8`.
#[must_use]
pub fn by_group(pieces: &[Piece]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for piece in pieces {
        *counts.entry(&piece.group).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(group, count)| format!("{group} {count}")).collect();
    each.join(", ")
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_recording_are_one_group() {
        let groups =
            ["a/carphone_pristine.mp4", "carphone_distorted.mp4", "carphone.mkv", "x_pristine_2.avi"];
        let names: Vec<String> = groups.iter().map(|path| group_of(Path::new(path))).collect();
        assert_eq!(names, ["carphone", "carphone", "carphone", "x_pristine_2"]);
    }

    #[test]
    fn positions_are_spread_evenly_and_parts_do_not_meet() {
        assert_eq!(positions(100, 0.0..0.6, 3), [10, 30, 50]);
        assert_eq!(positions(100, 0.7..1.0, 3), [75, 85, 95]);
        assert_eq!(positions(3, 0.0..1.0, 12), [0, 1, 2]);
        assert_eq!(positions(2, 0.7..1.0, 12), [0u32; 0]);
        for count in 0..50 {
            let (early, late) = (positions(count, 0.0..0.6, 12), positions(count, 0.7..1.0, 12));
            assert!(early.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(early.last() < late.first() || late.is_empty(), "{early:?} {late:?}");
        }
    }

    #[test]
    fn a_share_of_the_groups_is_for_test_and_never_none() {
        let groups = |count: usize| (0..count).map(|number| format!("g{number}")).collect();
        let chosen = for_test(&groups(10), Key::new(0));
        assert_eq!(chosen.len(), 3);
        assert_eq!(chosen, for_test(&groups(10), Key::new(0)));
        assert_eq!(for_test(&groups(4), Key::new(0)).len(), 1);
    }

    #[test]
    fn folders_give_their_videos_and_missing_paths_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["z.MP4", "b/a.mkv", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found, [folder.path().join("b/a.mkv"), folder.path().join("z.MP4")]);
        let error = find(&[folder.path().join("gone")]).unwrap_err();
        assert!(error.message.contains("gone"), "{error}");
        let named = folder.path().join("notes.txt");
        assert_eq!(find(std::slice::from_ref(&named)).unwrap(), [named]);
    }
}
