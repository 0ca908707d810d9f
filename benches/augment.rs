//! How long a clip takes from decoded planes to a view, beside what memory alone would take.
//!
//! `cargo bench --no-default-features --bench augment`. The clip is 16 frames of 320x240, the view 112x112.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::augment::{stage, tca};
use reelflow_api::item::{
    Batch, ClipPlan, Colour, Media, Orientation, Origin, Picture, SegmentId, SlotInfo, View,
};
use reelflow_api::pixels::Pixels;
use reelflow_api::rng::Key;
use reelflow_api::spec::{Spec, Table};
use reelflow_api::stage::{Augment, Stage};
use toml::de::DeTable;

const FRAMES: u32 = 16;
const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

const NORMALIZE: &str = "{ op = 'normalize' }";
const CROP: &str = "{ op = 'random_resized_crop', size = 112 }, { op = 'flip' }";

fn build(spec: &Spec, text: &str) -> Stage {
    let entries = DeTable::parse(text).expect("the benchmark's text is TOML").into_inner();
    let table = Table { path: "operators.bench".into(), span: 0..text.len(), entries };
    (spec.build)(&table).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn augment(steps: &str) -> Box<dyn Augment> {
    let Stage::Augment(stage) = build(&stage::SPEC, &format!("steps = [{steps}]")) else {
        panic!("`augment` is an augment stage");
    };
    stage
}

fn clip() -> (Vec<Picture>, Media) {
    let mut rng = Key::new(1).rng();
    let mut picture = |time| {
        let planes = (0..WIDTH * HEIGHT * 3 / 2).map(|_| 16 + rng.below(200) as u8).collect();
        Picture { time, width: WIDTH, height: HEIGHT, colour: Colour::default(), planes }
    };
    let clip = (0..u64::from(FRAMES)).map(&mut picture).collect();
    let media = Media {
        origin: Origin::Pattern { number: 0 },
        name: "pattern:0".into(),
        width: WIDTH,
        height: HEIGHT,
        orientation: Orientation::default(),
        times: [0].into(),
        keys: [].into(),
        codec: "pattern".into(),
        bytes: 0,
        track: None,
    };
    (clip, media)
}

/// One clip into `view`, as a decoding thread does it.
fn apply(stage: &dyn Augment, clip: &[Picture], media: &Media, number: u64, view: &mut Pixels) {
    let plan = ClipPlan { view: "anchor".into(), frames: (0..FRAMES).collect(), given: None };
    let mut maker = stage.begin(&plan, media, Key::new(number));
    for (index, picture) in clip.iter().enumerate() {
        maker.add(index, &picture.frame(), view).expect("the clip is sound");
    }
    maker.finish(view);
}

fn one_clip(c: &mut Criterion) {
    let (clip, media) = clip();
    let jitter = |options: &str| format!("{CROP}, {{ op = 'colour_jitter'{options} }}, {NORMALIZE}");
    let cases = [
        ("crop_flip", format!("{CROP}, {NORMALIZE}")),
        ("crop_flip_brightness", jitter(", mode = 'brightness'")),
        ("crop_flip_jitter_without_hue", jitter(", hue = 0.0")),
        ("crop_flip_jitter", jitter("")),
        (
            "vtdl",
            "{ op = 'rotate' }, { op = 'resize', short = 128 }, { op = 'random_crop', size = 112 }, \
                  { op = 'colour_jitter' }, { op = 'normalize' }"
                .to_owned(),
        ),
    ];
    let mut group = c.benchmark_group("augment");
    for (name, steps) in cases {
        let stage = augment(&steps);
        let mut number = 0;
        let mut view = Pixels::zeroed(stage.dtype(), stage.shape(FRAMES).iter().product());
        group.bench_function(name, |b| {
            b.iter(|| {
                number += 1;
                apply(stage.as_ref(), &clip, &media, number, &mut view);
                black_box(&mut view);
            });
        });
    }
    group.finish();
}

/// The floor: read every plane's bytes once and write the view once.
fn ceiling(c: &mut Criterion) {
    let (clip, _) = clip();
    let mut read = vec![0u8; (WIDTH * HEIGHT * 3 / 2) as usize];
    let mut view = vec![0.0f32; (3 * FRAMES * 112 * 112) as usize];
    c.bench_function("augment/memory_alone", |b| {
        b.iter(|| {
            for frame in &clip {
                read.copy_from_slice(&frame.planes);
                black_box(&mut read);
            }
            view.fill(0.5);
            black_box(&mut view);
        });
    });
}

fn static_mix(c: &mut Criterion) {
    let (clip, media) = clip();
    let stage = augment(&format!("{CROP}, {NORMALIZE}"));
    let shape = stage.shape(FRAMES);
    let mut pixels = Pixels::zeroed(stage.dtype(), shape.iter().product());
    apply(stage.as_ref(), &clip, &media, 1, &mut pixels);
    let view = View { name: "anchor".into(), shape, pixels };
    let slot = SlotInfo { slot: 0, attempt: 0, segment: SegmentId(1), frames: vec![Vec::new()] };
    let mut batch = Batch { step: 0, slots: vec![slot], views: vec![view] };
    let Stage::Views(stage) = build(&tca::SPEC, "") else { panic!("`tca` changes views") };
    c.bench_function("tca/self_frame", |b| {
        b.iter(|| {
            batch.step += 1;
            stage.apply(&mut batch, Key::new(1)).expect("the view is there");
            black_box(&mut batch);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(40);
    targets = one_clip, ceiling, static_mix
}
criterion_main!(benches);
