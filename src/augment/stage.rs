//! Augments a clip: one draw of parameters, one pass over the pixels, all frames alike.

use reelflow_api::error::StageError;
use reelflow_api::item::{Clip, Frame, Media, View};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Augment, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::draw;
use super::kernel::cook;
use super::steps::{self, JitterMode, MEAN, Pivot, STD, Step};

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

/// What `augment` does. Views are `[3, T, H, W]`, f32, red, green, blue from 0 to 1 unless normalised.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentSettings {
    /// What is done, in order. All geometric steps (`rotate`, `resize`, `random_crop`, `center_crop`,
    /// `random_resized_crop`, `flip`) are composed and done at once, the colour steps (`colour_jitter`,
    /// `grayscale`) follow, then `normalize`. Left out: the steps of VTDL at 112 pixels.
    #[serde(default = "vtdl")]
    pub steps: Vec<Step>,
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

    fn apply(&self, clip: &Clip, media: &Media, key: Key) -> Result<View, StageError> {
        let (width, height) = size(clip, media)?;
        let recipe = draw(&self.steps, media.orientation, width, height, key);
        let frames: Vec<&Frame> = clip.frames.iter().map(|frame| &**frame).collect();
        Ok(View {
            name: clip.view.clone(),
            shape: self.shape(frames.len() as u32),
            pixels: cook(&recipe, &frames),
        })
    }
}

/// The size that all pictures of the clip share.
fn size(clip: &Clip, media: &Media) -> Result<(u32, u32), StageError> {
    let name = &media.name;
    let Some(first) = clip.frames.first() else {
        return Err(StageError::failed("augment", format!("view `{}` of {name} has no frame", clip.view)));
    };
    let (width, height) = (first.width, first.height);
    for frame in &clip.frames {
        let wanted = u64::from(width) * u64::from(height)
            + 2 * frame.chroma_width() as u64 * frame.chroma_height() as u64;
        if (frame.width, frame.height) != (width, height) {
            let message = format!(
                "view `{}` of {name} has frames of {width}x{height} and of {}x{} pixels; cut the medium where \
                 its size changes",
                clip.view, frame.width, frame.height
            );
            return Err(StageError::failed("augment", message));
        }
        if width == 0 || height == 0 || frame.planes.len() as u64 != wanted {
            let message = format!(
                "a frame of {name} at {} ns has {} bytes, {width}x{height} pixels take {wanted}",
                frame.time,
                frame.planes.len()
            );
            return Err(StageError::failed("augment", message));
        }
    }
    Ok((width, height))
}
