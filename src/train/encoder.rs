//! Video encoders of the R3D and R(2+1)D family: clips into pooled features.
//!
//! Names and arithmetic are those of torchvision (`torchvision/models/video/resnet.py`; Tran et al. 2018,
//! "A Closer Look at Spatiotemporal Convolutions"), so weights can be exchanged. The same family by width
//! and depth gives small encoders for CPUs.

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layers::{Conv, Init, Maker, Norm};

/// Which encoder, as a pipeline file says it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// `r3d_18` and `r2plus1d_18` are torchvision's; `r3d` and `r2plus1d` take `width`, `blocks`, `stem`.
    pub name: EncoderName,
    /// Channels of the first stage; features are 8 times as many. Default 16.
    #[serde(default)]
    #[schemars(range(min = 1, max = 512))]
    pub width: Option<u32>,
    /// Residual blocks of the four stages. Default `[1, 1, 1, 1]`.
    #[serde(default)]
    #[schemars(inner(range(min = 1, max = 64)))]
    pub blocks: Option<[u32; 4]>,
    /// First layer: `video` as torchvision (3x7x7, half the rows and columns), `small` (3x3x3, half) or
    /// `patch` (3x7x7, a quarter; about a quarter of the work). Default `small`.
    #[serde(default)]
    pub stem: Option<Stem>,
    /// How the first weights are drawn.
    #[serde(default)]
    pub init: Init,
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
}

/// The first layer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 3x7x7, halves rows and columns.
    Video,
    /// 3x3x3, halves rows and columns: keeps more of small frames.
    Small,
    /// 3x7x7, quarters rows and columns: the cheapest, for CPUs.
    Patch,
}

impl Stem {
    /// Rows and columns of the kernel, and how far it moves.
    fn side_and_stride(self) -> (i64, i64) {
        match self {
            Self::Video => (7, 2),
            Self::Small => (3, 2),
            Self::Patch => (7, 4),
        }
    }
}

/// An encoder without a choice left open; stored with weights.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Whether 3-D convolutions are split into space and time.
    pub split: bool,
    /// Channels of the first stage.
    pub width: u32,
    /// Residual blocks of the four stages.
    pub blocks: [u32; 4],
    /// First layer.
    pub stem: Stem,
    /// How first weights are drawn.
    pub init: Init,
}

impl EncoderSettings {
    /// The settings with every default filled in.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        let split = matches!(self.name, EncoderName::R2plus1d | EncoderName::R2plus1d18);
        match self.name {
            EncoderName::R3d18 | EncoderName::R2plus1d18 => {
                Architecture { split, width: 64, blocks: [2; 4], stem: Stem::Video, init: self.init }
            }
            EncoderName::R3d | EncoderName::R2plus1d => Architecture {
                split,
                width: self.width.unwrap_or(16),
                blocks: self.blocks.unwrap_or([1; 4]),
                stem: self.stem.unwrap_or(Stem::Small),
                init: self.init,
            },
        }
    }

    /// What is wrong with the settings; paths start with `encoder.`.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let fixed = matches!(self.name, EncoderName::R3d18 | EncoderName::R2plus1d18);
        let given = [
            ("width", self.width.is_some()),
            ("blocks", self.blocks.is_some()),
            ("stem", self.stem.is_some()),
        ];
        for (name, _) in given.into_iter().filter(|(_, given)| fixed && *given) {
            found.push(
                Invalid::new(format!("encoder.{name}"), "the 18-layer encoders are as torchvision has them")
                    .help("choose `r3d` or `r2plus1d` to set it"),
            );
        }
        found
    }
}

impl Architecture {
    /// Length of the pooled features.
    #[must_use]
    pub fn features(&self) -> i64 {
        8 * i64::from(self.width)
    }
}

/// A 3-D convolution, whole or split into space, batch norm, ReLU and time.
enum Body {
    Whole(Conv),
    Split(Conv, Norm, Conv),
}

impl Body {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Whole(conv) => conv.forward(x),
            Self::Split(space, norm, time) => time.forward(&norm.forward(&space.forward(x), train).relu_()),
        }
    }
}

/// Two convolutions with batch norm and a way around them.
struct Residual {
    first: (Body, Norm),
    second: (Body, Norm),
    around: Option<(Conv, Norm)>,
}

impl Residual {
    fn new(make: &mut Maker<'_>, name: &str, split: bool, channels: (i64, i64), stride: i64) -> Self {
        let (input, output) = channels;
        // As many weights as the whole convolution has (Tran et al. 2018, section 3.5).
        let middle = (input * output * 27) / (input * 9 + 3 * output);
        let mut body = |part: &str, input: i64, stride: i64| {
            let name = format!("{name}.{part}.0");
            match split {
                false => Body::Whole(Conv::new(make, &name, (input, output), [3; 3], [stride; 3])),
                true => Body::Split(
                    Conv::new(make, &format!("{name}.0"), (input, middle), [1, 3, 3], [1, stride, stride]),
                    Norm::new(make, &format!("{name}.1"), middle),
                    Conv::new(make, &format!("{name}.3"), (middle, output), [3, 1, 1], [stride, 1, 1]),
                ),
            }
        };
        let (first, second) = (body("conv1", input, stride), body("conv2", output, 1));
        Self {
            first: (first, Norm::new(make, &format!("{name}.conv1.1"), output)),
            second: (second, Norm::new(make, &format!("{name}.conv2.1"), output)),
            around: (stride != 1 || input != output).then(|| {
                let conv = Conv::new(make, &format!("{name}.downsample.0"), channels, [1; 3], [stride; 3]);
                (conv, Norm::new(make, &format!("{name}.downsample.1"), output))
            }),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let inner = self.first.1.forward(&self.first.0.forward(x, train), train).relu_();
        let inner = self.second.1.forward(&self.second.0.forward(&inner, train), train);
        let around = match &self.around {
            Some((conv, norm)) => norm.forward(&conv.forward(x), train),
            None => x.shallow_clone(),
        };
        (inner + around).relu_()
    }
}

/// A network from clips to pooled features.
pub struct Encoder {
    stem: (Body, Norm),
    blocks: Vec<Residual>,
}

impl Encoder {
    /// Draws the first weights from the maker's key; the same key gives the same weights.
    pub fn new(make: &mut Maker<'_>, architecture: &Architecture) -> Self {
        let width = i64::from(architecture.width);
        let (side, stride) = architecture.stem.side_and_stride();
        let stem = if architecture.split {
            // torchvision has 45 channels between space and time for a width of 64.
            let middle = (45 * width / 64).max(1);
            let body = Body::Split(
                Conv::new(make, "stem.0", (3, middle), [1, side, side], [1, stride, stride]),
                Norm::new(make, "stem.1", middle),
                Conv::new(make, "stem.3", (middle, width), [3, 1, 1], [1, 1, 1]),
            );
            (body, Norm::new(make, "stem.4", width))
        } else {
            let body =
                Body::Whole(Conv::new(make, "stem.0", (3, width), [3, side, side], [1, stride, stride]));
            (body, Norm::new(make, "stem.1", width))
        };
        let mut blocks = Vec::new();
        let mut input = width;
        for (stage, &count) in architecture.blocks.iter().enumerate() {
            let output = width << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Residual::new(make, &name, architecture.split, (input, output), stride));
                input = output;
            }
        }
        Self { stem, blocks }
    }

    /// `[B, 3, T, H, W]` f32 to `[B, features]`: the mean over time and space of the last stage.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.stem.1.forward(&self.stem.0.forward(x, train), train).relu_();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x, train));
        x.adaptive_avg_pool3d([1, 1, 1]).flatten(1, -1)
    }
}
