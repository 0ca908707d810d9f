//! One step of VTDL on a CPU: three forward passes, one backward, optimiser, momentum network and bank,
//! for the small encoders that a demo can afford. 16 clips of 8 frames.
//!
//! Run with `cargo bench --bench train`. `THREADS=1` limits libtorch and is the one to compare by: with
//! two threads and anything else running, OpenMP's spinning is what is measured.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use support::{batch, trainer};

#[path = "support/step.rs"]
mod support;

fn steps(criterion: &mut Criterion) {
    let threads = std::env::var("THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut group = criterion.benchmark_group(format!("step, {threads} threads"));
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for (encoder, side) in [
        ("name = \"r3d\", width = 16, stem = \"small\"", 56),
        ("name = \"r3d\", width = 16, stem = \"small\"", 64),
        ("name = \"r3d\", width = 16, stem = \"patch\"", 56),
        ("name = \"r3d\", width = 16, stem = \"patch\"", 64),
        ("name = \"r3d\", width = 8, stem = \"patch\"", 64),
        ("name = \"r2plus1d\", width = 16, stem = \"patch\"", 64),
    ] {
        let shape = [3, 8, side, side];
        let (mut sink, mut batch) = (trainer(encoder, shape, threads), batch(shape));
        group.bench_function(format!("{encoder}, 8x{side}x{side}"), |bencher| {
            bencher.iter(|| {
                sink.consume(&batch).expect("a step works");
                batch.step += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
