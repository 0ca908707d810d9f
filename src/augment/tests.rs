//! What holds for whole views, whatever the steps.

use reelflow_api::error::StageError;
use reelflow_api::item::{
    ClipPlan, Colour, Frame, Matrix, Media, Orientation, Origin, Part, Picture, PixelFormat, Plane, View,
};
use reelflow_api::pixels::{Dtype, Pixels};
use reelflow_api::rng::{Key, Rng};
use reelflow_api::spec::{Table, read};
use reelflow_api::stage::{Augment, Stage};
use toml::de::DeTable;

use super::draw::{Recipe, draw};
use super::stage::{AugmentSettings, SPEC};
use super::steps::{MEAN, STD, Step};
use super::wide::Width;
use super::{kernel, plain};

/// A picture of smooth colour with noise on it, so that neither blur nor shift goes unnoticed.
fn frame(width: u32, height: u32, colour: Colour, seed: u64) -> Picture {
    let mut rng = Key::new(seed).rng();
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let mut code = |i: u32, low: u64, high: u64| {
        (low + (u64::from(i) * 3 + rng.below((high - low) / 2)) % (high - low)) as u8
    };
    let luma: Vec<u8> = (0..width * height).map(|i| code(i, 16, 236)).collect();
    let planes = luma.into_iter().chain((0..2 * chroma).map(|i| code(i, 60, 200))).collect();
    Picture { time: seed, width, height, colour, planes }
}

fn media((width, height): (u32, u32), orientation: Orientation) -> Media {
    Media {
        origin: Origin::Pattern { number: 0 },
        name: "pattern:0".into(),
        width,
        height,
        orientation,
        times: [0].into(),
        keys: [].into(),
        codec: "pattern".into(),
        bytes: 0,
        track: None,
        part: Part::default(),
    }
}

/// The view that `augment` makes of these pictures, which have the size of the first.
fn apply(
    augment: &dyn Augment,
    pictures: &[Picture],
    orientation: Orientation,
    seed: u64,
) -> Result<View, StageError> {
    let media = media((pictures[0].width, pictures[0].height), orientation);
    let plan = ClipPlan { view: "anchor".into(), frames: (0..pictures.len() as u32).collect(), given: None };
    let shape = augment.shape(pictures.len() as u32);
    let mut pixels = Pixels::zeroed(augment.dtype(), shape.iter().product());
    let mut maker = augment.begin(&plan, &media, Key::new(seed));
    for (index, picture) in pictures.iter().enumerate() {
        maker.add(index, &picture.frame(), &mut pixels)?;
    }
    maker.finish(&mut pixels);
    Ok(View { name: plan.view, shape, pixels, normalize: augment.left_to_normalize() })
}

