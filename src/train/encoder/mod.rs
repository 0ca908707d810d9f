//! Video encoders: clips into pooled features.
//!
//! A family a file, each with the parameter names and the arithmetic of the weights that people have:
//! `resnet` and `s3d` torchvision's, `i3d` and `c3d` those of the usual PyTorch ports. Classifiers are left
//! out: features are the mean of the last stage over time and space.

mod c3d;
mod i3d;
mod inception;
pub mod resnet;
mod s3d;

use std::path::PathBuf;

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub use self::resnet::Stem;
use super::layers::{Init, Maker};
use super::pretrained;

/// Which encoder, as a pipeline file says it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// `r3d_18`, `r2plus1d_18` and `s3d` are torchvision's, `s3d_g` is `s3d` with feature gating; `i3d` and `c3d`
    /// are those of the usual PyTorch ports, `c3d_bn` has batch norm. `r3d` and `r2plus1d` take `width`, `blocks`
    /// and `stem`.
    pub name: EncoderName,
    /// `r3d`, `r2plus1d`: channels of the first stage; features are 8 times as many. Default 16.
    #[serde(default)]
    #[schemars(range(min = 1, max = 512))]
    pub width: Option<u32>,
    /// `r3d`, `r2plus1d`: residual blocks of the four stages. Default `[1, 1, 1, 1]`, as the released VTDL
    /// pre-trained with; its fine-tuning had `[2, 2, 2, 2]`, whose other half stayed random.
    #[serde(default)]
    #[schemars(inner(range(min = 1, max = 64)))]
    pub blocks: Option<[u32; 4]>,
    /// `r3d`, `r2plus1d`: first layer: `video` as torchvision (3x7x7, half the rows and columns), `small`
    /// (3x3x3, half) or `patch` (3x7x7, a quarter; about a quarter of the work). Default `small`.
    #[serde(default)]
    pub stem: Option<Stem>,
    /// What the first layer sees: `frames`, or `differences` of each two that follow each other. With
    /// `differences` no still picture that TCA adds can be seen at all, and appearance alone gives nothing
    /// away: for footage where the motion is what matters, and for short pre-training.
    #[serde(default)]
    pub input: Input,
    /// How the first weights are drawn.
    #[serde(default)]
    pub init: Init,
    /// First weights, f32, instead of drawn ones: a safetensors file; or the folder of a run (its `exported/`
    /// encoder) or of a checkpoint (its trained network). Names and shapes must be those of this encoder; a
    /// classifier in it is left out. It must stay for a resume and for `eval --untrained`.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// Only the heads learn: no gradient reaches the encoder, and its batch norm goes by the statistics that came
    /// with the weights. With `classify` that is a linear probe trained step by step.
    #[serde(default)]
    pub frozen: bool,
}

/// What the first layer sees.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The frames as they are.
    #[default]
    Frames,
    /// `x[t + 1] - x[t]`: one fewer in time. TCA makes `c x + g` of a clip (METHODS 1.2), so of the
    /// differences just `c` times as much: the first derivative knows no `g`.
    Differences,
}

/// The encoders there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EncoderName {
    /// Whole 3-D convolutions, 18 layers, 33.2 million weights.
    #[serde(rename = "r3d_18")]
    R3d18,
    /// Convolutions split into space and time, 18 layers, 31.3 million weights.
    #[serde(rename = "r2plus1d_18")]
    R2plus1d18,
    /// Whole 3-D convolutions, any width and depth.
    #[serde(rename = "r3d")]
    R3d,
    /// Convolutions split into space and time, any width and depth.
    #[serde(rename = "r2plus1d")]
    R2plus1d,
    /// Eight convolutions without batch norm, 27.7 million weights.
    #[serde(rename = "c3d")]
    C3d,
    /// Eight convolutions with batch norm.
    #[serde(rename = "c3d_bn")]
    C3dBn,
    /// Inception with 3-D convolutions, 12.3 million weights: what the released VTDL trains.
    #[serde(rename = "i3d")]
    I3d,
    /// Inception with convolutions split into space and time, 7.9 million weights.
    #[serde(rename = "s3d")]
    S3d,
    /// The same with feature gating.
    #[serde(rename = "s3d_g")]
    S3dG,
}

/// An encoder without a choice left open; stored with weights.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Its layers.
    pub family: Family,
    /// What the first of them sees.
    pub input: Input,
    /// How first weights are drawn.
    pub init: Init,
}

/// The layers of an encoder.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// R3D and R(2+1)D.
    Resnet(resnet::Shape),
    /// C3D.
    C3d {
        /// Whether there is batch norm behind each convolution.
        norm: bool,
    },
    /// I3D.
    I3d,
    /// S3D and S3D-G.
    S3d {
        /// Whether there is feature gating.
        gated: bool,
    },
}

