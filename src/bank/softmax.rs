//! A softmax whose sum is spread over shards: each gives a small partial result, which are merged.

use serde::{Deserialize, Serialize};

/// `log Σ exp(score)` of some scores, kept as maximum and scaled sum so that it never overflows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct LogSumExp {
    /// Largest score; minus infinity without any.
    pub max: f64,
    /// `Σ exp(score - max)`.
    pub sum: f64,
}

impl LogSumExp {
    /// Of no scores at all.
    pub const EMPTY: Self = Self { max: f64::NEG_INFINITY, sum: 0.0 };

    /// Of `scores`.
    pub fn of(scores: impl IntoIterator<Item = f64>) -> Self {
        scores.into_iter().fold(Self::EMPTY, |all, score| all.merge(Self { max: score, sum: 1.0 }))
    }

    /// Of the scores of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let max = self.max.max(other.max);
        if max == f64::NEG_INFINITY {
            return Self::EMPTY;
        }
        let sum = self.sum * (self.max - max).exp() + other.sum * (other.max - max).exp();
        Self { max, sum }
    }

    /// The value `log Σ exp(score)`.
    #[must_use]
    pub fn value(self) -> f64 {
        self.max + self.sum.ln()
    }
}

/// The part of one shard: scores are `query · row / temperature` over rows `[n, query.len()]`.
#[must_use]
pub fn partial(query: &[f32], rows: &[f32], temperature: f64) -> LogSumExp {
    LogSumExp::of(rows.chunks_exact(query.len()).map(|row| {
        query.iter().zip(row).map(|(&q, &r)| f64::from(q) * f64::from(r)).sum::<f64>() / temperature
    }))
}

#[cfg(test)]
mod tests {
    use reelflow_api::rng::Key;

    use super::*;

    #[test]
    fn shards_merge_to_the_dense_value_within_a_millionth() {
        let (dim, rows) = (16, 101);
        let mut rng = Key::new(1).rng();
        let query: Vec<f32> = (0..dim).map(|_| rng.range(-1.0, 1.0) as f32).collect();
        let bank: Vec<f32> = (0..dim * rows).map(|_| rng.range(-1.0, 1.0) as f32).collect();
        // The plain twin: all scores, no maximum taken out.
        let dense: f64 = bank
            .chunks_exact(dim)
            .map(|row| (query.iter().zip(row).map(|(&q, &r)| f64::from(q * r)).sum::<f64>() / 0.07).exp())
            .sum::<f64>()
            .ln();
        for shards in [1, 2, 3, 7, 101] {
            let merged = bank
                .chunks(rows.div_ceil(shards) * dim)
                .map(|shard| partial(&query, shard, 0.07))
                .fold(LogSumExp::EMPTY, LogSumExp::merge);
            assert!((merged.value() - dense).abs() < 1e-6 * dense.abs().max(1.0), "{shards} shards");
        }
    }

    #[test]
    fn large_scores_do_not_overflow_and_no_scores_are_minus_infinity() {
        let merged = LogSumExp::of([1e4, 1e4]).merge(LogSumExp::EMPTY);
        assert!((merged.value() - (1e4 + 2f64.ln())).abs() < 1e-9);
        assert_eq!(LogSumExp::EMPTY.value(), f64::NEG_INFINITY);
    }
}
