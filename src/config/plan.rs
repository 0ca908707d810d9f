//! What the engine needs of a pipeline file; nothing optional that is not optional.

use std::path::PathBuf;

use reelflow_api::spec::{Invalid, Kind, Port, Settings};
use reelflow_api::stage::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::eval::Protocol;

/// A checked pipeline.
pub struct Plan {
    /// The pipeline's name; the file's stem if it gives none.
    pub name: String,
    /// `[run]`.
    pub run: RunSettings,
    /// `[[eval]]`, in the order of the file.
    pub evals: Vec<EvalSettings>,
    /// Stages in topological order; of equals, in the order of the file.
    pub nodes: Vec<Node>,
    /// The pipeline as TOML with every default written out.
    pub resolved: String,
}

/// One stage of a plan.
pub struct Node {
    /// The id in the file.
    pub id: String,
    /// Which table it stands in.
    pub kind: Kind,
    /// Its `type`.
    pub type_name: &'static str,
    /// Ids of the stages it reads, as written.
    pub inputs: Vec<String>,
    /// What it hands on, with `SameAsInput` resolved.
    pub output: Option<Port>,
    /// The built stage.
    pub stage: Stage,
}

/// `[run]`: what belongs to no stage.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Folder of the run. If not given, `runs/NAME`, and `runs/NAME-2` and so on beside earlier runs.
    pub out: Option<PathBuf>,
    /// File that keeps what probing found, for runs to share; made if it is not there. If not given, a run keeps it in
    /// its folder and begins with that of the run before it. Never changes a result.
    pub catalogue: Option<PathBuf>,
    /// Root of all chance.
    pub seed: u64,
    /// Steps to run; a finite sampler may end earlier. 0: until the sampler ends.
    #[schemars(range(min = 0))]
    pub steps: u64,
    /// Passes over the data to run, whatever ends first: these, `steps` or a finite sampler. 0: no limit. Of several
    /// samplers the one with the fewest steps counts.
    #[schemars(range(min = 0))]
    pub epochs: u64,
    /// Worker threads of the dataflow; 0: one a core.
    #[schemars(range(min = 0, max = 1024))]
    pub workers: u32,
    /// Steps the data may run ahead of the sinks. Bounds memory.
    #[schemars(range(min = 1, max = 1024))]
    pub ahead: u32,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every: u64,
    /// Complete checkpoints kept.
    #[schemars(range(min = 1, max = 1000))]
    pub checkpoints_kept: u32,
    /// `cpu`, `cuda`, `cuda:N`, or `auto` for the GPU if there is one.
    pub device: String,
    /// Threads of the trainer on a CPU; 0: half the cores, the rest is for the data.
    #[schemars(range(min = 0, max = 1024))]
    pub threads: u32,
    /// Share of inputs that may be bad before the run gives up, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_bad: f64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            out: None,
            catalogue: None,
            seed: 0,
            steps: 0,
            epochs: 0,
            workers: 0,
            ahead: 4,
            checkpoint_every: 0,
            checkpoints_kept: 2,
            device: "auto".to_owned(),
            threads: 0,
            max_bad: 1.0,
        }
    }
}

impl Settings for RunSettings {
    fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let device = self.device.as_str();
        let number = device.strip_prefix("cuda:").map(|number| number.parse::<u8>().is_ok());
        if !(matches!(device, "auto" | "cpu" | "cuda") || number == Some(true)) {
            found.push(
                Invalid::new("device", format!("{device:?} is no device"))
                    .help("write \"auto\", \"cpu\", \"cuda\" or \"cuda:0\""),
            );
        }
        if self.out.as_ref().is_some_and(|out| out.as_os_str().is_empty()) {
            found.push(Invalid::new("out", "a folder without a name").help("remove it for `runs/NAME`"));
        }
        if self.catalogue.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            found.push(
                Invalid::new("catalogue", "a file without a name")
                    .help("remove it for one in the run's folder"),
            );
        }
        found
    }
}

/// `[[eval]]`: what the encoder of the `train` sink knows, measured while it learns. Changes no batch and no weight.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSettings {
    /// Id of a source of labelled clips; it may feed samplers as well.
    pub source: String,
    /// Steps between measurements; 0: only after the last step.
    #[serde(default)]
    pub every: u64,
    /// Clips of every segment, evenly spaced; their embeddings are averaged.
    #[serde(default = "clips")]
    #[schemars(range(min = 1, max = 1000))]
    pub clips: u32,
    /// Neighbours that vote, weighted by exp(cosine / 0.07).
    #[serde(default = "k")]
    #[schemars(range(min = 1, max = 10000))]
    pub k: u32,
    /// Whether a linear classifier is fitted to the frozen features as well.
    #[serde(default = "probe")]
    pub probe: bool,
    /// Who may find whom; chosen from the data if not given.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Only these classes; all if empty.
    #[serde(default)]
    pub classes: Vec<String>,
}

fn clips() -> u32 {
    2
}

fn k() -> u32 {
    20
}

fn probe() -> bool {
    true
}

impl Settings for EvalSettings {}
