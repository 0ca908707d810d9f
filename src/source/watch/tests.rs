//! Tests of watching: files that come, grow, change, go, and are out of reach.

use std::fs;
use std::sync::Mutex;

use reelflow_api::item::{Damage, Media, Origin};

use super::*;
use crate::decode::pattern::media;
use crate::source::kept::Kept;
use crate::source::kept::record::Probed;

/// Files below a folder; what they are is computed, ten frames each, so that nothing is decoded. Files of three bytes
/// cannot be used, of five bytes the end is missing, and what `kept` begins with must be known from elsewhere.
struct Folder {
    dir: PathBuf,
    label: Mutex<Option<Arc<str>>>,
    on_error: OnError,
}

impl Source for Folder {
    fn list(&self) -> Result<Listing, StageError> {
        if !self.dir.is_dir() {
            return Err(StageError::failed("files", "no such folder"));
        }
        let (empty, full): (Vec<PathBuf>, Vec<PathBuf>) =
            files::list_dir(&self.dir)?.into_iter().partition(|path| fs::metadata(path).unwrap().len() == 0);
        let candidate = |path| Candidate {
            origin: Origin::File(path),
            label: self.label.lock().unwrap().clone(),
            group: None,
            split: None,
            span_secs: None,
        };
        let skip = |file| Skip {
            file,
            stage: "scan".to_owned(),
            reason: SkipReason::Empty,
            message: "has 0 bytes".to_owned(),
            at_secs: None,
        };
        Ok(Listing {
            candidates: full.into_iter().map(candidate).collect(),
            skipped: empty.into_iter().map(skip).collect(),
        })
    }

    fn segment_secs(&self) -> Option<f64> {
        Some(0.5)
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }

    fn watch_secs(&self) -> Option<f64> {
        Some(2.0)
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        let Origin::File(path) = origin else { return None };
        let bytes = fs::read(path).unwrap();
        (!bytes.starts_with(b"kept")).then(|| computed(origin, bytes.len()))
    }
}

fn computed(origin: &Origin, bytes: usize) -> Media {
    let frames = if bytes == 3 { 1 } else { 10 };
    let mut media = media(1, 8, 8, (0..frames).map(|i| i * 100_000_000).collect());
    media.origin = origin.clone();
    let damage = Damage { reason: SkipReason::Corrupt, message: "ends early".to_owned(), at_secs: Some(0.9) };
    media.part.damage = (bytes == 5).then(|| Arc::new(damage));
    media
}

struct Place {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    source: Arc<Folder>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("videos");
        fs::create_dir(&dir).unwrap();
        let source = Folder { dir: dir.clone(), label: Mutex::default(), on_error: OnError::Quarantine };
        Self { _folder: folder, dir, source: Arc::new(source) }
    }

    fn write(&self, name: &str, bytes: &str) {
        fs::write(self.dir.join(name), bytes).unwrap();
    }

    fn open(&self) -> (Watched, Scanned) {
        self.open_by(Guide::default())
    }

    fn open_by(&self, guide: Guide<'_>) -> (Watched, Scanned) {
        Watched::open("s", Arc::clone(&self.source) as Arc<dyn Source>, 3, guide).unwrap()
    }
}

/// Ids of the segments of the files with these names, as the watcher has them.
fn ids(watched: &Watched, name: &str) -> Vec<SegmentId> {
    let is_of = |segment: &Segment| segment.media.name.ends_with(name) || origin_is(segment, name);
    watched.segments().filter(|(segment, _)| is_of(segment)).map(|(segment, _)| segment.id).collect()
}

fn origin_is(segment: &Segment, name: &str) -> bool {
    segment.media.origin.file().is_some_and(|path| path.ends_with(name))
}

fn added(look: &Look) -> Vec<SegmentId> {
    look.added.iter().map(|(segment, _)| segment.id).collect()
}

#[test]
fn the_first_look_takes_what_it_finds_and_a_second_finds_nothing_new() {
    let place = Place::new();
    for (name, bytes) in [("a.mp4", "aaaa"), ("b.mp4", "bad"), ("c.mp4", "")] {
        place.write(name, bytes);
    }
    let (mut watched, scanned) = place.open();
    assert_eq!((scanned.inputs_seen, scanned.inputs_ok, scanned.skipped.len()), (3, 1, 2));
    assert_eq!(scanned.catalogue.segments.len(), 2, "two pieces of half a second");
    assert!(watched.look().unwrap().is_empty());
}

#[test]
fn a_new_file_is_used_once_it_has_stopped_growing() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    let (mut watched, _) = place.open();
    place.write("new.mp4", "aaaa");
    assert!(watched.look().unwrap().is_empty(), "seen once");
    place.write("new.mp4", "aaaaaaaa");
    assert!(watched.look().unwrap().is_empty(), "has grown");
    let look = watched.look().unwrap();
    assert_eq!((look.inputs_added, look.added.len(), look.removed.len()), (1, 2, 0));
    assert_eq!(added(&look), ids(&watched, "new.mp4"));
    assert!(watched.look().unwrap().is_empty());
}

