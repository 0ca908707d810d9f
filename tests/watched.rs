//! A folder that changes while the built program trains on it: what is removed is forgotten, what is added is used.
#![cfg(all(feature = "gst", feature = "torch"))]

#[path = "support/going.rs"]
mod going;
#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use going::{stop, summary};
use reelflow::edge::clock;

const PIPELINE: &str = r#"
version = 1
[run]
seed = 5
workers = 1
threads = 1
device = "cpu"
checkpoint_every = 5
[sources.videos]
type = "files"
paths = ["FOLDER"]
watch = true
watch_secs = 0.05
[operators.windows]
type = "triplet"
inputs = ["videos"]
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
rows = 64
dim = 16
[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4 }
pretext = { type = "vtdl", bank = "keys", dim = 16 }
"#;

/// A folder of videos, a pipeline that watches it, and its run.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(videos: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        std::fs::create_dir(place.path("videos")).unwrap();
        videos.iter().for_each(|name| place.add(name));
        let text = PIPELINE.replace("FOLDER", &place.path("videos").to_string_lossy());
        std::fs::write(place.path("p.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Copies a video of the project in, under its final name only when it is whole.
    fn add(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let temporary = self.path(name);
        std::fs::copy(from, &temporary).unwrap();
        std::fs::rename(temporary, self.path("videos").join(name)).unwrap();
    }

    fn run(&self, args: &[&str]) -> Command {
        let mut command = support::reelflow();
        command.arg("run").arg(self.path("p.toml")).arg("--out").arg(self.path("run")).arg("--quiet");
        command.args(["--summary", "json"]).args(args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    }

    /// Newest value of a number in the metrics.
    fn metric(&self, name: &str) -> f64 {
        going::metric(&self.path("run"), name)
    }

    /// Waits until the run's metrics say so.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = clock::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
            std::thread::yield_now();
        }
    }

    /// Segment ids in the bank of the newest checkpoint.
    fn segments(&self) -> Vec<String> {
        let out = self.path("out");
        let mut command = support::reelflow();
        let output =
            command.args(["bank", "export"]).arg(self.path("run")).arg("--out").arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(out.join("keys.csv")).unwrap();
        let mut ids: Vec<String> =
            text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

#[test]
fn a_removed_video_is_forgotten_and_an_added_one_is_used() {
    let place = Place::new(&["bframes.mp4", "odd_size.webm", "variable.mkv"]);
    let child = place.run(&[]).spawn().unwrap();
    place.until("the bank is filled", |place| place.metric("bank_filled") >= 64.0);
    assert_eq!(place.metric("rows_forgotten"), 0.0);
    std::fs::remove_file(place.path("videos/odd_size.webm")).unwrap();
    place.until("its rows are forgotten", |place| place.metric("rows_forgotten") > 0.0);
    assert_eq!(place.metric("catalogue_segments"), 2.0);
    place.add("trimmed.mp4");
    place.until("the new one is there", |place| place.metric("catalogue_segments") == 3.0);
    let seen = place.metric("step");
    place.until("it was sampled", |place| place.metric("step") > seen + 20.0);
    stop(&child);
    let summary = summary(child);
    let counters = &summary["counters"];
    assert_eq!(summary["ending"], "stopped");
    assert_eq!(summary["reconciled"], true, "{summary}");
    assert_eq!(counters["inputs_added"], 1);
    assert_eq!(counters["inputs_removed"], 1);
    assert_eq!(counters["inputs_seen"], 4);
    // The bank of the checkpoint: 64 rows of the newest steps, three videos.
    assert_eq!(place.segments().len(), 3);
}

#[test]
fn what_went_while_the_run_was_down_is_forgotten_before_it_goes_on() {
    let place = Place::new(&["bframes.mp4", "odd_size.webm", "variable.mkv"]);
    summary(place.run(&["--steps", "20"]).spawn().unwrap());
    let before = place.segments();
    assert_eq!(before.len(), 3);
    std::fs::remove_file(place.path("videos/odd_size.webm")).unwrap();
    let resumed = summary(place.run(&["--steps", "25", "--resume"]).spawn().unwrap());
    assert!(resumed["counters"]["rows_forgotten"].as_u64() > Some(0), "{resumed}");
    let after = place.segments();
    assert!(after.len() == 2 && after.iter().all(|id| before.contains(id)), "{before:?} {after:?}");
}
