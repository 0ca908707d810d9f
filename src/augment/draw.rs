//! Turns steps and a key into a recipe: the one draw of parameters that all frames of a clip share.

use reelflow_api::item::{Given, Orientation};
use reelflow_api::rng::{Key, Rng};

use super::colour::ColourOp;
use super::geometry::Canvas;
use super::steps::{JitterMode, Pivot, Step};

/// Everything random about one view, drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Size of the view and where its pixels come from.
    pub canvas: Canvas,
    /// Colour changes in order.
    pub colours: Vec<ColourOp>,
    /// Mean and standard deviation of red, green, blue to normalise by.
    pub normalize: Option<([f32; 3], [f32; 3])>,
}

/// Draws the parameters of `steps` for a clip of stored pictures of `(width, height)`. What is `given` takes
/// the place of the draws of `random_resized_crop`, `flip` and `colour_jitter`.
///
/// Each step has its own stream, so a change of one step leaves the draws of the others.
#[must_use]
pub fn draw(
    steps: &[Step],
    orientation: Orientation,
    (width, height): (u32, u32),
    given: Option<&Given>,
    key: Key,
) -> Recipe {
    let mut recipe =
        Recipe { canvas: Canvas::new(orientation, width, height), colours: Vec::new(), normalize: None };
    for (index, step) in steps.iter().enumerate() {
        let mut rng = key.number(index as u64).rng();
        let canvas = recipe.canvas;
        match *step {
            Step::Rotate { degrees } => recipe.canvas = canvas.rotate(rng.range(-degrees, degrees)),
            Step::Resize { short: Some(short), .. } => recipe.canvas = canvas.resize_short(short),
            Step::Resize { width, height, .. } => {
                recipe.canvas = canvas.resize(width.unwrap_or(canvas.width), height.unwrap_or(canvas.height));
            }
            Step::RandomCrop { size } => {
                let canvas = canvas.cover(size);
                let left = rng.below(u64::from(canvas.width - size) + 1) as u32;
                let top = rng.below(u64::from(canvas.height - size) + 1) as u32;
                recipe.canvas = canvas.crop(left, top, size, size);
            }
            Step::CenterCrop { size } => {
                let canvas = canvas.cover(size);
                recipe.canvas =
                    canvas.crop((canvas.width - size) / 2, (canvas.height - size) / 2, size, size);
            }
            Step::RandomResizedCrop { size, scale, ratio } => {
                let [left, top, width, height] = match given {
                    Some(given) => given.crop,
                    None => random_part(canvas.width, canvas.height, scale, ratio, &mut rng),
                };
                recipe.canvas = canvas.crop(left, top, width, height).resize(size, size);
            }
            Step::Flip { p } => {
                if given.map_or_else(|| rng.chance(p), |given| given.flip) {
                    recipe.canvas = canvas.flip();
                }
            }
            Step::ColourJitter { brightness, contrast, saturation, hue, mode, pivot } => {
                let ranges = [brightness, contrast, saturation, hue];
                match given {
                    Some(given) => recipe.colours.extend([
                        ColourOp::Brightness(given.brightness),
                        ColourOp::Contrast(given.contrast, pivot),
                        ColourOp::Saturation(given.saturation),
                    ]),
                    None => recipe.colours.extend(jitter(ranges, mode, pivot, &mut rng)),
                }
            }
            Step::Grayscale { p } => {
                if rng.chance(p) {
                    recipe.colours.push(ColourOp::Saturation(0.0));
                }
            }
            Step::Normalize { mean, std } => recipe.normalize = Some((mean, std)),
        }
    }
    recipe
}

/// Left, top, width and height of a random part: torchvision's `RandomResizedCrop.get_params`, ten tries,
/// then the largest middle part whose shape is allowed.
fn random_part(width: u32, height: u32, scale: [f64; 2], ratio: [f64; 2], rng: &mut Rng) -> [u32; 4] {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * rng.range(scale[0], scale[1]);
        let shape = rng.range(ratio[0].ln(), ratio[1].ln()).exp();
        let w = (target * shape).sqrt().round() as u32;
        let h = (target / shape).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let left = rng.below(u64::from(width - w) + 1) as u32;
            let top = rng.below(u64::from(height - h) + 1) as u32;
            return [left, top, w, h];
        }
    }
    let shape = (f64::from(width) / f64::from(height)).clamp(ratio[0], ratio[1]);
    let w = ((f64::from(height) * shape).round() as u32).clamp(1, width);
    let h = ((f64::from(width) / shape).round() as u32).clamp(1, height);
    [(width - w) / 2, (height - h) / 2, w, h]
}

