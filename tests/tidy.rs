//! House rules that a compiler does not know: borders, documents that stay true, files one can read.
//!
//! Each test is a rule; its message says what to do.

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// Which folders may name which foreign crate.
const DOORS: &[(&str, &[&str])] = &[
    ("timely", &["src/engine/"]),
    ("differential_dataflow", &["src/engine/"]),
    ("bincode", &["src/engine/"]),
    ("gstreamer", &["src/decode/", "src/source/"]),
    ("gstreamer_app", &["src/decode/", "src/source/"]),
    ("gstreamer_video", &["src/decode/", "src/source/"]),
    ("tch", &["src/train/", "src/eval/", "plugins/"]),
];

/// Folder names that say nothing about what is inside.
const NAMELESS: &[&str] = &["utils", "util", "common", "core", "helpers", "misc", "types", "manager"];

/// A file longer than this is two files.
const LINES_MAX: usize = 500;
/// A function longer than this is two functions.
const FUNCTION_LINES_MAX: usize = 120;
/// Functions longer than a screen are exceptions: at most 15 of 1000.
const SCREEN_LINES: usize = 70;
const LONGER_THAN_SCREEN_PER_1000_MAX: usize = 15;

/// A text file of the project, by its path from the root.
struct Text {
    path: String,
    text: String,
}

/// Files below the root whose name ends with one of `endings`, in the order of their paths.
fn texts(endings: &[&str]) -> Vec<Text> {
    let made_by_runs = ["target", ".git", ".venv", "data", "runs"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        let is_made = entry.depth() == 1 && made_by_runs.contains(&name.as_ref());
        !is_made && !entry.path_is_symlink()
    });
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().is_file());
    let named = files.filter(|entry| {
        let name = entry.file_name().to_string_lossy();
        endings.iter().any(|ending| name.ends_with(ending))
    });
    let text = named.map(|entry| Text {
        path: entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(entry.path()).unwrap(),
    });
    text.collect()
}

fn rust() -> Vec<Text> {
    let all = texts(&[".rs"]);
    assert!(all.len() > 40, "only {} Rust files found: the walk is broken", all.len());
    all
}

/// Rust files but this one, which has to write what it forbids.
fn others() -> Vec<Text> {
    rust().into_iter().filter(|file| file.path != "tests/tidy.rs").collect()
}

impl Text {
    fn is_program(&self) -> bool {
        self.path.starts_with("src/") || self.path.starts_with("plugins/")
    }

    /// Numbered lines without what stands behind `//`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
    }

    /// Number of the line from which on code only runs in tests. Tests stand at the end of a file.
    fn tests_begin(&self) -> usize {
        let is_test_file = self.path.contains("tests/") || self.path.ends_with("tests.rs");
        let mark = self.text.lines().position(|line| line.trim() == "#[cfg(test)]");
        if is_test_file { 0 } else { mark.unwrap_or(usize::MAX) }
    }
}

#[track_caller]
fn none(broken: &[String], what_to_do: &str) {
    assert!(broken.is_empty(), "{what_to_do}:\n  {}", broken.join("\n  "));
}

/// Whether `word` stands in `text` by itself, not as a part of a longer word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// `tch::`, `use tch;` or `use {tch, …}`, but neither a variable nor a module of that name.
fn names_crate(line: &str, name: &str) -> bool {
    let is_use = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        !before.ends_with(is_part) && (after.starts_with("::") || is_use && ends)
    })
}

#[test]
fn a_crate_is_known_by_its_path() {
    let named = ["let x = tch::Tensor::new();", "use tch as torch;", "    use {serde, tch};"];
    let other = ["let tch = 3;", "my_tch::x()", "use my_tch;", "dispatch::x()", "crate::tch::x()"];
    assert!(named.iter().all(|line| names_crate(line, "tch")));
    assert!(!other.iter().any(|line| names_crate(line, "tch")));
}

#[test]
fn foreign_crates_stay_behind_their_doors() {
    let mut broken = Vec::new();
    for file in others().iter().filter(|file| file.is_program()) {
        for (number, line) in file.code() {
            for (name, homes) in DOORS {
                if names_crate(line, name) && !homes.iter().any(|home| file.path.starts_with(home)) {
                    broken.push(format!("{}:{number}: `{name}` belongs to {}", file.path, homes.join(", ")));
                }
            }
        }
    }
    none(&broken, "move this behind a function of the folder that may name the crate");
}

