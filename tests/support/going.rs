//! A run that a test watches while it goes on, asks to stop, and hears the last words of.

use std::path::Path;
use std::process::Child;

use serde_json::Value;

/// Newest value of a number in the metrics of the run in `out`, -1 before it is there.
pub fn metric(out: &Path, name: &str) -> f64 {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let value = |line: &str| serde_json::from_str::<Value>(line).ok()?.get(name)?.as_f64();
    whole.lines().rev().find_map(value).unwrap_or(-1.0)
}

/// Asks a run to stop.
pub fn stop(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// The summary (`--summary json`) of a run that was asked to stop, or ended.
#[track_caller]
pub fn summary(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let line = out.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{out}{err}"));
    serde_json::from_str(line).unwrap()
}
