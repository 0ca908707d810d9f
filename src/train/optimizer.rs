//! SGD and AdamW over a network's weights, with all their state open for checkpoints.
//!
//! Own code because tch can neither save nor load optimiser state. Arithmetic is PyTorch's
//! (`torch/optim/sgd.py`, `torch/optim/adamw.py`, single-tensor paths).

use reelflow_api::error::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::network::HEADS;
use super::store::{Store, from_block, to_block};
use crate::bank::sealed::Blocks;

/// How weights are changed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// `sgd` or `adamw`.
    #[serde(rename = "type")]
    pub kind: OptimizerKind,
    /// Learning rate at the top of the schedule.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// SGD: share of the last direction that is kept.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Pull towards zero: added to the gradient by SGD, applied beside it by AdamW.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Whether the pull also acts on biases and on batch norm's scales and shifts, as the released VTDL has
    /// it. `false` is the safer choice with large decay: these tensors do not overfit.
    pub decay_norm_and_bias: bool,
    /// Learning rate of the heads, as a multiple of the encoder's: above 1 for heads that are new on a loaded
    /// encoder.
    #[schemars(range(min = 0.0))]
    pub head_lr: f64,
    /// SGD: look ahead along the momentum.
    pub nesterov: bool,
    /// AdamW: shares of the old mean and mean square that are kept, each below 1.
    #[schemars(inner(range(min = 0.0, max = 0.999_999)))]
    pub betas: [f64; 2],
    /// AdamW: added to the root of the mean square.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f64,
    /// Longest gradient, over all weights together; longer ones are scaled down. No limit if not given.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: Option<f64>,
}

impl Default for OptimizerSettings {
    /// SGD as in the released VTDL.
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            lr: 0.003,
            momentum: 0.9,
            weight_decay: 1e-4,
            decay_norm_and_bias: true,
            head_lr: 1.0,
            nesterov: false,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            clip_norm: None,
        }
    }
}

/// The optimisers there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
}

/// An optimiser and what it remembers of the steps before.
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Steps made.
    pub updates: u64,
    /// SGD: momentum. AdamW: running mean. One a weight.
    first: Vec<Tensor>,
    /// AdamW: running mean square. One a weight.
    second: Vec<Tensor>,
}

impl Optimizer {
    /// An optimiser for the weights of `store` that has not made a step.
    #[must_use]
    pub fn new(settings: &OptimizerSettings, store: &Store) -> Self {
        let zeros = || store.weights().map(|entry| entry.tensor.zeros_like().detach()).collect();
        let second = if settings.kind == OptimizerKind::Adamw { zeros() } else { Vec::new() };
        Self { settings: settings.clone(), updates: 0, first: zeros(), second }
    }

    /// Length of the gradient over all weights together.
    #[must_use]
    pub fn grad_norm(store: &Store) -> f64 {
        tch::no_grad(|| {
            let squares: Vec<Tensor> = store
                .weights()
                .map(|entry| entry.tensor.grad())
                .filter(Tensor::defined)
                .map(|grad| grad.square().sum(Kind::Double))
                .collect();
            if squares.is_empty() {
                0.0
            } else {
                Tensor::stack(&squares, 0).sum(Kind::Double).double_value(&[]).sqrt()
            }
        })
    }

    /// Changes the weights along their gradients, whose length is `grad_norm`, at learning rate `lr` (times
    /// `head_lr` for the heads). Weights without a gradient stay.
    pub fn step(&mut self, store: &Store, lr: f64, grad_norm: f64) {
        self.updates += 1;
        // The small number is PyTorch's, in `clip_grad_norm_`.
        let scale = self.settings.clip_norm.map_or(1.0, |most| (most / (grad_norm + 1e-6)).min(1.0));
        tch::no_grad(|| {
            for (i, entry) in store.weights().enumerate() {
                let grad = entry.tensor.grad();
                if !grad.defined() {
                    continue;
                }
                let grad = if scale < 1.0 { grad * scale } else { grad };
                let weight = entry.tensor.shallow_clone();
                let lr = if entry.name.starts_with(HEADS) { lr * self.settings.head_lr } else { lr };
                // Convolutions and matrices have more dimensions than what shifts and scales.
                let decays = self.settings.decay_norm_and_bias || weight.dim() > 1;
                let decay = if decays { self.settings.weight_decay } else { 0.0 };
                match self.settings.kind {
                    OptimizerKind::Sgd => self.sgd(i, weight, grad, lr, decay),
                    OptimizerKind::Adamw => self.adamw(i, weight, grad, lr, decay),
                }
            }
        });
    }

    fn sgd(&self, i: usize, mut weight: Tensor, grad: Tensor, lr: f64, decay: f64) {
        let settings = &self.settings;
        let grad = if decay > 0.0 { grad + &weight * decay } else { grad };
        let mut direction = self.first[i].shallow_clone();
        // From zeros, the first step gives the gradient itself, as PyTorch does.
        direction *= settings.momentum;
        direction += &grad;
        let direction = if settings.nesterov { grad + direction * settings.momentum } else { direction };
        weight -= direction * lr;
    }

