//! The power fails after any change to the disk: what was written before is there, what was under way is not.

use reelflow_api::rng::Key;

use super::*;
use crate::edge::files::recording::{Cut, Disk, Op, record};

/// What a checkpoint of `step` holds; files longer than two blocks of a disk.
fn sinks(step: u64, generation: u64) -> BTreeMap<String, Parts> {
    let part = |name: &str, length: usize| {
        let content = (0..length).map(|i| (i as u64 * 31 + step * 7 + generation) as u8).collect();
        (name.to_owned(), content)
    };
    BTreeMap::from([
        ("digest".to_owned(), Parts::from([part("digest.txt", 33)])),
        (
            "train".to_owned(),
            Parts::from([part("bank.keys.shard-000.safetensors", 1500), part("query.safetensors", 1100)]),
        ),
    ])
}

fn manifest(step: u64) -> Manifest {
    Manifest::new(step, BTreeMap::new(), "version = 1\n".to_owned(), BTreeMap::new())
}

/// The state that a checkpoint's folder opens to.
fn state(checkpoint: &Checkpoint) -> (u64, u64) {
    let (step, generation) = place(&checkpoint.dir).unwrap();
    assert_eq!(checkpoint.manifest.step, step);
    assert_eq!(checkpoint.sinks, sinks(step, generation), "parts of several states in {:?}", checkpoint.dir);
    (step, generation)
}

/// Changes of a run that saves steps 2, 4, 6 and 8, keeps two and has segments forgotten after 6, and the number of
/// changes after which each of these states was known to be safe.
fn history(run: &Path) -> (Vec<Op>, Vec<(usize, (u64, u64))>) {
    let root = run.join("checkpoints");
    let mut safe: Vec<(usize, (u64, u64))> = Vec::new();
    let mut ops = Vec::new();
    let mut step = |ops: &mut Vec<Op>, state: (u64, u64), work: &dyn Fn()| {
        ops.extend(record(work));
        safe.push((ops.len(), state));
    };
    for saved in [2, 4, 6] {
        step(&mut ops, (saved, 0), &|| drop(write(&root, manifest(saved), &sinks(saved, 0), 2).unwrap()));
    }
    step(&mut ops, (6, 1), &|| {
        let mut checkpoint = newest(&root).unwrap().unwrap().0;
        checkpoint.sinks = sinks(6, 1);
        write_generation(&root, &checkpoint).unwrap();
    });
    step(&mut ops, (8, 0), &|| drop(write(&root, manifest(8), &sinks(8, 0), 2).unwrap()));
    (ops, safe)
}

/// Newest state of an image; `None` if there is no checkpoint yet. Nothing in it may be damaged.
fn opened(image: &Path, what: &str) -> Option<(u64, u64)> {
    let found = newest(&image.join("checkpoints")).unwrap_or_else(|error| panic!("{what}: {error}"));
    found.map(|(checkpoint, damaged)| {
        assert!(damaged.is_empty(), "{what}: {damaged:?}");
        state(&checkpoint)
    })
}

#[test]
fn every_image_opens_to_the_state_before_or_the_one_under_way() {
    let run = tempfile::tempdir().unwrap();
    let (ops, safe) = history(run.path());
    assert!(ops.len() > 80, "{} changes: the record is broken", ops.len());
    let mut disk = Disk::new(run.path());
    let mut seen = BTreeMap::new();
    for count in 0..=ops.len() {
        if let Some(op) = count.checked_sub(1).map(|last| &ops[last]) {
            disk.apply(op);
        }
        let before = safe.iter().rev().find(|(at, _)| *at <= count).map(|(_, state)| *state);
        let under_way = safe.iter().find(|(at, _)| *at > count).map(|(_, state)| *state);
        for seed in 0..10 {
            let mut rng = Key::new(seed).number(count as u64).rng();
            let mut cut = match seed {
                0 => Cut::All,
                1 => Cut::None,
                _ => Cut::Chance(&mut rng),
            };
            let image = tempfile::tempdir().unwrap();
            disk.image(image.path(), &mut cut);
            let last = count.checked_sub(1).map(|last| &ops[last]);
            let what = format!("image {seed} after change {count} ({last:?})");
            let found = opened(image.path(), &what);
            assert!(
                found == before || found == under_way,
                "{what}: {found:?}, not {before:?} or {under_way:?}"
            );
            *seen.entry(found).or_insert(0) += 1;
        }
    }
    let states: Vec<_> = seen.keys().copied().collect();
    assert_eq!(states, [None, Some((2, 0)), Some((4, 0)), Some((6, 0)), Some((6, 1)), Some((8, 0))]);
}

#[test]
fn a_run_goes_on_from_every_image() {
    let run = tempfile::tempdir().unwrap();
    let (ops, _) = history(run.path());
    for count in (0..=ops.len()).step_by(3) {
        let mut disk = Disk::new(run.path());
        ops[..count].iter().for_each(|op| disk.apply(op));
        let image = tempfile::tempdir().unwrap();
        let mut rng = Key::new(3).number(count as u64).rng();
        disk.image(image.path(), &mut Cut::Chance(&mut rng));
        let before = opened(image.path(), "before").map_or(0, |(step, _)| step);
        let root = image.path().join("checkpoints");
        for step in [before + 1, before + 2, before + 3] {
            write(&root, manifest(step), &sinks(step, 0), 2).unwrap();
            assert_eq!(opened(image.path(), "after"), Some((step, 0)), "change {count}");
        }
        let left: Vec<_> = files::list_dir(&root).unwrap().iter().filter_map(|path| place(path)).collect();
        assert_eq!(files::list_dir(&root).unwrap().len(), left.len(), "nothing unfinished stays");
        assert_eq!(left, [(before + 2, 0), (before + 3, 0)]);
    }
}