impl EncoderSettings {
    /// The settings with every default filled in.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        let split = matches!(self.name, EncoderName::R2plus1d | EncoderName::R2plus1d18);
        let family = match self.name {
            EncoderName::R3d18 | EncoderName::R2plus1d18 => {
                Family::Resnet(resnet::Shape { split, width: 64, blocks: [2; 4], stem: Stem::Video })
            }
            EncoderName::R3d | EncoderName::R2plus1d => Family::Resnet(resnet::Shape {
                split,
                width: self.width.unwrap_or(16),
                blocks: self.blocks.unwrap_or([1; 4]),
                stem: self.stem.unwrap_or(Stem::Small),
            }),
            EncoderName::C3d => Family::C3d { norm: false },
            EncoderName::C3dBn => Family::C3d { norm: true },
            EncoderName::I3d => Family::I3d,
            EncoderName::S3d => Family::S3d { gated: false },
            EncoderName::S3dG => Family::S3d { gated: true },
        };
        Architecture { family, input: self.input, init: self.init }
    }

    /// What is wrong with the settings; paths start with `encoder.`.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let fixed = !matches!(self.name, EncoderName::R3d | EncoderName::R2plus1d);
        let given = [
            ("width", self.width.is_some()),
            ("blocks", self.blocks.is_some()),
            ("stem", self.stem.is_some()),
        ];
        for (name, _) in given.into_iter().filter(|(_, given)| fixed && *given) {
            found.push(
                Invalid::new(format!("encoder.{name}"), "this encoder is as its published weights have it")
                    .help("choose `r3d` or `r2plus1d` to set it"),
            );
        }
        if let Some(Err(message)) = self.weights.as_ref().map(|path| pretrained::locate(path)) {
            found.push(
                Invalid::new("encoder.weights", message)
                    .help("a relative path starts from the current folder"),
            );
        }
        found
    }
}

impl Architecture {
    /// Length of the pooled features.
    #[must_use]
    pub fn features(&self) -> i64 {
        match self.family {
            Family::Resnet(shape) => 8 * i64::from(shape.width),
            Family::C3d { .. } => 512,
            Family::I3d | Family::S3d { .. } => 1024,
        }
    }

    /// Fewest frames and fewest rows and columns of a clip: below, pooling leaves nothing.
    #[must_use]
    pub fn least_clip(&self) -> (usize, usize) {
        let (frames, side) = match self.family {
            Family::Resnet(_) | Family::I3d => (1, 1),
            // Halved three times in time and four in space, rounding down.
            Family::C3d { .. } => (8, 16),
            // Halved rounding up, twice in time and four times in space; at least 2 must be left to halve
            // once more.
            Family::S3d { .. } => (5, 17),
        };
        (frames + usize::from(self.input == Input::Differences), side)
    }
}

/// All layers of a network before the features are pooled.
trait Trunk {
    /// `[B, 3, T, H, W]` to `[B, features, T', H', W']`, in the kind of `x`. `train` as for
    /// [`super::layers::Norm`].
    fn forward(&self, x: &Tensor, train: bool) -> Tensor;
}

/// A network from clips to pooled features.
pub struct Encoder {
    trunk: Box<dyn Trunk>,
    input: Input,
}

impl Encoder {
    /// Draws the first weights from the maker's key; the same key gives the same weights.
    pub fn new(make: &mut Maker<'_>, architecture: &Architecture) -> Self {
        let trunk: Box<dyn Trunk> = match architecture.family {
            Family::Resnet(shape) => Box::new(resnet::Resnet::new(make, &shape)),
            Family::C3d { norm } => Box::new(c3d::C3d::new(make, norm)),
            Family::I3d => Box::new(i3d::I3d::new(make)),
            Family::S3d { gated } => Box::new(s3d::S3d::new(make, gated)),
        };
        Self { trunk, input: architecture.input }
    }

    /// `[B, 3, T, H, W]` f32 to `[B, features]` f32: the mean over time and space of the last stage.
    /// Convolutions are computed in `compute`, f32 or bf16.
    pub fn forward(&self, x: &Tensor, compute: Kind, train: bool) -> Tensor {
        let x = match self.input {
            Input::Frames => x.shallow_clone(),
            Input::Differences => x.diff(1, 2, None::<&Tensor>, None::<&Tensor>),
        };
        // Rounded behind the differences, which are small numbers between large ones.
        let x = x.to_kind(compute);
        self.trunk.forward(&x, train).to_kind(Kind::Float).adaptive_avg_pool3d([1, 1, 1]).flatten(1, -1)
    }
}

#[cfg(test)]
mod tests;
