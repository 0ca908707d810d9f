//! What a pipeline file says about training, and how the task's own table is looked up.

use std::sync::Arc;

use reelflow_api::pretext::Pretext;
use reelflow_api::spec::{
    Invalid, Kind, Output, Port, Problem, Schema, Settings, Spec, Table, nearest, read,
};
use reelflow_api::stage::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder::EncoderSettings;
use super::optimizer::OptimizerSettings;
use super::schedule::ScheduleSettings;
use super::sink::TrainPlan;
use crate::pretext;

/// How `train` describes itself.
pub const SPEC: Spec = Spec {
    name: "train",
    kind: Kind::Sink,
    summary: "Learns: encoder, momentum encoder, pretext loss, optimiser.",
    accepts: &[Port::Batches],
    output: Output::Nothing,
    example: "encoder = { name = \"r3d\", width = 8 }\npretext = { type = \"vtdl\", bank = \"keys\" }",
    schema,
    build,
};

/// Settings of `train`; the table `pretext` is read by the task it names.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The network that is to be trained.
    pub encoder: EncoderSettings,
    /// How weights are changed.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// How the learning rate moves.
    #[serde(default)]
    pub schedule: ScheduleSettings,
    /// Share of its own weights that the key network keeps at each step.
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// `constant`, as the released VTDL, or `cosine`: from `momentum` up to 1 at the end of the run, as in
    /// SlowFast.
    #[serde(default)]
    pub momentum_schedule: MomentumSchedule,
    /// Parts of a batch whose gradients are added up before the weights change: a fraction of the memory at
    /// the price of time. Divides the batch. Batch norm sees each part by itself, so with batch norm this is
    /// not quite the whole batch at once; without, it is, up to rounding.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub accumulate: u32,
    /// ShuffleBN: parts of a batch of keys, in random order, that batch norm sees each by itself. On the one
    /// device there is, 1, as the released VTDL, changes nothing; 2 and more keep batch statistics from telling
    /// which key belongs to which query. Divides the batch (its parts, with `accumulate`).
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub bn_groups: u32,
    /// What the encoder is computed in: `f32`, or on a GPU `bf16`, which is faster. Weights, statistics,
    /// gradients, heads, loss and the bank's keys are f32 in either case. Refused on a CPU, where libtorch
    /// 2.11 gets bf16 gradients of some 3-D convolutions wrong.
    #[serde(default)]
    pub precision: Precision,
    /// Steps between exports of the encoder to `exported/` in the run's folder; 0: only at the end.
    #[serde(default)]
    pub export_every: u64,
    /// Steps in a row with a loss or gradient that is no number before the run ends. Such a step changes
    /// no weight, statistic or bank, and is counted as `skipped`.
    #[serde(default = "nonfinite_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub nonfinite_max: u32,
}

/// How the key network's momentum moves.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentumSchedule {
    /// The same at every step.
    #[default]
    Constant,
    /// Half a cosine up to 1 at the end of the run.
    Cosine,
}

/// What convolutions are computed in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32.
    Bf16,
}

