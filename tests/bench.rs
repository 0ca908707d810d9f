//! `reelflow bench` measures any pipeline without opening its sinks, and ends with one line of JSON.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::process::Output;

use serde_json::Value;

const PIPELINE: &str = r#"
version = 1
[run]
out = "never_made"
[sources.patterns]
type = "pattern"
media = 5
[operators.windows]
type = "triplet"
inputs = ["patterns"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 8, height = 8 }]
[operators.mix]
type = "tca"
inputs = ["views"]
[operators.batch]
type = "batch"
inputs = ["mix"]
size = 3
[sinks.digest]
type = "digest"
inputs = ["batch"]
"#;

/// Benches the pipeline in an empty folder, which must stay empty but for the pipeline file.
fn bench(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.toml"), PIPELINE).unwrap();
    let mut command = support::reelflow();
    let output = command.current_dir(folder.path()).args(["bench", "p.toml"]).args(args).output().unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "something was written");
    output
}

/// The last line of standard output and how many there are.
#[track_caller]
fn measured(args: &[&str]) -> (Value, usize) {
    let output = bench(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_str(text.lines().last().unwrap()).unwrap(), text.lines().count())
}

#[test]
fn the_last_line_counts_what_was_measured() {
    for workers in ["1", "2"] {
        let (line, lines) = measured(&["--steps=6", "--workers", workers]);
        assert!(lines > 5, "a table comes first");
        assert_eq!((&line["steps"], &line["finished"]), (&6.into(), &true.into()));
        // Three views of three slots of six steps, of four frames each; anchor and positive share theirs.
        assert_eq!((&line["clips"], &line["frames"]), (&54.into(), &216.into()));
        let numbers = ["wall_s", "cpu_s", "scan_s", "clips_per_s", "cpu_ms_per_clip", "pictures"];
        assert!(numbers.iter().all(|name| line[name].is_number()), "{line}");
        let names: Vec<_> = line["stages"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
        assert_eq!(names, ["decode", "augment", "views", "batch", "sink"]);
    }
}

#[test]
fn the_warm_up_is_not_counted() {
    let (line, lines) = measured(&["--steps=6", "--warmup=4", "--workers=2", "--format=json"]);
    assert_eq!(lines, 1);
    assert_eq!((&line["steps"], &line["warmup_steps"], &line["clips"]), (&6.into(), &4.into(), &54.into()));
    assert_eq!(line["stages"][3]["items"], 6);
}

#[test]
fn decoding_alone_decodes_the_same_pictures() {
    let whole = measured(&["--steps=6", "--format=json"]).0;
    let alone = measured(&["--steps=6", "--format=json", "--decode-only"]).0;
    assert_eq!(alone["decode_only"], true);
    for name in ["clips", "frames", "frames_wanted", "pictures"] {
        assert_eq!(alone[name], whole[name], "{name}");
    }
}

#[test]
fn a_pipeline_without_end_is_refused_with_what_to_type() {
    for (args, expected) in [(&[][..], "--steps N"), (&["--steps=3", "--warmup=4"], "lower `--warmup`")] {
        let output = bench(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(78) && text.contains(expected), "{text}");
    }
}
