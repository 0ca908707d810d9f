//! Every file in `pipelines/bad/` must be refused with the problems that its first lines state.
//!
//! `# error[P012]: MESSAGE` states one problem; the lines are in the order of the report. Nothing may be
//! started or written: `run` in an empty folder leaves it empty.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trial = |path: PathBuf| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        Trial::test(name, move || refused(&path))
    };
    let mut trials: Vec<Trial> = support::toml_files("pipelines/bad").into_iter().map(trial).collect();
    trials.push(Trial::test("not_utf8", not_utf8));
    trials.push(Trial::test("missing_file", missing_file));
    trials.push(Trial::test("malformed_plan", malformed_plan));
    trials.push(Trial::test("plan_without_media", plan_without_media));
    trials.push(Trial::test("formats", formats));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn command(name: &str, file: &Path, folder: &Path, args: &[&str]) -> Output {
    let mut command = support::reelflow();
    command.current_dir(folder).arg(name).arg(file).args(args);
    command.output().expect("the binary under test starts")
}

fn stated(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a pipeline file can be read");
    let lines = text.lines().map_while(|line| line.strip_prefix("# ")).map(str::to_owned);
    lines.take_while(|line| line.starts_with("error[")).collect()
}

fn refused(path: &Path) -> Result<(), Failed> {
    let expected = stated(path);
    if expected.is_empty() {
        return Err("the file states no problem: begin it with `# error[CODE]: MESSAGE`".into());
    }
    let folder = tempfile::tempdir()?;
    for name in ["check", "run"] {
        let output = command(name, path, folder.path(), &[]);
        let text = String::from_utf8(output.stderr)?;
        if let Some(feature) =
            ["gst", "torch"].iter().find(|name| text.contains(&format!("the feature `{name}`")))
        {
            let name = path.file_stem().unwrap_or_default().display();
            println!("SKIPPED: bad_pipelines::{name}: built without the feature `{feature}`");
            return Ok(());
        }
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("error")).collect();
        if found != expected {
            return Err(format!("{name}: expected {expected:#?}, found\n{text}").into());
        }
        if output.status.code() != Some(78) {
            return Err(format!("{name} ended with {}, expected 78", output.status).into());
        }
    }
    if folder.path().read_dir()?.next().is_some() {
        return Err("something was written".into());
    }
    Ok(())
}

fn not_utf8() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("latin.toml");
    std::fs::write(&file, b"version = 1\nname = \"caf\xe9\"\n")?;
    let output = command("check", &file, folder.path(), &["--format=short"]);
    let text = String::from_utf8(output.stdout)?;
    let is_right = text.ends_with("error[P004]: the file is not UTF-8: line 2, byte 23\n");
    if is_right && output.status.code() == Some(78) { Ok(()) } else { Err(text.into()) }
}

fn missing_file() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("train.toml"), "version = 1\n")?;
    let output = command("check", &folder.path().join("trian.toml"), folder.path(), &[]);
    let text = String::from_utf8(output.stderr)?;
    let is_right = text.contains("error[P002]") && text.contains("train.toml`?");
    if is_right && output.status.code() == Some(78) { Ok(()) } else { Err(text.into()) }
}

/// `check` and `run` a pipeline over four patterns of 320x240 with this plan, and find this error.
fn refused_plan(plan: &str, expected: &str, commands: &[&str]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/bad/missing_plan.toml");
    std::fs::write(folder.path().join("plan.txt"), plan)?;
    for name in commands {
        let output = command(name, &pipeline, folder.path(), &["--set=operators.windows.plan=plan.txt"]);
        let text = String::from_utf8(output.stderr)?;
        if !text.contains(expected) || output.status.code() != Some(78) {
            return Err(format!("{name} ended with {}, expected {expected:?}:\n{text}", output.status).into());
        }
    }
    Ok(())
}

fn malformed_plan() -> Result<(), Failed> {
    let plan = "pattern:0\t0 0 0 32 32 0 1 1 1\npattern:0\t0 0 0 32 32 2 1 1 1\n";
    let expected = "error[P033]: `operators.windows.plan`: plan.txt:2: `flip` is \"2\", expected 0 or 1";
    refused_plan(plan, expected, &["check", "run"])
}

fn plan_without_media() -> Result<(), Failed> {
    let plan = "pattern:0\t0 0 0 32 32 0 1 1 1\npattern:9\t0 0 0 32 32 0 1 1 1\n";
    refused_plan(plan, "error: windows: plan.txt:2: `pattern:9` is none of the media", &["run"])
}

fn formats() -> Result<(), Failed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/bad/out_of_range.toml");
    let folder = tempfile::tempdir()?;
    let output = command("check", &file, folder.path(), &["--format=json", "--set=run.steps=x"]);
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [size, steps] = lines.as_slice() else { return Err(format!("{lines:?}").into()) };
    let is_right = size["code"] == "P014"
        && size["line"] == 24
        && size["column"] == 8
        && size["text"] == "0"
        && steps["file"] == "--set"
        && steps["text"] == "x"
        && steps["end_column"] == 12;
    if is_right && output.status.code() == Some(78) { Ok(()) } else { Err(format!("{lines:?}").into()) }
}
