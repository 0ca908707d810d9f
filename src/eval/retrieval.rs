//! Counts how often a clip of the right class is among the k nearest (hit@k).

use super::knn::Vote;

/// Position of the first of `near` (nearest first) that is of `class`, from 1.
#[must_use]
pub fn first_hit(near: &[Vote], class: usize) -> Option<usize> {
    near.iter().position(|vote| vote.class == class).map(|position| position + 1)
}

/// Share of `first_hits` that are at most `k`, 0 to 1.
#[must_use]
pub fn hit_share(first_hits: &[Option<usize>], k: usize) -> f64 {
    let hits = first_hits.iter().flatten().filter(|rank| **rank <= k).count();
    hits as f64 / first_hits.len().max(1) as f64
}

/// Chance that a random choice of `k` among `all`, of which `right` are of the class, has one of them:
/// `1 - C(all - right, k) / C(all, k)`.
#[must_use]
pub fn chance(right: usize, all: usize, k: usize) -> f64 {
    let wrong = all.saturating_sub(right);
    if k > wrong {
        return if right > 0 { 1.0 } else { 0.0 };
    }
    1.0 - (0..k).map(|drawn| (wrong - drawn) as f64 / (all - drawn) as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_the_first_of_the_right_class() {
        let near = [2, 0, 1, 1].map(|class| Vote { class, cosine: 0.5 });
        assert_eq!([2, 0, 1, 3].map(|class| first_hit(&near, class)), [Some(1), Some(2), Some(3), None]);
        assert_eq!([1, 2, 9].map(|k| hit_share(&[Some(1), Some(3), Some(2), None], k)), [0.25, 0.5, 0.75]);
    }

    #[test]
    fn chance_is_drawing_without_putting_back() {
        assert!((chance(2, 8, 1) - 0.25).abs() < 1e-12);
        // Two of eight right, two drawn: 1 - 6/8 * 5/7.
        assert!((chance(2, 8, 2) - (1.0 - 30.0 / 56.0)).abs() < 1e-12);
        assert_eq!(
            (chance(2, 8, 7), chance(0, 8, 3), chance(0, 0, 1), chance(3, 3, 0)),
            (1.0, 0.0, 0.0, 0.0)
        );
        // Many to draw from: 1 - (1 - 1/C)^k.
        assert!((chance(1000, 10_000, 5) - (1.0 - 0.9_f64.powi(5))).abs() < 1e-3);
    }
}
