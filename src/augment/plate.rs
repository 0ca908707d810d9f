//! Where values are f32 while they are cooked, and how they become the view.
//!
//! The planes of one picture are kept beside the view (`12 * H * W` bytes, which stay in the cache), where blocks of
//! rows and changes of colour may touch them often and in any order. Finished, they go into the view one line of
//! memory after the other, once: a view is far larger than any cache, and each line that is fetched in passing and
//! written back again costs as much as cooking it. Only contrast about the mean of the whole clip has to wait for
//! the last picture: f32 waits in the view itself, narrower types beside it (`12 * T * H * W` bytes, 2.4 MB for 16
//! pictures of 112 x 112).

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use reelflow_api::pixels::{Dtype, Pixels};

use super::colour::Planes;
use super::wide::Width;

/// Pixels that are finished together: three planes of 1024 f32 are 12 KiB, within any first cache.
const BLOCK: usize = 1024;

/// The f32 values of one clip that are not finished.
pub struct Plate {
    dtype: Dtype,
    /// Pictures of the clip.
    frames: usize,
    /// Pixels of a picture.
    area: usize,
    /// Pictures that `values` holds.
    kept: usize,
    values: Vec<f32>,
}

impl Plate {
    /// For a view of `frames` pictures of `area` pixels; `keeps_all` if they are finished together.
    #[must_use]
    pub fn new(dtype: Dtype, frames: usize, area: usize, keeps_all: bool) -> Self {
        let kept = if keeps_all && dtype != Dtype::F32 { frames } else { 1 };
        Self { dtype, frames, area, kept, values: vec![0.0; 3 * kept * area] }
    }

    /// Red, green and blue of picture `index` while it is cooked; it takes the place of the one before, unless all
    /// are kept.
    pub fn planes(&mut self, index: usize) -> [&mut [f32]; 3] {
        planes(&mut self.values, self.kept, self.area, index % self.kept)
    }

    /// Red, green and blue of picture `index` once all are cooked and have to be finished together.
    pub fn waiting<'v>(&'v mut self, view: &'v mut Pixels, index: usize) -> [&'v mut [f32]; 3] {
        match self.dtype {
            Dtype::F32 => planes(view.f32_mut(), self.frames, self.area, index),
            _ => self.planes(index),
        }
    }

    /// Keeps picture `index` until all are cooked.
    pub fn set_aside(&mut self, view: &mut Pixels, index: usize, wide: Width) {
        if self.dtype == Dtype::F32 {
            self.serve(view, index, wide, |planes| planes.settle());
        }
    }

    /// Puts the pictures that were set aside into the view, if they are not there already.
    pub fn serve_all(&mut self, view: &mut Pixels, wide: Width) {
        if self.dtype != Dtype::F32 {
            (0..self.frames).for_each(|index| self.serve(view, index, wide, |planes| planes.settle()));
        }
    }

    /// Puts picture `index` into the view, rounded to its type, block by block; `finish` has each block just
    /// before, or takes it there if nothing has to be rounded.
    pub fn serve(
        &mut self,
        view: &mut Pixels,
        index: usize,
        wide: Width,
        mut finish: impl FnMut(Planes<'_>),
    ) {
        let (frames, area) = (self.frames, self.area);
        let from = planes(&mut self.values, self.kept, area, index % self.kept);
        match self.dtype {
            Dtype::F32 => {
                let to = planes(view.f32_mut(), frames, area, index);
                let mut to = to.map(|plane| plane.chunks_mut(BLOCK));
                each_block(from, |from| {
                    let to = to.each_mut().map(|plane| plane.next().expect("both sides have the same area"));
                    finish(Planes::Onto(from.map(|plane| &*plane), to));
                });
            }
            Dtype::F16 => {
                let to = planes(view.bits_mut().reinterpret_cast_mut::<f16>(), frames, area, index);
                blocks(from, to, finish, |from, to| to.convert_from_f32_slice(from));
            }
            Dtype::Bf16 => {
                let to = planes(view.bits_mut(), frames, area, index);
                blocks(from, to, finish, |from, to| convert(from, to, wide, bf16_bits));
            }
            Dtype::U8 => {
                let to = planes(view.bytes_mut(), frames, area, index);
                blocks(from, to, finish, |from, to| convert(from, to, wide, byte));
            }
        }
    }
}

/// Finishes and stores three planes, [`BLOCK`] pixels at a time.
fn blocks<T>(
    from: [&mut [f32]; 3],
    to: [&mut [T]; 3],
    mut finish: impl FnMut(Planes<'_>),
    store: impl Fn(&[f32], &mut [T]),
) {
    let mut to = to.map(|plane| plane.chunks_mut(BLOCK));
    each_block(from, |[r, g, b]| {
        finish(Planes::Here([&mut *r, &mut *g, &mut *b]));
        for (from, to) in [r, g, b].into_iter().zip(&mut to) {
            store(from, to.next().expect("both sides have the same area"));
        }
    });
}

/// Calls `each` with three planes of one size, [`BLOCK`] pixels at a time.
pub fn each_block(planes: [&mut [f32]; 3], mut each: impl FnMut([&mut [f32]; 3])) {
    let [r, g, b] = planes.map(|plane| plane.chunks_mut(BLOCK));
    r.zip(g).zip(b).for_each(|((r, g), b)| each([r, g, b]));
}

/// The planes of picture `index` among `[3, frames, area]` values.
fn planes<T>(values: &mut [T], frames: usize, area: usize, index: usize) -> [&mut [T]; 3] {
    let (red, rest) = values.split_at_mut(frames * area);
    let (green, blue) = rest.split_at_mut(frames * area);
    [red, green, blue].map(|plane| &mut plane[index * area..(index + 1) * area])
}

fn convert<T>(from: &[f32], to: &mut [T], wide: Width, one: impl Fn(f32) -> T) {
    wide.run(
        #[inline(always)]
        || to.iter_mut().zip(from).for_each(|(to, from)| *to = one(*from)),
    );
}

/// 255 times a value of 0 to 1, rounded to the nearest, to even between two.
#[inline(always)]
fn byte(value: f32) -> u8 {
    // At 2^23 an f32 has no fraction: the sum is rounded to an integer, which is in its lowest bits.
    (value * 255.0 + 8_388_608.0).to_bits() as u8
}

/// The bits of the nearest bf16, even between two; unlike [`half::bf16::from_f32`] without the branch for NaN, which no
/// view holds.
#[inline(always)]
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest_even() {
        for i in -40_000..40_000 {
            let value = i as f32 * 1e-4;
            assert_eq!(bf16_bits(value), bf16::from_f32(value).to_bits(), "{value}");
        }
        // Half way between two bf16 around 1.
        assert_eq!(
            [0x3f80_8000u32, 0x3f81_8000].map(|bits| bf16_bits(f32::from_bits(bits))),
            [0x3f80, 0x3f82]
        );
        for code in 0..=255u8 {
            let value = f32::from(code) / 255.0;
            assert_eq!([value, value + 0.0018, value - 0.0018].map(|v| byte(v.clamp(0.0, 1.0))), [code; 3]);
        }
    }
}
