//! Smooths a noisy loss, and remembers where it began and how low it came.

use std::collections::VecDeque;

/// Steps a smoothed value is the mean of. Short enough for a demo of a hundred steps, long enough that
/// the difference between two of them is not one lucky batch.
pub const SMOOTHED_OVER: usize = 20;

/// A moving mean over the last [`SMOOTHED_OVER`] finite values.
#[derive(Clone, Debug, Default)]
pub struct Smoothed {
    recent: VecDeque<f64>,
    taken: usize,
    first: Option<f64>,
    best: Option<f64>,
}

impl Smoothed {
    /// Takes the next value; one that is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.recent.len() == SMOOTHED_OVER {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.taken += 1;
        let mean = self.last();
        if self.taken <= SMOOTHED_OVER {
            // Until the window is full, its mean is both the beginning and the best.
            (self.first, self.best) = (mean, mean);
        } else if mean < self.best {
            self.best = mean;
        }
    }

    /// Mean of the last values.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        (!self.recent.is_empty()).then(|| self.recent.iter().sum::<f64>() / self.recent.len() as f64)
    }

    /// Mean of the first values.
    #[must_use]
    pub fn first(&self) -> Option<f64> {
        self.first
    }

    /// Lowest mean of any [`SMOOTHED_OVER`] values in a row.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: impl IntoIterator<Item = f64>) -> (Option<f64>, Option<f64>, Option<f64>) {
        let mut smoothed = Smoothed::default();
        values.into_iter().for_each(|value| smoothed.push(value));
        (smoothed.first(), smoothed.last(), smoothed.best())
    }

    #[test]
    fn first_last_and_best_are_means_of_twenty() {
        assert_eq!(after([]), (None, None, None));
        assert_eq!(after([4.0, 2.0]), (Some(3.0), Some(3.0), Some(3.0)));
        // Twenty of 3, then of 1, then of 2: begins at 3, was at 1, ends at 2.
        let values = [3.0, 1.0, 2.0].into_iter().flat_map(|value| [value; SMOOTHED_OVER]);
        assert_eq!(after(values), (Some(3.0), Some(2.0), Some(1.0)));
    }

    #[test]
    fn the_first_full_window_is_the_beginning() {
        let values = (0..SMOOTHED_OVER).map(|value| value as f64);
        assert_eq!(after(values.clone()).1, Some(9.5));
        assert_eq!(after(values.chain([100.0])).0, Some(9.5));
    }

    #[test]
    fn values_that_are_not_finite_do_not_spoil_the_mean() {
        assert_eq!(after([1.0, f64::NAN, 3.0, f64::INFINITY]).1, Some(2.0));
    }
}
