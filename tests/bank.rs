//! `reelflow bank` on what a run leaves: looks, checks, takes out, and is not confused by kills and damage.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use reelflow::edge::files;

const PIPELINE: &str = r#"
version = 1
[run]
seed = 5
steps = 12
workers = 1
threads = 1
device = "cpu"
checkpoint_every = 4
[sources.patterns]
type = "pattern"
media = 6
[operators.windows]
type = "triplet"
inputs = ["patterns"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }, { op = "normalize" }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 4
[banks.keys]
type = "queue"
rows = 24
dim = 16
shards = 3
staleness = 2
[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4 }
pretext = { type = "vtdl", bank = "keys", dim = 16, same_segment_mask = true }
"#;

/// A folder with the pipeline and a run of it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.toml"), PIPELINE).unwrap();
        Self { folder }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn train(&self, args: &[&str]) -> Output {
        let mut command = support::reelflow();
        command.arg("run").arg(self.folder.path().join("p.toml")).arg("--out").arg(self.run());
        command.arg("--quiet").args(args).output().unwrap()
    }

    fn bank(&self, action: &str, args: &[&str]) -> Output {
        support::reelflow().args(["bank", action]).arg(self.run()).args(args).output().unwrap()
    }

    /// The newest file of this name in the run's checkpoints.
    fn newest(&self, name: &str) -> PathBuf {
        let dirs = files::list_dir(&self.run().join("checkpoints")).unwrap();
        dirs.last().unwrap().join("train").join(name)
    }
}

#[track_caller]
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

/// Segment ids of an exported table, a line each.
fn segments(table: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(table).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn a_runs_bank_can_be_seen_checked_exported_and_robbed_of_a_segment() {
    let place = Place::new();
    said(&place.train(&[]));
    let info = said(&place.bank("info", &[]));
    assert!(info.contains("bank keys: queue, 24 rows of 16 f32 in 3 shards"), "{info}");
    assert!(info.contains("24 of 24 rows filled; ages up to 3: 8, 7: 16; 4 keys wait"), "{info}");
    assert!(info.contains("bank.keys.shard-002.safetensors "), "{info}");
    let checked = said(&place.bank("verify", &[]));
    assert!(checked.lines().all(|line| line.starts_with("ok: ") && line.ends_with("(1 banks)")), "{checked}");
    let out = place.folder.path().join("out");
    let export = || said(&place.bank("export", &["--out", out.to_str().unwrap()]));
    assert!(export().contains("24 rows of bank keys"));
    let before = segments(&out.join("keys.csv"));
    let gone = before[0].clone();
    let forgotten = said(&place.bank("forget", &[&gone]));
    assert!(forgotten.contains("step=00000012+1"), "{forgotten}");
    assert_eq!(said(&place.bank("verify", &[])).lines().count(), checked.lines().count() + 1);
    export();
    let after = segments(&out.join("keys.csv"));
    assert!(before.iter().filter(|id| **id == gone).count() + after.len() == 24 && !after.contains(&gone));
    assert!(said(&place.bank("forget", &[&gone])).contains("nothing was written"));
    // The run goes on from there.
    said(&place.train(&["--resume", "--steps", "16"]));
    said(&place.bank("verify", &[]));
}

#[test]
fn a_flipped_bit_is_found_and_the_file_named() {
    let place = Place::new();
    said(&place.train(&["--steps", "8"]));
    let file = place.newest("bank.keys.shard-001.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    std::fs::write(&file, bytes).unwrap();
    let output = place.bank("verify", &[]);
    assert_eq!(output.status.code(), Some(74));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(err.contains("bank.keys.shard-001.safetensors") && out.contains("ok: "), "{out}{err}");
    // The older one is used.
    assert!(said(&place.bank("info", &[])).contains("step=00000004"));
    let nothing = support::reelflow().args(["bank", "info", "/nonexistent"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(78));
}

#[test]
fn a_run_killed_while_it_writes_leaves_banks_that_are_whole() {
    let place = Place::new();
    let checkpoints = place.run().join("checkpoints");
    for round in 0..5 {
        let args = ["--resume", "--steps=1000000", "--set=run.checkpoint_every=1"].map(str::to_owned);
        let mut child = support::start(&place.folder.path().join("p.toml"), &place.run(), &args);
        // Killed in the middle of a checkpoint, a later one each round.
        let is_writing = || {
            let later = format!("step={:08}", round * 3);
            let names = files::list_dir(&checkpoints).unwrap();
            let mut names = names.iter().map(|path| path.file_name().unwrap().to_string_lossy());
            names.any(|name| name.strip_suffix(".tmp").is_some_and(|name| *name > *later))
        };
        while !is_writing() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.code().is_none(),
            "ended by itself: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        said(&place.bank("verify", &[]));
    }
}