#[test]
fn every_file_opens_with_a_sentence() {
    let opens = |file: &Text| {
        let first = file.text.lines().next().unwrap_or("");
        first.strip_prefix("//! ").is_some_and(|sentence| sentence.split_whitespace().count() >= 3)
    };
    let broken: Vec<_> = rust().into_iter().filter(|file| !opens(file)).map(|file| file.path).collect();
    none(&broken, "begin the file with `//! ` and a sentence a newcomer understands");
}

#[test]
fn files_are_short() {
    let lengths = rust().into_iter().map(|file| (file.text.lines().count(), file.path));
    let long = lengths.filter(|(lines, _)| *lines > LINES_MAX);
    let broken: Vec<_> = long.map(|(lines, path)| format!("{path}: {lines} lines")).collect();
    none(&broken, &format!("split the file along what it does; {LINES_MAX} lines are the limit"));
}

/// First line, number of lines and name of every function of more than one line, found by indentation:
/// rustfmt puts the closing brace under the first letter of the signature.
fn functions(text: &str) -> Vec<(usize, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else { continue };
        let is_qualifier =
            |word: &str| word.starts_with("pub") || ["async", "const", "extern"].contains(&word);
        if !before.split_whitespace().all(is_qualifier) || line.ends_with(['}', ';']) {
            continue;
        }
        let ends = |end: &usize| indent(lines[*end]) == indent(line) && lines[*end].ends_with(['}', ';']);
        let Some(end) = (start + 1..lines.len()).find(ends) else { continue };
        let name = after.split(['(', '<']).next().unwrap_or("").to_owned();
        found.push((start + 1, end - start + 1, name));
    }
    found
}

#[test]
fn functions_are_found_by_indentation() {
    let text =
        ["fn a() {", "    x", "}", "impl B {", "    pub(crate) fn c(", "        d: u8,", "    ) -> u8 {"];
    let rest = ["        {", "        }", "    }", "", "    fn e();", "}", "let fn_like = 3;"];
    let found = functions(&[text, rest].concat().join("\n"));
    let found: Vec<_> = found.into_iter().map(|(at, lines, name)| format!("{name} {at} {lines}")).collect();
    assert_eq!(found, ["a 1 3", "c 5 6"]);
}

#[test]
fn functions_fit_a_screen() {
    let mut all = Vec::new();
    for file in rust() {
        for (at, lines, name) in functions(&file.text) {
            all.push((lines, format!("{}:{at}: `{name}` has {lines} lines", file.path)));
        }
    }
    let longer = |limit: usize| -> Vec<String> {
        all.iter().filter(|(lines, _)| *lines > limit).map(|(_, text)| text.clone()).collect()
    };
    let rule =
        format!("take a part out and give it a name of its own; {FUNCTION_LINES_MAX} lines are the limit");
    none(&longer(FUNCTION_LINES_MAX), &rule);
    let over = longer(SCREEN_LINES);
    if over.len() * 1000 > all.len() * LONGER_THAN_SCREEN_PER_1000_MAX {
        let share = LONGER_THAN_SCREEN_PER_1000_MAX;
        let found = format!("{} of {} functions are longer than {SCREEN_LINES} lines", over.len(), all.len());
        none(&over, &format!("{found}, {share} of 1000 may be; shorten some of these"));
    }
}

#[test]
fn documents_name_only_living_paths() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for file in texts(&["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]) {
        let home = root.join(&file.path).parent().map(Path::to_owned).unwrap_or_default();
        for named in file.text.split('`').skip(1).step_by(2).filter(|word| looks_like_path(word)) {
            if !root.join(named).exists() && !home.join(named).exists() {
                broken.push(format!("{}: `{named}`", file.path));
            }
        }
    }
    none(&broken, "the document names a path that is gone; name the one that took its place");
}

/// A path below one of the project's folders; what a run makes (`runs/`, `data/`) need not be there.
fn looks_like_path(word: &str) -> bool {
    let homes = ["src", "plugins", "pipelines", "tests", "benches", "scripts", "docs", ".ci", ".cargo"];
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    word.split_once('/').is_some_and(|(home, _)| homes.contains(&home)) && word.chars().all(is_plain)
}

#[test]
fn paths_are_told_from_other_words() {
    assert!(
        ["src/engine/", "src/lib.rs", ".ci/run", "plugins/api/src/item.rs"]
            .iter()
            .all(|w| looks_like_path(w))
    );
    assert!(
        !["src", "a/b", "runs/demo", "src/*.rs", "plugins/<name>/", "src/{a,b}.rs"]
            .iter()
            .any(|w| looks_like_path(w))
    );
}

