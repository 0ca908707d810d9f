//! An `[[eval]]` looks at the encoder while it learns, and nothing of the run is another for it.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::path::Path;

use serde_json::Value;

/// A training of eight steps over computed media, without any file.
const TRAINING: &str = r#"
version = 1
name = "watched"

[run]
seed = 3
steps = 8
checkpoint_every = 4
threads = 1
device = "cpu"

[sources.patterns]
type = "pattern"
media = 8
frames = 24
width = 64
height = 48

[operators.windows]
type = "triplet"
inputs = ["patterns"]
frames = 8

[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "random_resized_crop", size = 32 }, { op = "normalize" }]

[operators.batch]
type = "batch"
inputs = ["views"]
size = 4

[banks.keys]
type = "queue"
rows = 32

[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4, blocks = [1, 1, 1, 1], stem = "patch" }
pretext = { type = "vtdl", bank = "keys" }

[sinks.digest]
type = "digest"
inputs = ["batch"]
"#;

const EVAL: &str = r#"
[[eval]]
source = "labelled"
every = 3
clips = 1

[sources.labelled]
type = "pattern"
media = 32
frames = 24
width = 64
height = 48
labels = "direction"
"#;

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn watched_and_unwatched_runs_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let plain = write(folder.path(), "plain.toml", TRAINING);
    let watched = write(folder.path(), "watched.toml", &format!("{TRAINING}{EVAL}"));
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let unwatched = support::run(&plain, &a, &[]);
    assert_eq!(support::run(&watched, &b, &["--workers=2".to_owned()]), unwatched);
    assert_eq!(unwatched.losses.len(), 8);
    let text = std::fs::read_to_string(b.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let measured: Vec<u64> = lines
        .iter()
        .filter(|line| line.get("eval.labelled.knn").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    // After 3 and 6 steps, and after the last.
    assert_eq!(measured, [2, 5, 7]);
    let last = &lines[7];
    for name in ["knn", "knn_balanced", "probe", "probe_balanced"] {
        let share = last[format!("eval.labelled.{name}")].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{name}: {share}");
    }
}

#[test]
fn a_source_without_labels_is_refused_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let eval = EVAL.replace("\"direction\"", "\"none\"");
    let pipeline = write(folder.path(), "unlabelled.toml", &format!("{TRAINING}{eval}"));
    let out = folder.path().join("out");
    let output = support::reelflow().arg("run").arg(&pipeline).arg("--out").arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("eval of `labelled`: none of 32 segments has a label"), "{said}");
    assert!(!out.join("metrics.jsonl").exists());
}

#[test]
fn a_resumed_run_may_be_watched_in_another_way() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let first = write(folder.path(), "first.toml", &format!("{TRAINING}{EVAL}"));
    support::run(&first, &out, &["--steps=4".to_owned()]);
    let second =
        write(folder.path(), "second.toml", &format!("{TRAINING}{EVAL}").replace("every = 3", "every = 5"));
    let resumed = support::run(&second, &out, &["--resume".to_owned()]);
    let plain = write(folder.path(), "plain.toml", TRAINING);
    assert_eq!(resumed, support::run(&plain, &folder.path().join("plain"), &[]));
}
