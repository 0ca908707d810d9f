//! Runs the built `reelflow` and reads what a run left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A command that runs the binary under test from the project's folder.
pub fn reelflow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelflow"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// What a run leaves that must not depend on workers or interruptions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// Result lines.
    pub stdout: String,
    /// `step: loss` of every step, as written.
    pub losses: Vec<String>,
    /// Checksum of every part of the newest checkpoint.
    pub parts: BTreeMap<String, String>,
}

/// Runs to the end; panics with its standard error if it fails.
#[track_caller]
pub fn run(pipeline: &Path, out: &Path, args: &[String]) -> Trace {
    let output = command(pipeline, out, args).output().expect("the binary under test starts");
    finished(&output, pipeline);
    trace(&output, out)
}

/// Starts a run; the caller waits for it.
pub fn start(pipeline: &Path, out: &Path, args: &[String]) -> Child {
    command(pipeline, out, args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts")
}

fn command(pipeline: &Path, out: &Path, args: &[String]) -> Command {
    let mut command = reelflow();
    command.arg("run").arg(pipeline).arg("--out").arg(out).arg("--quiet").args(args);
    command
}

#[track_caller]
fn finished(output: &Output, pipeline: &Path) {
    assert!(
        output.status.success(),
        "{} ended with {}: {}",
        pipeline.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn trace(output: &Output, out: &Path) -> Trace {
    Trace {
        // Where the run lies is not part of what it gave.
        stdout: String::from_utf8_lossy(&output.stdout).replace(&*out.to_string_lossy(), "OUT"),
        losses: losses(out),
        parts: parts(out),
    }
}

/// `step loss` of every line of `metrics.jsonl` that has a loss.
pub fn losses(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("metrics are JSON lines");
            Some(format!("{} {}", line.get("step")?, line.get("loss")?))
        })
        .collect()
}

/// The newest checkpoint's step and folder.
pub fn newest_checkpoint(out: &Path) -> Option<(u64, PathBuf)> {
    let entries = out.join("checkpoints").read_dir().ok()?;
    let steps = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step = path.file_name()?.to_str()?.strip_prefix("step=")?.parse().ok()?;
        path.join("manifest.json").exists().then_some((step, path))
    });
    steps.max()
}

fn parts(out: &Path) -> BTreeMap<String, String> {
    let Some((_, dir)) = newest_checkpoint(out) else { return BTreeMap::new() };
    let text = std::fs::read_to_string(dir.join("manifest.json")).expect("a checkpoint has a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("a manifest is JSON");
    let parts = manifest["parts"].as_array().expect("a manifest lists its parts");
    parts
        .iter()
        .map(|part| (format!("{}/{}", part["sink"], part["name"]), part["xxh3"].to_string()))
        .collect()
}

/// Every `*.toml` of a folder, sorted.
pub fn toml_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .expect("the folder is part of the project")
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}
