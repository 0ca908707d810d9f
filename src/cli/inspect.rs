//! `reelflow inspect`: Lists stages and their parameters.

use std::process::ExitCode;

use reelflow_api::pretext::PretextSpec;
use reelflow_api::schema::Facets;
use reelflow_api::spec::{Kind, Output, Port, Schema, Spec, nearest};
use serde_json::{Value, json};

use crate::engine::registry;
use crate::pretext;

/// Arguments of `reelflow inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A stage or pretext task; all are listed if not given.
    name: Option<String>,
    /// How to write it to standard output.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    Text,
    Json,
}

/// Exit code for a name that does not exist: a bad command line.
const EXIT_USAGE: u8 = 2;

/// Something that has a name and parameters.
struct Entry {
    kind: &'static str,
    name: &'static str,
    summary: &'static str,
    reads: String,
    hands_on: String,
    example: String,
    schema: Schema,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let all = entries();
    let Some(name) = &args.name else {
        print!("{}", list(&all, args.format));
        return ExitCode::SUCCESS;
    };
    let found: Vec<&Entry> = all.iter().filter(|entry| entry.name == name).collect();
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|entry| entry.name).collect();
        let hint = nearest(name, &names).map(|near| format!("did you mean `{near}`?"));
        let hint = hint.unwrap_or_else(|| "`reelflow inspect` lists all".to_owned());
        eprintln!("error: inspect: there is no stage or task `{}` ({hint})", name.escape_debug());
        return ExitCode::from(EXIT_USAGE);
    }
    for entry in found {
        print!("{}", manual(entry, args.format));
    }
    ExitCode::SUCCESS
}

fn entries() -> Vec<Entry> {
    let stages = registry::all().into_iter().map(of_stage);
    stages.chain(pretext::ALL.iter().map(|task| of_task(task))).collect()
}

fn of_stage(spec: &'static Spec) -> Entry {
    let reads: Vec<&str> = spec.accepts.iter().map(|port| port.name()).collect();
    let table = spec.kind.table();
    let inputs = if spec.accepts.is_empty() { "" } else { "inputs = [\"ID\"]\n" };
    Entry {
        kind: table.trim_end_matches('s'),
        name: spec.name,
        summary: spec.summary,
        reads: reads.join(" or "),
        hands_on: match spec.output {
            Output::Nothing => String::new(),
            Output::Carries(port) => Port::name(port).to_owned(),
            Output::SameAsInput => "the same".to_owned(),
        },
        example: format!("[{table}.ID]\ntype = \"{}\"\n{inputs}{}\n", spec.name, spec.example.trim())
            .trim_end()
            .to_owned(),
        schema: (spec.schema)(),
    }
}

fn of_task(task: &'static PretextSpec) -> Entry {
    let parameters = task.example.trim().replace('\n', ", ");
    let separator = if parameters.is_empty() { "" } else { ", " };
    Entry {
        kind: "pretext",
        name: task.name,
        summary: task.summary,
        reads: String::new(),
        hands_on: String::new(),
        example: format!(
            "[{}.ID]\ntype = \"train\"\npretext = {{ type = \"{}\"{separator}{parameters} }}",
            Kind::Sink.table(),
            task.name
        ),
        schema: (task.schema)(),
    }
}

fn list(all: &[Entry], format: Format) -> String {
    let mut out = String::new();
    let width = all.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for Entry { kind, name, summary, .. } in all {
        out.push_str(&match format {
            Format::Text => format!("{kind:8}  {name:width$}  {summary}\n"),
            Format::Json => format!("{}\n", json!({ "kind": kind, "name": name, "summary": summary })),
        });
    }
    out
}

fn manual(entry: &Entry, format: Format) -> String {
    let Entry { kind, name, summary, reads, hands_on, example, schema } = entry;
    if matches!(format, Format::Json) {
        let object = json!({
            "kind": kind, "name": name, "summary": summary, "reads": reads, "hands_on": hands_on,
            "example": example, "parameters": schema.as_value(),
        });
        return format!("{object}\n");
    }
    let mut out = format!("{kind} {name}\n  {summary}\n");
    if !reads.is_empty() {
        out.push_str(&format!("\nreads     {reads}\n"));
    }
    if !hands_on.is_empty() {
        out.push_str(&format!("{}hands on  {hands_on}\n", if reads.is_empty() { "\n" } else { "" }));
    }
    let facets = Facets::new(schema.as_value(), schema.as_value());
    out.push_str("\nparameters\n");
    if facets.properties().is_empty() {
        out.push_str("  none\n");
    }
    parameters(&facets, 1, &mut out);
    out.push_str(&format!("\nexample\n  {}\n", example.replace('\n', "\n  ")));
    out
}

