//! Real files through scan and `reelflow catalog`: what is kept changes no result, and what changed is told.
#![cfg(feature = "gst")]

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reelflow::api::error::SkipReason;
use reelflow::config;
use reelflow::engine::layout::Parts;
use reelflow::source::catalogue::{Guide, Scanned, build, build_guided};
use reelflow::source::kept::Kept;
use serde_json::{Value, json};
use support::reelflow;

/// Copies a test clip to `to`.
fn copy(name: &str, to: &Path) {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(clip, to).unwrap();
}

/// Two classes, a file with two names, a copy, a broken file, an empty one.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("v").join(name);
    copy("bframes.mp4", &at("walk/1.mp4"));
    copy("variable.mkv", &at("walk/2.mkv"));
    copy("trimmed.mp4", &at("run/3.mp4"));
    copy("trimmed.mp4", &at("run/copy.mp4"));
    copy("packed.avi", &at("run/4.avi"));
    fs::hard_link(at("walk/2.mkv"), at("run/linked.mkv")).unwrap();
    fs::write(at("run/no.mp4"), "no film at all").unwrap();
    fs::write(at("run/empty.mp4"), "").unwrap();
    dir
}

/// A pipeline that reads the folder as `s`.
fn parts(dir: &Path) -> Parts {
    let settings = format!("paths = [{:?}]\nlabels = \"folder\"\nsegment_secs = 1.0", dir.join("v"));
    let text = PIPELINE.replace("paths = [\"v\"]", &settings);
    match config::load(&text, Path::new("p.toml"), &[]) {
        Ok(plan) => Parts::of(plan),
        Err(report) => panic!("{report}"),
    }
}

fn plain(dir: &Path) -> Scanned {
    let parts = parts(dir);
    build(&[("s", parts.sources["s"].as_ref())], 8).unwrap()
}

/// Scans with the file beside the folder; how many files were probed.
fn scan(dir: &Path) -> (Scanned, u64) {
    let parts = parts(dir);
    let (kept, note) = Kept::open(&dir.join("kept.bin")).unwrap();
    assert_eq!(note, None);
    let scanned =
        build_guided(&[("s", parts.sources["s"].as_ref())], 8, Guide { kept: Some(&kept), stop: None })
            .unwrap();
    kept.save().unwrap();
    (scanned, kept.counts().1)
}

#[track_caller]
fn equal(one: &Scanned, two: &Scanned) {
    assert_eq!(one.catalogue.segments, two.catalogue.segments);
    assert_eq!(one.catalogue.version, two.catalogue.version);
    assert_eq!(one.skipped, two.skipped);
    assert_eq!((one.inputs_seen, one.inputs_ok), (two.inputs_seen, two.inputs_ok));
    assert_eq!(one.by_reason, two.by_reason);
}

#[test]
fn a_second_scan_probes_nothing_and_finds_the_same_to_the_bit() {
    let dir = folder();
    let plain = plain(dir.path());
    let (cold, probed) = scan(dir.path());
    assert_eq!(probed, 6, "a file with two names is one, an empty one is none");
    let (warm, probed) = scan(dir.path());
    assert_eq!(probed, 0, "the broken file neither");
    assert_eq!(warm.by_reason[&SkipReason::NotMedia], 1);
    assert!(warm.catalogue.segments.len() > 8);
    equal(&cold, &plain);
    equal(&warm, &plain);
    assert_eq!(warm.marks, cold.marks);
    assert!(warm.marks.iter().all(|mark| mark.content.is_some()));
}

