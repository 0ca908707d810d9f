//! The values of views: one dense block that can be lent out in parts and joined again without a copy.
//!
//! A batch's block is made once, each slot's part is handed to whoever fills it, and the parts are put
//! together in slot order. Where they lie side by side, which is always so inside a process, nothing moves.

use bytes::BytesMut;

/// Type of one value.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    PartialEq,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float, IEEE 754 binary16.
    F16,
    /// 16-bit float, the upper half of a 32-bit float.
    Bf16,
    /// Byte: red, green, blue from 0 to 255.
    U8,
}

impl Dtype {
    /// As a pipeline file writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U8 => "u8",
        }
    }

    /// Bytes of a value.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

/// A dense block of values.
#[derive(Debug, PartialEq)]
pub struct Pixels {
    dtype: Dtype,
    bytes: BytesMut,
}

/// Whether a block of so many bytes could be had a moment ago.
fn has_room(bytes: usize) -> bool {
    let mut trial: Vec<u8> = Vec::new();
    let is_there = trial.try_reserve_exact(bytes).is_ok();
    // Without this the compiler may leave the unused block out, and say that there was room.
    drop(std::hint::black_box(trial));
    is_there
}

impl Clone for Pixels {
    /// A copy, as each sink but one gets it where there are several.
    ///
    /// # Panics
    /// If there is no memory for it, with a message that says so; a plain allocation would end the process.
    fn clone(&self) -> Self {
        assert!(has_room(self.bytes.len()), "out of memory: a copy of {} bytes of a batch", self.bytes.len());
        Self { dtype: self.dtype, bytes: self.bytes.clone() }
    }
}

impl Pixels {
    /// `count` zeros.
    ///
    /// # Panics
    /// If the allocator gives a block that is not aligned to words, which none does.
    #[must_use]
    pub fn zeroed(dtype: Dtype, count: usize) -> Self {
        let bytes = BytesMut::zeroed(count * dtype.size());
        assert!(bytes.as_ptr().align_offset(dtype.size()) == 0, "allocators align blocks to words");
        Self { dtype, bytes }
    }

    /// `count` zeros, or nothing if there is no memory for them: a plain allocation that fails ends the process.
    #[must_use]
    pub fn try_zeroed(dtype: Dtype, count: usize) -> Option<Self> {
        let bytes = count.checked_mul(dtype.size())?;
        // The block itself must come from an allocation that is zeroed by the system, which cannot be asked whether it
        // would fail. What was free a moment before is free.
        has_room(bytes).then(|| Self::zeroed(dtype, count))
    }

    /// Type of the values.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The values as bytes, native order.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values as bytes, native order.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The values of an f32 block.
    ///
    /// # Panics
    /// If it holds another type.
    #[must_use]
    pub fn f32(&self) -> &[f32] {
        assert_eq!(self.dtype, Dtype::F32, "these values are not f32");
        bytemuck::cast_slice(&self.bytes)
    }

    /// The values of an f32 block.
    ///
    /// # Panics
    /// If it holds another type.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.dtype, Dtype::F32, "these values are not f32");
        bytemuck::cast_slice_mut(&mut self.bytes)
    }

    /// The values of an f16 or bf16 block as their bits.
    ///
    /// # Panics
    /// If it holds another type.
    pub fn bits_mut(&mut self) -> &mut [u16] {
        assert_eq!(self.dtype.size(), 2, "these values have not 16 bits");
        bytemuck::cast_slice_mut(&mut self.bytes)
    }

    /// One value; bytes are spread over 0 to 1.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn at(&self, index: usize) -> f32 {
        let bits = || {
            let pair = &self.bytes[2 * index..2 * index + 2];
            u16::from_ne_bytes([pair[0], pair[1]])
        };
        match self.dtype {
            Dtype::F32 => self.f32()[index],
            Dtype::F16 => half::f16::from_bits(bits()).to_f32(),
            Dtype::Bf16 => half::bf16::from_bits(bits()).to_f32(),
            Dtype::U8 => f32::from(self.bytes[index]) / 255.0,
        }
    }

    /// All values, as [`Pixels::at`] gives them.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        (0..self.len()).map(|index| self.at(index))
    }

    /// Takes the first `count` values off as a block of their own; no value moves.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        Self { dtype: self.dtype, bytes: self.bytes.split_to(count * self.dtype.size()) }
    }

    /// Puts `next` behind; no value moves if the two were split from one block at this place.
    ///
    /// # Panics
    /// If the types differ.
    pub fn join(&mut self, next: Self) {
        assert_eq!(self.dtype, next.dtype, "blocks of one view have one type");
        self.bytes.unsplit(next.bytes);
    }
}

impl From<Vec<f32>> for Pixels {
    fn from(values: Vec<f32>) -> Self {
        let mut pixels = Self::zeroed(Dtype::F32, values.len());
        pixels.f32_mut().copy_from_slice(&values);
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_block_are_joined_where_they_lie() {
        let mut rest = Pixels::zeroed(Dtype::F32, 6);
        let start = rest.bytes().as_ptr();
        let mut parts: Vec<Pixels> = (0..3).map(|_| rest.split_to(2)).collect();
        for (i, part) in parts.iter_mut().enumerate() {
            part.f32_mut().fill(i as f32);
        }
        let mut parts = parts.into_iter();
        let mut whole = parts.next().unwrap();
        parts.for_each(|part| whole.join(part));
        assert_eq!(whole.f32(), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(whole.bytes().as_ptr(), start);
        // The block can be lent out again.
        let part = whole.split_to(4);
        assert_eq!((part.len(), whole.len(), part.bytes().as_ptr()), (4, 2, start));
    }

    #[test]
    fn strange_parts_are_joined_with_a_copy() {
        let mut whole = Pixels::from(vec![1.0, 2.0]);
        whole.join(Pixels::from(vec![3.0]));
        assert_eq!(whole.f32(), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn every_type_reads_as_f32() {
        let mut half_floats = Pixels::zeroed(Dtype::F16, 2);
        half_floats.bits_mut()[1] = half::f16::from_f32(-0.5).to_bits();
        assert_eq!(half_floats.values().collect::<Vec<_>>(), [0.0, -0.5]);
        let mut brain = Pixels::zeroed(Dtype::Bf16, 1);
        brain.bits_mut()[0] = half::bf16::from_f32(1.5).to_bits();
        assert_eq!(brain.at(0), 1.5);
        let mut bytes = Pixels::zeroed(Dtype::U8, 2);
        bytes.bytes_mut()[1] = 51;
        assert_eq!(bytes.values().collect::<Vec<_>>(), [0.0, 0.2]);
    }
}
