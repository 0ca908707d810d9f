//! The trainer on random batches: resume, skipped steps, what an evaluation gets, the loss's way.

use std::path::Path;
use std::sync::Mutex;

use reelflow_api::bank::{BankKind, BankSettings, RowType};
use reelflow_api::item::{SegmentId, SlotInfo, View};
use reelflow_api::pretext::{BankRows, Nets};
use reelflow_api::spec::Table;
use serde_json::json;
use tch::Tensor;

use super::*;
use crate::train::{Embedder, embedder};

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
    let bank = BankSettings { shards: 2, ..BankSettings::queue(rows, 16) };
    SinkContext {
        id: "train".to_owned(),
        run_dir: dir.to_owned(),
        key: Key::new(3).part("train"),
        steps: Some(8),
        batch_size: BATCH as u32,
        views: ["anchor", "positive", "negative"].map(|name| (name.into(), SHAPE)).to_vec(),
        banks: BTreeMap::from([("keys".to_owned(), bank)]),
        device: "cpu".to_owned(),
        threads: 1,
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
        let pixels: Vec<f32> = (0..values).map(|_| rng.normal() as f32).collect();
        View { name: name.into(), shape: SHAPE, pixels: pixels.into(), normalize: None }
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
        let text = SMALL.replace("lr = 0.05", &format!("type = \"{optimizer}\", lr = 0.05"))
            + "\nschedule = { type = \"cosine\", warmup_steps = 2 }";
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

/// VTDL against a plain list that takes each step's keys at once: no shards, no threads, nothing on its way.
struct Synchronous {
    task: reelflow_vtdl::Vtdl,
    /// Values and ids of the rows, and the row that the next key goes to.
    list: Mutex<(Vec<f32>, Vec<i64>, usize)>,
}

impl Pretext for Synchronous {
    fn views(&self) -> Vec<String> {
        self.task.views()
    }

    fn banks(&self) -> Vec<String> {
        self.task.banks()
    }

    fn heads(&self) -> Vec<reelflow_api::pretext::Head> {
        self.task.heads()
    }

    fn loss(&self, nets: &mut dyn Nets, step: &Step<'_>) -> Result<StepLoss, StageError> {
        let mut list = self.list.lock().unwrap();
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
        if step.step == 0 {
            let bank = &step.banks["keys"];
            *list = (numbers(&bank.rows), Vec::<i64>::try_from(&bank.ids).unwrap(), 0);
        }
        let (values, ids, next) = &mut *list;
        let total = ids.len() as i64;
        let rows = Tensor::from_slice(values).reshape([total, -1]);
        let plain = BankRows { rows, ids: Tensor::from_slice(ids), own: None, total };
        let banks = BTreeMap::from([("keys".to_owned(), plain)]);
        let Step { step, views, ids: slots, frozen, key, .. } = *step;
        let made = self.task.loss(nets, &Step { step, views, ids: slots, banks: &banks, frozen, key })?;
        let segments = Vec::<i64>::try_from(slots).unwrap();
        for (key, segment) in numbers(&made.keys[0].1).chunks(16).zip(segments) {
            values[*next * 16..(*next + 1) * 16].copy_from_slice(key);
            ids[*next] = segment;
            *next = (*next + 1) % ids.len();
        }
        Ok(made)
    }
}

#[test]
fn training_with_a_staleness_of_one_equals_a_synchronous_bank_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let settings = json!({ "encoder": { "name": "r3d", "width": 4 }, "optimizer": { "lr": 0.05 } });
    let settings: TrainSettings = serde_json::from_value(settings).unwrap();
    let task = || -> reelflow_vtdl::Vtdl {
        let task = json!({ "bank": "keys", "dim": 16, "same_segment_mask": true });
        serde_json::from_value(task).unwrap()
    };
    let run = |task: Arc<dyn Pretext>, shards: u32| {
        let mut context = context(dir.path(), 10);
        context.banks.get_mut("keys").unwrap().shards = shards;
        let mut trainer = Trainer::open(&settings, &task, context).unwrap();
        let losses: Vec<u64> =
            (0..8).map(|step| loss(&trainer.consume(&batch(step)).unwrap()).to_bits()).collect();
        let parts = trainer.save().unwrap();
        (losses, [QUERY, KEY, OPTIMIZER].map(|file| parts[file].clone()))
    };
    let list = Mutex::new((Vec::new(), Vec::new(), 0));
    let synchronous = run(Arc::new(Synchronous { task: task(), list }), 1);
    for shards in [1, 4, 10] {
        assert!(run(Arc::new(task()), shards) == synchronous, "{shards} shards");
    }
}

