//! Chance, derived from (seed, stage, step, slot) and from nothing else.
//!
//! A stage never keeps a generator. It gets a [`Key`] with each item and derives what it needs, so the
//! same item draws the same numbers on any thread, in any order, after any restart.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A place in a run from which random streams can be derived. Serialises as its number, so that saved
/// state can draw the same numbers again.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Key(u64);

impl Key {
    /// The root of a run.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(xxh3_64_with_seed(b"reelflow", seed))
    }

    /// The key of a named part: a stage id, a parameter.
    #[must_use]
    pub fn part(self, name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), self.0))
    }

    /// The key of a numbered part: a step, a slot, a view, an attempt.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        Self(xxh3_64_with_seed(&number.to_le_bytes(), self.0))
    }

    /// The stream of random numbers at this place.
    #[must_use]
    pub fn rng(self) -> Rng {
        Rng { state: self.0 }
    }
}

/// A stream of random numbers: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
/// number generators", constants of its reference implementation).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`; `low` if the range is empty.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in `0..bound`.
    ///
    /// Lemire's multiply-shift without the rejection step: the bias is below 2^-32 for the bounds
    /// used here, and one draw always consumes one number, which keeps streams aligned.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no numbers");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `true` with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box-Muller, one value of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts `items` in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_its_reference_values() {
        // First outputs of the reference C code for seed 1234567.
        let mut rng = Rng { state: 1_234_567 };
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn keys_depend_on_every_part_and_on_their_order() {
        let key = Key::new(1);
        assert_ne!(key, Key::new(2));
        assert_ne!(key.part("a"), key.part("b"));
        assert_ne!(key.number(1).number(2), key.number(2).number(1));
        assert_eq!(key.part("a").number(3), key.part("a").number(3));
    }

    #[test]
    fn draws_stay_inside_their_ranges_and_cover_them() {
        let mut rng = Key::new(7).rng();
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[rng.below(5) as usize] += 1;
            let x = rng.range(-2.0, 3.0);
            assert!((-2.0..3.0).contains(&x));
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Key::new(3).rng().shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
