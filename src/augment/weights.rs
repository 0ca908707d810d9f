//! Antialiased resampling along one axis: which source pixels make an output pixel, and how much of each.
//!
//! A triangle filter: as wide as the step between output pixels when shrinking (so that every source pixel
//! counts and nothing flickers), two pixels wide when enlarging, which is linear interpolation. The same
//! filter as Pillow's `BILINEAR` and torchvision's `antialias=True`.

/// One output axis of a separable resampling.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Number of the first source pixel of each output pixel.
    pub first: Vec<u32>,
    /// `taps` weights an output pixel; they sum to 1, unused ones are 0.
    pub weights: Vec<f32>,
    /// Source pixels an output pixel reads.
    pub taps: usize,
}

impl Axis {
    /// Weights of `outputs` pixels over `sources` pixels, where output centre `i + 0.5` lies at
    /// `slope * (i + 0.5) + shift` of the source.
    ///
    /// # Panics
    /// If `sources` is 0.
    #[must_use]
    pub fn new(slope: f64, shift: f64, outputs: u32, sources: u32) -> Self {
        assert!(sources > 0, "a picture has at least one pixel");
        let radius = slope.abs().max(1.0);
        // No more pixel centres lie strictly within the triangle's foot.
        let taps = ((2.0 * radius).ceil() as usize).min(sources as usize);
        let mut axis = Self {
            first: Vec::with_capacity(outputs as usize),
            weights: Vec::with_capacity(outputs as usize * taps),
            taps,
        };
        for output in 0..outputs {
            let centre = slope * (f64::from(output) + 0.5) + shift;
            // All taps stay inside the picture; a tap too far away has weight 0.
            let last_start = f64::from(sources) - taps as f64;
            let first = ((centre - radius - 0.5).floor() + 1.0).clamp(0.0, last_start) as u32;
            let weight = |tap: usize| triangle((f64::from(first) + tap as f64 + 0.5 - centre) / radius);
            let sum: f64 = (0..taps).map(weight).sum();
            axis.first.push(first);
            if sum > 0.0 {
                axis.weights.extend((0..taps).map(|tap| (weight(tap) / sum) as f32));
            } else {
                // Wholly outside, which no step asks for: the nearest edge.
                let nearest = if centre < 0.0 { 0 } else { taps - 1 };
                axis.weights.extend((0..taps).map(|tap| f32::from(tap == nearest)));
            }
        }
        axis
    }

    /// The source pixels that any output pixel reads, as `[low, high)`.
    #[must_use]
    pub fn extent(&self) -> (usize, usize) {
        let low = self.first.iter().min().copied().unwrap_or(0) as usize;
        let high = self.first.iter().max().copied().unwrap_or(0) as usize + self.taps;
        (low, high)
    }

    /// First source pixel and weights of one output pixel.
    #[inline]
    #[must_use]
    pub fn of(&self, output: usize) -> (usize, &[f32]) {
        (self.first[output] as usize, &self.weights[output * self.taps..(output + 1) * self.taps])
    }
}

/// Height of a triangle of half width 1 and height 1 at `x`.
#[must_use]
pub fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(slope: f64, shift: f64, sources: &[f32], expected: &[f32]) {
        let axis = Axis::new(slope, shift, expected.len() as u32, sources.len() as u32);
        for (i, &wanted) in expected.iter().enumerate() {
            let (first, weights) = axis.of(i);
            let found: f32 = weights.iter().zip(&sources[first..]).map(|(w, s)| w * s).sum();
            assert!((found - wanted).abs() < 1e-4, "output {i} is {found}, not {wanted}");
        }
    }

    #[test]
    fn one_to_one_copies_and_a_negative_slope_mirrors() {
        check(1.0, 0.0, &[1.0, 5.0, 2.0, 8.0], &[1.0, 5.0, 2.0, 8.0]);
        check(-1.0, 4.0, &[1.0, 5.0, 2.0, 8.0], &[8.0, 2.0, 5.0, 1.0]);
    }

    #[test]
    fn values_match_pillow() {
        // Image.fromarray(numpy.float32([[0, 10, 20, 30, 40, 50]])).resize((3, 1), Image.BILINEAR)
        check(2.0, 0.0, &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0], &[7.142_857, 25.0, 42.857_143]);
        // Image.fromarray(numpy.float32([[0, 10, 20]])).resize((6, 1), Image.BILINEAR)
        check(0.5, 0.0, &[0.0, 10.0, 20.0], &[0.0, 2.5, 7.5, 12.5, 17.5, 20.0]);
    }

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for (slope, outputs, sources) in
            [(3.7, 9, 34), (0.3, 50, 15), (-2.5, 8, 20), (40.0, 1, 3), (1.0, 4, 1)]
        {
            let shift = if slope < 0.0 { f64::from(sources) } else { 0.0 };
            let axis = Axis::new(slope, shift, outputs, sources);
            for i in 0..outputs as usize {
                let (first, weights) = axis.of(i);
                assert!(first + weights.len() <= sources as usize);
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}