/// The fast kernel on all pictures, all of one size.
fn cook_as(recipe: &Recipe, dtype: Dtype, frames: &[Frame<'_>], wide: Width) -> Pixels {
    let count = 3 * frames.len() * (recipe.canvas.width * recipe.canvas.height) as usize;
    let mut view = Pixels::zeroed(dtype, count);
    let size = (frames[0].width, frames[0].height);
    let mut cook = kernel::Cook::new(recipe, dtype, frames.len(), size, wide);
    // Backwards, because the order must not matter.
    for (index, frame) in frames.iter().enumerate().rev() {
        cook.add(index, frame, &mut view);
    }
    cook.finish(&mut view);
    view
}

fn cook(recipe: &Recipe, pictures: &[Picture]) -> Vec<f32> {
    let frames: Vec<Frame<'_>> = pictures.iter().map(Picture::frame).collect();
    cook_as(recipe, Dtype::F32, &frames, Width::best()).f32().to_vec()
}

/// A picture of any format as a decoder would lend it, with bytes between its rows.
struct Lent {
    shell: Picture,
    format: PixelFormat,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Lent {
    /// Noise of `format`, of the size and colour of `shell`.
    fn new(shell: Picture, format: PixelFormat, rng: &mut Rng) -> Self {
        let mut plane = |(index, row): (usize, usize)| {
            let rows = if index == 0 { shell.height } else { shell.height.div_ceil(2) } as usize;
            let stride = row + rng.below(20) as usize;
            let mut bytes: Vec<u8> = (0..stride * rows).map(|_| rng.below(256) as u8).collect();
            if format == PixelFormat::I420P10 {
                // Samples begin at even places of a row only.
                for row in bytes.chunks_mut(stride) {
                    row.iter_mut().skip(1).step_by(2).for_each(|high| *high %= 4);
                }
            }
            // The last row has nothing behind it.
            bytes.truncate(stride * (rows - 1) + row);
            (bytes, stride)
        };
        let planes = format.row_bytes(shell.width).into_iter().enumerate().map(&mut plane).collect();
        Self { shell, format, planes }
    }

    fn frame(&self) -> Frame<'_> {
        let mut planes = [Plane::default(); 3];
        for (plane, (bytes, stride)) in planes.iter_mut().zip(&self.planes) {
            *plane = Plane { bytes, stride: *stride };
        }
        let frame = Frame { format: self.format, planes, ..self.shell.frame() };
        assert!(frame.is_whole());
        frame
    }
}

fn settings(steps: &str) -> AugmentSettings {
    toml::from_str(&format!("steps = [{steps}]")).unwrap()
}

/// Steps, drawn themselves: any geometry, any colours.
fn random_steps(rng: &mut Rng) -> String {
    let side = 3 + rng.below(30);
    let mut steps = Vec::new();
    if rng.chance(0.4) {
        steps.push("{op='rotate', degrees=180.0}".to_owned());
    }
    steps.push(match rng.below(4) {
        0 => format!("{{op='random_resized_crop', size={side}}}"),
        1 => format!("{{op='resize', short={}}}, {{op='random_crop', size={side}}}", side + rng.below(9)),
        2 => format!("{{op='resize', width={}, height={side}}}", 2 + rng.below(60)),
        _ => format!("{{op='center_crop', size={side}}}"),
    });
    steps.push("{op='flip'}".to_owned());
    let mode = ["all", "one", "brightness"][rng.below(3) as usize];
    let pivot = ["clip", "frame"][rng.below(2) as usize];
    steps.push(format!("{{op='colour_jitter', mode='{mode}', pivot='{pivot}'}}, {{op='grayscale'}}"));
    if rng.chance(0.3) {
        steps.push("{op='colour_jitter', contrast=0.9}".to_owned());
    }
    if rng.chance(0.5) {
        steps.push("{op='normalize'}".to_owned());
    }
    steps.join(", ")
}

#[test]
fn the_fast_kernel_agrees_with_the_plain_one() {
    let mut rng = Key::new(11).rng();
    let mut seen = std::collections::BTreeMap::new();
    let formats = [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::I420P10];
    let dtypes = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::U8];
    for case in 0..360 {
        let (width, height) = (1 + rng.below(45) as u32, 1 + rng.below(45) as u32);
        let orientation = Orientation { quarter_turns: rng.below(4) as u8, mirror: rng.chance(0.5) };
        let colour = Colour {
            matrix: if rng.chance(0.5) { Matrix::Bt601 } else { Matrix::Bt709 },
            full_range: rng.chance(0.5),
        };
        let (format, dtype) = (formats[case % 3], dtypes[case / 3 % 4]);
        let mut lent = |seed| Lent::new(frame(width, height, colour, seed), format, &mut rng);
        let lent = [lent(0), lent(1)];
        let frames = lent.each_ref().map(Lent::frame);
        let text = random_steps(&mut rng);
        let key = Key::new(case as u64);
        let mut recipe = draw(&settings(&text).steps, orientation, (width, height), None, key);
        if dtype == Dtype::U8 {
            recipe.normalize = None;
        }
        let fast = cook_as(&recipe, dtype, &frames, Width::best());
        let plain = plain::cook(&recipe, &frames);
        assert_eq!(fast.len(), plain.len());
        let scale = if recipe.normalize.is_some() { 1.0 / 0.224 } else { 1.0 };
        for (i, (fast, plain)) in fast.values().zip(&plain).enumerate() {
            assert!(
                (fast - plain).abs() <= TOLERANCE * scale + rounding(dtype, plain.abs()),
                "case {case}, {width}x{height} {format:?} {dtype:?} {orientation:?} {colour:?}, value {i}: {fast} \
                 is not {plain}: {text}"
            );
        }
        *seen.entry((text.contains("rotate"), case % 3)).or_insert(0) += 1;
        // Vectors of any width give the same bits.
        for wide in Width::all() {
            assert_eq!(fast, cook_as(&recipe, dtype, &frames, wide), "case {case}, {wide:?}");
        }
    }
    assert!(seen.len() == 6 && seen.values().all(|&n| n > 30), "{seen:?}");
}

/// 1e-4 of the range 0 to 1, a fortieth of an 8-bit code: f32 against f64 through up to 200 taps and six changes
/// of colour. Normalised values are 1/0.224 times as large.
const TOLERANCE: f32 = 1e-4;

/// Half the distance to the next value of a type; what is rounded is off by no more.
fn rounding(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F32 => 0.0,
        // 11 and 8 bits of precision; the first term is for f16 below its normal range.
        Dtype::F16 => 3e-8 + value / 2048.0,
        Dtype::Bf16 => value / 256.0,
        Dtype::U8 => 0.5 / 255.0,
    }
}

