//! Archive and camera meet before the sampler: what comes behind it does not know one from the other.
#![cfg(feature = "gst")]

#[cfg(feature = "torch")]
#[path = "support/going.rs"]
mod going;
#[cfg(feature = "torch")]
#[path = "support/server.rs"]
mod server;
#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::net::TcpListener;
use std::path::Path;
#[cfg(feature = "torch")]
use std::time::Duration;

#[cfg(feature = "torch")]
use reelflow::edge::clock;
#[cfg(feature = "torch")]
use server::Server;

/// One segment a file, whatever the source; its pixels alone are hashed.
const SAME_WINDOWS: &str = r#"
version = 1
[run]
seed = 3
steps = 25
[sources.clips]
SOURCE
paths = PATHS
segment_secs = 3600.0
[operators.windows]
type = "triplet"
inputs = ["clips"]
frames = 8
stride = 2
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [
  { op = "random_resized_crop", size = 40 },
  { op = "flip", p = 0.5 },
  { op = "colour_jitter" },
  { op = "normalize" },
]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 4
[sinks.digest]
type = "digest"
inputs = ["batch"]
of = "pixels"
"#;

#[test]
fn a_replay_gives_the_batches_of_its_archive() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let names = ["bframes.mp4", "odd_size.webm", "packed.avi", "trimmed.mp4", "variable.mkv"];
    let paths = names.map(|name| data.join(name));
    let digest = |name: &str, source: &str, seed: u32, workers: u32| {
        let pipeline = folder.path().join(format!("{name}.toml"));
        let text = SAME_WINDOWS.replace("SOURCE", source).replace("PATHS", &format!("{paths:?}"));
        std::fs::write(&pipeline, text).unwrap();
        let args = [format!("--workers={workers}"), format!("--set=run.seed={seed}")];
        support::run(&pipeline, &folder.path().join(format!("{name}{seed}")), &args).stdout
    };
    // As fast as it is used; the first step waits until all five are there.
    let replay = "type = \"replay\"\nspeed = 0.0\nstart_after = 5";
    let archive = digest("archive", "type = \"files\"", 3, 2);
    assert!(archive.contains("digest "), "{archive}");
    assert_eq!(digest("replay", replay, 3, 1), archive);
    assert_ne!(digest("archive", "type = \"files\"", 4, 1), archive, "other windows have another digest");
}

#[test]
fn a_camera_that_is_given_up_ends_the_run_and_says_that_a_restart_may_help() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nobody listens at: it was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!(
        "type = \"rtsp\"\nurl = \"rtsp://127.0.0.1:{port}/cam\"\nstall_secs = 1.0\ngive_up_secs = 1.0"
    );
    let text = SAME_WINDOWS.replace("SOURCE", &source).replace("paths = PATHS\n", "");
    let pipeline = folder.path().join("p.toml");
    std::fs::write(&pipeline, text).unwrap();
    let output = support::start(&pipeline, &folder.path().join("run"), &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("sources.clips: the camera was away for longer than `give_up_secs`"), "{said}");
}

/// Replaces the addresses, and makes segments as short and steps as small as a test wants them.
#[cfg(feature = "torch")]
fn with_cameras(servers: &[(&str, Server)]) -> Vec<String> {
    let mut args = vec![
        "--set=operators.batch.size=4".to_owned(),
        "--set=sinks.train.encoder.width=4".to_owned(),
        "--set=run.workers=1".to_owned(),
        "--set=sources.archive.paths=[\"tests/data\"]".to_owned(),
        "--set=sources.labelled={type=\"pattern\",media=32,labels=\"direction\"}".to_owned(),
        "--set=eval=[{source=\"labelled\",every=20}]".to_owned(),
    ];
    for (name, server) in servers {
        args.push(format!("--set=sources.{name}.url=\"rtsp://127.0.0.1:{}/cam\"", server.port));
        args.push(format!("--set=sources.{name}.segment_secs=1.5"));
        args.push(format!("--set=sources.{name}.keep_mb=4"));
    }
    args
}

#[cfg(feature = "torch")]
#[test]
fn four_cameras_and_an_archive_teach_one_encoder() {
    let names = ["gate", "yard", "hall", "door"];
    let servers: Option<Vec<(&str, Server)>> = names
        .into_iter()
        .map(|name| Some((name, Server::start("cameras::four_cameras_and_an_archive", &[])?)))
        .collect();
    let Some(servers) = servers else { return };
    let out = tempfile::tempdir().unwrap();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/cameras.toml");
    let mut args = with_cameras(&servers);
    args.extend(["--summary".to_owned(), "json".to_owned()]);
    let mut child = support::start(&pipeline, out.path(), &args);
    let begun = clock::now();
    while !names.iter().all(|name| going::metric(out.path(), &format!("feed.{name}.used")) > 0.0)
        || going::metric(out.path(), "eval.labelled.knn") < 0.0
    {
        assert!(child.try_wait().unwrap().is_none(), "the run ended");
        assert!(begun.elapsed() < Duration::from_secs(120), "not every camera was used within two minutes");
        std::thread::yield_now();
    }
    going::stop(&child);
    let summary = going::summary(child);
    assert_eq!(summary["reconciled"], true, "{summary}");
    for name in names {
        let feed = &summary["counters"]["feeds"][name];
        assert!(feed["frames_used"].as_u64() > Some(0) && feed["reconnects"] == 0, "{name}: {feed}");
    }
    assert!(summary["counters"]["inputs_ok"].as_u64() >= Some(5), "the archive is used too: {summary}");
    assert!(support::losses(out.path()).len() >= 20);
}