#[test]
fn instances_with_a_constant_z_go_on_bit_for_bit_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        SMALL.replace("dim = 16", "dim = 16, loss = \"nce\", own_row = true, same_segment_mask = true");
    let open = || {
        let mut context = context(dir.path(), 40);
        let bank = context.banks.get_mut("keys").unwrap();
        bank.kind = BankKind::Instance { momentum: 0.5, negatives: 25 };
        bank.dtype = RowType::F16;
        plan(&text).open(context).unwrap()
    };
    // Segments come back, so that rows move.
    let batch = |step: u64| Batch { step, ..batch(step % 4) };
    let (mut whole, mut first) = (open(), open());
    let all: Vec<u64> = (0..8).map(|step| loss(&whole.consume(&batch(step)).unwrap()).to_bits()).collect();
    (0..5).for_each(|step| drop(first.consume(&batch(step)).unwrap()));
    let mut second = open();
    second.restore(&first.save().unwrap()).unwrap();
    let rest: Vec<u64> = (5..8).map(|step| loss(&second.consume(&batch(step)).unwrap()).to_bits()).collect();
    assert_eq!(all[5..], rest);
    assert!(whole.save().unwrap() == second.save().unwrap());
    // Without the constant of its first step it would be another run.
    let manifest = second.save().unwrap()[MANIFEST].clone();
    assert!(String::from_utf8(manifest).unwrap().contains("\"log_z\": "));
    let scalars = second.consume(&batch(8)).unwrap();
    assert_eq!((scalar(&scalars, "bank_filled"), scalar(&scalars, "bank_age_min")), (16.0, 1.0));
    assert_eq!((scalar(&scalars, "bank_age_median"), scalar(&scalars, "bank_age_max")), (3.0, 4.0));
}

fn scalar_after(sink: &mut Box<dyn Sink>, batch: &Batch, name: &str) -> f64 {
    scalar(&sink.consume(batch).unwrap(), name)
}

#[test]
fn a_step_that_is_no_number_changes_nothing_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = plan(&format!("{SMALL}\nnonfinite_max = 2")).open(context(dir.path(), 10)).unwrap();
    sink.consume(&batch(0)).unwrap();
    let before = sink.save().unwrap();
    let mut bad = batch(1);
    bad.views[0].pixels.f32_mut()[7] = f32::NAN;
    assert_eq!(scalar_after(&mut sink, &bad, "skipped"), 1.0);
    let after = sink.save().unwrap();
    for (name, bytes) in before.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        assert!(after[name] == *bytes, "{name}");
    }
    let good = sink.consume(&batch(2)).unwrap();
    assert!(loss(&good).is_finite() && scalar(&good, "grad_norm") > 0.0);
    for step in 3..5 {
        bad.step = step;
        match sink.consume(&bad) {
            Ok(scalars) => assert_eq!((step, scalar(&scalars, "skipped")), (3, 2.0)),
            Err(error) => {
                assert_eq!((step, error.code), (4, 1));
                assert!(error.to_string().contains("2 steps in a row"), "{error}");
            }
        }
    }
}

fn features(embedder: &Embedder, views: &[View]) -> Vec<Vec<f32>> {
    views.iter().flat_map(|view| embedder.embed(view).unwrap()).collect()
}

#[test]
fn evaluation_gets_the_trained_and_exactly_the_first_weights() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = plan(SMALL).open(context(dir.path(), 10)).unwrap();
    let fresh = sink.save().unwrap();
    for step in 0..3 {
        sink.consume(&batch(step)).unwrap();
    }
    let parts = sink.save().unwrap();
    let view = batch(9).views[..1].to_vec();
    let get = |parts: &Parts, trained| features(&embedder(parts, 1, "cpu", trained).unwrap(), &view);
    assert!(get(&fresh, true) == get(&parts, false), "untrained is the state before the first step");
    assert!(get(&parts, true) != get(&parts, false));
    let trained = embedder(&parts, 1, "cpu", true).unwrap();
    assert_eq!((trained.features(), trained.steps(), trained.clip_shape()), (32, 3, SHAPE));
    // One clip at a time gives the same features: statistics are fixed.
    let one = |pixels: &[f32]| View { pixels: pixels.to_vec().into(), ..view[0].clone() };
    let single: Vec<View> = view[0].pixels.f32().chunks(view[0].clip_len()).map(one).collect();
    let (together, apart) = (features(&trained, &view), features(&trained, &single));
    let size = together.iter().flatten().fold(0f32, |size, x| size.max(x.abs()));
    let pairs = together.iter().flatten().zip(apart.iter().flatten());
    let furthest = pairs.fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(furthest < 1e-5 * size, "{furthest} apart, features up to {size}");
    assert_eq!(together.len(), BATCH);
}

