//! Tests of the `files` source: what is listed, in which order, and what is left out with which reason.

use super::*;
use crate::testing::archives::{member, tar};

fn settings(dir: &Path, paths: &[&str], labels: Labels) -> FilesSettings {
    let paths = paths.iter().map(|path| dir.join(path).to_string_lossy().into_owned()).collect();
    FilesSettings {
        paths,
        root: None,
        split: None,
        labels,
        segment_secs: None,
        on_error: OnError::default(),
        watch: false,
        watch_secs: 1.0,
        pixels_max: pixels_max(),
        file_mib_max: file_mib_max(),
        probe_secs_max: probe_secs_max(),
        unpacked_mib: unpacked_mib(),
    }
}

/// A folder with the given files, one byte each unless the name ends in `.empty.mp4`.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, if name.ends_with(".empty.mp4") { "" } else { "x" }).unwrap();
    }
    dir
}

/// Names of the candidates below `dir`.
fn names(dir: &Path, listing: &Listing) -> Vec<String> {
    let name = |candidate: &Candidate| {
        candidate.origin.path().unwrap().strip_prefix(dir).unwrap().to_string_lossy().into_owned()
    };
    listing.candidates.iter().map(name).collect()
}

#[test]
fn folders_give_videos_in_the_order_of_their_paths() {
    let dir = folder(&["b/2.mkv", "b/10.mp4", "a.MP4", "notes.md", "b/c/1.webm"]);
    let listing = settings(dir.path(), &[""], Labels::None).list().unwrap();
    assert_eq!(names(dir.path(), &listing), ["a.MP4", "b/10.mp4", "b/2.mkv", "b/c/1.webm"]);
}

#[test]
fn a_file_named_itself_is_tried_whatever_its_name_and_used_once() {
    let dir = folder(&["clip.dat", "v.mp4"]);
    let listing =
        settings(dir.path(), &["clip.dat", "v.mp4", "*.mp4", "clip.dat"], Labels::None).list().unwrap();
    assert_eq!(names(dir.path(), &listing), ["clip.dat", "v.mp4"]);
}

#[test]
fn globs_match_below_folders_only_with_two_stars() {
    let dir = folder(&["x/1.mp4", "x/y/2.mp4", "x/3.avi"]);
    let listed = |pattern| names(dir.path(), &settings(dir.path(), &[pattern], Labels::None).list().unwrap());
    assert_eq!(listed("x/*.mp4"), ["x/1.mp4"]);
    assert_eq!(listed("x/**/*.mp4"), ["x/1.mp4", "x/y/2.mp4"]);
    assert_eq!(listed("x/*.{mp4,avi}"), ["x/1.mp4", "x/3.avi"]);
}

