//! Files of a checkpoint that say when they are damaged: tensors in safetensors, a JSON manifest with
//! checksums of all of them and of itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use half::f16;
use reelflow_api::error::StageError;
use reelflow_api::stage::Parts;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::edge::process;

/// A dense block of numbers on its way to or from a file: little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Type of the numbers.
    pub dtype: Dtype,
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// Numbers one after the other, in one allocation that may fail in words.
fn written<const N: usize>(numbers: impl ExactSizeIterator<Item = [u8; N]>) -> Vec<u8> {
    let mut bytes = process::room(numbers.len() * N);
    numbers.for_each(|number| bytes.extend_from_slice(&number));
    bytes
}

impl Block {
    /// A block of f32.
    #[must_use]
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = written(values.iter().map(|x| x.to_le_bytes()));
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// A block of f16.
    #[must_use]
    pub fn f16(shape: &[usize], values: &[f16]) -> Self {
        let bytes = written(values.iter().map(|x| x.to_le_bytes()));
        Self { dtype: Dtype::F16, shape: shape.to_vec(), bytes }
    }

    /// A block of i64.
    #[must_use]
    pub fn i64(shape: &[usize], values: &[i64]) -> Self {
        let bytes = written(values.iter().map(|x| x.to_le_bytes()));
        Self { dtype: Dtype::I64, shape: shape.to_vec(), bytes }
    }

    /// Its values, if it holds f32 in this shape.
    #[must_use]
    pub fn to_f32(&self, shape: &[usize]) -> Option<Vec<f32>> {
        let fits = self.dtype == Dtype::F32 && self.shape == shape;
        let read = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        fits.then(|| self.bytes.chunks_exact(4).map(read).collect())
    }

    /// Its values, if it holds f16 in this shape.
    #[must_use]
    pub fn to_f16(&self, shape: &[usize]) -> Option<Vec<f16>> {
        let fits = self.dtype == Dtype::F16 && self.shape == shape;
        fits.then(|| self.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect())
    }

    /// Its values, if it holds i64 in this shape.
    #[must_use]
    pub fn to_i64(&self, shape: &[usize]) -> Option<Vec<i64>> {
        let fits = self.dtype == Dtype::I64 && self.shape == shape;
        let read = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        fits.then(|| self.bytes.chunks_exact(8).map(read).collect())
    }
}

impl View for &Block {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Blocks by name.
pub type Blocks = BTreeMap<String, Block>;

/// Writes blocks as one safetensors file; equal blocks give equal bytes.
///
/// # Errors
/// If the format cannot hold them (a header over 100 MB).
pub fn to_safetensors(name: &str, blocks: &Blocks) -> Result<Vec<u8>, StageError> {
    safetensors::serialize(blocks.iter().map(|(name, block)| (name.as_str(), block)), None)
        .map_err(|error| StageError::storage(name, format!("cannot be written as safetensors: {error}")))
}

/// Reads a safetensors file. Never runs code and never allocates by a claimed length: the format's
/// reader checks all offsets against the bytes first.
///
/// # Errors
/// If the bytes are no valid file.
pub fn from_safetensors(name: &str, bytes: &[u8]) -> Result<Blocks, StageError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| StageError::storage(name, format!("is no valid safetensors file: {error}")))?;
    let block = |view: safetensors::tensor::TensorView<'_>| Block {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    Ok(file.iter().map(|(name, view)| (name.to_owned(), block(view))).collect())
}

/// A manifest: what it says, the checksums of the files it speaks for, and its own.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    /// Layout of this manifest and its files.
    format: u32,
    /// What they are about.
    about: T,
    /// File name to XXH3-128 of its bytes.
    files: BTreeMap<String, String>,
    /// XXH3-128 of this manifest with an empty seal.
    seal: String,
}

