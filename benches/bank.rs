//! What a step pays for its bank: writing a batch of keys and bringing the reader's rows up to date, as the
//! trainer's thread sees it.
//!
//! Run with `cargo bench --bench bank --no-default-features`; `benches/train.rs` has the step to compare with.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::api::bank::{BankKind, BankSettings};
use reelflow::api::rng::Key;
use reelflow::bank::{Bank, Rows};

const BATCH: usize = 16;
const DIM: usize = 128;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn steps(criterion: &mut Criterion) {
    let mut key = vec![0f32; DIM];
    key[0] = 1.0;
    let (ids, keys): (Vec<i64>, _) = ((0..BATCH as i64).collect(), key.repeat(BATCH));
    let instance = BankKind::Instance { momentum: 0.5, negatives: 4096 };
    for (rows, kind) in [(4096, BankKind::Queue), (65_536, BankKind::Queue), (65_536, instance)] {
        let mut group = criterion.benchmark_group(format!("{} of {rows} rows", kind.name()));
        group.measurement_time(Duration::from_secs(3)).sample_size(20);
        let settings = BankSettings { kind, ..BankSettings::queue(rows, DIM as u32) };
        let mut bank = Bank::open("keys", &settings, Key::new(1)).expect("threads start");
        let mut copy = Rows::empty(&settings);
        let mut step = 0;
        copy.apply(&bank.read(step).expect("owners live"));
        let mut push = |bank: &mut Bank| {
            bank.push(step, &ids, &keys).expect("unit keys are taken");
            step += 1;
            bank.prefetch(step).expect("owners live");
            step
        };
        group.bench_function("write, ask and read at once", |bencher| {
            bencher.iter(|| {
                let step = push(&mut bank);
                copy.apply(black_box(&bank.read(step).expect("owners live")));
            });
        });
        // What a training step pays: the owners work beside the gradient.
        group.bench_function("write and ask, and read after 20 ms of other work", |bencher| {
            bencher.iter_custom(|iterations| {
                let mut paid = Duration::ZERO;
                for _ in 0..iterations {
                    let start = std::time::Instant::now();
                    let step = push(&mut bank);
                    paid += start.elapsed();
                    std::thread::sleep(Duration::from_millis(20));
                    let start = std::time::Instant::now();
                    black_box(bank.negatives(Key::new(step)));
                    copy.apply(&bank.read(step).expect("owners live"));
                    black_box(bank.ages());
                    paid += start.elapsed();
                }
                paid
            });
        });
        // What it was before only changed rows were sent: all of them copied.
        group.bench_function("a copy of all rows, for comparison", |bencher| {
            let mut all = copy.values.clone();
            bencher.iter(|| {
                all.copy_from_slice(black_box(&copy.values));
                black_box(&mut all);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