#[test]
fn what_cannot_be_used_is_left_out_with_its_reason() {
    let dir = folder(&["ok.mp4", "zero.empty.mp4"]);
    std::os::unix::fs::symlink("nowhere", dir.path().join("link.mp4")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s.mp4")).unwrap();
    let listing = settings(dir.path(), &["", "gone.mp4", "no*.avi"], Labels::None).list().unwrap();
    let reasons: Vec<_> = listing
        .skipped
        .iter()
        .map(|skip| (skip.file.file_name().unwrap().to_str().unwrap(), skip.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("gone.mp4", "vanished"),
            ("link.mp4", "unreadable"),
            ("no*.avi", "vanished"),
            ("s.mp4", "not_regular"),
            ("zero.empty.mp4", "empty"),
        ]
    );
    assert_eq!(names(dir.path(), &listing), ["ok.mp4"]);
}

#[test]
fn folders_can_be_classes_and_splits() {
    let dir = folder(&["set/train/run/1.mp4", "set/test/walk/2.mp4", "set/jump/3.mp4"]);
    let listing = settings(dir.path(), &["set"], Labels::Folder).list().unwrap();
    let labels: Vec<_> =
        listing.candidates.iter().map(|found| (found.label.as_deref(), found.split.as_deref())).collect();
    assert_eq!(labels, [(Some("jump"), None), (Some("walk"), Some("test")), (Some("run"), Some("train"))]);
}

#[test]
fn a_list_can_name_spans_of_one_file() {
    let dir = folder(&["a.mp4"]);
    let list = "path,label,start_secs,end_secs\na.mp4,x,0,1\na.mp4,y,1,2\nnone.mp4,z,,\n";
    fs::write(dir.path().join("l.csv"), list).unwrap();
    let listing = settings(dir.path(), &["l.csv"], Labels::None).list().unwrap();
    let spans: Vec<_> =
        listing.candidates.iter().map(|found| (found.label.as_deref(), found.span_secs)).collect();
    assert_eq!(spans, [(Some("x"), Some((0.0, 1.0))), (Some("y"), Some((1.0, 2.0)))]);
    assert_eq!(listing.skipped[0].reason, SkipReason::Vanished);
}

#[test]
fn nothing_found_is_an_error_that_says_what_is_looked_for() {
    let dir = folder(&["readme.md"]);
    let error = settings(dir.path(), &[""], Labels::None).list().unwrap_err();
    assert!(error.message.contains(".mp4"), "{error}");
    let watched = FilesSettings { watch: true, ..settings(dir.path(), &[""], Labels::None) };
    assert!(watched.list().unwrap().candidates.is_empty(), "what is watched may still come");
}

#[test]
fn a_glob_of_lists_reads_them_and_a_split_may_be_chosen() {
    let dir = folder(&["wave/a.avi", "wave/b.avi", "jump/c.avi"]);
    fs::write(dir.path().join("wave_test_split1.txt"), "a.avi 1\nb.avi 2\n").unwrap();
    fs::write(dir.path().join("jump_test_split1.txt"), "c.avi 1\n").unwrap();
    let all = settings(dir.path(), &["*_split1.txt"], Labels::None);
    assert_eq!(names(dir.path(), &all.list().unwrap()), ["jump/c.avi", "wave/a.avi", "wave/b.avi"]);
    let train = FilesSettings { split: Some("train".to_owned()), ..all.clone() };
    assert_eq!(names(dir.path(), &train.list().unwrap()), ["jump/c.avi", "wave/a.avi"]);
    let error = FilesSettings { split: Some("dev".to_owned()), ..all }.list().unwrap_err();
    assert!(error.message.starts_with("no video of split `dev`"), "{error}");
}

#[test]
fn archives_give_their_members_with_the_labels_beside_them() {
    let dir = folder(&["v.mp4"]);
    let bytes = tar(&[
        member("walk/2.mp4", b'0', "", b"x"),
        member("walk/1.mp4", b'0', "", b"x"),
        member("walk/1.cls", b'0', "", b"3\n"),
        member("inner.tar", b'0', "", b"x"),
        member("zero.mp4", b'0', "", b""),
        member("notes.md", b'0', "", b"x"),
    ]);
    fs::write(dir.path().join("s.tar"), bytes).unwrap();
    fs::write(dir.path().join("no.tar"), "just text").unwrap();
    // The whole folder, and an archive that is in it once more.
    let listing = settings(dir.path(), &["", "s.tar"], Labels::Folder).list().unwrap();
    assert_eq!(names(dir.path(), &listing), ["s.tar/walk/1.mp4", "s.tar/walk/2.mp4", "v.mp4"]);
    let labels: Vec<_> = listing.candidates.iter().map(|found| found.label.as_deref()).collect();
    assert_eq!(labels[..2], [Some("3"), Some("walk")]);
    let reasons: Vec<_> = listing.skipped.iter().map(|skip| skip.reason).collect();
    assert_eq!(reasons, [SkipReason::NotMedia, SkipReason::Limit, SkipReason::Empty]);
    let hostile = tar(&[member("../v.mp4", b'0', "", b"x")]);
    fs::write(dir.path().join("no.tar"), hostile).unwrap();
    let error = settings(dir.path(), &[""], Labels::None).list().unwrap_err();
    assert_eq!(error.code, 78, "{error}");
}

#[test]
fn a_folder_that_is_called_like_a_video_and_has_none_is_told() {
    let dir = folder(&["v.mp4/readme.md", "w.mp4"]);
    let listing = settings(dir.path(), &["v.mp4", "w.mp4"], Labels::None).list().unwrap();
    assert_eq!(names(dir.path(), &listing), ["w.mp4"]);
    assert_eq!(listing.skipped[0].reason, SkipReason::NotRegular);
}

#[test]
fn a_glob_does_not_look_into_folders_that_it_cannot_match_in() {
    let dir = folder(&["a.mp4", "deep/b.mp4"]);
    std::os::unix::fs::symlink("nowhere", dir.path().join("deep/a.mp4")).unwrap();
    let listing = settings(dir.path(), &["a*"], Labels::None).list().unwrap();
    assert_eq!((names(dir.path(), &listing), listing.skipped.len()), (vec!["a.mp4".to_owned()], 0));
}