    fn adamw(&self, i: usize, mut weight: Tensor, grad: Tensor, lr: f64, decay: f64) {
        let settings = &self.settings;
        let [keep, keep_square] = settings.betas;
        weight *= 1.0 - lr * decay;
        let (mut mean, mut square) = (self.first[i].shallow_clone(), self.second[i].shallow_clone());
        drop(mean.lerp_(&grad, 1.0 - keep));
        square *= keep_square;
        square += grad.square() * (1.0 - keep_square);
        let updates = self.updates as f64;
        let (correct, correct_square) = (1.0 - keep.powf(updates), 1.0 - keep_square.powf(updates));
        let below = square.sqrt() / correct_square.sqrt() + settings.epsilon;
        weight -= mean / below * (lr / correct);
    }

    /// Everything remembered, for a file.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn blocks(&self, store: &Store) -> Result<Blocks, StageError> {
        let mut blocks = Blocks::new();
        for (part, tensors) in [("first", &self.first), ("second", &self.second)] {
            for (entry, tensor) in store.weights().zip(tensors) {
                blocks.insert(format!("{part}.{}", entry.name), to_block(tensor)?);
            }
        }
        Ok(blocks)
    }

    /// Goes on from what [`Optimizer::blocks`] gave, stored in the file called `file`.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn load(
        &mut self,
        store: &Store,
        file: &str,
        blocks: &Blocks,
        updates: u64,
    ) -> Result<(), StageError> {
        for (part, tensors) in [("first", &self.first), ("second", &self.second)] {
            for (entry, tensor) in store.weights().zip(tensors) {
                let name = format!("{part}.{}", entry.name);
                let loaded = from_block(file, &name, &tensor.size(), tensor.kind(), blocks)?;
                tensor.shallow_clone().copy_(&loaded);
            }
        }
        self.updates = updates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Three steps on one weight with fixed gradients.
    fn after_three_steps(settings: OptimizerSettings) -> Vec<f32> {
        let mut store = Store::new(Device::Cpu);
        let weight = store.weight("w".to_owned(), &[3], &[1.0, -2.0, 3.0]);
        let mut optimizer = Optimizer::new(&settings, &store);
        for t in 0..3 {
            store.zero_grad();
            let grad = Tensor::from_slice(&[0.1 * (t + 1) as f32, -0.2, 0.3]);
            (&weight * grad).sum(Kind::Float).backward();
            let norm = Optimizer::grad_norm(&store);
            optimizer.step(&store, settings.lr, norm);
        }
        to_block(&weight).unwrap().to_f32(&[3]).unwrap()
    }

    fn assert_near(got: &[f32], expected: [f32; 3]) {
        let near = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 2e-6);
        assert!(near, "{got:?} is not {expected:?}");
    }

    #[test]
    fn three_steps_equal_those_of_pytorch() {
        // Printed by torch 2.11.0 for the same weights, gradients and settings.
        let sgd = OptimizerSettings { lr: 0.1, weight_decay: 0.01, ..Default::default() };
        assert_near(&after_three_steps(sgd.clone()), [0.899_352_85, -1.876_685_6, 2.815_028_4]);
        let nesterov = OptimizerSettings { nesterov: true, ..sgd.clone() };
        assert_near(&after_three_steps(nesterov), [0.846_55, -1.823_227_8, 2.734_841_6]);
        let adamw = OptimizerSettings { kind: OptimizerKind::Adamw, ..sgd };
        assert_near(&after_three_steps(adamw), [0.704_981_1, -1.694_305_9, 2.691_309_2]);
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_limit() {
        let settings = OptimizerSettings {
            lr: 1.0,
            momentum: 0.0,
            weight_decay: 0.0,
            clip_norm: Some(0.5),
            ..Default::default()
        };
        let mut store = Store::new(Device::Cpu);
        let weight = store.weight("w".to_owned(), &[2], &[0.0, 0.0]);
        (&weight * Tensor::from_slice(&[30.0f32, 40.0])).sum(Kind::Float).backward();
        let norm = Optimizer::grad_norm(&store);
        assert!((norm - 50.0).abs() < 1e-9);
        Optimizer::new(&settings, &store).step(&store, 1.0, norm);
        let moved = to_block(&weight).unwrap().to_f32(&[2]).unwrap();
        assert!((moved[0] + 0.3).abs() < 1e-6 && (moved[1] + 0.4).abs() < 1e-6, "{moved:?}");
    }

    #[test]
    fn heads_have_a_rate_of_their_own_and_shifts_need_not_decay() {
        let moved = |decay_norm_and_bias| {
            let mut store = Store::new(Device::Cpu);
            let names = ["stem.0.weight", "stem.1.bias", "heads.embedding.0.weight"];
            let weights = names.map(|name| match name {
                "stem.1.bias" => store.weight(name.to_owned(), &[1], &[1.0]),
                _ => store.weight(name.to_owned(), &[1, 1], &[1.0]),
            });
            let sum: Tensor = weights.iter().map(|weight| weight.sum(Kind::Float)).sum();
            sum.backward();
            let settings = OptimizerSettings {
                weight_decay: 0.5,
                head_lr: 10.0,
                decay_norm_and_bias,
                ..Default::default()
            };
            Optimizer::new(&settings, &store).step(&store, 0.01, 1.0);
            weights.map(|weight| ((1.0 - weight.double_value(&[0; 2][..weight.dim()])) * 1e4).round())
        };
        // Gradient 1 and a decay of 0.5 at rate 0.01, ten times that for the head.
        assert_eq!((moved(true), moved(false)), ([150.0, 150.0, 1500.0], [150.0, 100.0, 1500.0]));
    }
}
