//! Runs loops with the widest vectors of the processor at hand.
//!
//! The program is built for any x86-64, whose vectors hold four f32; nearly every machine has eight, many sixteen.
//! A loop given to [`Width::run`] is compiled for each and chosen from when the program runs. The results are the same
//! to the bit: Rust neither reorders sums nor fuses a multiplication with an addition unless it is told to, so a
//! wider vector only does the same operations side by side. A test of the whole kernel holds it to that.

use pulp::Arch;

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
        all.extend(pulp::x86::V3::try_new().map(|eight| Self(Arch::V3(eight))));
        all.push(Self::best());
        all
    }

    /// Runs `work`, whose loops have to be inlined into it to be compiled for wide vectors: write
    /// `#[inline(always)]` before the closure and the functions it calls.
    #[inline]
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        self.0.dispatch(work)
    }
}
