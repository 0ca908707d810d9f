//! The trainer on random batches: resume, skipped steps, what an evaluation gets, the loss's way.

use std::path::Path;

use reelflow_api::bank::BankSettings;
use reelflow_api::item::{SegmentId, SlotInfo, View};
use reelflow_api::spec::Table;

use super::*;

const BATCH: usize = 4;
const SHAPE: [usize; 4] = [3, 4, 16, 16];
const SMALL: &str = "encoder = { name = \"r3d\", width = 4 }\n\
    pretext = { type = \"vtdl\", bank = \"keys\", dim = 16 }\n\
    optimizer = { lr = 0.05 }";

fn plan(text: &str) -> Box<dyn SinkPlan> {
    let entries = toml::de::DeTable::parse(text).unwrap().into_inner();
    let table = Table { path: "sinks.train".to_owned(), span: 0..text.len(), entries };
    let built = (crate::train::settings::SPEC.build)(&table);
    let Ok(reelflow_api::stage::Stage::Sink(plan)) = built else { panic!("{text} must build a sink") };
    plan
}

fn context(dir: &Path, rows: u32) -> SinkContext {
    let bank = BankSettings { dim: 16, rows, shards: 2, staleness: 1, init: Default::default() };
    SinkContext {
        id: "train".to_owned(),
        run_dir: dir.to_owned(),
        key: Key::new(3).part("train"),
        steps: Some(8),
        batch_size: BATCH as u32,
        views: ["anchor", "positive", "negative"].map(|name| (name.into(), SHAPE)).to_vec(),
        banks: BTreeMap::from([("keys".to_owned(), bank)]),
        device: "cpu".to_owned(),
        threads: 2,
    }
}

fn batch(step: u64) -> Batch {
    let slot = |slot: usize| SlotInfo {
        slot: slot as u32,
        attempt: 0,
        segment: SegmentId(step * 100 + slot as u64),
        frames: vec![vec![0, 1]; 3],
    };
    let view = |name: &str| {
        let mut rng = Key::new(step).part(name).rng();
        let values = BATCH * SHAPE.iter().product::<usize>();
        View { name: name.into(), shape: SHAPE, pixels: (0..values).map(|_| rng.normal() as f32).collect() }
    };
    Batch {
        step,
        slots: (0..BATCH).map(slot).collect(),
        views: ["anchor", "positive", "negative"].map(view).to_vec(),
    }
}

fn loss(scalars: &Scalars) -> f64 {
    scalar(scalars, "loss")
}

fn scalar(scalars: &Scalars, name: &str) -> f64 {
    scalars.iter().find(|(found, _)| *found == name).unwrap().1
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_one_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    for optimizer in ["sgd", "adamw"] {
        let text = SMALL.replace("lr = 0.05", &format!("name = \"{optimizer}\", lr = 0.05"))
            + "\nschedule = { name = \"cosine\", warmup = 2 }";
        let open = || plan(&text).open(context(dir.path(), 10)).unwrap();
        let mut whole = open();
        let all: Vec<u64> =
            (0..6).map(|step| loss(&whole.consume(&batch(step)).unwrap()).to_bits()).collect();
        let mut first = open();
        let mut parted: Vec<u64> =
            (0..3).map(|step| loss(&first.consume(&batch(step)).unwrap()).to_bits()).collect();
        let saved = first.save().unwrap();
        drop(first);
        let mut second = open();
        second.restore(&saved).unwrap();
        parted.extend((3..6).map(|step| loss(&second.consume(&batch(step)).unwrap()).to_bits()));
        assert_eq!(all, parted, "{optimizer}");
        // Weights, momentum weights, statistics, optimiser, bank: byte for byte.
        assert!(whole.save().unwrap() == second.save().unwrap(), "{optimizer}");
        assert_eq!(whole.finish().unwrap(), second.finish().unwrap());
    }
}
