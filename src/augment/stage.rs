//! Augments a clip: one draw of parameters, one pass over the pixels, all frames alike.

use reelflow_api::error::StageError;
use reelflow_api::item::{ClipPlan, Frame, Media};
use reelflow_api::pixels::{Dtype, Pixels};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Augment, Stage, ViewMaker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::draw;
use super::kernel::Cook;
use super::steps::{self, JitterMode, MEAN, Pivot, STD, Step};
use super::wide::Width;

/// How `augment` describes itself.
pub const SPEC: Spec = Spec {
    name: "augment",
    kind: Kind::Operator,
    summary: "Turns clips into views: one draw a clip, the same for all its frames.",
    accepts: &[Port::Clips],
    output: Output::Carries(Port::Views),
    example: r#"steps = [
  { op = "random_resized_crop", size = 112, scale = [0.4, 1.0] },
  { op = "flip", p = 0.5 },
  { op = "colour_jitter", brightness = 0.4, contrast = 0.4, saturation = 0.2, hue = 0.1 },
  { op = "normalize" },
]"#,
    schema: schema_of::<AugmentSettings>,
    build: |table| Ok(Stage::Augment(Box::new(read::<AugmentSettings>(table)?))),
};

/// What `augment` does. Views are `[3, T, H, W]`, red, green, blue from 0 to 1 unless normalised.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentSettings {
    /// What is done, in order. All geometric steps (`rotate`, `resize`, `random_crop`, `center_crop`,
    /// `random_resized_crop`, `flip`) are composed and done at once, the colour steps (`colour_jitter`,
    /// `grayscale`) follow, then `normalize`. Left out: the steps of VTDL at 112 pixels.
    #[serde(default = "vtdl")]
    pub steps: Vec<Step>,
    /// Type of the values: `f32`; `f16` and `bf16`, half as many bytes to the device, rounded to the nearest;
    /// `u8`, a quarter, 255 times the colour, rounded to the nearest. `u8` cannot hold normalised values, so
    /// `normalize` is then made by the trainer on its device. `tca` needs `f32`.
    #[serde(default)]
    pub dtype: Dtype,
}

/// The basic augmentations of VTDL at 112 pixels (METHODS 1.2), with a colour jitter that keeps all four
/// changes and one contrast pivot a clip.
fn vtdl() -> Vec<Step> {
    vec![
        Step::Rotate { degrees: 10.0 },
        Step::Resize { short: Some(128), width: None, height: None },
        Step::RandomCrop { size: 112 },
        Step::ColourJitter {
            brightness: 0.5,
            contrast: 0.5,
            saturation: 0.25,
            hue: 0.5,
            mode: JitterMode::All,
            pivot: Pivot::Clip,
        },
        Step::Normalize { mean: MEAN, std: STD },
    ]
}

impl Settings for AugmentSettings {
    fn check(&self) -> Vec<Invalid> {
        steps::check(&self.steps)
    }
}

impl Augment for AugmentSettings {
    fn shape(&self, frames: u32) -> [usize; 4] {
        let (width, height) = steps::final_size(&self.steps).expect("`check` refuses steps without a size");
        [3, frames as usize, height as usize, width as usize]
    }

    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn left_to_normalize(&self) -> Option<([f32; 3], [f32; 3])> {
        self.steps.iter().find_map(|step| match step {
            Step::Normalize { mean, std } if self.dtype == Dtype::U8 => Some((*mean, *std)),
            _ => None,
        })
    }

    fn begin(&self, plan: &ClipPlan, media: &Media, key: Key) -> Box<dyn ViewMaker> {
        let size = (media.width, media.height);
        let mut recipe = draw(&self.steps, media.orientation, size, plan.given.as_ref(), key);
        if self.left_to_normalize().is_some() {
            recipe.normalize = None;
        }
        let cook = Cook::new(&recipe, self.dtype, plan.frames.len(), size, Width::best());
        Box::new(Maker { cook, size, name: media.name.clone() })
    }
}

/// One view in the making.
struct Maker {
    cook: Cook,
    /// Of every picture.
    size: (u32, u32),
    name: String,
}

impl ViewMaker for Maker {
    fn add(&mut self, index: usize, frame: &Frame<'_>, view: &mut Pixels) -> Result<(), StageError> {
        let (width, height) = (frame.width, frame.height);
        if (width, height) != self.size {
            let message = format!(
                "{} has a picture of {width}x{height} pixels at {} ns among those of {}x{}; cut the medium where \
                 its size changes",
                self.name, frame.time, self.size.0, self.size.1
            );
            return Err(StageError::failed("augment", message));
        }
        if !frame.is_whole() {
            let message = format!(
                "the picture of {} at {} ns has too few bytes for {width}x{height} pixels",
                self.name, frame.time
            );
            return Err(StageError::failed("augment", message));
        }
        self.cook.add(index, frame, view);
        Ok(())
    }

    fn finish(&mut self, view: &mut Pixels) {
        self.cook.finish(view);
    }
}
