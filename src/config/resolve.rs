//! Turns a checked draft into the plan, and writes it out with every default.

use std::path::PathBuf;

use reelflow_api::schema::Facets;
use reelflow_api::spec::{Kind, Schema, schema_of};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::graph::Wiring;
use super::plan::{EvalSettings, Node, Plan, RunSettings};
use super::stages::{Draft, StageDraft};
use crate::edge::secrets::mask;

/// The plan of a draft without problems.
pub fn plan(draft: Draft<'_>, wiring: &Wiring) -> Plan {
    let mut run = draft.run;
    let out = run.out.get_or_insert_with(|| PathBuf::from("runs").join(&draft.name)).clone();
    let mut run_values = json_table(&draft.run_entries);
    run_values.entry("out").or_insert_with(|| out.display().to_string().into());
    add_defaults(&mut run_values, &schema_of::<RunSettings>());

    let mut resolved = format!("version = 1\nname = {}\n", toml_value(&draft.name.clone().into()));
    write_table(&mut resolved, "run", &run_values);
    for eval in &draft.evals {
        let mut values = json_table(&eval.table.entries);
        add_defaults(&mut values, &schema_of::<EvalSettings>());
        resolved.push_str("\n[[eval]]\n");
        write_entries(&mut resolved, &values);
    }
    for stage in &draft.stages {
        write_stage(&mut resolved, stage);
    }
    let mut stages: Vec<Option<StageDraft<'_>>> = draft.stages.into_iter().map(Some).collect();
    let mut nodes = Vec::new();
    for index in &wiring.order {
        let Some(StageDraft { id, kind, spec: Some(spec), inputs, stage: Some(stage), .. }) =
            stages[*index].take()
        else {
            continue;
        };
        let inputs = inputs.into_iter().map(|(id, _)| id).collect();
        let output = wiring.outputs[*index];
        nodes.push(Node { id, kind, type_name: spec.name, inputs, output, stage });
    }
    let evals = draft.evals.into_iter().filter_map(|eval| eval.settings).collect();
    Plan { name: draft.name, run, evals, nodes, resolved }
}

fn write_stage(out: &mut String, stage: &StageDraft<'_>) {
    let Some(spec) = stage.spec else { return };
    let mut values = json_table(&stage.table.entries);
    add_defaults(&mut values, &(spec.schema)());
    out.push_str(&format!("\n[{}]\ntype = {}\n", stage.table.path, toml_value(&spec.name.into())));
    if matches!(stage.kind, Kind::Operator | Kind::Sink) {
        let inputs = stage.inputs.iter().map(|(id, _)| id.clone()).collect();
        out.push_str(&format!("inputs = {}\n", toml_value(&inputs)));
    }
    write_entries(out, &values);
}

fn write_table(out: &mut String, path: &str, values: &Map<String, Value>) {
    out.push_str(&format!("\n[{path}]\n"));
    write_entries(out, values);
}

fn write_entries(out: &mut String, values: &Map<String, Value>) {
    for (key, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        out.push_str(&format!("{} = {}\n", toml_key(key), toml_value(value)));
    }
}

/// JSON as TOML on one line. TOML has no null: such entries are left out.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let some = entries.iter().filter(|(_, value)| !value.is_null());
            let pairs = some.map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        // JSON lets DEL stand in a string, TOML does not.
        other => other.to_string().replace('\u{7f}', "\\u007f"),
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { toml_value(&key.into()) }
}

fn json_table(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value))).collect()
}

fn json(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        // What is written here is kept beside the run: passwords are not.
        DeValue::String(text) => Value::from(mask(text)),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX).into()
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap_or_default().into(),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => items.iter().map(json).collect(),
        DeValue::Table(entries) => Value::Object(json_table(entries)),
    }
}

/// Adds what `schema` has as default and `values` lacks, at any depth.
fn add_defaults(values: &mut Map<String, Value>, schema: &Schema) {
    Facets::new(schema.as_value(), schema.as_value()).fill_defaults(values);
}