impl TrainSettings {
    /// The key network's momentum at `step` (from 0) of a run of `steps`.
    ///
    /// Cosine: `1 - (1 - m) (cos(π step / steps) + 1) / 2` (SlowFast, `slowfast/models/contrastive.py`).
    #[must_use]
    pub fn momentum_at(&self, step: u64, steps: u64) -> f64 {
        match self.momentum_schedule {
            MomentumSchedule::Constant => self.momentum,
            MomentumSchedule::Cosine => {
                let done = (step as f64 / steps.max(1) as f64).min(1.0);
                1.0 - (1.0 - self.momentum) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

fn momentum() -> f64 {
    0.999
}

fn one() -> u32 {
    1
}

fn nonfinite_max() -> u32 {
    5
}

impl Settings for TrainSettings {
    fn check(&self) -> Vec<Invalid> {
        [self.encoder.check(), self.schedule.check()].concat()
    }
}

/// The schema of the settings, with one alternative for the table `pretext` a task.
fn schema() -> Schema {
    let mut schema = reelflow_api::spec::schema_of::<TrainSettings>();
    let tasks: Vec<serde_json::Value> = pretext::ALL
        .iter()
        .map(|task| {
            let mut table = (task.schema)().to_value();
            table["properties"]["type"] = serde_json::json!({ "const": task.name });
            if let Some(required) = table["required"].as_array_mut() {
                required.push("type".into());
            } else {
                table["required"] = serde_json::json!(["type"]);
            }
            table
        })
        .collect();
    let description = "What is to be learnt: `type` names the task, the rest are its own parameters.";
    if let Some(root) = schema.as_object_mut() {
        root["properties"]["pretext"] =
            serde_json::json!({ "description": description, "type": "object", "oneOf": tasks });
        if let Some(required) = root.get_mut("required").and_then(|required| required.as_array_mut()) {
            required.push("pretext".into());
        }
    }
    schema
}

fn build(table: &Table<'_>) -> Result<Stage, Vec<Problem>> {
    let mut table = table.clone();
    let task = build_pretext(&mut table);
    match (task, read::<TrainSettings>(&table)) {
        (Ok(task), Ok(settings)) => Ok(Stage::Sink(Box::new(TrainPlan { settings, task }))),
        (Err(mut problems), Err(others)) => {
            problems.extend(others);
            Err(problems)
        }
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
    }
}

fn build_pretext(table: &mut Table<'_>) -> Result<Arc<dyn Pretext>, Vec<Problem>> {
    let names: Vec<&str> = pretext::ALL.iter().map(|task| task.name).collect();
    let example = format!("write `pretext = {{ type = \"{}\", … }}`", names[0]);
    let Some(mut inner) = table.take_table("pretext") else {
        let wrong = table.entries.iter().find(|(key, _)| key.get_ref() == "pretext");
        let problem = match wrong.map(|(key, value)| (key.clone(), value.span())) {
            Some((key, span)) => {
                table.entries.remove(&key);
                Problem::new("P011", span, format!("`{}.pretext`: expected a table", table.path))
            }
            None => {
                let message = format!("`{}`: missing parameter `pretext`", table.path);
                Problem::new("P013", table.span.clone(), message)
            }
        };
        return Err(vec![problem.help(example)]);
    };
    let Some((name, span)) = inner.take_string("type") else {
        let message = format!("`{}` has no `type`", inner.path);
        return Err(vec![Problem::new("P010", inner.span.clone(), message).help(example)]);
    };
    let Some(task) = pretext::find(&name) else {
        let help = match nearest(&name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("tasks: {}", names.join(", ")),
        };
        let problem = Problem::new("P020", span, format!("unknown pretext `{name}`"));
        return Err(vec![problem.help(help)]);
    };
    (task.build)(&inner).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let entries = toml::de::DeTable::parse(text).unwrap().into_inner();
        let table = Table { path: "sinks.train".to_owned(), span: 0..text.len(), entries };
        match (SPEC.build)(&table) {
            Ok(_) => Vec::new(),
            Err(problems) => problems
                .into_iter()
                .map(|p| {
                    format!("{} {} @{} {}", p.code, p.message, &text[p.span], p.help.unwrap_or_default())
                })
                .collect(),
        }
    }

    #[test]
    fn the_example_builds() {
        assert_eq!(problems(SPEC.example), Vec::<String>::new());
    }

    #[test]
    fn mistakes_in_task_and_settings_are_reported_together() {
        let found = problems(
            "encoder = { name = \"r3d_18\", width = 8 }\npretext = { type = \"vtld\" }\nmomentum = 2.0",
        );
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("P020 unknown pretext `vtld`") && found[0].contains("`vtdl`?"));
        assert!(found.iter().any(|p| p.starts_with("P014") && p.contains("momentum")));
        assert!(found.iter().any(|p| p.contains("encoder.width") && p.contains("@8")));
    }

    #[test]
    fn ranges_hold_in_nested_tables() {
        let found = problems(
            "encoder = { name = \"r3d\", width = 0, blocks = [1, 1, 1, 0] }
             pretext = { type = \"vtdl\", bank = \"keys\" }
             optimizer = { lr = 0.0, clip_norm = nan, betas = [0.9, 1.0] }
             schedule = { floor = 2.0 }",
        );
        for place in [
            "encoder.width",
            "encoder.blocks",
            "optimizer.lr",
            "clip_norm",
            "optimizer.betas",
            "schedule.floor",
        ] {
            assert!(found.iter().any(|p| p.starts_with("P014") && p.contains(place)), "{place}: {found:#?}");
        }
        assert_eq!(found.len(), 6, "{found:#?}");
    }

    #[test]
    fn a_missing_or_misshapen_task_is_named() {
        assert!(problems("encoder = { name = \"r3d\" }")[0].contains("missing parameter `pretext`"));
        assert!(problems("encoder = { name = \"r3d\" }\npretext = \"vtdl\"")[0].contains("expected a table"));
        assert!(problems("encoder = { name = \"r3d\" }\npretext = {}")[0].contains("has no `type`"));
    }

    #[test]
    fn momentum_rises_from_its_start_to_1() {
        let text = "encoder = { name = \"r3d\" }\nmomentum = 0.9\nmomentum_schedule = \"cosine\"";
        let mut settings: TrainSettings = toml::from_str(text).unwrap();
        let at = |settings: &TrainSettings| {
            [0, 5, 10, 11].map(|step| (settings.momentum_at(step, 10) * 1e9).round() / 1e9)
        };
        assert_eq!(at(&settings), [0.9, 0.95, 1.0, 1.0]);
        settings.momentum_schedule = MomentumSchedule::Constant;
        assert_eq!(at(&settings), [0.9; 4]);
    }

    #[test]
    fn a_file_of_weights_must_be_there() {
        let text = "encoder = { name = \"i3d\", weights = \"nowhere/i3d.safetensors\" }
             pretext = { type = \"vtdl\", bank = \"keys\" }";
        assert!(problems(text)[0].contains("no file `nowhere/i3d.safetensors`"), "{:?}", problems(text));
    }

    #[test]
    fn the_schema_knows_the_tasks() {
        let text = serde_json::to_string(&schema()).unwrap();
        assert!(text.contains("\"const\":\"vtdl\"") && text.contains("same_segment_mask"));
    }
}