/// Draws the colour changes of one `colour_jitter` with ranges for brightness, contrast, saturation, hue.
fn jitter(ranges: [f64; 4], mode: JitterMode, pivot: Pivot, rng: &mut Rng) -> Vec<ColourOp> {
    // All four are drawn whatever the mode, so that modes can be compared on the same draws.
    let [brightness, contrast, saturation] =
        [0, 1, 2].map(|i| rng.range((1.0 - ranges[i]).max(0.0), 1.0 + ranges[i]) as f32);
    let hue = rng.range(-ranges[3], ranges[3]) as f32;
    let mut all = vec![
        ColourOp::Brightness(brightness),
        ColourOp::Contrast(contrast, pivot),
        ColourOp::Saturation(saturation),
        ColourOp::Hue(hue),
    ];
    if mode == JitterMode::Brightness {
        all.truncate(1);
    }
    let mut all: Vec<ColourOp> =
        all.into_iter().zip(ranges).filter(|(_, range)| *range > 0.0).map(|(op, _)| op).collect();
    rng.shuffle(&mut all);
    if mode == JitterMode::One {
        all.drain(..all.len().saturating_sub(1));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(steps: &[Step], seed: u64) -> Recipe {
        draw(steps, Orientation::default(), (320, 240), None, Key::new(seed))
    }

    fn colours(mode: JitterMode, hue: f64, seed: u64) -> Vec<ColourOp> {
        let step = Step::ColourJitter {
            brightness: 0.5,
            contrast: 0.5,
            saturation: 0.25,
            hue,
            mode,
            pivot: Pivot::Clip,
        };
        recipe(&[step], seed).colours
    }

    #[test]
    fn crops_stay_inside_and_reach_every_edge() {
        let mut corners = [false; 4];
        for seed in 0..3000 {
            let canvas = recipe(&[Step::RandomCrop { size: 200 }], seed).canvas;
            let (left, top) = canvas.map.at(0.0, 0.0);
            let (right, bottom) = canvas.map.at(200.0, 200.0);
            assert!(left >= 0.0 && top >= 0.0 && right <= 320.0 && bottom <= 240.0);
            corners = [
                corners[0] || left == 0.0,
                corners[1] || top == 0.0,
                corners[2] || right == 320.0,
                corners[3] || bottom == 240.0,
            ];
        }
        assert_eq!(corners, [true; 4]);
    }

    #[test]
    fn random_parts_have_the_asked_area_and_shape() {
        let mut rng = Key::new(4).rng();
        for _ in 0..500 {
            let [left, top, w, h] = random_part(320, 240, [0.4, 1.0], [0.75, 1.333], &mut rng);
            assert!(left + w <= 320 && top + h <= 240);
            let (area, shape) = (f64::from(w * h) / 76800.0, f64::from(w) / f64::from(h));
            assert!((0.39..=1.0).contains(&area) && (0.74..1.35).contains(&shape), "{area} {shape}");
        }
        // No part of a thin picture has an allowed shape: the middle is taken.
        assert_eq!(random_part(1000, 10, [0.5, 1.0], [0.75, 1.0], &mut rng), [495, 0, 10, 10]);
    }

    #[test]
    fn modes_choose_the_operations() {
        let mut last = [0u32; 4];
        for seed in 0..400 {
            assert_eq!(colours(JitterMode::All, 0.5, seed).len(), 4);
            assert_eq!(colours(JitterMode::All, 0.0, seed).len(), 3);
            assert!(matches!(colours(JitterMode::Brightness, 0.5, seed)[..], [ColourOp::Brightness(_)]));
            let [one] = colours(JitterMode::One, 0.5, seed)[..] else { panic!("one operation") };
            // The released code keeps the last of the shuffled operations.
            assert_eq!(colours(JitterMode::All, 0.5, seed).last(), Some(&one));
            last[match one {
                ColourOp::Brightness(_) => 0,
                ColourOp::Contrast(..) => 1,
                ColourOp::Saturation(_) => 2,
                ColourOp::Hue(_) => 3,
            }] += 1;
        }
        assert!(last.iter().all(|&n| n > 60), "{last:?}");
    }

    #[test]
    fn factors_fill_their_ranges() {
        let factors: Vec<f32> = (0..2000)
            .filter_map(|seed| match colours(JitterMode::Brightness, 0.5, seed)[..] {
                [ColourOp::Brightness(factor)] => Some(factor),
                _ => None,
            })
            .collect();
        assert!(factors.iter().all(|f| (0.5..=1.5).contains(f)));
        let mean = factors.iter().sum::<f32>() / 2000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn a_changed_step_leaves_the_draws_of_the_others() {
        let crop = Step::RandomCrop { size: 50 };
        let with = recipe(&[Step::Flip { p: 0.0 }, crop.clone()], 8);
        let without = recipe(&[Step::Grayscale { p: 1.0 }, crop], 8);
        assert_eq!(with.canvas, without.canvas);
    }
}
