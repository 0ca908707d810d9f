//! What is wrong with a pipeline file, for people, editors and programs.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use reelflow_api::spec::Problem;

use super::text::{Place, Text};
use crate::edge::secrets::mask;

/// Exit code of every command that refuses a pipeline file.
pub const EXIT_REFUSED: u8 = 78;

/// All problems of one pipeline file.
#[derive(Clone, Debug)]
pub struct Report {
    text: Text,
    problems: Vec<Problem>,
}

impl Report {
    /// Problems in the order of the text, each place and message once. Passwords are masked in all of it.
    #[must_use]
    pub fn new(text: Text, mut problems: Vec<Problem>) -> Self {
        let text = text.masked();
        for problem in &mut problems {
            problem.message = mask(&problem.message);
            problem.label = mask(&problem.label);
            problem.help = problem.help.as_deref().map(mask);
            if let Some(other) = &mut problem.other {
                other.1 = mask(&other.1);
            }
        }
        problems.sort_by(|a, b| (a.span.start, a.code, &a.message).cmp(&(b.span.start, b.code, &b.message)));
        problems.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Self { text, problems }
    }

    /// The problems, in the order of the text.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// One block a problem, with the marked text; `colour` for terminals.
    #[must_use]
    pub fn human(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for problem in &self.problems {
            let message = printable(&problem.message);
            let label = printable(&problem.label);
            let help = problem.help.as_deref().map(printable);
            let group = self.group(problem, &message, &label, help.as_deref());
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        let many = if self.problems.len() == 1 { "" } else { "s" };
        out.push_str(&format!(
            "{} problem{many} in {}; nothing was started\n",
            self.problems.len(),
            self.text.file.display()
        ));
        out
    }

    fn group<'r>(
        &'r self,
        problem: &Problem,
        message: &'r str,
        label: &'r str,
        help: Option<&'r str>,
    ) -> Group<'r> {
        let title = Level::ERROR.primary_title(message).id(problem.code);
        let place = self.text.place(&problem.span);
        let mut group = if place.text.is_empty() || problem.span == (0..0) {
            Group::with_title(title).element(Origin::path(place.path))
        } else {
            let other =
                problem.other.as_deref().map(|(span, label)| (self.text.place(span), printable(label)));
            let mut snippet = Snippet::source(place.text).path(place.path.clone());
            let mark = AnnotationKind::Primary.span(place.span.clone());
            snippet = snippet.annotation(if label.is_empty() { mark } else { mark.label(label) });
            let mut elsewhere = None;
            match other {
                Some((other, label)) if other.path == place.path && other.text == place.text => {
                    snippet = snippet.annotation(AnnotationKind::Context.span(other.span).label(label));
                }
                Some((other, label)) => elsewhere = Some((other, label)),
                None => {}
            }
            let mut group = Group::with_title(title).element(snippet);
            if let Some((Place { path, text, span, .. }, label)) = elsewhere {
                let mark = AnnotationKind::Context.span(span).label(label);
                group = group.element(Snippet::source(text).path(path).annotation(mark));
            }
            group
        };
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }

    /// `file:line:column: error[P012]: message`, one line a problem, as editors and grep read it.
    #[must_use]
    pub fn short(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let place = self.text.place(&problem.span);
            out.push_str(&format!(
                "{}:{}:{}: error[{}]: {}\n",
                printable(&place.path),
                place.line,
                place.column,
                problem.code,
                printable(&problem.message)
            ));
        }
        out
    }

    /// One JSON object a line: `code`, `severity`, `file`, `line`, `column`, `end_line`, `end_column`,
    /// `text`, `message`, `help`.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let place = self.text.place(&problem.span);
            let (end_line, end_column) = place.end();
            let object = serde_json::json!({
                "code": problem.code,
                "severity": "error",
                "file": place.path,
                "line": place.line,
                "column": place.column,
                "end_line": end_line,
                "end_column": end_column,
                "text": &place.text[place.span.clone()],
                "message": problem.message,
                "help": problem.help,
            });
            out.push_str(&object.to_string());
            out.push('\n');
        }
        out
    }

    /// Writes `text` (of [`Report::short`] or [`Report::json`]) to standard output; the exit code to leave
    /// with.
    #[must_use]
    pub fn print(&self, text: &str) -> ExitCode {
        // A reader that has gone away (`| head -1`) has what it wanted.
        let _ = write!(std::io::stdout(), "{text}");
        ExitCode::from(EXIT_REFUSED)
    }

    /// Writes the blocks to standard error, in colour on a terminal; the exit code to leave with.
    #[must_use]
    pub fn refuse(&self) -> ExitCode {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = write!(std::io::stderr(), "{}", self.human(colour));
        ExitCode::from(EXIT_REFUSED)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.human(false))
    }
}

impl std::error::Error for Report {}

/// Without control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