#[test]
fn ten_bits_are_not_rounded_to_eight() {
    let shell = frame(6, 4, Colour { full_range: true, ..Colour::default() }, 1);
    let mut lent = Lent::new(shell, PixelFormat::I420P10, &mut Key::new(1).rng());
    // Luma 514 of 1024 and no colour.
    let sample = |value: u16| value.to_le_bytes().repeat(40);
    lent.planes = [514, 512, 512].map(|value| (sample(value), 12)).to_vec();
    let recipe = draw(
        &settings("{op='resize', width=6, height=4}").steps,
        Orientation::default(),
        (6, 4),
        None,
        Key::new(1),
    );
    let view = cook_as(&recipe, Dtype::F32, &[lent.frame()], Width::best());
    assert!(view.values().all(|value| (value - 128.5 / 255.0).abs() < 1e-6), "{view:?}");
}

#[test]
fn bytes_leave_normalising_to_their_user() {
    let pictures = [frame(20, 20, Colour::default(), 1), frame(20, 20, Colour::default(), 2)];
    let steps = "{op='center_crop', size=12}, {op='colour_jitter'}, {op='normalize'}";
    let with = |dtype: &str| {
        let text = format!("steps = [{steps}]\ndtype = '{dtype}'");
        let augment: AugmentSettings = toml::from_str(&text).unwrap();
        apply(&augment, &pictures, Orientation::default(), 4).unwrap()
    };
    let (full, bytes) = (with("f32"), with("u8"));
    assert_eq!((full.normalize, bytes.normalize), (None, Some((MEAN, STD))));
    for (i, (full, byte)) in full.pixels.values().zip(bytes.pixels.values()).enumerate() {
        let channel = i / (2 * 144);
        let normalised = (byte - MEAN[channel]) / STD[channel];
        assert!((full - normalised).abs() <= (0.5 / 255.0 + TOLERANCE) / STD[channel]);
    }
    for dtype in ["f16", "bf16"] {
        let half = with(dtype);
        let off =
            full.pixels.values().zip(half.pixels.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(half.normalize.is_none() && off <= rounding(half.pixels.dtype(), 2.7), "{dtype}: {off}");
    }
}

#[test]
fn a_quarter_turn_is_the_turned_picture() {
    // Grey pictures, because turning 4:2:0 colour by hand would move the chroma sites.
    let (width, height) = (14u32, 9u32);
    let mut stored = frame(width, height, Colour::default(), 3);
    stored.planes[(width * height) as usize..].fill(128);
    let luma = stored.y().to_vec();
    let turned: Vec<u8> = (0..width)
        .flat_map(|row| (0..height).map(move |col| (row, col)))
        .map(|(row, col)| luma[((height - 1 - col) * width + row) as usize])
        .chain(std::iter::repeat_n(128, 2 * 5 * 7))
        .collect();
    let upright = Picture { width: height, height: width, planes: turned, ..stored.clone() };
    let augment = settings("{op='rotate', degrees=0.0}, {op='random_resized_crop', size=6}, {op='flip'}");
    for seed in 0..20 {
        let clockwise = Orientation { quarter_turns: 1, mirror: false };
        let stored = apply(&augment, std::slice::from_ref(&stored), clockwise, seed).unwrap();
        let turned = apply(&augment, std::slice::from_ref(&upright), Orientation::default(), seed).unwrap();
        for (a, b) in stored.pixels.f32().iter().zip(turned.pixels.f32()) {
            assert!((a - b).abs() < 1e-5, "seed {seed}: {a} is not {b}");
        }
    }
}

#[test]
fn all_frames_share_one_draw_and_keep_their_order() {
    let still = frame(40, 30, Colour::default(), 1);
    let Ok(Stage::Augment(augment)) = (SPEC.build)(&table(SPEC.example)) else { panic!("example") };
    let area = 112 * 112;
    for seed in 0..5 {
        let same = vec![still.clone(); 4];
        let view = apply(augment.as_ref(), &same, Orientation::default(), seed).unwrap();
        assert_eq!(view.shape, [3, 4, 112, 112]);
        for channel in view.pixels.f32().chunks(4 * area) {
            for picture in channel.chunks(area) {
                assert_eq!(picture, &channel[..area], "identical frames became different");
            }
        }
    }
    // Brighter and brighter frames stay in order under any draw.
    let brighter = (0..6).map(|i| {
        let mut frame = still.clone();
        frame.planes.fill(60 + 20 * i);
        frame.planes[1200..].fill(128);
        frame
    });
    let brighter: Vec<Picture> = brighter.collect();
    let view = apply(augment.as_ref(), &brighter, Orientation::default(), 9).unwrap();
    let firsts: Vec<f32> = view.pixels.f32()[..6 * area].iter().step_by(area).copied().collect();
    assert!(firsts.is_sorted_by(|a, b| a < b), "{firsts:?}");
}

#[test]
fn brightness_scales_all_time_derivatives() {
    // Dark frames, so that nothing reaches 1 and is clipped.
    let frames: Vec<Picture> = (0..6)
        .map(|seed| {
            let mut frame = frame(20, 20, Colour::default(), seed);
            frame.planes[..400].iter_mut().for_each(|y| *y = 40 + *y / 4);
            frame.planes[400..].iter_mut().for_each(|c| *c = 120 + *c / 16);
            frame
        })
        .collect();
    let run = |steps: &str| {
        let view = apply(&settings(steps), &frames, Orientation::default(), 2).unwrap();
        view.pixels.f32().to_vec()
    };
    let plain = run("{op='center_crop', size=12}");
    let jittered = run("{op='center_crop', size=12}, {op='colour_jitter', mode='brightness'}");
    let Step::ColourJitter { .. } = settings("{op='colour_jitter', mode='brightness'}").steps[0] else {
        panic!()
    };
    let factor = jittered[0] / plain[0];
    assert!((0.5..1.5).contains(&factor) && (factor - 1.0).abs() > 0.01, "{factor}");
    let (mut before, mut after) = (series(&plain), series(&jittered));
    for order in 1..=3 {
        (before, after) = (difference(&before), difference(&after));
        for (b, a) in before.iter().flatten().zip(after.iter().flatten()) {
            assert!((factor * b - a).abs() < 1e-5, "order {order}: {a} is not {factor} * {b}");
        }
    }
}

/// Values of each pixel and channel over time.
fn series(pixels: &[f32]) -> Vec<Vec<f32>> {
    let area = 144;
    pixels
        .chunks(6 * area)
        .flat_map(|channel| (0..area).map(|p| channel[p..].iter().step_by(area).copied().collect()))
        .collect()
}

fn difference(series: &[Vec<f32>]) -> Vec<Vec<f32>> {
    series.iter().map(|values| values.windows(2).map(|pair| pair[1] - pair[0]).collect()).collect()
}

#[test]
fn corners_of_a_turned_picture_are_black() {
    let mut white = frame(40, 40, Colour::default(), 1);
    white.planes[..1600].fill(235);
    white.planes[1600..].fill(128);
    let recipe = draw(
        &settings("{op='rotate', degrees=0.0}, {op='resize', width=40, height=40}").steps,
        Orientation::default(),
        (40, 40),
        None,
        Key::new(1),
    );
    let turned = Recipe { canvas: recipe.canvas.rotate(45.0), ..recipe };
    let pixels = cook(&turned, &[white]);
    for channel in pixels.chunks(1600) {
        assert!(channel[0].abs() < 1e-5 && channel[39].abs() < 1e-5 && channel[1599].abs() < 1e-5);
        assert!((channel[20 * 40 + 20] - 1.0).abs() < 1e-5);
    }
}

#[test]
fn bad_clips_are_errors_with_operands() {
    let augment = settings("{op='center_crop', size=4}");
    let message =
        |pictures: &[Picture]| apply(&augment, pictures, Orientation::default(), 1).unwrap_err().message;
    let small = frame(8, 8, Colour::default(), 1);
    let large = frame(10, 8, Colour::default(), 1);
    assert!(message(&[small.clone(), large]).contains("10x8 pixels at 1 ns among those of 8x8"));
    let plan = ClipPlan { view: "anchor".into(), frames: vec![0], given: None };
    let mut view = Pixels::zeroed(Dtype::F32, 3 * 16);
    let mut maker = augment.begin(&plan, &media((8, 8), Orientation::default()), Key::new(1));
    let mut short = small.frame();
    short.planes[2].bytes = &short.planes[2].bytes[..15];
    assert!(maker.add(0, &short, &mut view).unwrap_err().message.contains("too few bytes for 8x8"));
}

#[test]
fn mistakes_in_the_file_are_found_with_a_remedy() {
    let problems = read::<AugmentSettings>(&table("steps = [{ op = \"resize\", short = 128 }]")).unwrap_err();
    assert!(problems[0].help.as_ref().unwrap().contains("random_crop"), "{problems:?}");
    let problems = read::<AugmentSettings>(&table("steps = [{ op = \"flip\", q = 1 }]")).unwrap_err();
    assert!(problems[0].message.contains('q'), "{problems:?}");
    assert_eq!(read::<AugmentSettings>(&table("")).unwrap().shape(16), [3, 16, 112, 112]);
}

fn table(text: &str) -> Table<'_> {
    let entries = DeTable::parse(text).unwrap().into_inner();
    Table { path: "operators.views".into(), span: 0..text.len(), entries }
}