/// One parameter: name, type, default, range; below it what it means, then its own parameters.
fn parameters(facets: &Facets<'_>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let required = facets.required();
    for (name, schema) in facets.properties() {
        let facets = facets.sub(schema);
        if schema["const"].is_string() {
            // The tag of a form is its heading.
            continue;
        }
        let default = match facets.default() {
            _ if required.contains(&name) => ", required".to_owned(),
            Some(Value::Null | Value::Object(_)) | None => ", optional".to_owned(),
            Some(Value::Array(items)) if items.iter().any(Value::is_object) => ", optional".to_owned(),
            Some(value) => format!(", default {value}"),
        };
        out.push_str(&format!("{indent}{name}: {}{}{default}\n", type_of(&facets), range(&facets)));
        if let Some(about) = schema["description"].as_str() {
            for line in about.lines() {
                out.push_str(&format!("{indent}    {line}\n"));
            }
        }
        let items = facets.item(0).map(|item| facets.sub(item));
        let inner = items.as_ref().unwrap_or(&facets);
        parameters(inner, depth + 1, out);
        forms(inner, depth + 1, out);
    }
}

/// The forms of a tagged table: `op = "flip"` and its parameters.
fn forms(facets: &Facets<'_>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let choices = facets.choices();
    for choice in &choices {
        if let Some(tag) = choice.tag() {
            let value = choice.constant(tag).unwrap_or_default();
            let about = choice.get("description").and_then(Value::as_str).unwrap_or_default();
            out.push_str(&format!("{indent}{tag} = \"{value}\"  {}\n", about.replace('\n', " ")));
            parameters(choice, depth + 1, out);
        } else if choices.len() == 1 {
            parameters(choice, depth, out);
        } else if let ([word], Some(about)) = (choice.words().as_slice(), choice.get("description")) {
            let about = about.as_str().unwrap_or_default().replace('\n', " ");
            out.push_str(&format!("{indent}\"{word}\"  {about}\n"));
        }
    }
}

fn type_of(facets: &Facets<'_>) -> String {
    let choices = facets.choices();
    let words: Vec<&str> = facets.words().into_iter().chain(choices.iter().flat_map(Facets::words)).collect();
    if !words.is_empty() {
        let worded = if let [word] = words[..] {
            format!("\"{word}\"")
        } else {
            format!("one of {}", words.join(", "))
        };
        let others = choices.iter().filter(|choice| choice.words().is_empty()).map(type_of);
        return others.chain([worded]).collect::<Vec<_>>().join(" or ");
    }
    if let (true, Some(item)) = (facets.types().contains(&"array"), facets.item(0)) {
        return format!("list of {}", type_of(&facets.sub(item)));
    }
    let mut types = facets.types();
    if types.is_empty() {
        types = choices.iter().flat_map(Facets::types).collect();
        types.dedup();
    }
    let nouns: Vec<&str> = types.iter().map(|name| noun(name)).collect();
    if nouns.is_empty() { "anything".to_owned() } else { nouns.join(" or ") }
}

fn noun(json_type: &str) -> &str {
    match json_type {
        "integer" => "whole number",
        "boolean" => "true or false",
        "object" => "table",
        "array" => "list",
        other => other,
    }
}

fn range(facets: &Facets<'_>) -> String {
    let bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")];
    let parts: Vec<String> = bounds
        .iter()
        .filter_map(|(key, sign)| facets.number(key).map(|bound| format!("{sign} {bound}")))
        .collect();
    if parts.is_empty() { String::new() } else { format!(", {}", parts.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_manual_page() {
        for entry in entries() {
            let page = manual(&entry, Format::Text);
            assert!(page.contains(entry.summary), "{page}");
            assert!(page.contains("\nexample\n"), "{page}");
            let json: Value = serde_json::from_str(&manual(&entry, Format::Json)).unwrap();
            assert_eq!(json["name"], entry.name);
        }
        assert_eq!(list(&entries(), Format::Text).lines().count(), entries().len());
    }

    #[test]
    fn a_parameter_shows_type_range_default_and_meaning() {
        let page =
            entries().iter().find(|entry| entry.name == "batch").map(|e| manual(e, Format::Text)).unwrap();
        assert!(page.contains("  size: whole number, ≥ 1 and ≤ 65536, required\n"), "{page}");
        assert!(page.contains("      Slots (samples) of every step.\n"), "{page}");
        assert!(page.contains("reads     views\nhands on  batches\n"), "{page}");
    }
}
