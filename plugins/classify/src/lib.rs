//! Supervised classification: learns the labels of the catalogue, from scratch or to fine-tune an encoder.
//!
//! No pretext task, but the measure of one: `encoder.weights` starts it from what a pretext has learnt.

#[cfg(feature = "torch")]
mod loss;

use std::collections::BTreeSet;

use reelflow_api::pretext::{Head, Pretext, PretextSpec};
use reelflow_api::spec::{Invalid, Settings, read, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `classify` describes itself.
pub const SPEC: PretextSpec = PretextSpec {
    name: "classify",
    summary: "Learns the labels: cross-entropy over named classes, to fine-tune or as a supervised baseline.",
    example: "classes = [\"fall\", \"stand_up\"]\nview = \"anchor\"",
    schema: schema_of::<Classify>,
    build: |table| Ok(Box::new(read::<Classify>(table)?)),
};

/// Settings of supervised classification.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The labels to tell apart, in the order of the head's outputs. Clips with another label, or none, teach
    /// nothing.
    #[schemars(length(min = 2))]
    pub classes: Vec<String>,
    /// Name of the view that is classified.
    #[serde(default = "view")]
    pub view: String,
    /// Width of a hidden layer with ReLU in the head; a single linear layer if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536))]
    pub hidden: Option<u32>,
    /// Share of the features in front of the last layer that each step sets to 0: 0.5 in VTDL's fine-tuning, 0.8
    /// in SlowFast's on UCF101.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
}

fn view() -> String {
    "clip".to_owned()
}

/// The one head: global average pool, dropout, linear.
pub const HEAD: &str = "classes";

impl Settings for Classify {
    fn check(&self) -> Vec<Invalid> {
        let mut seen = BTreeSet::new();
        let twice = self.classes.iter().find(|class| !seen.insert(class.as_str()));
        twice.map(|class| Invalid::new("classes", format!("`{class}` is listed twice"))).into_iter().collect()
    }
}

impl Classify {
    /// Which output a label is; `None` if it is none of the classes.
    #[must_use]
    pub fn class_of(&self, label: Option<&str>) -> Option<usize> {
        self.classes.iter().position(|class| Some(class.as_str()) == label)
    }
}

impl Pretext for Classify {
    fn views(&self) -> Vec<String> {
        vec![self.view.clone()]
    }

    fn banks(&self) -> Vec<String> {
        Vec::new()
    }

    fn heads(&self) -> Vec<Head> {
        let dim = self.classes.len() as i64;
        let (hidden, dropout) = (self.hidden.map(i64::from), self.dropout);
        vec![Head { name: HEAD, dim, hidden, unit: false, dropout }]
    }

    #[cfg(feature = "torch")]
    fn loss(
        &self,
        nets: &mut dyn reelflow_api::pretext::Nets,
        step: &reelflow_api::pretext::Step<'_>,
    ) -> Result<reelflow_api::pretext::StepLoss, reelflow_api::error::StageError> {
        loss::loss(self, nets, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let entries = toml::de::DeTable::parse(text).unwrap().into_inner();
        let table = reelflow_api::spec::Table { path: "pretext".to_owned(), span: 0..text.len(), entries };
        match (SPEC.build)(&table) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| problem.message).collect(),
        }
    }

    #[test]
    fn classes_are_at_least_two_and_distinct() {
        assert_eq!(problems(SPEC.example), Vec::<String>::new());
        assert!(problems("classes = [\"a\"]")[0].contains("out of range, expected at least 2"));
        assert!(problems("classes = [\"a\", \"b\", \"a\"]")[0].contains("`a` is listed twice"));
        assert!(problems("classes = [\"a\", \"b\"]\ndropout = 1.0")[0].contains("dropout"));
        assert!(problems("")[0].contains("missing parameter `classes`"));
    }

    #[test]
    fn a_label_is_the_output_of_its_name() {
        let classes = ["b", "a"].map(str::to_owned).to_vec();
        let settings = Classify { classes, view: view(), hidden: None, dropout: 0.5 };
        assert_eq!(settings.class_of(Some("a")), Some(1));
        assert_eq!((settings.class_of(Some("c")), settings.class_of(None)), (None, None));
        assert_eq!((settings.heads()[0].dim, settings.heads()[0].dropout), (2, 0.5));
        assert_eq!(settings.views(), ["clip"]);
    }
}
