//! A short pre-training over computed media, for tests of what is done with a trained encoder.

use std::path::PathBuf;

use super::support;

/// What both trainings share: 24 computed media of the split `train`; 8 more are tested.
pub const DATA: &str = r#"
version = 1
name = "learn"

[run]
seed = 3
threads = 1
device = "cpu"

[sources.patterns]
type = "pattern"
media = 24
frames = 24
width = 64
height = 48
labels = "direction"

[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "random_resized_crop", size = 32, scale = [0.6, 1.0] }, { op = "normalize" }]

[operators.batch]
type = "batch"
inputs = ["views"]
size = 8
"#;

const PRETRAINING: &str = r#"
[operators.windows]
type = "triplet"
inputs = ["patterns"]
frames = 8
stride = 2

[banks.keys]
type = "queue"
rows = 32
dim = 16

[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4, input = "differences" }
pretext = { type = "vtdl", bank = "keys", dim = 16 }
"#;

/// A temporary folder with runs in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the pipeline `text` into the folder `name`.
    pub fn run(&self, name: &str, text: &str, args: &[&str]) -> support::Trace {
        let file = self.path(&format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        support::run(&file, &self.path(name), &args)
    }

    /// A folder with a finished pre-training in `before`.
    pub fn pretrained() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.run("before", &folder.pretraining(), &["--steps=3"]);
        folder
    }

    /// The pipeline of the pre-training.
    pub fn pretraining(&self) -> String {
        format!("{DATA}{PRETRAINING}")
    }
}
