//! A million random operations against the plain twin, and threads that dawdle.

use reelflow_api::bank::{BankInit, BankKind, BankSettings, RowType, Staleness};
use reelflow_api::rng::{Key, Rng};

use super::delayed::{Delayed, pace};
use super::model::{Model, keys};
use crate::bank::{Bank, Rows, Wire};

/// Operations of the long history; the slow build of the dev profile does a tenth.
const OPERATIONS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const DIM: u32 = 2;

fn any_settings(rng: &mut Rng) -> BankSettings {
    let rows = 1 + rng.below(12) as u32;
    let kinds = [BankKind::Queue, BankKind::Instance { momentum: 0.5, negatives: 3 }];
    BankSettings {
        shards: 1 + rng.below(rows.min(4).into()) as u32,
        staleness: Staleness::Steps(1 + rng.below(3) as u32),
        dtype: [RowType::F32, RowType::F16][rng.below(2) as usize],
        init: [BankInit::Sphere, BankInit::Uniform][rng.below(2) as usize],
        kind: kinds[rng.below(2) as usize],
        ..BankSettings::queue(rows, DIM)
    }
}

/// One bank's life of a thousand operations or so, compared with the plain twin at every read. The number
/// of operations, and how often the two differed.
fn life<W: Wire>(seed: u64) -> (u64, u64) {
    let mut rng = Key::new(seed).rng();
    let (settings, key) = (any_settings(&mut rng), Key::new(seed).part("rows"));
    let open = |settings: &BankSettings, key| Bank::<W>::open_on("keys", settings, key).unwrap();
    let (mut bank, mut model) = (open(&settings, key), Model::new(&settings, key));
    let mut seen = Rows::empty(&settings);
    let (mut step, mut operations, mut differences) = (0, 0, 0);
    // Enough segments that some have no row, few enough that they come back.
    let segments = u64::from(settings.rows) * 5 / 4 + 1;
    let id = |rng: &mut Rng| (rng.below(segments) * 0x1234_5678_9ABC) as i64;
    while operations < 1000 {
        operations += 1;
        match rng.below(100) {
            0..73 => {
                let count =
                    if rng.chance(0.1) { rng.below(u64::from(settings.rows) * 2) } else { rng.below(4) };
                let ids: Vec<i64> = (0..count).map(|_| id(&mut rng)).collect();
                let keys = keys(&mut rng, ids.len(), DIM as usize);
                let is_taken = bank.push(step, &ids, &keys).is_ok();
                differences += u64::from(is_taken != model.has_room(&ids));
                if is_taken {
                    model.push(step, &ids, &keys);
                }
            }
            73..97 => {
                step += 1 + rng.below(2);
                if rng.chance(0.3) {
                    bank.prefetch(step).unwrap();
                    operations += 1;
                }
                if rng.chance(0.9) {
                    seen.apply(&bank.read(step).unwrap());
                    differences += u64::from(seen != *model.read(step));
                }
            }
            97..99 => {
                let ids: Vec<i64> = (0..1 + rng.below(2)).map(|_| id(&mut rng)).collect();
                bank.forget(&ids).unwrap();
                model.forget(&ids);
                step += 1;
                seen.apply(&bank.read(step).unwrap());
                differences += u64::from(seen != *model.read(step));
                differences += u64::from(seen.ids.iter().any(|id| ids.contains(id)));
            }
            _ if rng.chance(0.3) => {
                let snapshot = bank.snapshot().unwrap();
                differences += u64::from(!snapshot.problems().is_empty());
                // A checkpoint opens with any number of shards, and brings its first rows along.
                let shards = 1 + rng.below(settings.rows.min(4).into()) as u32;
                bank = open(&BankSettings { shards, ..settings.clone() }, Key::new(0));
                bank.restore(&snapshot.to_parts().unwrap()).unwrap();
                seen = Rows::empty(&settings);
                operations += 1;
            }
            _ => drop(bank.save().unwrap()),
        }
    }
    (operations, differences)
}

#[test]
fn a_million_operations_are_as_the_plain_list_has_them() {
    let (mut operations, mut seed) = (0, 0);
    while operations < OPERATIONS {
        let (done, differences) = life::<crate::bank::Threads>(seed);
        assert_eq!(differences, 0, "bank number {seed}");
        operations += done;
        seed += 1;
    }
}

