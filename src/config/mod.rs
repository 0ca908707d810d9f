//! The text of a pipeline into a plan.
//!
//! Two phases: the text is parsed with the place of every key; then each table's `type` is looked up in
//! the registry and the rest is read by that stage's own settings. All problems are reported in one pass.
//!
//! ```text
//! text.rs ─▶ stages.rs ─▶ graph.rs ─▶ resolve.rs ─▶ plan.rs
//! places     tables       edges       defaults      what runs
//! ```

pub mod codes;
pub mod draw;
mod graph;
mod meaning;
pub mod plan;
pub mod report;
mod resolve;
mod stages;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use reelflow_api::spec::{Problem, Spec};

pub use plan::{EvalSettings, Node, Plan, RunSettings};
pub use report::Report;
use text::Text;

/// Reads a pipeline file, with `--set` options on top, into a plan.
///
/// # Errors
/// Every mistake in it.
pub fn load_file(file: &Path, sets: &[String]) -> Result<Plan, Report> {
    let text = read_text(file).map_err(|problem| Report::new(Text::new(file, "", sets), vec![problem]))?;
    load(&text, file, sets)
}

/// Reads the text of a pipeline; `file` names it in messages and, by its stem, the pipeline.
///
/// # Errors
/// Every mistake in it.
pub fn load(text: &str, file: &Path, sets: &[String]) -> Result<Plan, Report> {
    load_with(&crate::engine::registry::all(), text, file, sets)
}

/// [`load`] with other stages than this build's.
///
/// # Errors
/// Every mistake in it.
pub fn load_with(
    registry: &[&'static Spec],
    text: &str,
    file: &Path,
    sets: &[String],
) -> Result<Plan, Report> {
    let text = Text::new(file, text, sets);
    let (root, mut problems) = text.parse();
    if problems.iter().any(|problem| matches!(problem.code, "P003" | "P005" | "P006")) {
        return Err(Report::new(text, problems));
    }
    let damage: Vec<usize> =
        problems.iter().filter(|p| p.code == "P001").map(|p| text.place(&p.span).line).collect();
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let mut found = Vec::new();
    let draft = stages::read_all(root, &stem, registry, &mut found);
    let order = graph::check(&draft, registry, &mut found);
    // A table with holes lacks things that the writer did write; only what is there can be judged.
    found.retain(|problem| damage.is_empty() || stands_alone(problem, &damage, &text));
    problems.extend(found);
    if !problems.is_empty() {
        return Err(Report::new(text, problems));
    }
    Ok(resolve::plan(draft, &order))
}

fn stands_alone(problem: &Problem, damage: &[usize], text: &Text) -> bool {
    // What the parser made up to fill a hole has no place in the text.
    !problem.span.is_empty()
        && matches!(problem.code, "P011" | "P012" | "P014" | "P015" | "P020")
        && !damage.contains(&text.place(&problem.span).line)
}

/// The text of a regular file of reasonable size.
fn read_text(file: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| {
        let problem = Problem::new("P002", 0..0, format!("cannot read the file: {error}"));
        match neighbour(file) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        }
    };
    let meta = std::fs::metadata(file).map_err(unreadable)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no regular file" };
        return Err(Problem::new("P002", 0..0, format!("cannot read the file: it is {what}")));
    }
    if meta.len() > text::FILE_BYTES_MAX {
        return Err(text::too_large(meta.len()));
    }
    let bytes = std::fs::read(file).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("the file is not UTF-8: line {line}, byte {at}");
        Problem::new("P004", 0..0, message).help("save it as UTF-8")
    })
}

/// A file beside the missing one with nearly its name.
fn neighbour(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = crate::edge::files::list_dir(folder).ok()?;
    let names: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry.file_name()?.to_str())
        .filter(|other| other.ends_with(".toml"))
        .collect();
    let near = reelflow_api::spec::nearest(name, &names)?;
    Some(file.with_file_name(near).display().to_string())
}