#[test]
fn a_damaged_checkpoint_is_never_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let open = || plan(SMALL).open(context(dir.path(), 10)).unwrap();
    let parts = open().save().unwrap();
    for name in parts.keys() {
        for place in [0, parts[name].len() / 2, parts[name].len() - 1] {
            let mut damaged = parts.clone();
            damaged.get_mut(name).unwrap()[place] ^= 4;
            let error = open().restore(&damaged).unwrap_err();
            assert!(error.to_string().contains(name.as_str()), "{name}: {error}");
            assert!(embedder(&damaged, 1, "cpu", true).is_err(), "{name}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_pipeline_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let parts = plan(SMALL).open(context(dir.path(), 10)).unwrap().save().unwrap();
    for (from, to) in
        [("width = 4", "width = 8"), ("lr = 0.05", "type = \"adamw\""), ("dim = 16", "hidden = 7, dim = 16")]
    {
        let mut other = plan(&SMALL.replace(from, to)).open(context(dir.path(), 10)).unwrap();
        let error = other.restore(&parts).unwrap_err();
        assert_eq!(error.code, 78, "{to}");
        assert!(error.to_string().contains("the checkpoint has"), "{error}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let error = |text: &str, change: fn(&mut SinkContext)| {
        let mut context = context(dir.path(), 10);
        change(&mut context);
        plan(text).open(context).map(|_| ()).unwrap_err().to_string()
    };
    assert!(error(SMALL, |c| c.banks.clear()).contains("needs a bank `keys`"));
    assert!(error(SMALL, |c| c.banks.get_mut("keys").unwrap().dim = 5).contains("dim 5"));
    assert!(error(SMALL, |c| c.views.truncate(2)).contains("view `negative`"));
    assert!(error(SMALL, |c| c.views[0].1[0] = 1).contains("1 channels"));
    let cosine = format!("{SMALL}\nschedule = {{ type = \"cosine\" }}");
    assert!(error(&cosine, |c| c.steps = None).contains("needs an end"));
}

#[test]
fn a_gap_in_the_steps_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = plan(SMALL).open(context(dir.path(), 10)).unwrap();
    assert!(sink.consume(&batch(1)).unwrap_err().to_string().contains("step 0 was to come"));
}

/// Four clips seen again and again, each with its own id, must be told apart: the loss falls and the
/// anchor's own copy wins.
#[test]
fn it_learns() {
    let dir = tempfile::tempdir().unwrap();
    let text = SMALL.replace("dim = 16", "dim = 16, same_segment_mask = true");
    let mut sink = plan(&text).open(context(dir.path(), 16)).unwrap();
    let mut fixed = batch(0);
    fixed.views[1].pixels = fixed.views[0].pixels.clone();
    let mut history = Vec::new();
    for step in 0..40 {
        fixed.step = step;
        history.push(sink.consume(&fixed).unwrap());
    }
    let highest = history.iter().map(loss).fold(0.0, f64::max);
    let last = history.last().unwrap();
    assert!(loss(last) < 0.2 * highest, "{} of {highest}", loss(last));
    assert_eq!(scalar(last, "top1"), 1.0);
    assert!(scalar(last, "neg_sim") < scalar(last, "pos_sim") - 0.1, "{last:?}");
}

#[test]
fn the_encoder_is_exported_without_heads() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{SMALL}\nexport_every = 1");
    let mut sink = plan(&text).open(context(dir.path(), 10)).unwrap();
    sink.consume(&batch(0)).unwrap();
    let path = dir.path().join("exported/encoder.safetensors");
    let blocks = sealed::from_safetensors("encoder", &std::fs::read(&path).unwrap()).unwrap();
    assert!(blocks.keys().all(|name| name.starts_with("stem.") || name.starts_with("layer")));
    assert_eq!(blocks["stem.1.num_batches_tracked"].to_i64(&[]), Some(vec![2]));
    let about = std::fs::read_to_string(dir.path().join("exported/encoder.json")).unwrap();
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    assert_eq!((&about["name"], &about["features"], &about["steps"]), (&"r3d".into(), &32.into(), &1.into()));
    let lines = sink.finish().unwrap();
    assert!(
        lines[0].starts_with("weights ") && lines[1].ends_with("exported/encoder.safetensors"),
        "{lines:?}"
    );
}