#[test]
fn only_what_changed_is_probed() {
    let dir = folder();
    let at = |name: &str| dir.path().join("v").join(name);
    scan(dir.path());
    fs::rename(at("walk/1.mp4"), at("run/1.mp4")).unwrap();
    let (moved, probed) = scan(dir.path());
    assert_eq!(probed, 0, "a renamed file is the same file");
    equal(&moved, &plain(dir.path()));
    copy("full_range.mp4", &at("run/no.mp4"));
    copy("odd_size.webm", &at("run/4.avi"));
    fs::remove_file(at("run/copy.mp4")).unwrap();
    let (changed, probed) = scan(dir.path());
    assert_eq!(probed, 2);
    equal(&changed, &plain(dir.path()));
    // Equal bytes, touched: probed, since nobody knows before.
    let file = fs::File::options().write(true).open(at("run/3.mp4")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let (touched, probed) = scan(dir.path());
    assert_eq!(probed, 1);
    equal(&touched, &changed);
}

/// Calls `reelflow catalog`; its exit code, lines of standard output, standard error.
fn catalog(dir: &Path, args: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let mut command = reelflow();
    command.current_dir(dir).arg("catalog").args(args).env("XDG_CACHE_HOME", dir.join("cache"));
    let output = command.output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn as_json(dir: &Path, args: &[&str]) -> Value {
    let (code, lines, error) = catalog(dir, args);
    assert_eq!((code, lines.len()), (Some(0), 1), "{error}");
    serde_json::from_str(&lines[0]).unwrap()
}

#[test]
fn the_command_counts_and_tells_what_changed() {
    let dir = folder();
    let at = |name: &str| dir.path().join("v").join(name);
    let look = || as_json(dir.path(), &["v", "--format", "json"]);
    let first = look();
    assert_eq!(first["since_last_look"], Value::Null);
    assert_eq!(first["labels"], json!({ "run": 4, "walk": 2 }));
    assert_eq!(first["left_out"], json!({ "empty": 1, "not_media": 1 }));
    assert_eq!(first["sources"], json!({ "data": { "inputs": 8, "segments": 6 } }));
    assert_eq!(first["duplicates"].as_array().unwrap().len(), 2, "{}", first["duplicates"]);
    assert_eq!(first["probed"], 6);

    let second = look();
    assert_eq!(second["probed"], 0);
    let nothing = json!({
        "added": [], "removed": [], "renamed": [], "changed": [], "relabelled": [], "regrouped": []
    });
    assert_eq!(second["since_last_look"], nothing);
    assert_eq!(second["catalogue"], first["catalogue"]);

    fs::rename(at("walk/1.mp4"), at("walk/one.mp4")).unwrap();
    fs::remove_file(at("run/4.avi")).unwrap();
    copy("odd_size.webm", &at("run/new.webm"));
    copy("full_range.mp4", &at("run/3.mp4"));
    let third = look();
    let change = &third["since_last_look"];
    let paths = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(&change["added"]), ["v/run/new.webm", "v/walk/one.mp4"]);
    assert_eq!(paths(&change["removed"]), ["v/run/4.avi", "v/walk/1.mp4"]);
    assert_eq!(paths(&change["changed"]), ["v/run/3.mp4"]);
    assert_eq!(change["renamed"][0]["from"]["path"], "v/walk/1.mp4");
    assert_eq!(change["renamed"][0]["to"]["path"], "v/walk/one.mp4");
    assert_eq!(change["relabelled"], json!([]));
    assert_eq!(third["probed"], 2);
    let inputs: Vec<_> =
        walk(dir.path()).into_iter().filter(|path| !path.starts_with(dir.path().join("cache"))).collect();
    assert_eq!(inputs.len(), 8, "nothing is written beside the inputs: {inputs:?}");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn labels_of_a_list_that_change_are_told() {
    let dir = folder();
    let list = |first: &str| {
        let text = format!("path,label\nv/walk/1.mp4,{first}\nv/run/3.mp4,b\n");
        fs::write(dir.path().join("list.csv"), text).unwrap();
    };
    list("a");
    as_json(dir.path(), &["list.csv", "--format", "json"]);
    list("c");
    let change = as_json(dir.path(), &["list.csv", "--format", "json"])["since_last_look"].clone();
    assert_eq!(change["relabelled"][0]["from"], "a");
    assert_eq!(change["relabelled"][0]["to"], "c");
    assert_eq!((change["added"].clone(), change["removed"].clone()), (json!([]), json!([])));
    let (_, lines, _) = catalog(dir.path(), &["list.csv"]);
    assert!(lines.contains(&"since the last look: nothing changed".to_owned()), "{lines:?}");
}

#[test]
fn filters_list_segments_and_what_is_left_out() {
    let dir = folder();
    let paths = |args: &[&str]| -> Vec<String> {
        let (code, lines, error) = catalog(dir.path(), &[&["v", "--format", "json"], args].concat());
        assert_eq!(code, Some(0), "{error}");
        let path =
            |line: &String| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        lines.iter().map(path).collect()
    };
    assert_eq!(paths(&["--label", "walk"]), ["v/walk/1.mp4", "v/walk/2.mkv"]);
    assert_eq!(paths(&["--path", "*.avi"]), ["v/run/4.avi"]);
    assert_eq!(paths(&["--path", "v/run/e*"]), ["v/run/empty.mp4"]);
    assert_eq!(paths(&["--reason", "empty"]), ["v/run/empty.mp4"]);
    assert_eq!(paths(&["--reason", "any"]).len(), 2);
    assert_eq!(paths(&["--list"]).len(), 6);
    let mut twins = paths(&["--duplicates"]);
    twins.sort();
    assert_eq!(twins, ["v/run/3.mp4", "v/run/copy.mp4", "v/run/linked.mkv", "v/walk/2.mkv"]);

    let (code, lines, error) = catalog(dir.path(), &["v", "--label", "wlk"]);
    assert_eq!((code, lines.len()), (Some(1), 0));
    assert!(error.contains("no segment has the label `wlk`; there are: run, walk"), "{error}");
    assert_eq!(catalog(dir.path(), &["v", "--reason", "ugly"]).0, Some(2));
    assert_eq!(catalog(dir.path(), &["nowhere"]).0, Some(0), "what is not there is left out, and said");
    fs::write(dir.path().join("p.toml"), "version = 1\n").unwrap();
    assert_eq!(catalog(dir.path(), &["p.toml"]).0, Some(78));
    let (code, _, error) = catalog(dir.path(), &["v", "--catalogue", "v/walk/1.mp4"]);
    assert_eq!(code, Some(78));
    assert!(error.contains("is no catalogue of reelflow; choose another name"), "{error}");
}

const PIPELINE: &str = r#"
version = 1
[run]
steps = 2
[sources.s]
type = "files"
paths = ["v"]
[operators.windows]
type = "uniform"
inputs = ["s"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }, { op = "normalize" }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 2
[sinks.digest]
type = "digest"
inputs = ["batch"]
"#;

#[test]
fn a_run_begins_with_what_the_run_before_it_found() {
    let dir = folder();
    fs::write(dir.path().join("p.toml"), PIPELINE).unwrap();
    let run = |args: &[&str]| -> String {
        let mut command = reelflow();
        let output =
            command.current_dir(dir.path()).args(["run", "p.toml", "--quiet"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run(&[]);
    let own = |run: &str| dir.path().join("runs").join(run).join("catalogue.bin");
    assert_eq!(run(&[]), first);
    assert_eq!(fs::read(own("p")).unwrap(), fs::read(own("p-2")).unwrap());
    // With other bytes of the same size and time a file is believed to be what it was: it was not probed again.
    let film = dir.path().join("v/run/4.avi");
    let about = fs::metadata(&film).unwrap();
    fs::write(&film, vec![7; about.size() as usize]).unwrap();
    fs::File::options().write(true).open(&film).unwrap().set_modified(about.modified().unwrap()).unwrap();
    let shared = dir.path().join("shared.bin");
    let is_probed = |run: &str| {
        let path = dir.path().join("runs").join(run).join("quarantine.jsonl");
        let list = fs::read_to_string(path).unwrap();
        list.lines().any(|line| line.contains("4.avi") && line.contains("\"stage\":\"probe\""))
    };
    run(&[]);
    assert!(!is_probed("p-3"));
    run(&["--set", &format!("run.catalogue=\"{}\"", shared.display())]);
    assert!(is_probed("p-4"), "with a file of its own");
    assert!(shared.is_file() && !own("p-4").exists());
}
