//! What a pipeline file may say about augmenting: the steps, their defaults and their sense.
//!
//! Defaults are the constants of the released VTDL code (METHODS 1.2).

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::geometry::short_size;

/// One step; each draws its parameters once a clip.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "op")]
pub enum Step {
    /// Turns the picture about its centre by an angle drawn from plus/minus `degrees`. The canvas keeps its
    /// size; what lies outside the recorded picture is black.
    Rotate {
        /// Largest angle, degrees, 0 to 180.
        #[serde(default = "degrees")]
        degrees: f64,
    },
    /// Scales the picture, antialiased: `short` sets the shorter side and keeps the shape, `width` and
    /// `height` set both sides.
    Resize {
        /// Length of the shorter side, pixels.
        #[serde(default)]
        short: Option<u32>,
        /// Width, pixels; needs `height`.
        #[serde(default)]
        width: Option<u32>,
        /// Height, pixels; needs `width`.
        #[serde(default)]
        height: Option<u32>,
    },
    /// Cuts a square out at a random place. A smaller picture is first enlarged to cover it.
    RandomCrop {
        /// Side of the square, pixels.
        size: u32,
    },
    /// Cuts a square out of the middle. A smaller picture is first enlarged to cover it.
    CenterCrop {
        /// Side of the square, pixels.
        size: u32,
    },
    /// Cuts out a random part of random shape and scales it to a square (torchvision `RandomResizedCrop`).
    RandomResizedCrop {
        /// Side of the square, pixels.
        size: u32,
        /// Smallest and largest part of the picture's area, above 0, at most 1.
        #[serde(default = "scale")]
        scale: [f64; 2],
        /// Smallest and largest width/height of the part; drawn evenly on a logarithmic scale.
        #[serde(default = "ratio")]
        ratio: [f64; 2],
    },
    /// Mirrors left and right.
    Flip {
        /// Probability, 0 to 1.
        #[serde(default = "half")]
        p: f64,
    },
    /// Changes brightness, contrast, saturation and hue by factors drawn around 1 (hue: turns around 0), in
    /// random order. Values are held within 0 to 1 after each.
    ColourJitter {
        /// Brightness factor is drawn from 1 plus/minus this, not below 0.
        #[serde(default = "half")]
        brightness: f64,
        /// Contrast factor is drawn from 1 plus/minus this, not below 0.
        #[serde(default = "half")]
        contrast: f64,
        /// Saturation factor is drawn from 1 plus/minus this, not below 0.
        #[serde(default = "quarter")]
        saturation: f64,
        /// Hue is turned by plus/minus this, in full turns, 0 to 0.5.
        #[serde(default = "half")]
        hue: f64,
        /// `all` four; `one` of them, chosen evenly (the released VTDL code: each overwrites the one before);
        /// `brightness` only, which is exact temporal-consistent augmentation until values are held at 0 or 1.
        #[serde(default)]
        mode: JitterMode,
        /// What contrast stretches away from: `clip`, the clip's mean grey, the same for all frames, which is
        /// temporal-consistent; `frame`, each frame's own mean grey, as the released VTDL code, which is not.
        #[serde(default)]
        pivot: Pivot,
    },
    /// Takes the colour away.
    Grayscale {
        /// Probability, 0 to 1.
        #[serde(default = "fifth")]
        p: f64,
    },
    /// `(value - mean) / std` for each of red, green, blue; the last step.
    Normalize {
        /// Mean of red, green, blue on a scale of 0 to 1.
        #[serde(default = "mean")]
        mean: [f32; 3],
        /// Standard deviation of red, green, blue on a scale of 0 to 1.
        #[serde(default = "std")]
        std: [f32; 3],
    },
}

/// Which colour changes are made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JitterMode {
    /// All whose range is not 0, in random order.
    #[default]
    All,
    /// One of those whose range is not 0.
    One,
    /// Brightness only.
    Brightness,
}

/// What contrast stretches away from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pivot {
    /// Mean grey of the clip: one number for all frames.
    #[default]
    Clip,
    /// Mean grey of each frame.
    Frame,
}

