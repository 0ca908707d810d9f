//! `embed` writes a Parquet file, and `search` finds in it what it finds in the media themselves.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;
#[path = "support/training.rs"]
mod training;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use training::Folder;

fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn command(folder: &Folder, run: &str, command: &str, args: &[&str]) -> Output {
    support::reelflow().arg(command).arg(folder.path(run)).args(args).output().unwrap()
}

/// What a successful command said, as JSON.
#[track_caller]
fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_searched_in_the_file_is_what_is_searched_in_the_media() {
    let folder = Folder::pretrained();
    let index = folder.path("all.parquet");
    let (index, data) = (index.to_str().unwrap(), media(""));
    let (data, cut) = (data.to_str().unwrap(), ["--clips=2"]);
    let args = [&["--data", data, "--segment-secs=1", "--out", index], &cut[..]].concat();
    let output = command(&folder, "before", "embed", &args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(" rows of 32: "), "{text}");
    let query = format!("{}@0-1", media("bframes.mp4").display());
    let common = ["--query", &query, "--format=json", "-k=5", "--clips=2"];
    let search = |more: &[&str]| said(&command(&folder, "before", "search", &[&common[..], more].concat()));
    let (near, far) = (search(&["--data", data, "--moment-secs=1"]), search(&["--index", index]));
    let moments = |found: &Value| found["moments"].as_array().unwrap().clone();
    assert_eq!((moments(&near).len(), moments(&far).len()), (5, 5));
    for (a, b) in moments(&near).iter().zip(moments(&far)) {
        assert_eq!((&a["path"], &a["id"]), (&b["path"], &b["id"]));
        let (a, b) = (a["cosine"].as_f64().unwrap(), b["cosine"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    }
    // Another encoder's embeddings cannot be compared with.
    folder.run("after", &folder.pretraining(), &["--steps=5"]);
    let refused = command(&folder, "after", "search", &[&common[..], &["--index", index]].concat());
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("embeddings of two encoders cannot be compared"), "{text}");
}

#[test]
fn an_array_is_written_with_a_table_beside_it_and_other_names_are_refused() {
    let folder = Folder::pretrained();
    let data = media("bframes.mp4");
    let embed = |name: &str| {
        let out = folder.path(name);
        command(
            &folder,
            "before",
            "embed",
            &["--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()],
        )
    };
    assert!(embed("one.npy").status.success());
    assert!(folder.path("one.npy").is_file() && folder.path("one.csv").is_file());
    let refused = embed("one.json");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("must end in `.parquet` or `.npy`"));
}
