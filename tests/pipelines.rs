//! Every file in `pipelines/` is a test: equal results with 1, 2 and 3 workers and through stop-and-resume.
//!
//! A line `#test: ARGS` in a file gives arguments that make it short and independent of data that is not
//! in the project. Files whose stages this build lacks are skipped, and said to be.

mod support;

use std::path::Path;
use std::process::Child;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use support::Trace;

fn main() {
    let mut trials = Vec::new();
    for path in support::toml_files("pipelines") {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if let Some(reason) = unavailable(&path) {
            trials.push(Trial::test(format!("{name}::skipped"), move || {
                println!("SKIPPED: pipelines::{name}: {reason}");
                Ok(())
            }));
            continue;
        }
        let expected = Arc::new(OnceLock::new());
        for workers in [1, 2, 3] {
            let (path, expected) = (path.clone(), Arc::clone(&expected));
            trials.push(Trial::test(format!("{name}::workers_{workers}"), move || {
                same(&run(&path, &[format!("--workers={workers}")]), reference(&expected, &path))
            }));
        }
        trials.push(Trial::test(format!("{name}::killed_and_resumed"), move || {
            same(&killed_and_resumed(&path)?, reference(&expected, &path))
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Why this build or machine cannot run a pipeline; `check` says it without starting anything.
fn unavailable(path: &Path) -> Option<String> {
    let output = support::reelflow().arg("check").arg(path).output().expect("the binary under test starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lacks = ["feature `gst`", "feature `torch`"].into_iter().find(|feature| text.contains(feature))?;
    Some(format!("built without {lacks}"))
}

fn test_args(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a pipeline file can be read");
    let line = text.lines().find_map(|line| line.strip_prefix("#test:")).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

fn run(path: &Path, extra: &[String]) -> Trace {
    let out = tempfile::tempdir().expect("a temporary folder can be made");
    let args: Vec<String> = test_args(path).into_iter().chain(extra.iter().cloned()).collect();
    support::run(path, out.path(), &args)
}

fn reference<'a>(expected: &'a OnceLock<Trace>, path: &Path) -> &'a Trace {
    expected.get_or_init(|| run(path, &["--workers=1".to_owned()]))
}

fn same(found: &Trace, expected: &Trace) -> Result<(), Failed> {
    if expected.stdout.is_empty() && expected.losses.is_empty() && expected.parts.is_empty() {
        return Err("the run leaves nothing that could be compared: add a `digest` sink".into());
    }
    if found == expected {
        return Ok(());
    }
    Err(format!("found {found:#?}, expected {expected:#?}").into())
}

/// Kills the run (SIGKILL) as soon as its first checkpoint is there, then lets it go on with another
/// number of workers. If the run is over by then, the resume must still give the same end.
fn killed_and_resumed(path: &Path) -> Result<Trace, Failed> {
    let out = tempfile::tempdir()?;
    let mut args = test_args(path);
    args.push("--set=run.checkpoint_every=2".to_owned());
    let mut child = support::start(path, out.path(), &args);
    let is_over = |child: &mut Child| child.try_wait().expect("a child can be asked for").is_some();
    while support::newest_checkpoint(out.path()).is_none() && !is_over(&mut child) {
        std::thread::yield_now();
    }
    child.kill().and_then(|()| child.wait()).expect("a child can be killed");
    args.extend(["--resume".to_owned(), "--workers=2".to_owned()]);
    Ok(support::run(path, out.path(), &args))
}