/// Mean of ImageNet's red, green, blue (METHODS 1.2).
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's red, green, blue (METHODS 1.2).
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn degrees() -> f64 {
    10.0
}
fn scale() -> [f64; 2] {
    [0.4, 1.0]
}
fn ratio() -> [f64; 2] {
    [0.75, 4.0 / 3.0]
}
fn half() -> f64 {
    0.5
}
fn quarter() -> f64 {
    0.25
}
fn fifth() -> f64 {
    0.2
}
fn mean() -> [f32; 3] {
    MEAN
}
fn std() -> [f32; 3] {
    STD
}

/// What is known of the picture's size before any clip is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Nothing,
    ShortSide(u32),
    Size(u32, u32),
}

impl Step {
    /// The size after this step.
    fn known_after(&self, before: Known) -> Known {
        match *self {
            Self::Resize { short: Some(short), .. } => match before {
                Known::Size(width, height) => {
                    let (width, height) = short_size(width, height, short);
                    Known::Size(width, height)
                }
                _ => Known::ShortSide(short),
            },
            Self::Resize { width: Some(width), height: Some(height), .. } => Known::Size(width, height),
            Self::RandomCrop { size } | Self::CenterCrop { size } | Self::RandomResizedCrop { size, .. } => {
                Known::Size(size, size)
            }
            _ => before,
        }
    }

    /// What no type says about one step.
    fn check(&self, path: &str) -> Vec<Invalid> {
        let at = |name: &str| format!("{path}.{name}");
        let within = |name: &str, value: f64, low: f64, high: f64| {
            let message = format!("{value} is out of range, expected {low} to {high}");
            (!(low..=high).contains(&value)).then(|| Invalid::new(at(name), message))
        };
        let pixels = |name: &str, value: u32| within(name, value.into(), 1.0, SIZE_MAX.into());
        match *self {
            Self::Rotate { degrees } => within("degrees", degrees, 0.0, 180.0).into_iter().collect(),
            Self::Resize { short, width, height } => {
                let sides = [("short", short), ("width", width), ("height", height)];
                let mut found: Vec<Invalid> =
                    sides.into_iter().filter_map(|(name, side)| pixels(name, side?)).collect();
                if !matches!((short, width, height), (Some(_), None, None) | (None, Some(_), Some(_))) {
                    found.push(
                        Invalid::new(path, "`resize` needs `short`, or `width` and `height`")
                            .help("{ op = \"resize\", short = 128 }"),
                    );
                }
                found
            }
            Self::RandomCrop { size } | Self::CenterCrop { size } => {
                pixels("size", size).into_iter().collect()
            }
            Self::RandomResizedCrop { size, scale, ratio } => {
                let mut found: Vec<Invalid> = pixels("size", size).into_iter().collect();
                for (name, [low, high], most) in [("scale", scale, 1.0), ("ratio", ratio, 100.0)] {
                    if !(low > 0.0 && low <= high && high <= most) {
                        let message = format!("[{low}, {high}] is no range above 0 and up to {most}");
                        found.push(Invalid::new(at(name), message).help("smallest first"));
                    }
                }
                found
            }
            Self::Flip { p } | Self::Grayscale { p } => within("p", p, 0.0, 1.0).into_iter().collect(),
            Self::ColourJitter { brightness, contrast, saturation, hue, .. } => [
                within("brightness", brightness, 0.0, 100.0),
                within("contrast", contrast, 0.0, 100.0),
                within("saturation", saturation, 0.0, 100.0),
                within("hue", hue, 0.0, 0.5),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::Normalize { mean, std } => {
                let is_fine = mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_normal());
                let message = format!("mean {mean:?} and std {std:?} must be finite and std not 0");
                (!is_fine).then(|| Invalid::new(path, message)).into_iter().collect()
            }
        }
    }
}

/// Longest side of a view, pixels: 16 frames of this square are 3.2 GB, more is a slip of the finger.
const SIZE_MAX: u32 = 4096;

