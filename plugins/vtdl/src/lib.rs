//! VTDL: learns to tell moments of one video apart (temporal-discriminative learning, arXiv 2008.02129).
//!
//! An anchor clip shall be nearer to a differently augmented copy of itself than to another moment of
//! the same video and to clips of other videos remembered in a bank.

#[cfg(feature = "torch")]
pub mod nce;

use reelflow_api::pretext::{Head, Pretext, PretextSpec};
use reelflow_api::spec::{Invalid, Settings, read, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `vtdl` describes itself.
pub const SPEC: PretextSpec = PretextSpec {
    name: "vtdl",
    summary: "Tells moments of one video apart: InfoNCE against a bank and another moment.",
    example: "bank = \"keys\"",
    schema: schema_of::<Vtdl>,
    build: |table| Ok(Box::new(read::<Vtdl>(table)?)),
};

/// Settings of VTDL. The defaults are those of the released code.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vtdl {
    /// Id of the bank of keys; its `dim` must be this task's `dim`.
    pub bank: String,
    /// Divides all similarities (released code: 0.07).
    #[serde(default = "temperature")]
    #[schemars(range(min = 0.001, max = 10.0))]
    pub temperature: f64,
    /// What is minimised: `info_nce` (released code) or `nce` (InstDisc: noise-contrastive, with a constant that
    /// the first step fixes).
    #[serde(default)]
    pub loss: Loss,
    /// Whether the positive is the bank's row of the anchor's segment (InstDisc) instead of the positive view's
    /// key; needs a bank of type `instance`.
    #[serde(default)]
    pub own_row: bool,
    /// Length of an embedding.
    #[serde(default = "dim")]
    #[schemars(range(min = 1, max = 65536))]
    pub dim: u32,
    /// Width of a hidden layer with ReLU in the head; a single linear layer if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536))]
    pub hidden: Option<u32>,
    /// Whether keys of the anchor's own segment are left out of the bank's negatives. The released code
    /// keeps them.
    #[serde(default)]
    pub same_segment_mask: bool,
    /// Whether another moment of the same video is a negative. Without it this is MoCo with VTDL's views.
    #[serde(default = "yes")]
    pub temporal_negative: bool,
    /// Weight of a triplet loss of margin 1 on the distances of positive and negative, beside the main loss.
    /// The released code computes it and throws it away: 0.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub margin_weight: f64,
    /// Name of the anchor view, seen by the query network.
    #[serde(default = "anchor")]
    pub anchor: String,
    /// Name of the positive view, seen by the key network.
    #[serde(default = "positive")]
    pub positive: String,
    /// Name of the negative view, seen by the query network; gradients flow through it.
    #[serde(default = "negative")]
    pub negative: String,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// A softmax in which the positive shall win.
    #[default]
    InfoNce,
    /// Every score by itself: from the positive or from noise (InstDisc, METHODS 7.2).
    Nce,
}

fn temperature() -> f64 {
    0.07
}

fn dim() -> u32 {
    128
}

fn yes() -> bool {
    true
}

fn anchor() -> String {
    "anchor".to_owned()
}

fn positive() -> String {
    "positive".to_owned()
}

fn negative() -> String {
    "negative".to_owned()
}

/// The one head: global average pool, linear, unit length.
const HEAD: &str = "embedding";

impl Settings for Vtdl {
    fn check(&self) -> Vec<Invalid> {
        if self.anchor == self.negative && self.temporal_negative {
            return vec![Invalid::new(
                "negative",
                format!("`{}` cannot be both anchor and negative", self.negative),
            )];
        }
        if self.margin_weight > 0.0 && !self.temporal_negative {
            return vec![
                Invalid::new("margin_weight", "a triplet needs the negative")
                    .help("set `temporal_negative = true`, or leave this out"),
            ];
        }
        Vec::new()
    }
}

impl Pretext for Vtdl {
    fn views(&self) -> Vec<String> {
        let mut views = vec![self.anchor.clone(), self.positive.clone()];
        if self.temporal_negative {
            views.push(self.negative.clone());
        }
        views
    }

    fn banks(&self) -> Vec<String> {
        vec![self.bank.clone()]
    }

    fn heads(&self) -> Vec<Head> {
        vec![Head {
            name: HEAD,
            dim: self.dim.into(),
            hidden: self.hidden.map(i64::from),
            unit: true,
            dropout: 0.0,
        }]
    }

    #[cfg(feature = "torch")]
    fn loss(
        &self,
        nets: &mut dyn reelflow_api::pretext::Nets,
        step: &reelflow_api::pretext::Step<'_>,
    ) -> Result<reelflow_api::pretext::StepLoss, reelflow_api::error::StageError> {
        nce::loss(self, HEAD, nets, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Vec<String> {
        let table = reelflow_api::spec::Table {
            path: "pretext".to_owned(),
            span: 0..text.len(),
            entries: toml_table(text),
        };
        match (SPEC.build)(&table) {
            Ok(pretext) => pretext.views(),
            Err(problems) => problems.into_iter().map(|problem| problem.message).collect(),
        }
    }

    fn toml_table(text: &str) -> toml::de::DeTable<'_> {
        toml::de::DeTable::parse(text).unwrap().into_inner()
    }

    #[test]
    fn views_follow_the_settings() {
        assert_eq!(build(SPEC.example), ["anchor", "positive", "negative"]);
        assert_eq!(build("bank = \"k\"\ntemporal_negative = false"), ["anchor", "positive"]);
    }

    #[test]
    fn wrong_settings_are_refused_with_operands() {
        assert!(build("bank = \"k\"\ntemperature = 0.0")[0].contains("0 is out of range"));
        assert!(build("")[0].contains("missing parameter `bank`"));
        assert!(build("bank = \"k\"\nnegative = \"anchor\"")[0].contains("both anchor and negative"));
    }
}
