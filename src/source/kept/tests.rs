//! What is kept is found again, what changed is not, and no file on the disk makes it say something wrong.

use std::fs;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Origin, SegmentId};
use tempfile::TempDir;

use super::*;
use crate::decode::{Failure, pattern};

fn probed(path: &Path, number: u64) -> Probed {
    let times = (0..10).map(|frame| frame * 40_000_000 + number).collect();
    let media = Media {
        origin: Origin::File(path.to_owned()),
        name: path.display().to_string(),
        ..pattern::media(0, 64, 48, times)
    };
    Probed { media: Ok(Arc::new(media)), content: Some(number) }
}

fn failed(reason: SkipReason) -> Probed {
    Probed { media: Err(Failure::new(reason, "cut off")), content: None }
}

fn identity(number: u64) -> [u64; 5] {
    [9, number, 1000 + number, 1_700_000_000, 5]
}

/// A file of three records and a look, and its folder.
fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/kept.bin");
    let (kept, note) = Kept::open(&path).unwrap();
    assert_eq!(note, None);
    for number in 0..2 {
        let name = PathBuf::from(format!("v/{number}.mp4"));
        kept.note(&name, &identity(number), &probed(&name, number));
    }
    kept.note(Path::new("v/bad.mp4"), &identity(2), &failed(SkipReason::Corrupt));
    kept.set_look("videos", look(&[0, 1]));
    assert!(kept.save().unwrap());
    (dir, path)
}

fn look(numbers: &[u64]) -> Look {
    let row = |&number: &u64| look::Row {
        source: "archive".into(),
        id: SegmentId(number),
        path: format!("v/{number}.mp4").into(),
        identity: identity(number),
        first: 2,
        count: 8,
        label: Some("walk".into()),
        group: None,
        split: Some("train".into()),
    };
    Look { rows: numbers.iter().map(row).collect() }
}

/// Names of all files in the folder of `path`.
fn beside(path: &Path) -> Vec<String> {
    let files = files::list_dir(path.parent().unwrap()).unwrap();
    files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn open(path: &Path) -> Kept {
    let (kept, note) = Kept::open(path).unwrap();
    assert_eq!(note, None);
    kept
}

#[test]
fn what_was_found_is_found_again_by_name_or_by_place() {
    let (_dir, path) = file();
    let kept = open(&path);
    let one = Path::new("v/1.mp4");
    assert_eq!(kept.find(one, &identity(1)), Some(probed(one, 1)));
    assert_eq!(kept.find(Path::new("v/bad.mp4"), &identity(2)), Some(failed(SkipReason::Corrupt)));
    // Renamed: the same place on the disk. Copied to another disk with its time: the same name.
    let moved = Path::new("w/other.mp4");
    assert_eq!(kept.find(moved, &identity(1)), Some(probed(moved, 1)));
    let [_, _, size, secs, nanos] = identity(1);
    assert_eq!(kept.find(one, &[8, 77, size, secs, nanos]), Some(probed(one, 1)));
    // Written since, longer, or never seen.
    assert_eq!(kept.find(one, &[9, 1, size, secs, nanos + 1]), None);
    assert_eq!(kept.find(one, &[9, 1, size + 1, secs, nanos]), None);
    assert_eq!(kept.find(Path::new("v/3.mp4"), &identity(3)), None);
    assert_eq!(kept.counts(), (4, 0));
}

#[test]
fn what_depends_on_the_machine_or_the_moment_is_not_kept() {
    let kept = Kept::nowhere();
    for reason in [SkipReason::NoDecoder, SkipReason::Stalled, SkipReason::Unreadable, SkipReason::Limit] {
        kept.note(Path::new("a"), &identity(1), &failed(reason));
        assert_eq!(kept.find(Path::new("a"), &identity(1)), None);
    }
    kept.note(Path::new("a"), &identity(1), &failed(SkipReason::NotMedia));
    assert_eq!(kept.find(Path::new("a"), &identity(1)), Some(failed(SkipReason::NotMedia)));
    assert!(!kept.save().unwrap(), "there is no file to write");
}

#[test]
fn saving_again_writes_only_news_and_the_same_bytes() {
    let (_dir, path) = file();
    let before = fs::read(&path).unwrap();
    let kept = open(&path);
    kept.find(Path::new("v/0.mp4"), &identity(0)).unwrap();
    assert!(!kept.save().unwrap());
    for number in 0..2 {
        kept.find(Path::new(&format!("v/{number}.mp4")), &identity(number)).unwrap();
    }
    kept.find(Path::new("v/bad.mp4"), &identity(2)).unwrap();
    kept.set_look("videos", look(&[0, 1]));
    assert!(kept.save().unwrap());
    assert_eq!(open(&path).look("videos"), Some(look(&[0, 1])));
    let written = fs::read(&path).unwrap();
    // The number of the look has gone up by one, and so its checksum is another.
    assert_eq!(written.len(), before.len());
    assert_eq!(beside(&path), ["kept.bin"]);
}

#[test]
fn a_changed_file_takes_the_place_of_the_old_one_once_no_look_needs_it() {
    let (_dir, path) = file();
    let (one, new) = (Path::new("v/1.mp4"), [9, 1, 5, 1_800_000_000, 0]);
    let kept = open(&path);
    kept.note(one, &new, &probed(one, 7));
    kept.save().unwrap();
    let kept = open(&path);
    assert_eq!(kept.find(one, &new), Some(probed(one, 7)));
    let recalled = kept.recall(&kept.look("videos").unwrap());
    assert_eq!(recalled.len(), 2);
    assert_eq!(recalled[1].1.times()[0], 80_000_001, "the look remembers the file as it was");
    kept.set_look("videos", look(&[0]));
    kept.save().unwrap();
    let kept = open(&path);
    assert_eq!(kept.find(one, &identity(1)), None);
    assert_eq!(kept.find(one, &new), Some(probed(one, 7)));
}

#[test]
fn what_is_of_no_use_for_long_is_dropped() {
    let (_dir, path) = file();
    for round in 0..=u64::from(UNUSED_MAX) {
        let kept = open(&path);
        kept.set_look("videos", Look::default());
        kept.find(Path::new("v/0.mp4"), &identity(0)).unwrap();
        let is_there = kept.read_lock().by_name.contains_key(&name(Path::new("v/1.mp4"), &identity(1)));
        assert!(is_there, "round {round}");
        kept.save().unwrap();
    }
    let kept = open(&path);
    assert_eq!(kept.find(Path::new("v/1.mp4"), &identity(1)), None);
    assert!(kept.find(Path::new("v/0.mp4"), &identity(0)).is_some());
}

#[test]
fn any_damage_is_noticed_and_leaves_nothing_to_believe() {
    let (_dir, path) = file();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let (kept, note) = Kept::open_own(&path, &path).unwrap();
        assert!(note.is_some_and(|note| note.contains("damaged")), "byte {at}");
        assert_eq!(kept.find(Path::new("v/0.mp4"), &identity(0)), None);
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (_, note) = Kept::open_own(&path, &path).unwrap();
        assert!(note.is_some_and(|note| note.contains("damaged")), "{length} bytes");
    }
    let longer = [&whole[..], b"x"].concat();
    fs::write(&path, longer).unwrap();
    let (kept, note) = Kept::open_own(&path, &path).unwrap();
    assert!(note.is_some());
    // It is made anew.
    kept.note(Path::new("v/0.mp4"), &identity(0), &probed(Path::new("v/0.mp4"), 0));
    assert!(kept.save().unwrap());
    assert!(open(&path).find(Path::new("v/0.mp4"), &identity(0)).is_some());
}

