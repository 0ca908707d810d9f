//! C3D: eight 3x3x3 convolutions with pooling in between (Tran et al. 2015, "Learning Spatiotemporal
//! Features with 3D Convolutional Networks").
//!
//! Names are those of the usual PyTorch ports: `conv1` to `conv5b` with biases, without batch norm as in
//! `DavideA/c3d-pytorch`, or with `bn1` to `bn5b` as in VCOP (`xudejing/video-clip-order-prediction`,
//! `models/c3d.py`), whose pooling over all of time and space instead of `pool5` and `fc6` is ours, too.

use tch::Tensor;

use super::Trunk;
use crate::train::layers::{Conv, Maker, Norm};

/// Name, channels, and the pooling behind it (kernel and stride: time, rows, columns).
const LAYERS: [(&str, (i64, i64), Option<[i64; 3]>); 8] = [
    ("1", (3, 64), Some([1, 2, 2])),
    ("2", (64, 128), Some([2, 2, 2])),
    ("3a", (128, 256), None),
    ("3b", (256, 256), Some([2, 2, 2])),
    ("4a", (256, 512), None),
    ("4b", (512, 512), Some([2, 2, 2])),
    ("5a", (512, 512), None),
    ("5b", (512, 512), None),
];

struct Layer {
    conv: Conv,
    norm: Option<Norm>,
    pool: Option<[i64; 3]>,
}

/// The eight convolutions.
pub struct C3d(Vec<Layer>);

impl C3d {
    /// Draws the first weights from the maker's key. `norm`: with batch norm.
    pub fn new(make: &mut Maker<'_>, norm: bool) -> Self {
        let layers = LAYERS.map(|(name, channels, pool)| {
            let conv = Conv::new(make, &format!("conv{name}"), channels, [3; 3], [1; 3]);
            Layer {
                conv: conv.with_bias(make, &format!("conv{name}")),
                norm: norm.then(|| Norm::new(make, &format!("bn{name}"), channels.1)),
                pool,
            }
        });
        Self(layers.into())
    }
}

impl Trunk for C3d {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| {
            let x = layer.conv.forward(&x);
            let x = layer.norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(&x, train));
            let x = x.relu();
            layer
                .pool
                .map_or_else(|| x.shallow_clone(), |size| x.max_pool3d(size, size, [0; 3], [1; 3], false))
        })
    }
}