#[test]
fn threads_that_dawdle_change_nothing() {
    for seed in 0..20 {
        pace(seed);
        assert_eq!(life::<Delayed>(seed).1, 0, "bank number {seed}");
    }
}

#[test]
fn a_restored_bank_gives_all_rows_whatever_was_on_its_way() {
    let settings = BankSettings { shards: 4, ..BankSettings::queue(12, 3) };
    let mut rng = Key::new(1).rng();
    let first = keys(&mut rng, 5, 3);
    for seed in 0..300 {
        pace(seed);
        let mut bank = Bank::<Delayed>::open_on("keys", &settings, Key::new(1)).unwrap();
        bank.read(0).unwrap();
        bank.push(0, &[0, 1, 2, 3, 4], &first).unwrap();
        let saved = bank.save().unwrap();
        bank.prefetch(1).unwrap();
        bank.restore(&saved).unwrap();
        assert_eq!(bank.read(1).unwrap().rows.len(), 12, "bank number {seed}");
    }
}

/// Four owners and a handle, all dawdling: what a reader must not see it never sees, what it must see is
/// there, and every row is the one key that its id and version name.
fn check_staleness(staleness: Staleness, seed: u64) {
    pace(seed);
    let settings = BankSettings { shards: 4, staleness, ..BankSettings::queue(12, 3) };
    let mut bank = Bank::<Delayed>::open_on("keys", &settings, Key::new(seed)).unwrap();
    let mut rng = Key::new(seed).part("run").rng();
    let mut pushed: Vec<(i64, Vec<f32>)> = Vec::new();
    let mut rows = Rows::empty(&settings);
    for step in 0..40u64 {
        let before = rows.versions.clone();
        rows.apply(&bank.read(step).unwrap());
        assert!(rows.versions.iter().zip(&before).all(|(now, before)| now >= before), "a version went back");
        let limit = (step as i64 - staleness.least() as i64).max(-1);
        assert!(
            rows.versions.iter().all(|&version| version <= limit),
            "step {step} sees {:?}",
            rows.versions
        );
        // Five keys a step into twelve rows: what was written last stands where it must.
        let due = if limit < 0 { 0 } else { (limit as usize + 1) * 5 };
        let missing =
            (due.saturating_sub(12)..due).filter(|&n| rows.versions[n % 12] < (n / 5) as i64).count();
        // With `"any"` something may be missing; how that is used is for `schedules.rs` to see.
        assert!(missing == 0 || staleness == Staleness::ANY, "step {step} sees {:?}", rows.versions);
        for (row, &version) in rows.versions.iter().enumerate().filter(|(_, version)| **version >= 0) {
            let first = version as usize * 5;
            let n = (first..first + 5).find(|n| n % 12 == row).expect("the step wrote this row");
            assert_eq!((rows.ids[row], &rows.values[row * 3..row * 3 + 3]), (pushed[n].0, &pushed[n].1[..]));
        }
        let ages = bank.ages();
        assert_eq!(ages.filled, rows.ids.iter().filter(|id| **id != -1).count() as u64);
        assert!(ages.spread.is_none_or(|[low, ..]| low >= staleness.least()), "{ages:?}");
        let keys = keys(&mut rng, 5, 3);
        let ids: Vec<i64> = (0..5).map(|i| step as i64 * 5 + i).collect();
        pushed.extend(ids.iter().zip(keys.chunks(3)).map(|(id, key)| (*id, key.to_vec())));
        bank.push(step, &ids, &keys).unwrap();
        bank.prefetch(step + 1).unwrap();
    }
}

#[test]
fn no_reader_sees_more_or_less_than_its_staleness_allows() {
    for seed in 0..30 {
        for steps in [1, 2, 5] {
            check_staleness(Staleness::Steps(steps), seed);
        }
    }
}

#[test]
fn a_reader_that_never_waits_sees_whole_rows_of_earlier_steps() {
    for seed in 0..60 {
        check_staleness(Staleness::ANY, seed);
    }
}
