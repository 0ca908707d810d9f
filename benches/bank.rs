//! What a step pays for its bank: writing a batch of keys and reading all rows, with and without the
//! copy behind the trainer's back.
//!
//! Run with `cargo bench --bench bank --no-default-features`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::api::bank::{BankInit, BankSettings};
use reelflow::api::rng::Key;
use reelflow::bank::Bank;

const BATCH: usize = 16;
const DIM: usize = 128;

fn bank(rows: u32) -> Bank {
    let settings = BankSettings { dim: DIM as u32, rows, shards: 4, staleness: 1, init: BankInit::Sphere };
    Bank::open("keys", &settings, Key::new(1)).expect("threads start")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn steps(criterion: &mut Criterion) {
    let mut key = vec![0f32; DIM];
    key[0] = 1.0;
    let (ids, keys) = ([1i64; BATCH], key.repeat(BATCH));
    for rows in [4096, 65_536] {
        let mut group = criterion.benchmark_group(format!("bank of {rows} rows"));
        group.measurement_time(Duration::from_secs(3)).sample_size(20);
        let (mut bank, mut step) = (bank(rows), 0);
        group.bench_function("push", |bencher| {
            bencher.iter(|| {
                bank.push(step, &ids, &keys).expect("unit keys are taken");
                step += 1;
            });
        });
        group.bench_function("push and read at once", |bencher| {
            bencher.iter(|| {
                bank.push(step, &ids, &keys).expect("unit keys are taken");
                step += 1;
                let rows = bank.read(step).expect("owners live");
                bank.give_back(black_box(rows));
            });
        });
        group.bench_function("read after 20 ms of other work", |bencher| {
            bencher.iter_custom(|iterations| {
                let mut waited = Duration::ZERO;
                for _ in 0..iterations {
                    bank.push(step, &ids, &keys).expect("unit keys are taken");
                    step += 1;
                    bank.prefetch(step).expect("owners live");
                    std::thread::sleep(Duration::from_millis(20));
                    let start = std::time::Instant::now();
                    let rows = bank.read(step).expect("owners live");
                    waited += start.elapsed();
                    bank.give_back(black_box(rows));
                }
                waited
            });
        });
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
