//! What I3D and S3D share: the inception blocks of GoogLeNet with time (Szegedy et al. 2015, table 1;
//! Carreira and Zisserman 2017, figure 3).

use tch::Tensor;

use crate::train::layers::{Conv, Linear, Maker, Norm, NormRule};

/// The epsilon belongs to the published weights. Their momentum, 0.01 (I3D) and 0.001 (S3D), suits runs of
/// hundreds of thousands of steps: in shorter ones the running statistics would never leave their start, and
/// evaluation would see nonsense. So it is PyTorch's default.
pub const NORM: NormRule = NormRule { epsilon: 1e-3, momentum: 0.1 };

/// Channels of a block: in; out of the 1x1x1 branch; into and out of the two 3x3x3 branches; out of the
/// branch behind the pooling.
pub struct Channels {
    pub input: i64,
    pub one: i64,
    pub first: (i64, i64),
    pub second: (i64, i64),
    pub pooled: i64,
}

const fn block(input: i64, one: i64, first: (i64, i64), second: (i64, i64), pooled: i64) -> Channels {
    Channels { input, one, first, second, pooled }
}

/// The blocks 3b, 3c, 4b to 4f, 5b and 5c, in order.
pub const BLOCKS: [Channels; 9] = [
    block(192, 64, (96, 128), (16, 32), 32),
    block(256, 128, (128, 192), (32, 96), 64),
    block(480, 192, (96, 208), (16, 48), 64),
    block(512, 160, (112, 224), (24, 64), 64),
    block(512, 128, (128, 256), (24, 64), 64),
    block(512, 112, (144, 288), (32, 64), 64),
    block(528, 256, (160, 320), (32, 128), 128),
    block(832, 256, (160, 320), (32, 128), 128),
    block(832, 384, (192, 384), (48, 128), 128),
];

/// Convolution, batch norm, ReLU.
pub struct Unit(pub Conv, pub Norm);

impl Unit {
    /// `train` as for [`Norm::forward`].
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.1.forward(&self.0.forward(x), train).relu_()
    }
}

/// Units one after the other.
pub fn chain(units: &[Unit], x: &Tensor, train: bool) -> Tensor {
    units.iter().fold(x.shallow_clone(), |x, unit| unit.forward(&x, train))
}

/// Feature gating: each channel by the sigmoid of a linear function of all channels' means (Xie et al. 2018,
/// "Rethinking Spatiotemporal Feature Learning", section 4.4).
pub struct Gate(Linear);

impl Gate {
    /// Parameters are called `NAME.fc`.
    pub fn new(make: &mut Maker<'_>, name: &str, channels: i64) -> Self {
        Self(Linear::new(make, &format!("{name}.fc"), channels, channels))
    }

    /// `[B, C, T, H, W]` to the same shape and kind; the gate itself is computed in f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let means = x.mean_dim([2i64, 3, 4].as_slice(), false, tch::Kind::Float);
        let gate = self.0.forward(&means).sigmoid().to_kind(x.kind());
        let size = x.size();
        x * gate.view([size[0], size[1], 1, 1, 1])
    }
}

/// Four branches side by side; the last begins with a 3x3x3 max pooling.
pub struct Block {
    /// The branches in the order of their channels in the output.
    pub branches: [Vec<Unit>; 4],
    /// One a branch, or none.
    pub gates: Vec<Gate>,
}

impl Block {
    /// `[B, C, T, H, W]` to `[B, C', T, H, W]`.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let mut parts = Vec::with_capacity(4);
        for (i, units) in self.branches.iter().enumerate() {
            let part = match i {
                3 => chain(units, &x.max_pool3d([3; 3], [1; 3], [1; 3], [1; 3], false), train),
                _ => chain(units, x, train),
            };
            parts.push(self.gates.get(i).map_or_else(|| part.shallow_clone(), |gate| gate.forward(&part)));
        }
        Tensor::cat(&parts, 1)
    }
}
