//! The bank against a plain list of rows, and its promises one by one.

use reelflow_api::bank::{BankInit, BankSettings};
use reelflow_api::rng::{Key, Rng};

use super::*;

fn settings(rows: u32, dim: u32, shards: u32, staleness: u32) -> BankSettings {
    BankSettings { dim, rows, shards, staleness, init: BankInit::Sphere }
}

fn open(settings: &BankSettings) -> Bank {
    Bank::open("keys", settings, Key::new(5)).unwrap()
}

/// `count` keys of unit length.
fn keys(rng: &mut Rng, count: usize, dim: usize) -> Vec<f32> {
    (0..count)
        .flat_map(|_| {
            let key: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
            let length = key.iter().map(|x| x * x).sum::<f64>().sqrt();
            key.into_iter().map(move |x| (x / length) as f32)
        })
        .collect()
}

/// The plain twin: all writes ever, applied anew for each reader.
struct Model {
    first: Rows,
    writes: Vec<(u64, i64, Vec<f32>)>,
    dim: usize,
    staleness: u64,
}

impl Model {
    fn new(settings: &BankSettings) -> Self {
        let one = BankSettings { shards: 1, ..settings.clone() };
        Self {
            first: open(&one).read(0).unwrap(),
            writes: Vec::new(),
            dim: settings.dim as usize,
            staleness: settings.staleness.into(),
        }
    }

    fn push(&mut self, step: u64, ids: &[i64], keys: &[f32]) {
        let keys = keys.chunks(self.dim).map(<[f32]>::to_vec);
        self.writes.extend(ids.iter().zip(keys).map(|(&id, key)| (step, id, key)));
    }

    fn read(&self, step: u64) -> Rows {
        let mut rows = self.first.clone();
        let count = rows.ids.len();
        for (place, (written, id, key)) in self.writes.iter().enumerate() {
            if written + self.staleness <= step {
                let row = place % count;
                rows.values[row * self.dim..(row + 1) * self.dim].copy_from_slice(key);
                rows.ids[row] = *id;
                rows.versions[row] = *written as i64;
            }
        }
        rows
    }
}

#[test]
fn any_history_reads_like_the_plain_list() {
    for case in 0..60 {
        let mut rng = Key::new(case).rng();
        let rows = 1 + rng.below(12) as u32;
        let shards = 1 + rng.below(u64::from(rows)) as u32;
        let settings = settings(rows, 3, shards, 1 + rng.below(3) as u32);
        let (mut bank, mut model) = (open(&settings), Model::new(&settings));
        for step in 0..20 {
            assert_eq!(bank.read(step).unwrap(), model.read(step), "case {case}, step {step}");
            // Sometimes nothing, sometimes more keys than rows, sometimes twice in a step.
            for _ in 0..rng.below(3) {
                let count = rng.below(u64::from(rows) * 2) as usize;
                let ids: Vec<i64> = (0..count).map(|_| rng.below(1 << 40) as i64).collect();
                let keys = keys(&mut rng, count, 3);
                bank.push(step, &ids, &keys).unwrap();
                model.push(step, &ids, &keys);
            }
            if rng.chance(0.5) {
                bank.prefetch(step + 1).unwrap();
            }
            if rng.chance(0.2) {
                let parts = bank.save().unwrap();
                // A checkpoint opens with any number of shards.
                let shards = 1 + rng.below(u64::from(rows)) as u32;
                bank = Bank::open("keys", &BankSettings { shards, ..settings.clone() }, Key::new(9)).unwrap();
                bank.restore(&parts).unwrap();
            }
        }
    }
}

#[test]
fn after_j_batches_the_newest_keys_stand_at_j_b_mod_k() {
    let (k, b) = (5usize, 3usize);
    let mut bank = open(&settings(k as u32, 2, 2, 1));
    for j in 0..7u64 {
        let ids: Vec<i64> = (0..b as i64).map(|i| j as i64 * 10 + i).collect();
        bank.push(j, &ids, &[1.0, 0.0].repeat(b)).unwrap();
        // The step's own keys are not there yet, the next step sees them.
        assert!(bank.read(j).unwrap().versions.iter().all(|&version| version < j as i64));
        let rows = bank.read(j + 1).unwrap();
        for (i, &id) in ids.iter().enumerate() {
            assert_eq!(rows.ids[(j as usize * b + i) % k], id);
        }
        assert_eq!(rows.ids.len(), k);
    }
}