/// Width and height of every view made by `steps`; `None` if they do not fix it.
#[must_use]
pub fn final_size(steps: &[Step]) -> Option<(u32, u32)> {
    match steps.iter().fold(Known::Nothing, |known, step| step.known_after(known)) {
        Known::Size(width, height) => Some((width, height)),
        Known::Nothing | Known::ShortSide(_) => None,
    }
}

/// Everything wrong with a list of steps.
#[must_use]
pub fn check(steps: &[Step]) -> Vec<Invalid> {
    let mut found = Vec::new();
    let mut known = Known::Nothing;
    let mut normalized = None;
    for (index, step) in steps.iter().enumerate() {
        let path = format!("steps.{index}");
        found.extend(step.check(&path));
        if let Some(at) = normalized {
            let message = format!("step {index} stands after `normalize`, which is step {at}");
            found.push(
                Invalid::new(path.as_str(), message).help("let `normalize` be the only one and the last"),
            );
        }
        if let (Step::RandomCrop { size } | Step::CenterCrop { size }, Some(side)) = (step, short_side(known))
            && *size > side
        {
            let message = format!("a crop of {size} does not fit a shorter side of {side}");
            found.push(
                Invalid::new(format!("{path}.size"), message)
                    .help(format!("resize to {size} or more before, or crop {side} or less")),
            );
        }
        if matches!(step, Step::Normalize { .. }) {
            normalized = normalized.or(Some(index));
        }
        known = step.known_after(known);
    }
    if final_size(steps).is_none() {
        found.push(
            Invalid::new("steps", "the views' size is not fixed, so they cannot share a batch")
                .help("add { op = \"random_crop\", size = 112 } or another step that sets width and height"),
        );
    }
    found
}

fn short_side(known: Known) -> Option<u32> {
    match known {
        Known::Nothing => None,
        Known::ShortSide(side) => Some(side),
        Known::Size(width, height) => Some(width.min(height)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        #[derive(Deserialize)]
        struct All {
            steps: Vec<Step>,
        }
        toml::from_str::<All>(&format!("steps = [{text}]")).unwrap().steps
    }

    #[track_caller]
    fn check_refused(text: &str, paths: &[&str]) {
        let found: Vec<String> = check(&steps(text)).into_iter().map(|invalid| invalid.path).collect();
        assert_eq!(found, paths, "{text}");
    }

    #[test]
    fn sizes_are_known_before_any_clip() {
        let size = |text: &str| final_size(&steps(text));
        assert_eq!(size("{op='resize', short=128}"), None);
        assert_eq!(size("{op='resize', short=128}, {op='random_crop', size=112}"), Some((112, 112)));
        assert_eq!(size("{op='resize', width=171, height=128}"), Some((171, 128)));
        assert_eq!(size("{op='resize', width=100, height=50}, {op='resize', short=25}"), Some((50, 25)));
        assert_eq!(size("{op='random_resized_crop', size=64}, {op='flip'}"), Some((64, 64)));
    }

    #[test]
    fn sensible_steps_pass() {
        check_refused("{op='rotate'}, {op='resize', short=128}, {op='random_crop', size=128}", &[]);
        check_refused("{op='center_crop', size=9}, {op='colour_jitter'}, {op='normalize'}", &[]);
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        check_refused("{op='resize', short=128}", &["steps"]);
        check_refused("{op='resize', short=100}, {op='random_crop', size=112}", &["steps.1.size"]);
        check_refused("{op='normalize'}, {op='center_crop', size=5}", &["steps.1"]);
        check_refused("{op='center_crop', size=5}, {op='normalize'}, {op='normalize'}", &["steps.2"]);
        check_refused("{op='resize', short=5, width=5}, {op='center_crop', size=5}", &["steps.0"]);
        check_refused(
            "{op='random_resized_crop', size=0, scale=[1.0, 0.5]}",
            &["steps.0.size", "steps.0.scale"],
        );
        check_refused("{op='flip', p=1.5}, {op='center_crop', size=5}", &["steps.0.p"]);
        check_refused("{op='center_crop', size=5}, {op='colour_jitter', hue=0.7}", &["steps.1.hue"]);
        check_refused("{op='center_crop', size=5}, {op='normalize', std=[1.0, 0.0, 1.0]}", &["steps.1"]);
    }
}