#[test]
fn exceptions_have_a_reason() {
    let mut broken = Vec::new();
    for file in others() {
        for mark in ["[allow(", "[expect("] {
            for (at, _) in file.text.match_indices(mark) {
                let attribute = file.text[at..].split(")]").next().unwrap_or("");
                let place = format!("{}:{}", file.path, file.text[..at].lines().count());
                if mark == "[allow(" {
                    broken.push(format!(
                        "{place}: `expect` warns when it is no longer needed, `allow` does not"
                    ));
                } else if !attribute.contains("reason = ") {
                    broken.push(format!("{place}: no reason"));
                }
            }
        }
    }
    none(&broken, "write `#[expect(lint, reason = \"why it is right here\")]`");
}

#[test]
fn tests_run_always_and_never_wait() {
    let forbidden = [
        ("#[ignore", "a test that cannot run here prints `SKIPPED: name: reason` and returns"),
        ("should_panic", "compare the error, which says more"),
        ("thread::sleep", "wait for the event, or pass time in as an argument"),
        ("clock::wait(", "wait for the event, or pass time in as an argument"),
    ];
    let mut broken = Vec::new();
    for file in others() {
        let begin = file.tests_begin();
        for (number, line) in file.code().filter(|(number, _)| *number > begin) {
            for (text, instead) in forbidden.iter().filter(|(text, _)| line.contains(text)) {
                broken.push(format!("{}:{number}: `{text}`: {instead}", file.path));
            }
        }
    }
    none(&broken, "tests are input and answer");
}

#[test]
fn the_program_unwraps_only_with_the_invariant_in_words() {
    let mut broken = Vec::new();
    for file in others().iter().filter(|file| file.is_program()) {
        let begin = file.tests_begin();
        let bare = file.code().filter(|(number, line)| *number <= begin && line.contains(".unwrap()"));
        broken.extend(bare.map(|(number, _)| format!("{}:{number}", file.path)));
    }
    none(&broken, "return an error, or write `.expect(\"why this cannot happen\")`");
}

#[test]
fn stages_are_in_the_list_of_their_folder() {
    let mut broken = Vec::new();
    let files = rust();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && !file.path.ends_with("mod.rs")) {
        if !file.code().any(|(_, line)| line.starts_with("pub const SPEC: ")) {
            continue;
        }
        let (folder, name) = file.path.rsplit_once('/').unwrap();
        let name = name.trim_end_matches(".rs");
        let entry = format!("{name}::SPEC");
        let list = files.iter().find(|other| other.path == format!("{folder}/mod.rs"));
        if !list.is_some_and(|list| has_word(&list.text, &entry)) {
            broken.push(format!("{folder}/mod.rs: add `pub mod {name};` and `&{entry}` to `ALL`"));
        }
    }
    none(&broken, "a stage that no list names cannot be used");
}

#[test]
fn folders_say_what_is_inside() {
    let nameless = |path: &str| path.split(['/', '.']).any(|part| NAMELESS.contains(&part));
    let broken: Vec<_> = rust().into_iter().map(|file| file.path).filter(|path| nameless(path)).collect();
    none(&broken, "name the file or folder after what it does");
}

#[test]
fn texts_are_about_the_program_not_about_its_making() {
    // Paths of one machine, notes to oneself, and talk about how the work was done.
    let forbidden = ["/work/", "/root/", "TODO", "FIXME", "XXX", "session", "sessions"];
    let endings = [".rs", ".md", ".toml", ".sh", ".py", "Makefile", "run"];
    let mut broken = Vec::new();
    for file in texts(&endings).iter().filter(|file| file.path != "tests/tidy.rs") {
        for (index, line) in file.text.lines().enumerate() {
            // In code a word may be the name that another library gave to a thing.
            let prose = if file.path.ends_with(".rs") {
                line.split_once("//").map_or("", |(_, it)| it)
            } else {
                line
            };
            for word in forbidden {
                let found = if word.starts_with('/') { line.contains(word) } else { has_word(prose, word) };
                if found {
                    broken.push(format!("{}:{}: `{word}`", file.path, index + 1));
                }
            }
        }
    }
    none(&broken, "say it without this word: whoever reads it has another machine and another day");
}
