//! How long a clip takes from decoded planes to a view, beside what memory alone would take.
//!
//! `cargo bench --no-default-features --bench augment`. The clip is 16 frames, the view 112x112. `job/` is the
//! training job of the loader benchmarks: part, flip and jitter are given, contrast turns about each frame's
//! mean; `_in_batches` writes it into memory that is in no cache, as a run does. `memory_alone/` is the ceiling beside a case: it reads every plane once and writes the view once.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use reelflow::augment::{stage, tca};
use reelflow_api::item::{
    Batch, ClipPlan, Colour, Frame, Given, Media, Orientation, Origin, Part, PixelFormat, Plane, SegmentId,
    SlotInfo, View,
};
use reelflow_api::pixels::{Dtype, Pixels};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Spec, Table};
use reelflow_api::stage::{Augment, Stage};
use toml::de::DeTable;

const FRAMES: u32 = 16;
const SMALL: (u32, u32) = (320, 240);
const LARGE: (u32, u32) = (1280, 720);

const NORMALIZE: &str = "{ op = 'normalize' }";
const CROP: &str = "{ op = 'random_resized_crop', size = 112, scale = [0.2, 1.0] }, { op = 'flip' }";
const JITTER: &str = "{ op = 'colour_jitter', pivot = 'frame', hue = 0.0 }";

