//! I3D: Inception-v1 with 3-D convolutions and batch norm (Carreira and Zisserman 2017, "Quo Vadis, Action
//! Recognition?"), the encoder of the released VTDL.
//!
//! Names and arithmetic are those of `piergiaj/pytorch-i3d` (`pytorch_i3d.py`): `Conv3d_1a_7x7.conv3d.weight`,
//! `Mixed_3b.b1a.bn.weight`. Padding is TensorFlow's "same": where it is odd, the end gets more.

use tch::Tensor;

use super::Trunk;
use super::inception::{BLOCKS, Block, Channels, NORM, Unit};
use crate::train::layers::{Conv, Maker, Norm, pad_same};

/// Kernel and stride of a pooling: time, rows, columns.
type Pooling = ([i64; 3], [i64; 3]);

/// Names of [`BLOCKS`], and the pooling before each.
const PLACES: [(&str, Option<Pooling>); 9] = [
    ("Mixed_3b", Some(([1, 3, 3], [1, 2, 2]))),
    ("Mixed_3c", None),
    ("Mixed_4b", Some(([3; 3], [2; 3]))),
    ("Mixed_4c", None),
    ("Mixed_4d", None),
    ("Mixed_4e", None),
    ("Mixed_4f", None),
    ("Mixed_5b", Some(([2; 3], [2; 3]))),
    ("Mixed_5c", None),
];

/// The first layer's kernel and stride, in all directions.
const FIRST: ([i64; 3], [i64; 3]) = ([7; 3], [2; 3]);

/// Three convolutions and nine inception blocks.
pub struct I3d {
    first: Unit,
    second: [Unit; 2],
    blocks: Vec<Block>,
}

fn unit(make: &mut Maker<'_>, name: &str, channels: (i64, i64), kernel: i64) -> Unit {
    let conv = Conv::new(make, &format!("{name}.conv3d"), channels, [kernel; 3], [1; 3]);
    Unit(conv, Norm::new(make, &format!("{name}.bn"), channels.1))
}

fn block(make: &mut Maker<'_>, name: &str, channels: &Channels) -> Block {
    let Channels { input, one, first, second, pooled } = *channels;
    let mut unit = |branch: &str, channels: (i64, i64), kernel: i64| {
        unit(make, &format!("{name}.{branch}"), channels, kernel)
    };
    let branches = [
        vec![unit("b0", (input, one), 1)],
        vec![unit("b1a", (input, first.0), 1), unit("b1b", first, 3)],
        vec![unit("b2a", (input, second.0), 1), unit("b2b", second, 3)],
        vec![unit("b3b", (input, pooled), 1)],
    ];
    Block { branches, gates: Vec::new() }
}

/// Max pooling with "same" padding. Zeros do for it: what comes in has passed a ReLU.
fn pool(x: &Tensor, kernel: [i64; 3], stride: [i64; 3]) -> Tensor {
    pad_same(x, kernel, stride).max_pool3d(kernel, stride, [0; 3], [1; 3], false)
}

impl I3d {
    /// Draws the first weights from the maker's key.
    pub fn new(make: &mut Maker<'_>) -> Self {
        (make.norm, make.fan_in) = (NORM, true);
        let conv = Conv::new(make, "Conv3d_1a_7x7.conv3d", (3, 64), FIRST.0, FIRST.1).unpadded();
        let first = Unit(conv, Norm::new(make, "Conv3d_1a_7x7.bn", 64));
        let second = [unit(make, "Conv3d_2b_1x1", (64, 64), 1), unit(make, "Conv3d_2c_3x3", (64, 192), 3)];
        let blocks =
            PLACES.iter().zip(&BLOCKS).map(|((name, _), channels)| block(make, name, channels)).collect();
        Self { first, second, blocks }
    }
}

impl Trunk for I3d {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.first.forward(&pad_same(x, FIRST.0, FIRST.1), train);
        let x = pool(&x, [1, 3, 3], [1, 2, 2]);
        let x = super::inception::chain(&self.second, &x, train);
        self.blocks.iter().zip(PLACES).fold(x, |x, (block, (_, before))| match before {
            Some((kernel, stride)) => block.forward(&pool(&x, kernel, stride), train),
            None => block.forward(&x, train),
        })
    }
}
