//! Turns the pipeline a network was trained with into one that evaluates it: the same clip length, stride,
//! size and normalisation; centre crops of evenly spaced clips, nothing left to chance.

use std::path::Path;

use reelflow_api::error::StageError;
use toml::{Table, Value};

/// What is read from a training pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Id of the `train` sink.
    pub train: String,
    /// Pictures of a clip.
    pub frames: i64,
    /// `stride` or `stride_ms` of the sampler.
    stride: (&'static str, i64),
    /// Side of the square the network sees, pixels.
    size: i64,
    /// The `normalize` step, if there was one.
    normalize: Option<Table>,
    /// All sources, by id.
    sources: Table,
    /// Labels that the classifier's outputs stand for; empty if it learnt something else.
    pub classes: Vec<String>,
}

/// What the command line may add.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The source of the clips, as a table of a pipeline.
    pub source: Table,
    /// Clips of every segment.
    pub clips: u32,
    /// `forward`, `middle_frame` or `shuffled`.
    pub order: String,
    /// Clips embedded at a time.
    pub batch: u32,
    /// Worker threads; 0: one a core.
    pub workers: u32,
}

/// The source `files` with these paths (and the folder of what lists name), classes from folders or lists.
#[must_use]
pub fn files(paths: &[String], root: Option<&Path>) -> Table {
    let mut source = Table::from_iter([
        ("type".to_owned(), Value::from("files")),
        ("paths".to_owned(), Value::Array(paths.iter().cloned().map(Value::String).collect())),
        ("labels".to_owned(), "folder".into()),
    ]);
    if let Some(root) = root {
        source.insert("root".to_owned(), root.to_string_lossy().into_owned().into());
    }
    source
}

/// Id of the operator that samples in an evaluating pipeline.
pub const SAMPLER: &str = "clips";

impl Recipe {
    /// Reads a resolved pipeline: the `train` sink and what lies before it.
    ///
    /// # Errors
    /// If there is not exactly one `train` sink, or no sampler or augment stage before it.
    pub fn of(resolved: &str) -> Result<Self, StageError> {
        let refuse = |what: &str| StageError::refused("eval", format!("the checkpoint's pipeline {what}"));
        let pipeline: Table = resolved.parse().map_err(|_| refuse("is not TOML"))?;
        let trains: Vec<(&String, &Table)> =
            tables(&pipeline, "sinks").filter(|(_, sink)| kind(sink) == "train").collect();
        let [(train, sink)] = trains.as_slice() else {
            return Err(refuse(&format!("has {} sinks of type `train`, one is needed", trains.len())));
        };
        let (mut sampler, mut augment) = (None, None);
        let mut at = input(sink);
        while let Some(operator) = at.and_then(|id| pipeline.get("operators")?.get(id)?.as_table()) {
            match kind(operator) {
                "augment" => augment = Some(operator),
                _ if operator.contains_key("frames") => sampler = Some(operator),
                _ => {}
            }
            at = input(operator);
        }
        let sampler =
            sampler.ok_or_else(|| refuse("has no sampler with `frames` before its `train` sink"))?;
        let augment = augment.ok_or_else(|| refuse("has no `augment` stage before its `train` sink"))?;
        let steps: Vec<&Table> = augment
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_table)
            .collect();
        let size = steps.iter().rev().find_map(|step| step.get("size")?.as_integer());
        let integer = |key: &str| sampler.get(key).and_then(Value::as_integer);
        let stride = match (integer("stride_ms"), integer("stride")) {
            (Some(ms), _) => ("stride_ms", ms),
            (None, stride) => ("stride", stride.unwrap_or(1)),
        };
        Ok(Self {
            train: (*train).clone(),
            frames: integer("frames").ok_or_else(|| refuse("has a sampler without `frames`"))?,
            stride,
            size: size.ok_or_else(|| refuse("has no crop with a `size` in its `augment` stage"))?,
            normalize: steps
                .iter()
                .find(|step| step.get("op").and_then(Value::as_str) == Some("normalize"))
                .map(|step| (*step).clone()),
            classes: classes(sink),
            sources: pipeline.get("sources").and_then(Value::as_table).cloned().unwrap_or_default(),
        })
    }

    /// The same without normalisation: values from 0 to 1, for pictures.
    #[must_use]
    pub fn unnormalised(&self) -> Self {
        Self { normalize: None, ..self.clone() }
    }

    /// The source `id` as a table. What is watched is measured as it is at the start.
    ///
    /// # Errors
    /// If there is none.
    pub fn source(&self, id: &str) -> Result<Table, StageError> {
        let found = self.sources.get(id).and_then(Value::as_table).cloned();
        let mut found =
            found.ok_or_else(|| StageError::refused("eval", format!("the pipeline has no source `{id}`")))?;
        found.retain(|key, _| !["watch", "watch_secs"].contains(&key));
        Ok(found)
    }

    /// The evaluating pipeline, as text that the ordinary loader checks.
    ///
    /// The shorter side becomes 8/7 of the crop, as 128 to 112 in the retrieval protocol of VCOP.
    #[must_use]
    pub fn pipeline(&self, wishes: &Wishes) -> String {
        let strings = |items: &[String]| Value::Array(items.iter().cloned().map(Value::String).collect());
        let op = |name: &str, key: &str, value: i64| {
            Value::Table(Table::from_iter([("op".to_owned(), name.into()), (key.to_owned(), value.into())]))
        };
        let mut steps =
            vec![op("resize", "short", (self.size * 8 + 6) / 7), op("center_crop", "size", self.size)];
        steps.extend(self.normalize.clone().map(Value::Table));
        let stage = |entries: Vec<(&str, Value)>| {
            Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let sampler = stage(vec![
            ("type", "sweep".into()),
            ("inputs", strings(&["data".to_owned()])),
            ("frames", self.frames.into()),
            (self.stride.0, self.stride.1.into()),
            ("clips", i64::from(wishes.clips).into()),
            ("order", wishes.order.clone().into()),
        ]);
        let augment = stage(vec![
            ("type", "augment".into()),
            ("inputs", strings(&[SAMPLER.to_owned()])),
            ("steps", Value::Array(steps)),
        ]);
        let batch = stage(vec![
            ("type", "batch".into()),
            ("inputs", strings(&["views".to_owned()])),
            ("size", i64::from(wishes.batch).into()),
        ]);
        let sink = stage(vec![("type", "null".into()), ("inputs", strings(&["batch".to_owned()]))]);
        let pipeline = stage(vec![
            ("version", 1.into()),
            ("name", "eval".into()),
            ("run", stage(vec![("workers", i64::from(wishes.workers).into())])),
            ("sources", stage(vec![("data", Value::Table(wishes.source.clone()))])),
            ("operators", stage(vec![(SAMPLER, sampler), ("views", augment), ("batch", batch)])),
            ("sinks", stage(vec![("embeddings", sink)])),
        ]);
        toml::to_string(&pipeline).expect("plain tables are TOML")
    }
}

