//! A bank whose shards live in two processes is the same, bit for bit, as one in a single process.
//!
//! This program starts itself a second time: with `REELFLOW_TEST_PEER` set it is the other process and serves shards.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use reelflow::api::bank::{BankKind, BankSettings, RowType, Staleness};
use reelflow::api::rng::{Key, Rng};
use reelflow::bank::{Bank, Rows};
use reelflow::edge::peers::{self, Peer};
use reelflow::engine::bank_bridge::{Bridge, Meeting};

/// Says that this process is the second one, and where the first listens: `RUN ADDRESS`.
const PEER: &str = "REELFLOW_TEST_PEER";
/// Long enough for a machine that is busy; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    if let Ok(text) = std::env::var(PEER) {
        std::process::exit(serve(&text));
    }
    let trials = vec![
        Trial::test("two_processes_are_one_bank", two_processes_are_one_bank),
        Trial::test(
            "a_process_that_is_gone_is_an_error_and_no_wait",
            a_process_that_is_gone_is_an_error_and_no_wait,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The second process: keeps shards until the first asks no more.
fn serve(text: &str) -> i32 {
    let (run, address) = text.split_once(' ').expect("a run and an address");
    let peer = Peer { run: run.parse().expect("a number"), process: 1, processes: 2 };
    let lower = [address.parse().expect("an address")];
    let meeting = Meeting { peer, listener: None, lower: &lower, patience: PATIENCE };
    let ended = Bridge::start(&meeting, 1).and_then(Bridge::finish);
    ended.map_or_else(|error| i32::from(error.code), |()| 0)
}

struct Second(Child);

impl Drop for Second {
    fn drop(&mut self) {
        // Gone already, unless a check failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This process as the first of two, and the second.
fn pair(run: u64) -> (Bridge, Second) {
    let (listener, address): (TcpListener, _) = peers::listen().unwrap();
    let itself = std::env::current_exe().expect("a program knows where it is");
    let mut command = Command::new(itself);
    let command = command.env(PEER, format!("{run} {address}")).stdout(Stdio::null()).stderr(Stdio::null());
    let second = Second(command.spawn().expect("the test starts itself"));
    let peer = Peer { run, process: 0, processes: 2 };
    let meeting = Meeting { peer, listener: Some(&listener), lower: &[], patience: PATIENCE };
    (Bridge::start(&meeting, 1).unwrap(), second)
}

/// `count` keys of unit length.
fn keys(rng: &mut Rng, count: usize, dim: usize) -> Vec<f32> {
    let key = |rng: &mut Rng| {
        let key: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
        let length = key.iter().map(|x| x * x).sum::<f64>().sqrt();
        key.into_iter().map(move |x| (x / length) as f32).collect::<Vec<_>>()
    };
    (0..count).flat_map(|_| key(rng)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The same random life of both banks; every answer is compared.
fn live(near: &mut Bank, far: &mut Bank, settings: &BankSettings, seed: u64, steps: u64) {
    let mut rng = Key::new(seed).part("life").rng();
    let dim = settings.dim as usize;
    let (mut rows, mut far_rows) = (Rows::empty(settings), Rows::empty(settings));
    for step in 0..steps {
        let (changes, found) = (near.read(step).unwrap(), far.read(step).unwrap());
        // Rows, ids and versions in the same order; the values by their bits.
        assert_eq!(
            (&changes.rows, &changes.ids, &changes.versions),
            (&found.rows, &found.ids, &found.versions)
        );
        assert_eq!(bits(&changes.values), bits(&found.values), "bank {seed}, step {step}");
        rows.apply(&changes);
        far_rows.apply(&found);
        assert_eq!(near.ages(), far.ages());
        // What a step gathers from a bank of instances: drawn rows of what was read.
        let drawn = |bank: &Bank, rows: &Rows| {
            let drawn = bank.negatives(Key::new(step)).unwrap_or_default();
            drawn.iter().flat_map(|&row| bits(&rows.values[row as usize * dim..][..dim])).collect::<Vec<_>>()
        };
        assert_eq!(drawn(near, &rows), drawn(far, &far_rows));
        let queries = keys(&mut rng, 3, dim);
        let sums = near.log_sum_exp(step, &queries, 0.07).unwrap();
        let far_sums = far.log_sum_exp(step, &queries, 0.07).unwrap();
        let bits_of = |sum: &reelflow::bank::softmax::LogSumExp| (sum.max.to_bits(), sum.sum.to_bits());
        assert_eq!(
            sums.iter().map(bits_of).collect::<Vec<_>>(),
            far_sums.iter().map(bits_of).collect::<Vec<_>>()
        );
        // And it is the sum over all rows.
        for (query, sum) in queries.chunks(dim).zip(&sums) {
            let all = reelflow::bank::softmax::partial(query, &rows.values, 0.07).value();
            assert!((sum.value() - all).abs() < 1e-9 * all.abs().max(1.0), "{} is not {all}", sum.value());
        }
        let count = 1 + rng.below(5) as usize;
        let ids: Vec<i64> = (0..count).map(|_| rng.below(u64::from(settings.rows)) as i64).collect();
        let new = keys(&mut rng, count, dim);
        near.push(step, &ids, &new).unwrap();
        far.push(step, &ids, &new).unwrap();
        if rng.chance(0.5) {
            near.prefetch(step + 1).unwrap();
            far.prefetch(step + 1).unwrap();
        }
        if rng.chance(0.1) {
            near.forget(&ids[..1]).unwrap();
            far.forget(&ids[..1]).unwrap();
        }
        if rng.chance(0.2) {
            let saved = far.save().unwrap();
            assert!(near.save().unwrap() == saved, "every byte of the files");
            if rng.chance(0.5) {
                near.restore(&saved).unwrap();
                far.restore(&saved).unwrap();
            }
        }
    }
    assert!(near.snapshot().unwrap() == far.snapshot().unwrap());
}

fn two_processes_are_one_bank() -> Result<(), Failed> {
    let (bridge, mut second) = pair(1);
    let instance = BankKind::Instance { momentum: 0.5, negatives: 9 };
    let mut seed = 0;
    for kind in [BankKind::Queue, instance] {
        for (dtype, staleness) in [(RowType::F32, 1), (RowType::F16, 1), (RowType::F32, 3)] {
            for shards in [2, 5] {
                seed += 1;
                let staleness = Staleness::Steps(staleness);
                let settings = BankSettings { kind, dtype, staleness, shards, ..BankSettings::queue(37, 8) };
                let (id, key) = (format!("bank-{seed}"), Key::new(seed));
                let mut near = Bank::open("keys", &settings, key)?;
                // The same name, so that the files are the same; the bridge knows it by another.
                let mut far_shards = 0;
                let mut far = Bank::open_among("keys", &settings, key, |shard| {
                    let link = bridge.link(&id, shard);
                    far_shards += u32::from(link.is_some());
                    link
                })?;
                assert_eq!(far_shards, shards / 2, "every other shard is in the other process");
                live(&mut near, &mut far, &settings, seed, 40);
            }
        }
    }
    // A bank that never waits: far more writes than may be on their way, and whole rows of earlier steps.
    let settings = BankSettings { staleness: Staleness::ANY, shards: 2, ..BankSettings::queue(40, 4) };
    let mut bank = Bank::open_among("keys", &settings, Key::new(1), |shard| bridge.link("any", shard))?;
    let mut rows = Rows::empty(&settings);
    for step in 0..500u64 {
        rows.apply(&bank.read(step)?);
        assert!(rows.versions.iter().all(|version| *version < step as i64));
        let mut key = [0.0; 4];
        key[step as usize % 4] = 1.0;
        for (row, &version) in rows.versions.iter().enumerate().filter(|(_, version)| **version >= 0) {
            assert_eq!((rows.ids[row], rows.values[row * 4 + version as usize % 4]), (version, 1.0));
        }
        bank.push(step, &[step as i64], &key)?;
    }
    drop(bank);
    bridge.finish()?;
    assert!(second.0.wait()?.success(), "the second process ends well");
    Ok(())
}

fn a_process_that_is_gone_is_an_error_and_no_wait() -> Result<(), Failed> {
    let (bridge, mut second) = pair(2);
    let settings = BankSettings { shards: 2, ..BankSettings::queue(8, 2) };
    let mut bank = Bank::open_among("keys", &settings, Key::new(1), |shard| bridge.link("keys", shard))?;
    bank.read(0)?;
    second.0.kill()?;
    second.0.wait()?;
    let read = |bank: &mut Bank, step: u64| {
        bank.push(step, &[1], &[1.0, 0.0])?;
        bank.read(step + 1).map(drop)
    };
    // What was on its way may still come; soon nothing does.
    let error = (0..1000).find_map(|step| read(&mut bank, step).err()).expect("the shard is gone");
    assert!(error.code == 75 && error.message.contains("the process that keeps shard"), "{error}");
    drop(bank);
    let error = bridge.finish().unwrap_err();
    assert_eq!(error.code, 75);
    Ok(())
}