fn build(spec: &Spec, text: &str) -> Stage {
    let entries = DeTable::parse(text).expect("the benchmark's text is TOML").into_inner();
    let table = Table { path: "operators.bench".into(), span: 0..text.len(), entries };
    (spec.build)(&table).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn augment(steps: &str, dtype: Dtype) -> Box<dyn Augment> {
    let text = format!("steps = [{steps}]\ndtype = '{}'", dtype.name());
    let Stage::Augment(stage) = build(&stage::SPEC, &text) else {
        panic!("`augment` is an augment stage");
    };
    stage
}

/// Decoded pictures and where they come from.
struct Clip {
    media: Media,
    format: PixelFormat,
    /// The planes of each picture, tightly packed.
    pictures: Vec<Vec<u8>>,
}

impl Clip {
    fn new((width, height): (u32, u32), format: PixelFormat) -> Self {
        let mut rng = Key::new(1).rng();
        let samples = width * height * 3 / 2;
        let mut picture = |_| match format {
            PixelFormat::I420P10 => {
                (0..samples).flat_map(|_| (64 + rng.below(800) as u16).to_le_bytes()).collect()
            }
            _ => (0..samples).map(|_| 16 + rng.below(200) as u8).collect(),
        };
        let pictures = (0..FRAMES).map(&mut picture).collect();
        let media = Media {
            origin: Origin::Pattern { number: 0 },
            name: "pattern:0".into(),
            width,
            height,
            orientation: Orientation::default(),
            times: [0].into(),
            keys: [].into(),
            codec: "pattern".into(),
            bytes: 0,
            track: None,
            part: Part::default(),
        };
        Self { media, format, pictures }
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        let (width, height) = (self.media.width, self.media.height);
        let mut rest = &self.pictures[index][..];
        let mut planes = [Plane::default(); 3];
        for (at, stride) in self.format.row_bytes(width).into_iter().enumerate() {
            let rows = if at == 0 { height } else { height / 2 } as usize;
            let (bytes, after) = rest.split_at(stride * rows);
            planes[at] = Plane { bytes, stride };
            rest = after;
        }
        Frame { time: 0, width, height, colour: Colour::default(), format: self.format, planes }
    }
}

/// The part of a picture of `size` and the factors of the job: about half the area, as in the mean.
fn given((width, height): (u32, u32)) -> Given {
    let crop = [width / 8, height / 8, width * 3 / 4, height * 3 / 4];
    Given { crop, flip: true, brightness: 1.1, contrast: 0.9, saturation: 1.2 }
}

/// One clip into `view`, as a decoding thread does it.
fn apply(stage: &dyn Augment, clip: &Clip, given: Option<Given>, number: u64, view: &mut Pixels) {
    let plan = ClipPlan { view: "anchor".into(), frames: (0..FRAMES).collect(), given };
    let mut maker = stage.begin(&plan, &clip.media, Key::new(number));
    for index in 0..clip.pictures.len() {
        maker.add(index, &clip.frame(index), view).expect("the clip is sound");
    }
    maker.finish(view);
}

/// Into `views` views, one after the other; with many of them none is in a cache when its turn comes.
fn measure(
    c: &mut Criterion,
    name: &str,
    (stage, views): (&dyn Augment, usize),
    clip: &Clip,
    given: Option<Given>,
) {
    let mut number = 0;
    let view = Pixels::zeroed(stage.dtype(), stage.shape(FRAMES).iter().product());
    let mut views = vec![view; views];
    c.bench_function(name, |b| {
        b.iter(|| {
            number += 1;
            let at = number as usize % views.len();
            apply(stage, clip, given, number, &mut views[at]);
            black_box(&mut views[at]);
        });
    });
}

/// The job in every format and type, each with its ceiling.
fn job(c: &mut Criterion) {
    let steps = format!("{CROP}, {JITTER}, {NORMALIZE}");
    let cases = [
        ("f32", SMALL, PixelFormat::I420, Dtype::F32),
        ("f16", SMALL, PixelFormat::I420, Dtype::F16),
        ("bf16", SMALL, PixelFormat::I420, Dtype::Bf16),
        ("u8", SMALL, PixelFormat::I420, Dtype::U8),
        ("nv12", SMALL, PixelFormat::Nv12, Dtype::F32),
        ("10_bit", SMALL, PixelFormat::I420P10, Dtype::F32),
        ("720p", LARGE, PixelFormat::I420, Dtype::F32),
    ];
    for (name, size, format, dtype) in cases {
        let clip = Clip::new(size, format);
        let stage = augment(&steps, dtype);
        measure(c, &format!("job/{name}"), (stage.as_ref(), 1), &clip, Some(given(size)));
        if dtype == Dtype::F32 && format == PixelFormat::I420 {
            // Three batches of 16.
            measure(c, &format!("job/{name}_in_batches"), (stage.as_ref(), 48), &clip, Some(given(size)));
        }
        memory_alone(c, name, &clip, dtype);
    }
}

/// What other steps cost, with draws of their own.
fn steps(c: &mut Criterion) {
    let clip = Clip::new(SMALL, PixelFormat::I420);
    let jitter = |options: &str| format!("{CROP}, {{ op = 'colour_jitter'{options} }}, {NORMALIZE}");
    let cases = [
        ("crop_flip", format!("{CROP}, {NORMALIZE}")),
        ("brightness", jitter(", mode = 'brightness'")),
        ("jitter_without_hue", jitter(", hue = 0.0")),
        ("jitter", jitter("")),
        (
            "vtdl",
            "{ op = 'rotate' }, { op = 'resize', short = 128 }, { op = 'random_crop', size = 112 }, \
             { op = 'colour_jitter' }, { op = 'normalize' }"
                .to_owned(),
        ),
    ];
    for (name, steps) in cases {
        measure(c, &format!("steps/{name}"), (augment(&steps, Dtype::F32).as_ref(), 1), &clip, None);
    }
}

/// The floor: read every plane's bytes once and write the view once.
fn memory_alone(c: &mut Criterion, name: &str, clip: &Clip, dtype: Dtype) {
    let mut read = vec![0u8; clip.pictures[0].len()];
    let mut view = Pixels::zeroed(dtype, (3 * FRAMES * 112 * 112) as usize);
    c.bench_function(&format!("memory_alone/{name}"), |b| {
        b.iter(|| {
            for picture in &clip.pictures {
                read.copy_from_slice(picture);
                black_box(&mut read);
            }
            view.bytes_mut().fill(5);
            black_box(&mut view);
        });
    });
}

fn static_mix(c: &mut Criterion) {
    let clip = Clip::new(SMALL, PixelFormat::I420);
    let stage = augment(&format!("{CROP}, {NORMALIZE}"), Dtype::F32);
    let shape = stage.shape(FRAMES);
    let mut pixels = Pixels::zeroed(stage.dtype(), shape.iter().product());
    apply(stage.as_ref(), &clip, None, 1, &mut pixels);
    let view = View { name: "anchor".into(), shape, pixels, normalize: None };
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
    targets = job, steps, static_mix
}
criterion_main!(benches);
