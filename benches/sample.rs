//! How long a plan takes, early and late in a run: the same, for nothing is shuffled or kept.
//!
//! `cargo bench --no-default-features --bench sample`. The catalogue has 100,000 segments of 300 frames.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::sample::{sweep, triplet, uniform};
use reelflow_api::item::{Catalogue, Media, Orientation, Origin, Part, Segment, SegmentId};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Spec, Table};
use reelflow_api::stage::{Place, Sampler, Stage};
use toml::de::DeTable;

fn sampler(spec: &Spec, text: &str) -> Box<dyn Sampler> {
    let entries = DeTable::parse(text).expect("the benchmark's text is TOML").into_inner();
    let table = Table { path: "operators.bench".into(), span: 0..text.len(), entries };
    match (spec.build)(&table) {
        Ok(Stage::Sampler(sampler)) => sampler,
        Ok(_) => panic!("{} is no sampler", spec.name),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn catalogue() -> Catalogue {
    let media = Arc::new(Media {
        origin: Origin::Pattern { number: 0 },
        name: "pattern:0".into(),
        width: 32,
        height: 24,
        orientation: Orientation::default(),
        times: (0..300).map(|i| i * 40_000_000).collect(),
        keys: [].into(),
        codec: "pattern".into(),
        bytes: 0,
        track: None,
        part: Part::default(),
    });
    let segment = |id| Segment {
        id: SegmentId(id),
        media: media.clone(),
        first: 0,
        count: 300,
        label: None,
        group: None,
        split: None,
    };
    Catalogue { segments: (0..100_000).map(|id| Arc::new(segment(id))).collect(), version: 1 }
}

fn plans(c: &mut Criterion) {
    let catalogue = catalogue();
    let cases = [
        ("triplet", &triplet::SPEC, "", 0),
        ("triplet_late", &triplet::SPEC, "", 10_000_000),
        ("triplet_by_time", &triplet::SPEC, "stride_ms = 100.0", 0),
        ("uniform", &uniform::SPEC, "", 0),
        ("sweep", &sweep::SPEC, "", 0),
    ];
    for (name, spec, text, first) in cases {
        let sampler = sampler(spec, text);
        let mut step = first;
        c.bench_function(&format!("sample/{name}"), |b| {
            b.iter(|| {
                // A sweep ends after 1,000,000 samples; go round.
                step = if step == first + 100_000 { first } else { step + 1 };
                let place = Place { step, slot: 3, batch_size: 8, attempt: 0 };
                black_box(sampler.plan(&catalogue, place, Key::new(1)))
            });
        });
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);
