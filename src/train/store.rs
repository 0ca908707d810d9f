//! The tensors of a network by name, in a fixed order: what is trained and what only is remembered.

use reelflow_api::error::StageError;
use tch::{Device, Kind, Tensor};

use crate::bank::sealed::{Block, Blocks};
use crate::edge::process;

/// What a tensor is to training.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Changed by the optimiser; the momentum network follows it.
    Weight,
    /// Changed by the forward pass: statistics of batch norm. Nobody else touches it.
    Buffer,
}

/// One named tensor. Layers hold shallow clones that share its memory.
pub struct Entry {
    /// Name as in torchvision, `layer1.0.conv1.0.weight`.
    pub name: String,
    /// The values.
    pub tensor: Tensor,
    /// What it is to training.
    pub role: Role,
}

/// The tensors of a network in the order they were made.
pub struct Store {
    /// All of them.
    pub entries: Vec<Entry>,
    device: Device,
}

impl Store {
    /// An empty store for tensors on `device`.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self { entries: Vec::new(), device }
    }

    /// Adds a trained tensor with these first values, f32.
    pub fn weight(&mut self, name: String, shape: &[i64], values: &[f32]) -> Tensor {
        let tensor = Tensor::from_slice(values).reshape(shape).to_device(self.device).set_requires_grad(true);
        self.add(name, tensor, Role::Weight)
    }

    /// Adds a buffer of f32, all `value`.
    pub fn buffer(&mut self, name: String, shape: &[i64], value: f64) -> Tensor {
        let tensor = Tensor::full(shape, value, (Kind::Float, self.device));
        self.add(name, tensor, Role::Buffer)
    }

    /// Adds a counter: an i64 without dimensions, 0.
    pub fn counter(&mut self, name: String) -> Tensor {
        let tensor = Tensor::zeros([0i64; 0], (Kind::Int64, self.device));
        self.add(name, tensor, Role::Buffer)
    }

    fn add(&mut self, name: String, tensor: Tensor, role: Role) -> Tensor {
        let shared = tensor.shallow_clone();
        self.entries.push(Entry { name, tensor, role });
        shared
    }

    /// Names and tensors that the optimiser changes.
    pub fn weights(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.role == Role::Weight)
    }

    /// Names and tensors that only the forward pass changes.
    pub fn buffers(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.role == Role::Buffer)
    }

    /// No tensor gets a gradient any more.
    pub fn freeze(&self) {
        for entry in self.weights() {
            drop(entry.tensor.set_requires_grad(false));
        }
    }

    /// Forgets all gradients.
    pub fn zero_grad(&self) {
        for entry in self.weights() {
            entry.tensor.shallow_clone().zero_grad();
        }
    }

    /// Copies every tensor of `other`, which must have the same entries.
    pub fn copy_from(&self, other: &Self) {
        tch::no_grad(|| {
            for (to, from) in self.entries.iter().zip(&other.entries) {
                to.tensor.shallow_clone().copy_(&from.tensor);
            }
        });
    }

    /// Moves the weights towards those of `query`: `θ ← m·θ + (1 - m)·θ_query`. Buffers stay.
    ///
    /// `m = 0` copies exactly, `m = 1` changes nothing.
    pub fn follow(&self, query: &Self, momentum: f64) {
        tch::no_grad(|| {
            for (own, other) in self.weights().zip(query.weights()) {
                drop(own.tensor.shallow_clone().lerp_(&other.tensor, 1.0 - momentum));
            }
        });
    }

    /// Copies of all buffers, to go back to.
    #[must_use]
    pub fn copy_of_buffers(&self) -> Vec<Tensor> {
        self.buffers().map(|entry| entry.tensor.copy()).collect()
    }

    /// Goes back to copied buffers.
    pub fn set_buffers(&self, copies: &[Tensor]) {
        for (entry, copy) in self.buffers().zip(copies) {
            entry.tensor.shallow_clone().copy_(copy);
        }
    }

    /// All tensors as bytes, for a file.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn blocks(&self) -> Result<Blocks, StageError> {
        self.entries.iter().map(|entry| Ok((entry.name.clone(), to_block(&entry.tensor)?))).collect()
    }

    /// Takes all values from `blocks`, which come from the file called `file`. Other names are ignored.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape or type; nothing was changed then.
    pub fn load(&self, file: &str, blocks: &Blocks) -> Result<(), StageError> {
        let mut loaded = Vec::new();
        for entry in &self.entries {
            loaded.push(from_block(file, &entry.name, &entry.tensor.size(), entry.tensor.kind(), blocks)?);
        }
        tch::no_grad(|| {
            for (entry, tensor) in self.entries.iter().zip(&loaded) {
                entry.tensor.shallow_clone().copy_(tensor);
            }
        });
        Ok(())
    }
}

/// A tensor of f32 or i64 as bytes.
///
/// # Errors
/// If the device cannot be read.
pub fn to_block(tensor: &Tensor) -> Result<Block, StageError> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let failed =
        |error: tch::TchError| StageError::failed("train", format!("cannot read a tensor out: {error}"));
    if tensor.kind() == Kind::Int64 {
        let mut values = zeros(tensor.numel());
        tensor.f_copy_data(&mut values, tensor.numel()).map_err(failed)?;
        return Ok(Block::i64(&shape, &values));
    }
    let mut values: Vec<f32> = zeros(tensor.numel());
    tensor.f_copy_data(&mut values, tensor.numel()).map_err(failed)?;
    Ok(Block::f32(&shape, &values))
}

fn zeros<T: Clone + Default>(count: usize) -> Vec<T> {
    let mut values = process::room(count);
    values.resize(count, T::default());
    values
}

/// The tensor called `name` of the file called `file`, on the CPU.
///
/// # Errors
/// If it is missing or of another shape or type.
pub fn from_block(
    file: &str,
    name: &str,
    shape: &[i64],
    kind: Kind,
    blocks: &Blocks,
) -> Result<Tensor, StageError> {
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    let block = blocks
        .get(name)
        .ok_or_else(|| StageError::refused(file, format!("has no tensor `{name}` of shape {sizes:?}")))?;
    let tensor = match kind {
        Kind::Int64 => block.to_i64(&sizes).map(|values| Tensor::from_slice(&values)),
        _ => block.to_f32(&sizes).map(|values| Tensor::from_slice(&values)),
    };
    let tensor = tensor.ok_or_else(|| {
        let found = &block.shape;
        StageError::refused(
            file,
            format!("tensor `{name}` is {:?} {found:?}, expected {sizes:?}", block.dtype),
        )
    })?;
    Ok(tensor.reshape(shape))
}
