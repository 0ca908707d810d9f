//! The keeper beside a plain model, over random histories.

use std::path::{Path, PathBuf};

use reelflow_api::item::{Media, Origin};
use reelflow_api::rng::{Key, Rng};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::decode::pattern;

/// Frames of a medium, and of each of its two pieces.
const FRAMES: u32 = 6;

/// A file of the model: what two sources could list.
#[derive(Clone, Debug, PartialEq)]
struct File {
    content: u64,
    /// Whether the keeper is told the content.
    is_read: bool,
    label: Label,
    split: Label,
}

/// The model's state: every file that is there.
type Files = BTreeMap<(&'static str, PathBuf), File>;

/// One segment as the model sees it.
#[derive(Clone, Debug)]
struct Row {
    source: &'static str,
    segment: Arc<Segment>,
    content: Option<u64>,
}

impl Row {
    /// What two segments that show the same have in common.
    fn twin(&self) -> Option<(u64, u32, u32)> {
        Some((self.content?, self.segment.first, self.segment.count))
    }

    fn id(&self) -> SegmentId {
        self.segment.id
    }
}

fn rows_of(source: &'static str, path: &Path, file: &File) -> Vec<Row> {
    // The content shows in the times, as it does in real files.
    let times = (0..u64::from(FRAMES)).map(|frame| frame * 40_000_000 + file.content).collect();
    let media = Arc::new(Media {
        origin: Origin::File(path.to_owned()),
        name: path.display().to_string(),
        ..pattern::media(0, 16, 8, times)
    });
    let piece = |first: u32| Row {
        source,
        segment: Arc::new(Segment {
            id: SegmentId(xxh3_64(format!("{source}:{}:{first}", path.display()).as_bytes()) >> 1),
            media: Arc::clone(&media),
            first,
            count: FRAMES / 2,
            label: file.label.clone(),
            group: None,
            split: file.split.clone(),
        }),
        content: file.is_read.then_some(file.content),
    };
    vec![piece(0), piece(FRAMES / 2)]
}

/// All segments in the order of (source, path, position).
fn rows(files: &Files) -> Vec<Row> {
    files.iter().flat_map(|((source, path), file)| rows_of(source, path, file)).collect()
}

/// What the catalogue should hold.
fn members(rows: &[Row], duplicates: Duplicates) -> Vec<Row> {
    let is_first = |&(index, row): &(usize, &Row)| {
        row.twin().is_none() || rows[..index].iter().all(|before| before.twin() != row.twin())
    };
    let numbered = rows.iter().enumerate();
    numbered
        .filter(|row| duplicates == Duplicates::Keep || is_first(row))
        .map(|(_, row)| row.clone())
        .collect()
}

/// The version that should come after `old`, found by comparing everything with everything.
fn expected(number: u64, old: &[Row], files: &Files, duplicates: Duplicates) -> Version {
    let all = rows(files);
    let new = members(&all, duplicates);
    let find = |rows: &[Row], id: SegmentId| rows.iter().find(|row| row.id() == id).cloned();
    let mut change = Change::default();
    let mut gone: Vec<&Row> = old.iter().filter(|row| find(&new, row.id()).is_none()).collect();
    change.removed = gone.iter().map(|row| row.id()).collect();
    for row in &new {
        let Some(before) = find(old, row.id()) else {
            change.added.push(Arc::clone(&row.segment));
            let same =
                |left: &&Row| left.twin().is_some() && left.twin() == row.twin() && left.source == row.source;
            if let Some(at) = gone.iter().position(same) {
                change.renamed.push((gone.remove(at).id(), row.id()));
            }
            continue;
        };
        // The content shows in the times.
        if before.segment.times() != row.segment.times() {
            change.changed.push(row.id());
        }
        if before.segment.label != row.segment.label {
            change.relabelled.push((row.id(), before.segment.label.clone(), row.segment.label.clone()));
        }
        if before.segment.split != row.segment.split {
            change.regrouped.push(row.id());
        }
    }
    let mut version = Version { number, change, ..Version::default() };
    for row in &new {
        *version.per_label.entry(row.segment.label.clone()).or_default() += 1;
        *version.per_source.entry(row.source.into()).or_default() += 1;
    }
    for (index, row) in all.iter().enumerate().filter(|(_, row)| row.twin().is_some()) {
        let equal = |rows: &[Row]| -> Vec<SegmentId> {
            rows.iter().filter(|other| other.twin() == row.twin()).map(Row::id).collect()
        };
        if equal(&all[..index]).is_empty() && equal(&all).len() > 1 {
            version.duplicates.push(equal(&all));
        }
    }
    version.duplicates.sort();
    version.catalogue.segments = new.into_iter().map(|row| row.segment).collect();
    version.catalogue.version = catalogue::version(&version.catalogue.segments);
    version
}

/// A random path; few enough that old ones come again, with names that test the order.
fn path(rng: &mut Rng) -> PathBuf {
    let number = rng.below(30);
    let name = match rng.below(4) {
        0 => format!("v/{number}.mp4"),
        1 => format!("v/{number}/a.mp4"),
        2 => format!("v-{number}.mp4"),
        _ => format!("v/{number}/b/é.mp4"),
    };
    name.into()
}

fn label(rng: &mut Rng) -> Label {
    [None, Some("walk"), Some("run"), Some("jump")][rng.below(4) as usize].map(Arc::from)
}

/// One random event in `files`.
fn event(files: &mut Files, contents: &mut u64, rng: &mut Rng) {
    let source = ["cam", "archive"][rng.below(2) as usize];
    let to = (source, path(rng));
    let some = (!files.is_empty()).then(|| rng.below(files.len() as u64) as usize);
    let from = some.and_then(|at| files.keys().nth(at).cloned());
    match (rng.below(7), from) {
        (0, Some(from)) => drop(files.remove(&from)),
        (1, Some(from)) => files.get_mut(&from).unwrap().label = label(rng),
        (2, Some(from)) => files.get_mut(&from).unwrap().split = label(rng),
        (3, Some(from)) => {
            let file = files.remove(&from).unwrap();
            files.insert(to, file);
        }
        (4, Some(from)) => {
            let file = File { label: label(rng), ..files[&from].clone() };
            files.insert(to, file);
        }
        // A new file, or another content under an old name.
        _ => {
            *contents += 1;
            let file = File { content: *contents, is_read: rng.chance(0.9), label: label(rng), split: None };
            files.insert(to, file);
        }
    }
}

/// Tells the keeper the way from `before` to `after`, with detours that must not show.
fn tell(keeper: &mut Keeper, before: &Files, after: &Files, rng: &mut Rng) {
    for source in ["archive", "cam"] {
        let of = |files: &Files| -> Files {
            files
                .iter()
                .filter(|(key, _)| key.0 == source)
                .map(|(key, file)| (key.clone(), file.clone()))
                .collect()
        };
        let (before, after) = (of(before), of(after));
        let mut removed: Vec<SegmentId> = Vec::new();
        let mut added: Vec<Entry> = Vec::new();
        let entries = |key: &(&'static str, PathBuf), file: &File| -> Vec<Entry> {
            rows_of(key.0, &key.1, file)
                .into_iter()
                .map(|Row { segment, content, .. }| Entry { segment, content })
                .collect()
        };
        for (key, file) in &before {
            if !after.contains_key(key) || rng.chance(0.05) {
                removed.extend(rows_of(key.0, &key.1, file).iter().map(Row::id));
            }
        }
        for (key, file) in &after {
            let is_gone = removed.contains(&rows_of(key.0, &key.1, file)[0].id());
            if before.get(key) != Some(file) || is_gone || rng.chance(0.05) {
                added.extend(entries(key, file));
            }
        }
        if rng.chance(0.2) {
            // Somebody that was never there, and somebody of another source.
            removed.push(SegmentId(1));
            let other = if source == "cam" { "archive" } else { "cam" };
            keeper.update(other, Vec::new(), added.iter().map(|entry| entry.segment.id).collect());
            let stranger = entries(
                &(source, "passing.mp4".into()),
                &File { content: 0, is_read: true, label: None, split: None },
            );
            let ids = stranger.iter().map(|entry| entry.segment.id).collect();
            keeper.update(source, stranger, Vec::new());
            keeper.update(source, Vec::new(), ids);
        }
        keeper.update(source, added, removed);
    }
}

#[track_caller]
fn same(found: &Version, wanted: &Version) {
    let ids = |version: &Version| -> Vec<SegmentId> {
        version.catalogue.segments.iter().map(|segment| segment.id).collect()
    };
    assert_eq!(ids(found), ids(wanted), "catalogue of version {}", wanted.number);
    assert_eq!(found.catalogue.segments, wanted.catalogue.segments);
    assert_eq!(found.catalogue.version, wanted.catalogue.version);
    assert_eq!(found.change, wanted.change, "change to version {}", wanted.number);
    assert_eq!(found.per_label, wanted.per_label);
    assert_eq!(found.per_source, wanted.per_source);
    let mut groups = found.duplicates.clone();
    groups.sort();
    assert_eq!(groups, wanted.duplicates);
    assert_eq!(found.number, wanted.number);
}

#[test]
fn a_thousand_random_events_give_what_a_plain_model_gives_at_every_version() {
    for (seed, duplicates) in [(1, Duplicates::Keep), (2, Duplicates::First)] {
        let mut rng = Key::new(seed).part("keeper").rng();
        let (mut files, mut contents, mut keeper) = (Files::new(), 0, Keeper::with(duplicates));
        let (mut events, mut number, mut renamed, mut equal) = (0, 0, 0, 0);
        while events < 1000 {
            let before = files.clone();
            for _ in 0..=rng.below(5) {
                event(&mut files, &mut contents, &mut rng);
                events += 1;
            }
            number += 1;
            tell(&mut keeper, &before, &files, &mut rng);
            let wanted = expected(number, &members(&rows(&before), duplicates), &files, duplicates);
            same(&keeper.close(), &wanted);
            renamed += wanted.change.renamed.len();
            equal += wanted.duplicates.len();
        }
        assert!(
            number > 200 && renamed > 50 && equal > 50,
            "{number} {renamed} {equal}: the history tests too little"
        );
    }
}

#[test]
fn a_version_without_news_is_the_one_before() {
    let mut keeper = Keeper::new();
    assert!(keeper.close().change.is_empty());
    let file = File { content: 1, is_read: true, label: None, split: None };
    let entry = |row: Row| Entry { segment: row.segment, content: row.content };
    let path = PathBuf::from("a.mp4");
    keeper.update("s", rows_of("s", &path, &file).into_iter().map(entry).collect(), Vec::new());
    let one = keeper.close();
    keeper.update("s", rows_of("s", &path, &file).into_iter().map(entry).collect(), Vec::new());
    let two = keeper.close();
    assert_eq!((one.number, two.number), (2, 3));
    assert_eq!(one.change.added.len(), 2);
    assert!(two.change.is_empty());
    assert_eq!(one.catalogue.version, two.catalogue.version);
}
