//! Checkpoints one by one: written, read, replaced, removed.

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
    let steps =
        complete(root.path()).unwrap().iter().map(|dir| open(dir).unwrap().manifest.step).collect::<Vec<_>>();
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
        files::write_synced("ckpt", &path, &bytes).unwrap();
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