#[test]
fn newer_and_foreign_files_are_refused_in_words() {
    let (_dir, path) = file();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let head = header_len(&bytes);
    let checksum = xxh3_64(&bytes[..head]).to_le_bytes();
    bytes[head..head + 8].copy_from_slice(&checksum);
    fs::write(&path, &bytes).unwrap();
    let error = Kept::open_own(&path, &path).err().unwrap();
    assert_eq!(error.code, 74);
    assert!(error.message.contains("version 2") && error.message.contains("reads up to 1"), "{error}");
    fs::write(&path, "a film").unwrap();
    let error = Kept::open(&path).err().unwrap();
    assert_eq!(error.code, 78);
    assert!(error.message.contains("choose another name"), "{error}");
}

/// Bytes of the head before its checksum.
fn header_len(bytes: &[u8]) -> usize {
    16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize + 16
}

#[test]
fn results_of_another_maker_are_not_taken_over() {
    let (_dir, path) = file();
    let bytes = fs::read(&path).unwrap();
    let other = header("reelflow 9", 0, 0);
    fs::write(&path, [&other[..], &bytes[header_len(&bytes) + 8..]].concat()).unwrap();
    let (kept, note) = Kept::open(&path).unwrap();
    assert!(note.is_some_and(|note| note.contains("made by reelflow 9")));
    assert_eq!(kept.find(Path::new("v/0.mp4"), &identity(0)), None);
}

#[test]
fn two_that_save_at_once_leave_one_whole_file() {
    let (_dir, path) = file();
    let savers: Vec<Kept> = (0..4).map(|_| open(&path)).collect();
    savers.par_iter().enumerate().for_each(|(number, kept)| {
        for round in 0..20 {
            let name = PathBuf::from(format!("{number}/{round}.mp4"));
            let number = 100 * (number as u64 + 1) + round;
            kept.note(&name, &identity(number), &probed(&name, number));
            kept.save().unwrap();
        }
    });
    let kept = open(&path);
    let is_whole = |number: u64| {
        (0..20).all(|round| {
            let name = PathBuf::from(format!("{number}/{round}.mp4"));
            let number = 100 * (number + 1) + round;
            kept.find(&name, &identity(number)).is_none_or(|found| found == probed(&name, number))
        })
    };
    assert!((0..4).all(is_whole));
    assert!(kept.find(Path::new("v/0.mp4"), &identity(0)).is_some());
    assert_eq!(beside(&path), ["kept.bin"]);
}

#[test]
fn a_copy_of_another_runs_file_is_saved_under_its_own_name() {
    let (dir, path) = file();
    let own = dir.path().join("own.bin");
    let (kept, note) = Kept::open_own(&own, &path).unwrap();
    assert_eq!(note, None);
    assert!(kept.find(Path::new("v/0.mp4"), &identity(0)).is_some());
    assert!(kept.save().unwrap());
    assert!(open(&own).find(Path::new("v/0.mp4"), &identity(0)).is_some());
}
