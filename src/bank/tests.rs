//! The bank against a plain list of rows, and its promises one by one.

mod delayed;
mod histories;
mod model;
mod schedules;

use reelflow_api::bank::{BankInit, BankKind, BankSettings, RowType, Staleness};
use reelflow_api::rng::Key;

use super::sealed;
use super::snapshot::Snapshot;
use super::*;
use model::keys;

fn settings(rows: u32, dim: u32, shards: u32, staleness: u32) -> BankSettings {
    BankSettings { shards, staleness: Staleness::Steps(staleness), ..BankSettings::queue(rows, dim) }
}

fn open(settings: &BankSettings) -> Bank {
    Bank::open("keys", settings, Key::new(5)).unwrap()
}

/// All rows as `step` sees them, from a bank that nobody has read yet.
fn all(bank: &mut Bank, step: u64) -> Rows {
    let mut rows = Rows::empty(bank.settings());
    rows.apply(&bank.read(step).unwrap());
    rows
}

#[test]
fn after_j_batches_the_newest_keys_stand_at_j_b_mod_k() {
    let (k, b) = (5usize, 3usize);
    let settings = settings(k as u32, 2, 2, 1);
    let (mut bank, mut rows) = (open(&settings), Rows::empty(&settings));
    for j in 0..7u64 {
        let ids: Vec<i64> = (0..b as i64).map(|i| j as i64 * 10 + i).collect();
        bank.push(j, &ids, &[1.0, 0.0].repeat(b)).unwrap();
        // The step's own keys are not there yet, the next step sees them.
        rows.apply(&bank.read(j).unwrap());
        assert!(rows.versions.iter().all(|&version| version < j as i64));
        let changes = bank.read(j + 1).unwrap();
        assert_eq!(changes.rows.len(), b, "only what changed comes");
        rows.apply(&changes);
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
    let (mut before, mut rows) = (vec![-1; 7], Rows::empty(&settings));
    for step in 0..30 {
        rows.apply(&bank.read(step).unwrap());
        assert!(rows.versions.iter().zip(&before).all(|(now, before)| now >= before));
        assert!(rows.values.chunks(8).all(|row| (row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5));
        before.clone_from(&rows.versions);
        bank.push(step, &[step as i64; 4], &keys(&mut rng, 4, 8)).unwrap();
    }
}

#[test]
fn first_rows_have_the_spread_that_vtdl_starts_from() {
    for init in [BankInit::Sphere, BankInit::Uniform] {
        let settings = BankSettings { init, ..BankSettings::queue(4096, 128) };
        let rows = all(&mut open(&settings), 0);
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
    bank.read(0).unwrap();
    for bad in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [0.0, 0.0], [0.9, 0.0]] {
        let error = bank.push(0, &[1], &bad).unwrap_err();
        assert!(error.to_string().contains("key 0 of step 0"), "{error}");
    }
    assert_eq!(bank.push(0, &[1, 2], &[1.0, 0.0]).unwrap_err().code, 78);
    assert_eq!(bank.push(0, &[-1], &[1.0, 0.0]).unwrap_err().code, 78);
    assert_eq!(bank.read(1).unwrap(), Changes::default());
    assert!(bank.push(0, &[1], &[1.0, 0.0]).unwrap_err().to_string().contains("after step 1 was read"));
    assert!(bank.read(0).unwrap_err().to_string().contains("steps only go up"));
    bank.push(3, &[1], &[1.0, 0.0]).unwrap();
    assert!(bank.push(2, &[1], &[1.0, 0.0]).unwrap_err().to_string().contains("after those of step 3"));
}

/// A small bank of each kind and type, with rows written, rows waiting and rows untouched.
fn small(kind: BankKind, dtype: RowType) -> (BankSettings, Bank) {
    let settings = BankSettings { kind, dtype, ..settings(3, 2, 2, 2) };
    let mut bank = open(&settings);
    bank.push(0, &[7], &[0.0, 1.0]).unwrap();
    bank.push(3, &[8], &[0.6, 0.8]).unwrap();
    (settings, bank)
}

#[test]
fn what_a_bank_holds_is_as_old_after_a_restart_as_before() {
    let (settings, mut bank) = small(BankKind::Queue, RowType::F32);
    let mut again = open(&settings);
    again.restore(&bank.save().unwrap()).unwrap();
    let ages = again.ages_kept().unwrap();
    assert_eq!(ages, bank.ages_kept().unwrap());
    // The key of step 3 still waits.
    assert_eq!((ages.rows, ages.filled, ages.spread), (3, 1, Some([4, 4, 4])));
    assert_eq!(bank.ages().rows, 0, "nothing was read");
}

const INSTANCE: BankKind = BankKind::Instance { momentum: 0.5, negatives: 100 };

#[test]
fn every_flipped_bit_of_every_file_is_found_and_the_file_named() {
    for (kind, dtype) in [(BankKind::Queue, RowType::F32), (INSTANCE, RowType::F16)] {
        let (settings, mut bank) = small(kind, dtype);
        let parts = bank.save().unwrap();
        assert_eq!(parts.len(), 4);
        assert!(parts.keys().all(|name| name.starts_with("bank.keys.")));
        let mut damaged = parts.clone();
        for (name, bytes) in &parts {
            for bit in 0..bytes.len() * 8 {
                damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let error = Snapshot::read("keys", &damaged).unwrap_err();
                assert!(error.to_string().contains(name.as_str()), "bit {bit} of {name}: {error}");
                assert_eq!(error.code, 74, "bit {bit} of {name}");
                damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            }
            let mut missing = parts.clone();
            missing.remove(name);
            assert!(open(&settings).restore(&missing).unwrap_err().to_string().contains(name.as_str()));
        }
        open(&settings).restore(&damaged).unwrap();
    }
}

#[test]
fn a_checkpoint_of_another_bank_is_refused_with_both() {
    let (settings, mut bank) = small(BankKind::Queue, RowType::F32);
    let parts = bank.save().unwrap();
    for (other, says) in [
        (BankSettings { rows: 4, ..settings.clone() }, "\"queue\", 4, 2"),
        (BankSettings { dtype: RowType::F16, ..settings.clone() }, "F16"),
        (BankSettings { staleness: Staleness::ANY, ..settings.clone() }, "Any"),
        (BankSettings { kind: INSTANCE, ..settings.clone() }, "instance"),
    ] {
        let error = open(&other).restore(&parts).unwrap_err();
        assert_eq!(error.code, 78);
        assert!(error.to_string().contains("\"queue\", 3, 2") && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn files_of_half_precision_take_half_the_room_and_come_back_bit_for_bit() {
    let size = |dtype| {
        let settings = BankSettings { dtype, ..BankSettings::queue(64, 128) };
        let mut bank = open(&settings);
        bank.push(0, &[5; 20], &keys(&mut Key::new(1).rng(), 20, 128)).unwrap();
        bank.read(1).unwrap();
        let parts = bank.save().unwrap();
        let mut back = open(&settings);
        back.restore(&parts).unwrap();
        assert_eq!(back.save().unwrap(), parts);
        assert_eq!(Snapshot::read("keys", &parts).unwrap().to_parts().unwrap(), parts);
        let shards = parts.iter().filter(|(name, _)| name.contains("shard"));
        shards.map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    let ids_and_versions = 64 * 16;
    let headers = size(RowType::F32) - 64 * 128 * 4 - ids_and_versions;
    assert!(headers < 4 * 300, "{headers}");
    assert!((size(RowType::F16) - 64 * 128 * 2 - ids_and_versions).abs_diff(headers) < 4 * 10);
}

#[test]
fn an_instance_bank_moves_a_segments_row_and_draws_negatives_uniformly() {
    let settings = BankSettings { kind: INSTANCE, ..BankSettings::queue(4, 2) };
    let mut bank = open(&settings);
    assert_eq!(bank.own_rows(&[70, 80, 70]).unwrap(), [0, 1, 0]);
    bank.push(0, &[70, 80], &[1.0, 0.0, 0.0, 1.0]).unwrap();
    let first = all(&mut bank, 1);
    bank.push(1, &[80], &[1.0, 0.0]).unwrap();
    assert_eq!(bank.own_rows(&[80, 70]).unwrap(), [1, 0]);
    let changes = bank.read(2).unwrap();
    assert_eq!((changes.rows, changes.ids, changes.versions), (vec![1], vec![80], vec![1]));
    let (m, length) = (&first.values[2..4], changes.values[0].hypot(changes.values[1]));
    // Half way to the key, back on the circle.
    let slope = (m[0] + 1.0) / m[1];
    assert!((changes.values[0] / changes.values[1] - slope).abs() < 1e-4 && (length - 1.0).abs() < 1e-6);
    let error = bank.push(2, &[1, 2, 3], &[1.0, 0.0].repeat(3)).unwrap_err();
    assert!(error.to_string().contains("5 segments have keys and there are 4 rows"), "{error}");
    let draws: Vec<i64> = (0..80).flat_map(|step| bank.negatives(Key::new(step)).unwrap()).collect();
    let counts = [0, 1, 2, 3].map(|row| draws.iter().filter(|draw| **draw == row).count());
    assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    assert_eq!(bank.negatives(Key::new(1)), bank.negatives(Key::new(1)));
    assert_eq!(open(&self::settings(4, 2, 1, 1)).negatives(Key::new(1)), None);
}

#[test]
fn a_forgotten_segment_is_in_no_read_and_in_no_file_not_even_pending() {
    for kind in [BankKind::Queue, INSTANCE] {
        let settings = BankSettings { kind, ..settings(6, 2, 3, 2) };
        let mut bank = open(&settings);
        let fresh = all(&mut bank, 0);
        for step in 0..3 {
            bank.push(step, &[7, 8], &[0.0, 1.0, 0.6, 0.8]).unwrap();
        }
        bank.prefetch(3).unwrap();
        let before = bank.snapshot().unwrap();
        assert_eq!(bank.count_of(&[7, 1234]).unwrap(), if kind == BankKind::Queue { 3 } else { 2 });
        bank.forget(&[7, 1234]).unwrap();
        assert_eq!(bank.count_of(&[7, 1234]).unwrap(), 0);
        let mut rows = fresh.clone();
        rows.apply(&bank.read(3).unwrap());
        assert!(rows.ids.contains(&8) && !rows.ids.contains(&7));
        for row in (0..6).filter(|row| rows.ids[*row] == NO_SEGMENT) {
            assert_eq!(
                rows.values[row * 2..row * 2 + 2],
                fresh.values[row * 2..row * 2 + 2],
                "as before its key"
            );
        }
        let saved = bank.save().unwrap();
        // Seven, little-endian, as an id of a row or of a key that waits.
        let mut blocks = saved.iter().filter(|(name, _)| name.ends_with("safetensors"));
        assert!(blocks.all(|(name, bytes)| {
            let ids = &sealed::from_safetensors(name, bytes).unwrap()["ids"];
            ids.to_i64(&ids.shape).unwrap().iter().all(|id| *id != 7)
        }));
        // The same on the files alone, and it counts what it took.
        let mut snapshot = before;
        assert_eq!(snapshot.forget(&[7, 1234].into()), if kind == BankKind::Queue { 3 } else { 2 });
        assert_eq!(snapshot.to_parts().unwrap(), saved);
        assert_eq!(snapshot.problems(), [""; 0]);
    }
}

#[test]
fn what_checksums_cannot_know_is_checked_too() {
    let (_, mut bank) = small(INSTANCE, RowType::F32);
    let good = bank.save().unwrap();
    let change = |file: &str, block: &str, new: sealed::Block| {
        let mut parts = good.clone();
        let mut blocks = sealed::from_safetensors(file, &parts[file]).unwrap();
        blocks.insert(block.to_owned(), new);
        parts.insert(file.to_owned(), sealed::to_safetensors(file, &blocks).unwrap());
        sealed::reseal("bank.keys.json", &mut parts).unwrap();
        Snapshot::read("keys", &parts).unwrap().problems().join("\n")
    };
    let (first, second) = ("bank.keys.shard-000.safetensors", "bank.keys.shard-001.safetensors");
    let long = sealed::Block::f32(&[1, 2], &[1.0, 1.0]);
    assert_eq!(
        change(first, "values", long),
        format!("{first}: row 0 of segment 7 has squared length 2, expected 1")
    );
    let late = sealed::Block::i64(&[1], &[9]);
    assert_eq!(
        change(first, "versions", late),
        format!("{first}: row 0 is of step 9, the newest written is 3")
    );
    let twice = change(second, "ids", sealed::Block::i64(&[2], &[-1, 7]));
    assert!(twice.contains("row 2 belongs to segment 7, which has another row"), "{twice}");
    let nowhere = change("bank.keys.pending.safetensors", "rows", sealed::Block::i64(&[1], &[3]));
    assert!(nowhere.contains("key 0 is for row 3 of step 3"), "{nowhere}");
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
