//! Archives through the whole program: the same batches as from a folder, and refusal without a trace.
#![cfg(feature = "gst")]

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::path::Path;
use std::process::Output;

use reelflow::testing::archives::{ZIPPED, Zipped, gzipped, member, tar, zip, zstandard};

const CLIPS: [&str; 4] = ["bframes.mp4", "variable.mkv", "odd_size.webm", "packed.avi"];

fn clip(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// Runs `pipelines/digest.toml` over `clips.tar` in `folder`.
fn run(folder: &Path, steps: u32) -> Output {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/digest.toml");
    let mut command = support::reelflow();
    command.current_dir(folder).arg("run").arg(pipeline).args(["--set", "sources.clips.paths=['clips.tar']"]);
    command.args(["--set", "run.checkpoint_every=0", "--out", "out", "--steps", &steps.to_string()]);
    command.args(["--summary", "json", "--workers", "2"]).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn batches_from_an_archive_are_those_from_a_folder() {
    let bodies: Vec<(&str, Vec<u8>)> = CLIPS.iter().map(|name| (*name, clip(name))).collect();
    let members: Vec<Vec<u8>> = bodies.iter().map(|(name, body)| member(name, b'0', "", body)).collect();
    let plain = tar(&members);
    let zipped = |deflate| -> Vec<Zipped<'_>> {
        bodies.iter().map(|(name, body)| Zipped { name, body, deflate, ..ZIPPED }).collect()
    };
    let forms = [
        ("tar", plain.clone()),
        ("gz", gzipped(&plain)),
        ("zst", zstandard(&plain)),
        ("zip", zip(&zipped(true))),
        ("stored", zip(&zipped(false))),
    ];
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("folder");
    // A folder that is called like the archive, so that everything has the same name.
    std::fs::create_dir_all(folder.join("clips.tar")).unwrap();
    for (name, body) in &bodies {
        std::fs::write(folder.join("clips.tar").join(name), body).unwrap();
    }
    let digest = |output: &Output| {
        let (out, err) = said(output);
        assert!(output.status.success(), "{err}");
        out.lines().find(|line| line.starts_with("digest ")).unwrap().to_owned()
    };
    let expected = digest(&run(&folder, 12));
    for (form, bytes) in forms {
        let at = place.path().join(form);
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join("clips.tar"), bytes).unwrap();
        assert_eq!(digest(&run(&at, 12)), expected, "{form}");
        let left = reelflow::edge::files::list_dir(&at).unwrap();
        assert_eq!(left.len(), 2, "{form}: only the archive and the run's folder: {left:?}");
    }
}

#[test]
fn a_damaged_member_and_a_missing_end_are_counted_and_the_rest_is_used() {
    let place = tempfile::tempdir().unwrap();
    let members = CLIPS.map(|name| member(name, b'0', "", &clip(name)));
    let mut bytes = [members[0].clone(), member("empty.mp4", b'0', "", b""), members[1].clone()].concat();
    bytes.extend(&members[2][..members[2].len() / 2]);
    std::fs::write(place.path().join("clips.tar"), bytes).unwrap();
    let output = run(place.path(), 3);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{err}");
    let summary: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let counters = &summary["counters"];
    // Two whole members; an empty one, one that is cut off, and the archive itself.
    assert_eq!((&counters["inputs_seen"], &counters["inputs_ok"]), (&5.into(), &2.into()), "{counters}");
    assert_eq!(counters["inputs_skipped"], serde_json::json!({ "empty": 1, "corrupt": 2 }));
    assert_eq!(summary["reconciled"], true);
    assert!(err.contains("clips.tar/odd_size.webm: corrupt"), "{err}");
}

#[test]
fn an_archive_that_reaches_out_of_itself_refuses_the_run() {
    let place = tempfile::tempdir().unwrap();
    let good = member("good.mp4", b'0', "", &clip("bframes.mp4"));
    let bytes = tar(&[good, member("../escaped.mp4", b'0', "", b"x")]);
    std::fs::write(place.path().join("clips.tar"), bytes).unwrap();
    let output = run(place.path(), 3);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(78), "{err}");
    assert!(
        err.contains("error: sources.clips: clips.tar is refused") && err.contains("`../escaped.mp4`"),
        "{err}"
    );
    assert!(!place.path().join("escaped.mp4").exists());
}