#[test]
fn a_removed_file_leaves_at_once_and_a_changed_one_comes_back_with_another_mark() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    place.write("b.mp4", "aaaa");
    let (mut watched, _) = place.open();
    let (a, b) = (ids(&watched, "a.mp4"), ids(&watched, "b.mp4"));
    let mark = watched.segments().find(|(segment, _)| segment.id == b[0]).unwrap().1;
    fs::remove_file(place.dir.join("a.mp4")).unwrap();
    place.write("b.mp4", "bbbbbbbb");
    let look = watched.look().unwrap();
    assert_eq!((look.removed.clone(), look.inputs_removed), ([a, b.clone()].concat(), 2));
    assert!(look.added.is_empty());
    // Nothing is in use; that is no reason to think the disk away, as the file is there.
    let look = watched.look().unwrap();
    assert_eq!(added(&look), b);
    assert_ne!(look.added[0].1, mark);
}

#[test]
fn another_label_keeps_ids_and_content() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    let (mut watched, scanned) = place.open();
    *place.source.label.lock().unwrap() = Some("jump".into());
    let look = watched.look().unwrap();
    assert_eq!(added(&look), scanned.catalogue.segments.iter().map(|one| one.id).collect::<Vec<_>>());
    assert!(look.removed.is_empty() && look.inputs_added == 0);
    assert_eq!(look.added[0].0.label.as_deref(), Some("jump"));
    assert!(watched.look().unwrap().is_empty());
}

#[test]
fn a_place_that_is_away_takes_nothing_back() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    place.write("b.mp4", "aaaa");
    let (mut watched, _) = place.open();
    let (a, b) = (ids(&watched, "a.mp4"), ids(&watched, "b.mp4"));
    let elsewhere = place.dir.with_extension("away");
    for is_empty in [false, true] {
        fs::rename(&place.dir, &elsewhere).unwrap();
        if is_empty {
            fs::create_dir(&place.dir).unwrap();
        }
        let look = watched.look().unwrap();
        assert_eq!((look.removed.len(), look.left.clone()), (0, [a.clone(), b.clone()].concat()));
        let complaint = look.complaint.unwrap();
        assert_eq!((complaint.file, complaint.reason), ("sources.s".into(), SkipReason::Unreadable));
        assert_eq!(watched.segments().count(), 0);
        assert!(watched.look().unwrap().is_empty(), "said once");
        if is_empty {
            fs::remove_dir(&place.dir).unwrap();
        }
        fs::rename(&elsewhere, &place.dir).unwrap();
        if !is_empty {
            let look = watched.look().unwrap();
            assert_eq!((added(&look), look.inputs_added), ([a.clone(), b.clone()].concat(), 0));
        }
    }
    fs::remove_file(place.dir.join("a.mp4")).unwrap();
    let look = watched.look().unwrap();
    assert_eq!((look.removed.clone(), added(&look)), (a, b));
}

#[test]
fn what_cannot_be_used_is_told_once_it_has_settled() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    let (mut watched, _) = place.open();
    place.write("short.mp4", "bad");
    place.write("empty.mp4", "");
    assert!(watched.look().unwrap().is_empty());
    let look = watched.look().unwrap();
    let reasons: Vec<SkipReason> = look.skipped.iter().map(|skip| skip.reason).collect();
    assert_eq!(reasons, [SkipReason::TooShort, SkipReason::Empty]);
    assert!(watched.look().unwrap().is_empty());
    // It was repaired.
    place.write("short.mp4", "long enough");
    assert!(watched.look().unwrap().is_empty());
    assert_eq!(watched.look().unwrap().inputs_added, 1);
}

#[test]
fn what_is_known_from_an_earlier_start_is_not_probed() {
    let place = Place::new();
    place.write("a.mp4", "kept by an earlier start");
    let path = place.dir.join("a.mp4");
    let kept = Kept::nowhere();
    let media = computed(&Origin::File(path.clone()), 24);
    let probed = Probed { media: Ok(Arc::new(media)), content: Some(1) };
    kept.note(&path, &files::identity(&path).unwrap(), &probed);
    let before = kept.counts();
    let (watched, scanned) = place.open_by(Guide { kept: Some(&kept), stop: None });
    assert_eq!((scanned.inputs_ok, watched.segments().count()), (1, 2));
    assert_eq!(kept.counts(), (before.0 + 1, before.1), "found, and not probed");
}

#[test]
fn what_is_missing_of_a_file_that_is_used_is_told() {
    let place = Place::new();
    place.write("a.mp4", "at 5!");
    let (mut watched, scanned) = place.open();
    let told = |skips: &[Skip]| -> Vec<(PathBuf, SkipReason)> {
        skips.iter().map(|skip| (skip.file.clone(), skip.reason)).collect()
    };
    let of = |name: &str| [(place.dir.join(name), SkipReason::Corrupt)];
    assert_eq!((told(&scanned.partial), scanned.inputs_ok), (of("a.mp4").to_vec(), 1));
    place.write("b.mp4", "and 5");
    assert!(watched.look().unwrap().is_empty());
    let look = watched.look().unwrap();
    assert_eq!((told(&look.partial), look.inputs_added), (of("b.mp4").to_vec(), 1));
}

#[test]
fn a_source_that_must_not_have_bad_inputs_ends_the_run() {
    let place = Place::new();
    place.write("a.mp4", "aaaa");
    let source = Folder { dir: place.dir.clone(), label: Mutex::default(), on_error: OnError::Fail };
    let (mut watched, _) = Watched::open("s", Arc::new(source), 3, Guide::default()).unwrap();
    place.write("short.mp4", "bad");
    assert!(watched.look().unwrap().is_empty());
    let error = watched.look().unwrap_err();
    assert_eq!(error.stage, "sources.s");
    assert!(error.message.contains("short.mp4: too_short: "), "{error}");
}
