//! The layers a video network is made of, and how their first weights are drawn.

use reelflow_api::rng::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::store::Store;

/// How the first weights are drawn.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Convolutions normal with variance `2 / fan_out`, batch norm 1 and 0 (torchvision video networks).
    #[default]
    Torchvision,
    /// Convolutions uniform after Xavier with gain `√2`, batch norm scale normal around 1 with standard
    /// deviation 0.02 (released VTDL).
    Vtdl,
}

/// Makes layers: gives every tensor its name, its place in the store and its own random stream, so the
/// first values of a tensor depend on its name and on nothing else in the network.
pub struct Maker<'a> {
    /// Where the tensors go.
    pub store: &'a mut Store,
    /// How first weights are drawn.
    pub init: Init,
    /// The chance of all first weights.
    pub key: Key,
}

impl Maker<'_> {
    fn draw(
        &self,
        name: &str,
        count: i64,
        mut value: impl FnMut(&mut reelflow_api::rng::Rng) -> f64,
    ) -> Vec<f32> {
        let mut rng = self.key.part(name).rng();
        (0..count).map(|_| value(&mut rng) as f32).collect()
    }
}

/// A 3-D convolution without bias.
pub struct Conv {
    weight: Tensor,
    stride: [i64; 3],
    padding: [i64; 3],
}

impl Conv {
    /// `kernel`, `stride` and the "same" padding `kernel / 2` in the order time, rows, columns.
    pub fn new(
        make: &mut Maker<'_>,
        name: &str,
        channels: (i64, i64),
        kernel: [i64; 3],
        stride: [i64; 3],
    ) -> Self {
        let (input, output) = channels;
        let field: i64 = kernel.iter().product();
        let name = format!("{name}.weight");
        let values = match make.init {
            Init::Torchvision => {
                let deviation = (2.0 / (output * field) as f64).sqrt();
                make.draw(&name, output * input * field, |rng| deviation * rng.normal())
            }
            Init::Vtdl => {
                let bound = 2f64.sqrt() * (6.0 / ((input + output) * field) as f64).sqrt();
                make.draw(&name, output * input * field, |rng| rng.range(-bound, bound))
            }
        };
        let shape = [output, input, kernel[0], kernel[1], kernel[2]];
        Self { weight: make.store.weight(name, &shape, &values), stride, padding: kernel.map(|k| k / 2) }
    }

    /// `[B, C, T, H, W]` to `[B, C', T', H', W']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv3d(&self.weight, None::<&Tensor>, self.stride, self.padding, [1, 1, 1], 1)
    }
}

/// Share of the newest batch in batch norm's running statistics (PyTorch's default).
const NORM_MOMENTUM: f64 = 0.1;

/// Added to the variance before the root (PyTorch's default).
const NORM_EPSILON: f64 = 1e-5;

/// Batch norm over a channel's values of all clips.
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    batches: Tensor,
}

impl Norm {
    /// One scale, shift and pair of statistics a channel.
    pub fn new(make: &mut Maker<'_>, name: &str, channels: i64) -> Self {
        let scale_name = format!("{name}.weight");
        let scale = match make.init {
            Init::Torchvision => vec![1.0; channels as usize],
            Init::Vtdl => make.draw(&scale_name, channels, |rng| 1.0 + 0.02 * rng.normal()),
        };
        Self {
            weight: make.store.weight(scale_name, &[channels], &scale),
            bias: make.store.weight(format!("{name}.bias"), &[channels], &vec![0.0; channels as usize]),
            mean: make.store.buffer(format!("{name}.running_mean"), &[channels], 0.0),
            variance: make.store.buffer(format!("{name}.running_var"), &[channels], 1.0),
            batches: make.store.counter(format!("{name}.num_batches_tracked")),
        }
    }

    /// In train mode by the statistics of this batch, which also move the running ones; otherwise by the
    /// running ones.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        if train {
            drop(self.batches.shallow_clone().g_add_scalar_(1));
        }
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.batch_norm(
            weight,
            bias,
            Some(&self.mean),
            Some(&self.variance),
            train,
            NORM_MOMENTUM,
            NORM_EPSILON,
            true,
        )
    }
}

/// A linear layer with bias, drawn uniformly in plus/minus `1/√input` (PyTorch's default).
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// From `input` to `output` values.
    pub fn new(make: &mut Maker<'_>, name: &str, input: i64, output: i64) -> Self {
        let bound = 1.0 / (input as f64).sqrt();
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let weights = make.draw(&weight, output * input, |rng| rng.range(-bound, bound));
        let biases = make.draw(&bias, output, |rng| rng.range(-bound, bound));
        Self {
            weight: make.store.weight(weight, &[output, input], &weights),
            bias: make.store.weight(bias, &[output], &biases),
        }
    }

    /// `[B, input]` to `[B, output]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Rows scaled to unit length. No epsilon, as in the released code: a zero row becomes NaN, which the
/// trainer's guard sees.
pub fn unit_rows(x: &Tensor) -> Tensor {
    x / x.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).sqrt()
}
