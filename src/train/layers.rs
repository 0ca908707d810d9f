//! The layers a video network is made of, and how their first weights are drawn.

use reelflow_api::rng::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::store::Store;
use crate::edge::process;

/// How the first weights are drawn.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Convolutions normal with variance `2 / fan_out`, batch norm 1 and 0 (torchvision's residual video
    /// networks); `2 / fan_in` for the Inception networks, whose widths change so much from layer to layer that
    /// the other leaves numbers beyond f32 until batch norm has its statistics.
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
    /// What the encoder's family says of batch norm.
    pub norm: NormRule,
    /// Whether [`Init::Torchvision`] counts what comes into a convolution instead of what goes out.
    pub fan_in: bool,
}

impl Maker<'_> {
    fn draw(
        &self,
        name: &str,
        count: i64,
        mut value: impl FnMut(&mut reelflow_api::rng::Rng) -> f64,
    ) -> Vec<f32> {
        let mut rng = self.key.part(name).rng();
        let mut values = process::room(count as usize);
        values.extend((0..count).map(|_| value(&mut rng) as f32));
        values
    }
}

/// A 3-D convolution, without bias unless one is added.
pub struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
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
                let fan = if make.fan_in { input } else { output };
                let deviation = (2.0 / (fan * field) as f64).sqrt();
                make.draw(&name, output * input * field, |rng| deviation * rng.normal())
            }
            Init::Vtdl => {
                let bound = 2f64.sqrt() * (6.0 / ((input + output) * field) as f64).sqrt();
                make.draw(&name, output * input * field, |rng| rng.range(-bound, bound))
            }
        };
        let shape = [output, input, kernel[0], kernel[1], kernel[2]];
        let weight = make.store.weight(name, &shape, &values);
        Self { weight, bias: None, stride, padding: kernel.map(|k| k / 2) }
    }

    /// With a bias called `NAME.bias`, 0 at first.
    #[must_use]
    pub fn with_bias(mut self, make: &mut Maker<'_>, name: &str) -> Self {
        let channels = self.weight.size()[0];
        let zeros = vec![0.0; channels as usize];
        self.bias = Some(make.store.weight(format!("{name}.bias"), &[channels], &zeros));
        self
    }

    /// Without padding: for inputs that [`pad_same`] has padded.
    #[must_use]
    pub fn unpadded(self) -> Self {
        Self { padding: [0; 3], ..self }
    }

    /// `[B, C, T, H, W]` to `[B, C', T', H', W']`. Computed in the kind of `x`: for bf16 the weights are
    /// rounded on the way, as PyTorch's autocast does, and their gradients come back as f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
        x.conv3d(&self.weight.to_kind(kind), bias.as_ref(), self.stride, self.padding, [1, 1, 1], 1)
    }
}

/// TensorFlow's "same" padding with zeros: so much that the result has `ceil(size / stride)` places, half of
/// it before and the rest, one more where it is odd, behind. `kernel` and `stride`: time, rows, columns.
pub fn pad_same(x: &Tensor, kernel: [i64; 3], stride: [i64; 3]) -> Tensor {
    let size = x.size();
    let mut pads = Vec::with_capacity(6);
    // libtorch wants the last dimension first.
    for i in (0..3).rev() {
        let over = size[i + 2] % stride[i];
        let pad = (kernel[i] - if over == 0 { stride[i] } else { over }).max(0);
        pads.extend([pad / 2, pad - pad / 2]);
    }
    if pads.iter().all(|&pad| pad == 0) { x.shallow_clone() } else { x.constant_pad_nd(pads) }
}

/// How a family of networks has its batch norm.
#[derive(Clone, Copy, Debug)]
pub struct NormRule {
    /// Added to the variance before the root.
    pub epsilon: f64,
    /// Share of the newest batch in the running statistics.
    pub momentum: f64,
}

impl Default for NormRule {
    /// PyTorch's.
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

/// Batch norm over a channel's values of all clips.
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    batches: Tensor,
    rule: NormRule,
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
            rule: make.norm,
        }
    }

    /// In train mode by the statistics of this batch, which also move the running ones; otherwise by the
    /// running ones. Scale, shift and statistics are f32 whatever the kind of `x`.
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
            self.rule.momentum,
            self.rule.epsilon,
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