fn tables<'t>(pipeline: &'t Table, kind: &str) -> impl Iterator<Item = (&'t String, &'t Table)> {
    let tables = pipeline.get(kind).and_then(Value::as_table);
    tables.into_iter().flatten().filter_map(|(id, table)| Some((id, table.as_table()?)))
}

fn kind(stage: &Table) -> &str {
    stage.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn classes(sink: &Table) -> Vec<String> {
    let pretext = sink.get("pretext").and_then(Value::as_table).filter(|it| kind(it) == "classify");
    let names = pretext.and_then(|it| it.get("classes")?.as_array()).into_iter().flatten();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn input(stage: &Table) -> Option<&str> {
    stage.get("inputs")?.as_array()?.first()?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAINING: &str = r#"
        version = 1
        [operators.windows]
        type = "triplet"
        inputs = ["archive"]
        frames = 8
        stride = 2
        [operators.views]
        type = "augment"
        inputs = ["windows"]
        steps = [{ op = "random_resized_crop", size = 48 }, { op = "normalize", mean = [0.5, 0.5, 0.5] }]
        [operators.batch]
        type = "batch"
        inputs = ["views"]
        [sinks.learn]
        type = "train"
        inputs = ["batch"]
    "#;

    #[test]
    fn length_stride_size_and_normalisation_are_those_of_training() {
        let recipe = Recipe::of(TRAINING).unwrap();
        assert_eq!((recipe.train.as_str(), recipe.frames, recipe.size), ("learn", 8, 48));
        let wishes = Wishes {
            source: files(&["a \"b\"".to_owned()], None),
            clips: 3,
            order: "forward".to_owned(),
            batch: 4,
            workers: 2,
        };
        let text = recipe.pipeline(&wishes);
        let table: Table = text.parse().unwrap();
        assert_eq!(table["sources"]["data"]["paths"][0].as_str(), Some("a \"b\""));
        assert_eq!(table["operators"]["clips"]["stride"].as_integer(), Some(2));
        let steps = table["operators"]["views"]["steps"].as_array().unwrap();
        assert_eq!(steps[0]["short"].as_integer(), Some(55));
        assert_eq!(steps[2]["mean"][0].as_float(), Some(0.5));
    }

    #[test]
    fn a_classifier_is_known_by_its_classes() {
        assert!(Recipe::of(TRAINING).unwrap().classes.is_empty());
        let task =
            |name: &str| format!("{TRAINING}pretext = {{ type = \"{name}\", classes = [\"b\", \"a\"] }}");
        assert_eq!(Recipe::of(&task("classify")).unwrap().classes, ["b", "a"]);
        assert!(Recipe::of(&task("vtdl")).unwrap().classes.is_empty());
    }

    #[test]
    fn a_watched_source_is_measured_as_it_is() {
        let watched =
            "[sources.archive]\ntype = \"files\"\npaths = [\"a\"]\nwatch = true\nwatch_secs = 1.0\n";
        let source = Recipe::of(&format!("{TRAINING}\n{watched}")).unwrap().source("archive").unwrap();
        assert_eq!(source.keys().collect::<Vec<_>>(), ["paths", "type"]);
    }

    #[test]
    fn a_pipeline_without_a_trainer_is_refused() {
        let error = Recipe::of("version = 1").unwrap_err();
        assert_eq!(error.code, 78);
        assert!(error.message.contains("0 sinks"), "{error}");
    }
}
