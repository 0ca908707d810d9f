//! S3D and S3D-G: Inception-v1 with convolutions split into space and time (Xie et al. 2018, "Rethinking
//! Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification").
//!
//! Names and arithmetic are those of torchvision (`torchvision/models/video/s3d.py`): `features.0.0.0.weight`,
//! `features.5.branch1.1.0.1.weight`. torchvision has no gates; ours stand where the authors' and MIL-NCE's
//! (`antoine77340/S3D_HowTo100M`, `s3dg.py`) do, under MIL-NCE's names behind torchvision's places:
//! `features.3.gating.fc` behind the second split convolution, `features.N.gating_b0.fc` to `gating_b3.fc`
//! on the branches of each block.

use tch::Tensor;

use super::Trunk;
use super::inception::{BLOCKS, Block, Channels, Gate, NORM, Unit, chain};
use crate::train::layers::{Conv, Maker, Norm};

/// Where torchvision's list of layers has [`BLOCKS`], and the pooling before each (kernel, stride, padding).
const PLACES: [(usize, Option<[[i64; 3]; 3]>); 9] = [
    (5, Some([[1, 3, 3], [1, 2, 2], [0, 1, 1]])),
    (6, None),
    (8, Some([[3; 3], [2; 3], [1; 3]])),
    (9, None),
    (10, None),
    (11, None),
    (12, None),
    (14, Some([[2; 3], [2; 3], [0; 3]])),
    (15, None),
];

/// Two split convolutions with a 1x1x1 in between, and nine inception blocks.
pub struct S3d {
    first: Vec<Unit>,
    second: Vec<Unit>,
    gate: Option<Gate>,
    blocks: Vec<Block>,
}

fn unit(make: &mut Maker<'_>, name: &str, channels: (i64, i64), kernel: [i64; 3], stride: [i64; 3]) -> Unit {
    let conv = Conv::new(make, &format!("{name}.0"), channels, kernel, stride);
    Unit(conv, Norm::new(make, &format!("{name}.1"), channels.1))
}

fn one(make: &mut Maker<'_>, name: &str, channels: (i64, i64)) -> Unit {
    unit(make, name, channels, [1; 3], [1; 3])
}

/// A convolution over space and one over time.
fn split(make: &mut Maker<'_>, name: &str, channels: (i64, i64), side: i64, stride: i64) -> [Unit; 2] {
    let output = (channels.1, channels.1);
    [
        unit(make, &format!("{name}.0"), channels, [1, side, side], [1, stride, stride]),
        unit(make, &format!("{name}.1"), output, [side, 1, 1], [stride, 1, 1]),
    ]
}

fn block(make: &mut Maker<'_>, name: &str, channels: &Channels, gated: bool) -> Block {
    let Channels { input, one: straight, first, second, pooled } = *channels;
    let mut wide = |branch: &str, channels: (i64, i64)| {
        let name = format!("{name}.{branch}");
        let mut units = vec![one(make, &format!("{name}.0"), (input, channels.0))];
        units.extend(split(make, &format!("{name}.1"), channels, 3, 1));
        units
    };
    let (branch1, branch2) = (wide("branch1", first), wide("branch2", second));
    let branches = [
        vec![one(make, &format!("{name}.branch0"), (input, straight))],
        branch1,
        branch2,
        vec![one(make, &format!("{name}.branch3.1"), (input, pooled))],
    ];
    let outputs = [straight, first.1, second.1, pooled];
    let gate = |(i, channels)| Gate::new(make, &format!("{name}.gating_b{i}"), channels);
    let gates = if gated { outputs.into_iter().enumerate().map(gate).collect() } else { Vec::new() };
    Block { branches, gates }
}

fn pool(x: &Tensor, [kernel, stride, padding]: [[i64; 3]; 3]) -> Tensor {
    x.max_pool3d(kernel, stride, padding, [1; 3], false)
}

impl S3d {
    /// Draws the first weights from the maker's key. `gated`: S3D-G.
    pub fn new(make: &mut Maker<'_>, gated: bool) -> Self {
        (make.norm, make.fan_in) = (NORM, true);
        let first = split(make, "features.0", (3, 64), 7, 2).into();
        let mut second = vec![one(make, "features.2", (64, 64))];
        second.extend(split(make, "features.3", (64, 192), 3, 1));
        let gate = gated.then(|| Gate::new(make, "features.3.gating", 192));
        let place = |((place, _), channels): (&(usize, _), _)| {
            block(make, &format!("features.{place}"), channels, gated)
        };
        let blocks = PLACES.iter().zip(&BLOCKS).map(place).collect();
        Self { first, second, gate, blocks }
    }
}

impl Trunk for S3d {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = pool(&chain(&self.first, x, train), [[1, 3, 3], [1, 2, 2], [0, 1, 1]]);
        let x = chain(&self.second, &x, train);
        let x = self.gate.as_ref().map_or_else(|| x.shallow_clone(), |gate| gate.forward(&x));
        self.blocks.iter().zip(PLACES).fold(x, |x, (block, (_, before))| match before {
            Some(pooling) => block.forward(&pool(&x, pooling), train),
            None => block.forward(&x, train),
        })
    }
}
