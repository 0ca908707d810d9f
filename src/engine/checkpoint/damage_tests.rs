//! No damage to a checkpoint goes unnoticed: every bit of every file, cuts, lost blocks, and manifests that lie.

use super::*;

/// Two checkpoints of two sinks; the folder of the newer one.
fn two(root: &Path) -> PathBuf {
    let mut dirs = [1u64, 2].map(|step| {
        let parts = |names: [&str; 2]| {
            Parts::from(names.map(|name| (name.to_owned(), format!("{name} of step {step}").into_bytes())))
        };
        let sinks = BTreeMap::from([
            ("digest".to_owned(), parts(["digest.txt", "empty"])),
            ("train".to_owned(), parts(["bank.keys.shard-000.safetensors", "query.safetensors"])),
        ]);
        let versions = BTreeMap::from([("windows".to_owned(), "0011223344556677".to_owned())]);
        let manifest = Manifest::new(step, versions, "version = 1\n".to_owned(), BTreeMap::new());
        write(root, manifest, &sinks, 2).unwrap()
    });
    std::mem::take(&mut dirs[1])
}

/// All files of a checkpoint.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut paths = vec![dir.join(MANIFEST)];
    for sink in ["digest", "train"] {
        paths.extend(files::list_dir(&dir.join(sink)).unwrap());
    }
    assert_eq!(paths.len(), 5);
    paths
}

/// With `bytes` in place of the file at `path` the older checkpoint is used, and the file named.
#[track_caller]
fn is_noticed(root: &Path, path: &Path, bytes: &[u8], what: &str) {
    std::fs::write(path, bytes).unwrap();
    let (checkpoint, damaged) = newest(root).unwrap_or_else(|error| panic!("{what}: {error}")).unwrap();
    assert_eq!(checkpoint.manifest.step, 1, "{what} of {} went unnoticed", path.display());
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(damaged.len() == 1 && damaged[0].contains(&*name), "{what}: {damaged:?}");
    assert_eq!(open(&root.join("step=00000002")).unwrap_err().code, 74, "{what}");
}

#[test]
fn every_flipped_bit_of_every_file_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    for path in files_of(&two(root.path())) {
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            is_noticed(root.path(), &path, &bytes, &format!("bit {bit}"));
        }
        std::fs::write(&path, whole).unwrap();
        assert_eq!(newest(root.path()).unwrap().unwrap().0.manifest.step, 2);
    }
}

#[test]
fn cuts_tails_and_lost_blocks_are_noticed() {
    let root = tempfile::tempdir().unwrap();
    for path in files_of(&two(root.path())) {
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            is_noticed(root.path(), &path, &whole[..cut], &format!("a cut at {cut}"));
        }
        let zeros = vec![0; whole.len()];
        for (bytes, what) in [
            ([&whole[..], &whole].concat(), "a second copy"),
            ([&whole[..], &[0; 4096]].concat(), "a tail of zeros"),
            ([&[0xFF; 4][..], &whole[4..]].concat(), "lengths at their highest"),
            (zeros, "nothing but zeros"),
        ] {
            is_noticed(root.path(), &path, &bytes, what);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(newest(root.path()).unwrap().unwrap().0.manifest.step, 1, "{} is gone", path.display());
        std::fs::write(&path, whole).unwrap();
    }
}

/// The manifest of the newer checkpoint with `from` replaced by `to` and a seal that fits.
fn forged(dir: &Path, from: &str, to: &str) {
    let text = String::from_utf8(files::read(&dir.join(MANIFEST)).unwrap()).unwrap();
    let (body, _) = text.split_at(text.len() - seal_of(&[]).len());
    assert!(body.contains(from), "{body}");
    let body = body.replacen(from, to, 1);
    std::fs::write(dir.join(MANIFEST), body.clone() + &seal_of(body.as_bytes())).unwrap();
}

#[test]
fn a_newer_layout_is_refused_with_both_numbers_and_not_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let dir = two(root.path());
    forged(&dir, "\"format\": 2", "\"format\": 7");
    let error = newest(root.path()).unwrap_err();
    assert_eq!(error.code, 74);
    assert!(error.message.contains("format 7") && error.message.contains("up to 2"), "{error}");
}

#[test]
fn a_manifest_cannot_name_files_outside_its_folder() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("secret"), "empty of step 2").unwrap();
    for name in ["../../secret", "/etc/passwd", "..", ".", "a/../../b", ""] {
        let dir = two(root.path());
        forged(&dir, "\"name\": \"empty\"", &format!("\"name\": {name:?}"));
        let error = open(&dir).unwrap_err();
        assert!(error.code == 74 && error.message.contains("outside the checkpoint"), "{name}: {error}");
    }
}

#[test]
fn a_part_that_is_no_file_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let dir = two(root.path());
    let part = dir.join("digest/empty");
    std::fs::remove_file(&part).unwrap();
    // It would never end.
    std::os::unix::fs::symlink("/dev/zero", &part).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(error.message.contains("no regular file"), "{error}");
}

#[test]
fn checkpoints_from_before_the_seal_open() {
    let root = tempfile::tempdir().unwrap();
    let dir = two(root.path());
    let text = String::from_utf8(files::read(&dir.join(MANIFEST)).unwrap()).unwrap();
    let (body, _) = text.split_at(text.len() - seal_of(&[]).len());
    let old = body.replacen("\"format\": 2", "\"format\": 1", 1) + "\n}";
    std::fs::write(dir.join(MANIFEST), &old).unwrap();
    assert_eq!(open(&dir).unwrap().manifest.step, 2);
    // Without a seal only the first layout is believed.
    std::fs::write(dir.join(MANIFEST), old.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    assert_eq!(open(&dir).unwrap_err().code, 74);
}

#[test]
fn a_damaged_checkpoint_never_takes_the_place_of_a_good_one() {
    let root = tempfile::tempdir().unwrap();
    let sinks = |step: u64| {
        BTreeMap::from([("train".to_owned(), Parts::from([("a".to_owned(), vec![step as u8; 9])]))])
    };
    let save = |step: u64, kept: u32| {
        let manifest = Manifest::new(step, BTreeMap::new(), String::new(), BTreeMap::new());
        write(root.path(), manifest, &sinks(step), kept).unwrap()
    };
    for step in [8, 10, 12] {
        save(step, 3);
    }
    for step in [10, 12] {
        std::fs::write(root.path().join(format!("step={step:08}/train/a")), "torn").unwrap();
    }
    // The run goes on from 8, at another interval.
    assert_eq!(newest(root.path()).unwrap().unwrap().0.manifest.step, 8);
    for (step, kept) in [(9, 2), (11, 1), (12, 1)] {
        save(step, kept);
        assert_eq!(newest(root.path()).unwrap().unwrap().0.manifest.step, step, "after step {step}");
    }
}
