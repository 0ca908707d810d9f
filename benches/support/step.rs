//! One trainer of VTDL and one batch of noise, for the benches that need a training step.

use std::collections::BTreeMap;

use reelflow::api::bank::BankSettings;
use reelflow::api::item::{Batch, SegmentId, SlotInfo, View};
use reelflow::api::rng::Key;
use reelflow::api::spec::Table;
use reelflow::api::stage::{Sink, SinkContext, Stage};

/// Clips of a step.
pub const BATCH: usize = 16;
const VIEWS: [&str; 3] = ["anchor", "positive", "negative"];

/// A trainer of `encoder` on clips of `shape`, with a bank of 1024 rows.
pub fn trainer(encoder: &str, shape: [usize; 4], threads: usize) -> Box<dyn Sink> {
    let text = format!("encoder = {{ {encoder} }}\npretext = {{ type = \"vtdl\", bank = \"keys\" }}");
    let entries = toml::de::DeTable::parse(&text).expect("valid TOML").into_inner();
    let table = Table { path: "sinks.train".to_owned(), span: 0..text.len(), entries };
    let Ok(Stage::Sink(plan)) = (reelflow::train::ALL[0].build)(&table) else { panic!("{text}") };
    let bank = BankSettings::queue(1024, 128);
    let context = SinkContext {
        id: "train".to_owned(),
        run_dir: std::env::temp_dir(),
        key: Key::new(1),
        steps: None,
        batch_size: BATCH as u32,
        epoch_clips: None,
        views: VIEWS.map(|name| (name.into(), shape)).to_vec(),
        banks: BTreeMap::from([("keys".to_owned(), bank)]),
        labels: std::sync::Arc::default(),
        device: "cpu".to_owned(),
        threads,
    };
    plan.open(context).unwrap_or_else(|error| panic!("{error}"))
}

/// Views of noise.
pub fn batch(shape: [usize; 4]) -> Batch {
    let mut rng = Key::new(1).rng();
    let values = BATCH * shape.iter().product::<usize>();
    let mut view = |name: &str| View {
        name: name.into(),
        shape,
        pixels: (0..values).map(|_| rng.normal() as f32).collect::<Vec<_>>().into(),
        normalize: None,
    };
    let slot = |slot| SlotInfo { slot, attempt: 0, segment: SegmentId(slot.into()), frames: Vec::new() };
    Batch {
        step: 0,
        slots: (0..BATCH as u32).map(slot).collect(),
        views: VIEWS.iter().map(|name| view(name)).collect(),
    }
}