#[test]
fn versions_never_go_back_and_rows_stay_of_unit_length() {
    let settings = settings(7, 8, 3, 2);
    let mut bank = open(&settings);
    let mut rng = Key::new(2).rng();
    let mut before = vec![-1; 7];
    for step in 0..30 {
        let rows = bank.read(step).unwrap();
        assert!(rows.versions.iter().zip(&before).all(|(now, before)| now >= before));
        assert!(rows.values.chunks(8).all(|row| (row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5));
        before = rows.versions;
        bank.push(step, &[step as i64; 4], &keys(&mut rng, 4, 8)).unwrap();
    }
}

#[test]
fn first_rows_have_the_spread_that_vtdl_starts_from() {
    for init in [BankInit::Sphere, BankInit::Uniform] {
        let settings = BankSettings { init, ..settings(4096, 128, 4, 1) };
        let rows = open(&settings).read(0).unwrap();
        let query = keys(&mut Key::new(1).rng(), 8, 128);
        let logits: Vec<f64> = query
            .chunks(128)
            .flat_map(|q| {
                let dot = |row: &[f32]| -> f64 { q.iter().zip(row).map(|(a, b)| f64::from(a * b)).sum() };
                rows.values.chunks(128).map(move |row| dot(row) / 0.07).collect::<Vec<_>>()
            })
            .collect();
        let count = logits.len() as f64;
        let deviation = (logits.iter().map(|x| x * x).sum::<f64>() / count).sqrt();
        let mean_exp = logits.iter().map(|x| x.exp()).sum::<f64>() / count;
        // METHODS 1.8: 1.263 and 2.219; the bounds are five standard errors of this many values.
        assert!((deviation - 1.263).abs() < 0.03, "{init:?}: {deviation}");
        assert!((mean_exp - 2.219).abs() < 0.12, "{init:?}: {mean_exp}");
        assert!(rows.ids.iter().chain(&rows.versions).all(|&id| id == -1));
    }
}

#[test]
fn bad_keys_and_wrong_orders_are_refused_and_change_nothing() {
    let mut bank = open(&settings(4, 2, 2, 1));
    let first = bank.read(0).unwrap();
    for bad in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [0.0, 0.0], [0.9, 0.0]] {
        let error = bank.push(0, &[1], &bad).unwrap_err();
        assert!(error.to_string().contains("key 0 of step 0"), "{error}");
    }
    assert_eq!(bank.push(0, &[1, 2], &[1.0, 0.0]).unwrap_err().code, 78);
    assert_eq!(bank.read(1).unwrap(), first);
    assert!(bank.push(0, &[1], &[1.0, 0.0]).unwrap_err().to_string().contains("after step 1 was read"));
    assert!(bank.read(0).unwrap_err().to_string().contains("steps only go up"));
    bank.push(3, &[1], &[1.0, 0.0]).unwrap();
    assert!(bank.push(2, &[1], &[1.0, 0.0]).unwrap_err().to_string().contains("after those of step 3"));
}

#[test]
fn a_damaged_part_is_found_and_named_whatever_the_byte() {
    let settings = settings(3, 2, 2, 2);
    let mut bank = open(&settings);
    bank.push(0, &[7], &[0.0, 1.0]).unwrap();
    let parts = bank.save().unwrap();
    assert!(parts.keys().all(|name| name.starts_with("bank.keys.")));
    for (name, bytes) in &parts {
        for place in 0..bytes.len() {
            let mut damaged = parts.clone();
            damaged.get_mut(name).unwrap()[place] ^= 1 << (place % 8);
            let error = open(&settings).restore(&damaged).unwrap_err();
            assert!(error.to_string().contains(name.as_str()), "byte {place} of {name}: {error}");
            assert_eq!(error.code, 74, "byte {place} of {name}");
        }
        let mut missing = parts.clone();
        missing.remove(name);
        assert!(open(&settings).restore(&missing).unwrap_err().to_string().contains(name.as_str()));
    }
    open(&settings).restore(&parts).unwrap();
}

#[test]
fn a_checkpoint_of_another_size_is_refused_with_both_sizes() {
    let parts = open(&settings(3, 2, 2, 1)).save().unwrap();
    let error = open(&settings(4, 2, 2, 1)).restore(&parts).unwrap_err();
    assert_eq!(error.code, 78);
    assert!(error.to_string().contains("(3, 2, 1)") && error.to_string().contains("(4, 2, 1)"), "{error}");
}

#[test]
fn dropping_a_busy_bank_ends_its_threads() {
    for _ in 0..50 {
        let mut bank = open(&settings(64, 8, 8, 3));
        let mut rng = Key::new(1).rng();
        for step in 0..5 {
            bank.push(step, &[1; 40], &keys(&mut rng, 40, 8)).unwrap();
            bank.prefetch(step + 1).unwrap();
        }
    }
}
