//! One step of VTDL on a CPU: three forward passes, one backward, optimiser, momentum network and bank,
//! for the small encoders that a demo can afford. 16 clips of 8 frames.
//!
//! Run with `cargo bench --bench train`. `THREADS=1` limits libtorch and is the one to compare by: with
//! two threads and anything else running, OpenMP's spinning is what is measured.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::api::bank::BankSettings;
use reelflow::api::item::{Batch, SegmentId, SlotInfo, View};
use reelflow::api::rng::Key;
use reelflow::api::spec::Table;
use reelflow::api::stage::{Sink, SinkContext, Stage};

const BATCH: usize = 16;
const VIEWS: [&str; 3] = ["anchor", "positive", "negative"];

fn trainer(encoder: &str, shape: [usize; 4], threads: usize) -> Box<dyn Sink> {
    let text = format!("encoder = {{ {encoder} }}\npretext = {{ type = \"vtdl\", bank = \"keys\" }}");
    let entries = toml::de::DeTable::parse(&text).expect("valid TOML").into_inner();
    let table = Table { path: "sinks.train".to_owned(), span: 0..text.len(), entries };
    let Ok(Stage::Sink(plan)) = (reelflow::train::ALL[0].build)(&table) else { panic!("{text}") };
    let bank = BankSettings::queue(1024, 128);
    let context = SinkContext {
        id: "train".to_owned(),
        run_dir: std::env::temp_dir(),
        key: Key::new(1),
        steps: None,
        batch_size: BATCH as u32,
        epoch_clips: None,
        views: VIEWS.map(|name| (name.into(), shape)).to_vec(),
        banks: BTreeMap::from([("keys".to_owned(), bank)]),
        labels: std::sync::Arc::default(),
        device: "cpu".to_owned(),
        threads,
    };
    plan.open(context).unwrap_or_else(|error| panic!("{error}"))
}

fn batch(shape: [usize; 4]) -> Batch {
    let mut rng = Key::new(1).rng();
    let values = BATCH * shape.iter().product::<usize>();
    let mut view = |name: &str| View {
        name: name.into(),
        shape,
        pixels: (0..values).map(|_| rng.normal() as f32).collect::<Vec<_>>().into(),
        normalize: None,
    };
    let slot = |slot| SlotInfo { slot, attempt: 0, segment: SegmentId(slot.into()), frames: Vec::new() };
    Batch {
        step: 0,
        slots: (0..BATCH as u32).map(slot).collect(),
        views: VIEWS.iter().map(|name| view(name)).collect(),
    }
}

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
