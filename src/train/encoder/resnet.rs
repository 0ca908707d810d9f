//! The R3D and R(2+1)D family: residual networks of whole or split 3-D convolutions.
//!
//! Names and arithmetic are those of torchvision (`torchvision/models/video/resnet.py`; Tran et al. 2018,
//! "A Closer Look at Spatiotemporal Convolutions"), so weights can be exchanged. The same family by width
//! and depth gives small encoders for CPUs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Trunk;
use crate::train::layers::{Conv, Maker, Norm};

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

/// A network of the family without a choice left open.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Whether 3-D convolutions are split into space and time.
    pub split: bool,
    /// Channels of the first stage; the last has 8 times as many.
    pub width: u32,
    /// Residual blocks of the four stages.
    pub blocks: [u32; 4],
    /// First layer.
    pub stem: Stem,
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

/// Stem and residual blocks.
pub struct Resnet {
    stem: (Body, Norm),
    blocks: Vec<Residual>,
}

impl Resnet {
    /// Draws the first weights from the maker's key.
    pub fn new(make: &mut Maker<'_>, shape: &Shape) -> Self {
        let width = i64::from(shape.width);
        let (side, stride) = shape.stem.side_and_stride();
        let stem = if shape.split {
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
        for (stage, &count) in shape.blocks.iter().enumerate() {
            let output = width << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Residual::new(make, &name, shape.split, (input, output), stride));
                input = output;
            }
        }
        Self { stem, blocks }
    }
}

impl Trunk for Resnet {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.stem.1.forward(&self.stem.0.forward(x, train), train).relu_();
        self.blocks.iter().fold(x, |x, block| block.forward(&x, train))
    }
}
