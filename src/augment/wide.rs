//! Runs loops with the widest vectors of the processor at hand.
//!
//! The program is built for any x86-64, whose vectors hold four f32; nearly every machine has eight, many sixteen.
//! A loop given to [`Width::run`] is compiled for each and chosen from when the program runs. The results are the same
//! to the bit: Rust neither reorders sums nor fuses a multiplication with an addition unless it is told to, so a
//! wider vector only does the same operations side by side. A test of the whole kernel holds it to that.

use pulp::Arch;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use pulp::{cast, x86::V3};

/// How wide vectors may be.
#[derive(Clone, Copy, Debug)]
pub struct Width(Arch);

impl Width {
    /// As wide as this processor has them.
    #[must_use]
    pub fn best() -> Self {
        Self(Arch::new())
    }

    /// What every processor of this kind has.
    #[must_use]
    pub fn least() -> Self {
        Self(Arch::Scalar)
    }

    /// Each that this processor has, the least first.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::least()];
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        all.extend(V3::try_new().map(|eight| Self(Arch::V3(eight))));
        all.push(Self::best());
        all
    }

    /// Shuffles of eight lanes, if the processor has them.
    #[inline(always)]
    #[must_use]
    pub fn eight(self) -> Option<Eight> {
        match self.0 {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(eight) => Some(Eight(eight)),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(sixteen) => Some(Eight(*sixteen)),
            _ => None,
        }
    }

    /// Runs `work`, whose loops have to be inlined into it to be compiled for wide vectors: write
    /// `#[inline(always)]` before the closure and the functions it calls.
    #[inline]
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        self.0.dispatch(work)
    }
}

/// Shuffles of eight lanes, by name: from loads and stores of single values the compiler makes four times as many
/// instructions.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug)]
pub struct Eight(V3);

/// Other processors have none that we know of.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
#[derive(Clone, Copy, Debug)]
pub enum Eight {}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
impl Eight {
    /// Rows and columns of a tile exchanged.
    pub fn exchanged(self, _: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        match self {}
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
impl Eight {
    /// Rows and columns of a tile exchanged, in the usual three rounds: pairs of rows, pairs of pairs, halves. To be
    /// called within [`Width::run`].
    #[inline(always)]
    #[must_use]
    pub fn exchanged(self, tile: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        let avx = self.0.avx;
        let [a, b, c, d, e, f, g, h] = cast(tile);
        let [a, b, c, d, e, f, g, h] = [
            avx._mm256_unpacklo_ps(a, b),
            avx._mm256_unpackhi_ps(a, b),
            avx._mm256_unpacklo_ps(c, d),
            avx._mm256_unpackhi_ps(c, d),
            avx._mm256_unpacklo_ps(e, f),
            avx._mm256_unpackhi_ps(e, f),
            avx._mm256_unpacklo_ps(g, h),
            avx._mm256_unpackhi_ps(g, h),
        ];
        // The first two of each half, or the last two.
        const FIRST: i32 = 0b01_00_01_00;
        const LAST: i32 = 0b11_10_11_10;
        let [a, b, c, d, e, f, g, h] = [
            avx._mm256_shuffle_ps::<FIRST>(a, c),
            avx._mm256_shuffle_ps::<LAST>(a, c),
            avx._mm256_shuffle_ps::<FIRST>(b, d),
            avx._mm256_shuffle_ps::<LAST>(b, d),
            avx._mm256_shuffle_ps::<FIRST>(e, g),
            avx._mm256_shuffle_ps::<LAST>(e, g),
            avx._mm256_shuffle_ps::<FIRST>(f, h),
            avx._mm256_shuffle_ps::<LAST>(f, h),
        ];
        // The lower halves of both, or the upper.
        const LOWER: i32 = 0x20;
        const UPPER: i32 = 0x31;
        cast([
            avx._mm256_permute2f128_ps::<LOWER>(a, e),
            avx._mm256_permute2f128_ps::<LOWER>(b, f),
            avx._mm256_permute2f128_ps::<LOWER>(c, g),
            avx._mm256_permute2f128_ps::<LOWER>(d, h),
            avx._mm256_permute2f128_ps::<UPPER>(a, e),
            avx._mm256_permute2f128_ps::<UPPER>(b, f),
            avx._mm256_permute2f128_ps::<UPPER>(c, g),
            avx._mm256_permute2f128_ps::<UPPER>(d, h),
        ])
    }
}
