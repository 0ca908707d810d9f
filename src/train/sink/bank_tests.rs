//! The trainer with its banks: equal to a plain list, and instances that go on after a stop.

use std::sync::Mutex;

use reelflow_api::bank::{BankKind, RowType, Staleness};
use reelflow_api::pretext::{BankRows, Nets, StepLoss};
use serde_json::json;
use tch::Tensor;

use super::tests::{SMALL, batch, context, loss, plan, scalar};
use super::*;

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
        let Step { step, views, ids: slots, labels, frozen, key, .. } = *step;
        let made =
            self.task.loss(nets, &Step { step, views, ids: slots, labels, banks: &banks, frozen, key })?;
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

/// Segment ids of every row and every key that waits, in the files of a checkpoint.
fn ids_in(parts: &Parts) -> Vec<i64> {
    let blocks = parts.iter().filter(|(name, _)| name.starts_with("bank.") && name.ends_with(".safetensors"));
    let ids = |(name, bytes): (&String, &Vec<u8>)| {
        let ids = sealed::from_safetensors(name, bytes).unwrap().remove("ids").unwrap();
        ids.to_i64(&ids.shape).unwrap()
    };
    blocks.flat_map(ids).collect()
}

#[test]
fn what_was_taken_back_is_in_no_file_and_what_only_left_stays() {
    let dir = tempfile::tempdir().unwrap();
    let settings = json!({ "encoder": { "name": "r3d", "width": 4 }, "optimizer": { "lr": 0.05 } });
    let settings: TrainSettings = serde_json::from_value(settings).unwrap();
    let task: reelflow_vtdl::Vtdl = serde_json::from_value(json!({ "bank": "keys", "dim": 16 })).unwrap();
    let task: Arc<dyn Pretext> = Arc::new(task);
    let mut context = context(dir.path(), 40);
    // A key of step 2 still waits when it is taken back.
    context.banks.get_mut("keys").unwrap().staleness = Staleness::Steps(2);
    let label = |id: u64, text: &str| (SegmentId(id), Arc::from(text));
    context.labels = Arc::new(BTreeMap::from([label(1, "a"), label(2, "b"), label(3, "c")]));
    let mut trainer = Trainer::open(&settings, &task, context).unwrap();
    (0..3).for_each(|step| drop(trainer.consume(&batch(step)).unwrap()));
    let before = ids_in(&trainer.save().unwrap());
    assert!([1, 2, 201].iter().all(|id| before.contains(id)), "{before:?}");
    let change = CatalogueChange {
        step: 3,
        version: 2,
        added: vec![(SegmentId(3), Some("d".into())), (SegmentId(9), None)],
        removed: vec![SegmentId(1), SegmentId(201), SegmentId(77)],
        left: vec![SegmentId(2)],
    };
    assert_eq!(trainer.catalogue_changed(&change).unwrap(), 2);
    assert!(!ids_in(&trainer.save().unwrap()).contains(&1), "the next snapshot is without it");
    drop(trainer.consume(&batch(3)).unwrap());
    let after = ids_in(&trainer.save().unwrap());
    assert!(after.contains(&2) && !after.contains(&1) && !after.contains(&201), "{after:?}");
    assert_eq!(*trainer.labels, BTreeMap::from([label(3, "d")]));
    assert_eq!(trainer.catalogue_changed(&change).unwrap(), 0, "nothing is left of them");
}
