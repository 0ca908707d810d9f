//! PyTorch loads our exported encoders strictly by their published names and computes the same features:
//! torchvision's networks where it has them, plain twins in `tests/reference/encoders.py` elsewhere.
//!
//! Runs where `python3`, or the program named by `REELFLOW_PYTHON`, has torch and torchvision; says
//! loudly where it does not. `pip install torch torchvision` in a virtual environment is enough.

use std::collections::BTreeMap;
use std::path::Path;

use reelflow::api::bank::BankSettings;
use reelflow::api::item::{Batch, SegmentId, SlotInfo, View};
use reelflow::api::rng::Key;
use reelflow::api::spec::Table;
use reelflow::api::stage::{Sink, SinkContext, Stage};
use reelflow::bank::sealed::{Block, Blocks, to_safetensors};

#[path = "support/python.rs"]
mod python;

const SHAPE: [usize; 4] = [3, 8, 32, 32];
const VIEWS: [&str; 3] = ["anchor", "positive", "negative"];

fn view(name: &str, clips: usize) -> View {
    let mut rng = Key::new(1).part(name).rng();
    let values = clips * SHAPE.iter().product::<usize>();
    let pixels: Vec<f32> = (0..values).map(|_| rng.normal() as f32).collect();
    View { name: name.into(), shape: SHAPE, pixels: pixels.into(), normalize: None }
}

/// A trainer of `encoder` that made one step, so that statistics and weights are not the first ones.
fn trained(encoder: &str, dir: &Path) -> Box<dyn Sink> {
    // A small rate: a batch of two clips that end as one place each has gradients that would ruin the weights.
    let text = format!(
        "encoder = {{ name = \"{encoder}\" }}\npretext = {{ type = \"vtdl\", bank = \"keys\" }}\n\
         optimizer = {{ lr = 1e-6 }}"
    );
    let entries = toml::de::DeTable::parse(&text).unwrap().into_inner();
    let table = Table { path: "sinks.train".to_owned(), span: 0..text.len(), entries };
    let Ok(Stage::Sink(plan)) = (reelflow::train::ALL[0].build)(&table) else { panic!("{text}") };
    let bank = BankSettings::queue(16, 128);
    let mut sink = plan
        .open(SinkContext {
            id: "train".to_owned(),
            run_dir: dir.to_owned(),
            key: Key::new(1),
            steps: Some(1),
            batch_size: 2,
            epoch_clips: None,
            views: VIEWS.map(|name| (name.into(), SHAPE)).to_vec(),
            banks: BTreeMap::from([("keys".to_owned(), bank)]),
            labels: std::sync::Arc::default(),
            device: "cpu".to_owned(),
            threads: 1,
        })
        .unwrap();
    let slot = |slot| SlotInfo { slot, attempt: 0, segment: SegmentId(slot.into()), frames: Vec::new() };
    let views = VIEWS.map(|name| view(name, 2)).to_vec();
    sink.consume(&Batch { step: 0, slots: vec![slot(0), slot(1)], views }).unwrap();
    sink
}

/// Writes weights and an example of each encoder and has them compared.
fn compare(encoders: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for encoder in encoders {
        let mut sink = trained(encoder, dir.path());
        let parts = sink.save().unwrap();
        sink.finish().unwrap();
        let exported = dir.path().join("exported/encoder.safetensors");
        std::fs::copy(exported, dir.path().join(format!("{encoder}.safetensors"))).unwrap();
        let clips = view("clip", 2);
        let seen = reelflow::train::embedder(&parts, 1, "cpu", true).unwrap().look(&clips).unwrap();
        let features: Vec<Vec<f32>> = seen.into_iter().map(|seen| seen.features).collect();
        let [c, t, h, w] = SHAPE;
        let example = Blocks::from([
            ("clip".to_owned(), Block::f32(&[2, c, t, h, w], clips.pixels.f32())),
            ("features".to_owned(), Block::f32(&[2, features[0].len()], &features.concat())),
        ]);
        let path = dir.path().join(format!("{encoder}.io.safetensors"));
        std::fs::write(path, to_safetensors(encoder, &example).unwrap()).unwrap();
    }
    python::run("encoders.py", dir.path(), "torch and torchvision");
}

#[test]
fn residual_networks_are_those_of_torchvision() {
    compare(&["r3d_18", "r2plus1d_18"]);
}

#[test]
fn inception_networks_are_those_of_torchvision_and_the_usual_port() {
    compare(&["s3d", "s3d_g", "i3d"]);
}

#[test]
fn c3d_is_that_of_the_usual_ports() {
    compare(&["c3d", "c3d_bn"]);
}
