//! What a step pays for its bank: writing a batch of keys and bringing the reader's rows up to date, as the
//! trainer's thread sees it; with libtorch also as a share of a training step, of which 2 % are allowed.
//!
//! `cargo bench --bench bank --no-default-features` for the bank alone; `cargo bench --bench bank -- share` for the
//! share. The step is that of `pipelines/temporal.toml`: the smallest one that learns, so the hardest to hide in.

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

/// Between a bank's write and its read lies a real step, whose threads the owners of the rows compete with.
#[cfg(feature = "torch")]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn share(criterion: &mut Criterion) {
    use std::time::Instant;

    use reelflow::bank::Changes;
    use support::{batch, trainer};
    use tch::Tensor;

    /// Steps looked at, after as many that warm up.
    const STEPS: u64 = 20;
    if std::env::args().any(|arg| arg == "--test") || !std::env::args().any(|arg| "share".starts_with(&arg)) {
        return;
    }
    let _ = criterion;
    let threads = std::env::var("THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let instance = BankKind::Instance { momentum: 0.5, negatives: 4096 };
    let shape = [3, 16, 48, 48];
    let encoder = "name = \"r3d\", width = 16, stem = \"small\", input = \"differences\"";
    for kind in [BankKind::Queue, instance] {
        let (mut sink, mut batch) = (trainer(encoder, shape, threads), batch(shape));
        let settings = BankSettings { kind, ..BankSettings::queue(65_536, DIM as u32) };
        let mut bank = Bank::open("keys", &settings, Key::new(1)).expect("threads start");
        let (ids, mut key): (Vec<i64>, _) = ((0..BATCH as i64).collect(), vec![0f32; DIM]);
        key[0] = 1.0;
        let keys = key.repeat(BATCH);
        // What the trainer keeps: the rows as a tensor, brought up to date by what changed.
        let values = Tensor::zeros([65_536, DIM as i64], (tch::Kind::Float, tch::Device::Cpu));
        let apply = |changes: &Changes| {
            let rows = Tensor::from_slice(&changes.rows);
            let new = Tensor::from_slice(&changes.values).reshape([-1, DIM as i64]);
            drop(values.shallow_clone().index_copy_(0, &rows, &new));
        };
        apply(&bank.read(0).expect("owners live"));
        let (mut paid, mut stepped) = (Vec::new(), Vec::new());
        for step in 0..2 * STEPS {
            let begun = Instant::now();
            bank.push(step, &ids, &keys).expect("unit keys are taken");
            bank.prefetch(step + 1).expect("owners live");
            let written = begun.elapsed();
            let begun = Instant::now();
            batch.step = step;
            sink.consume(&batch).expect("a step works");
            let took = begun.elapsed();
            let begun = Instant::now();
            let drawn = bank.negatives(Key::new(step));
            apply(&bank.read(step + 1).expect("owners live"));
            if let Some(drawn) = drawn {
                let _ = black_box(values.index_select(0, &Tensor::from_slice(&drawn)));
            }
            black_box(bank.ages());
            if step >= STEPS {
                paid.push((written + begun.elapsed()).as_secs_f64());
                stepped.push(took.as_secs_f64());
            }
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            1e3 * times[times.len() / 2]
        };
        let (paid, stepped) = (median(&mut paid), median(&mut stepped));
        let percent = 100.0 * paid / stepped;
        println!(
            "{} of 65536 rows: {paid:.3} ms of a step of {stepped:.0} ms, {percent:.2} % ({threads} threads)",
            kind.name()
        );
        assert!(percent <= 2.0, "more than 2 % of a step");
    }
}

#[cfg(feature = "torch")]
#[path = "support/step.rs"]
mod support;

#[cfg(feature = "torch")]
criterion_group!(benches, steps, share);
#[cfg(not(feature = "torch"))]
criterion_group!(benches, steps);
criterion_main!(benches);