/// Adds a manifest called `name` to `parts`, sealing every part in it.
///
/// `about` must hold no floating-point numbers: their text form does not survive re-reading exactly.
///
/// # Errors
/// If `about` is not representable as JSON.
pub fn seal<T: Serialize>(name: &str, format: u32, about: &T, mut parts: Parts) -> Result<Parts, StageError> {
    let files = parts.iter().map(|(file, bytes)| (file.clone(), checksum(bytes))).collect();
    let mut manifest = Sealed { format, about, files, seal: String::new() };
    manifest.seal = checksum(&text(name, &manifest)?);
    parts.insert(name.to_owned(), text(name, &manifest)?);
    Ok(parts)
}

/// Reads the manifest called `name` and checks it and every file it names, down to the last bit.
///
/// # Errors
/// If it or a file is missing, damaged, or of a layout newer than `format`; the file is named.
pub fn open<T: Serialize + DeserializeOwned>(
    name: &str,
    format: u32,
    parts: &Parts,
) -> Result<T, StageError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version =
        serde_json::from_slice(bytes_of(name, parts)?).map_err(|error| damaged(name, &error))?;
    if version.format != format {
        return Err(StageError::storage(
            name,
            format!("has layout {}, this reelflow reads layout {format}", version.format),
        ));
    }
    let manifest: Sealed<T> = unseal(name, parts)?;
    for (file, expected) in &manifest.files {
        let bytes = bytes_of(file, parts)?;
        let found = checksum(bytes);
        if found != *expected {
            return Err(StageError::storage(
                file,
                format!("is damaged: checksum {found}, expected {expected} ({} bytes)", bytes.len()),
            ));
        }
    }
    Ok(manifest.about)
}

/// Names of the manifests among `parts` that speak for `file`.
#[must_use]
pub fn manifests_of(file: &str, parts: &Parts) -> Vec<String> {
    let speaks_for = |bytes: &[u8]| {
        let manifest = serde_json::from_slice::<Sealed<Box<RawValue>>>(bytes);
        manifest.is_ok_and(|manifest| manifest.files.contains_key(file))
    };
    parts.iter().filter(|(_, bytes)| speaks_for(bytes)).map(|(name, _)| name.clone()).collect()
}

/// Renews the manifest called `name` after some of the files it names were replaced, whatever it is about.
///
/// # Errors
/// If it or a file is missing, or it is damaged itself.
pub fn reseal(name: &str, parts: &mut Parts) -> Result<(), StageError> {
    let mut manifest: Sealed<Box<RawValue>> = unseal(name, parts)?;
    for (file, expected) in &mut manifest.files {
        *expected = checksum(bytes_of(file, parts)?);
    }
    manifest.seal = checksum(&text(name, &manifest)?);
    parts.insert(name.to_owned(), text(name, &manifest)?);
    Ok(())
}

/// The manifest called `name`, checked down to the last bit, with an empty seal.
fn unseal<T: Serialize + DeserializeOwned>(name: &str, parts: &Parts) -> Result<Sealed<T>, StageError> {
    let bytes = bytes_of(name, parts)?;
    let mut manifest: Sealed<T> = serde_json::from_slice(bytes).map_err(|error| damaged(name, &error))?;
    // Comparing the whole text finds damage that JSON would forgive, such as a changed blank.
    if text(name, &manifest)? != *bytes {
        return Err(damaged(name, &"its text is not as written"));
    }
    let seal = std::mem::take(&mut manifest.seal);
    let found = checksum(&text(name, &manifest)?);
    if found != seal {
        return Err(damaged(name, &format!("checksum {found}, expected {seal}")));
    }
    Ok(manifest)
}

fn bytes_of<'p>(name: &str, parts: &'p Parts) -> Result<&'p Vec<u8>, StageError> {
    parts.get(name).ok_or_else(|| StageError::storage(name, "is missing from the checkpoint"))
}

fn damaged(name: &str, why: &dyn std::fmt::Display) -> StageError {
    StageError::storage(name, format!("is damaged: {why}"))
}

/// XXH3-128 of `bytes`, 32 hexadecimal digits.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

fn text<T: Serialize>(name: &str, manifest: &T) -> Result<Vec<u8>, StageError> {
    let mut bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|error| StageError::storage(name, format!("cannot be written as JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}
