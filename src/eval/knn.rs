//! Lets the nearest neighbours vote on the class of a query.

use serde::{Deserialize, Serialize};

/// How neighbours vote.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Voting {
    /// Each of the `k` nearest has `exp(cosine / temperature)` votes.
    Weighted {
        /// How many vote, at least 1.
        k: usize,
        /// Below 1 the nearest count for more.
        temperature: f64,
    },
    /// Each of the `k` nearest has one vote; of equals, the class with the nearest member wins.
    Plain {
        /// How many vote, at least 1.
        k: usize,
    },
}

impl Voting {
    /// DINO's (`eval_knn.py`): 20 neighbours, temperature 0.07.
    pub const DINO: Self = Self::Weighted { k: 20, temperature: 0.07 };

    /// How many neighbours vote.
    #[must_use]
    pub fn k(self) -> usize {
        match self {
            Self::Weighted { k, .. } | Self::Plain { k } => k.max(1),
        }
    }
}

/// A neighbour as a voter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// Its class.
    pub class: usize,
    /// How near it is, -1 to 1.
    pub cosine: f32,
}

/// The class that the nearest of `near` (nearest first) vote for; `None` if there are none.
#[must_use]
pub fn classify(near: &[Vote], classes: usize, voting: Voting) -> Option<usize> {
    let near = &near[..near.len().min(voting.k())];
    let mut votes = vec![0.0; classes];
    for voter in near {
        votes[voter.class] += match voting {
            // Relative to the largest possible cosine, so that a low temperature does not overflow.
            Voting::Weighted { temperature, .. } => ((f64::from(voter.cosine) - 1.0) / temperature).exp(),
            Voting::Plain { .. } => 1.0,
        };
    }
    // The first voter of the winning count is the nearest one, so ties go to the nearest.
    let mut winner: Option<usize> = None;
    for voter in near {
        if winner.is_none_or(|best| votes[voter.class] > votes[best]) {
            winner = Some(voter.class);
        }
    }
    winner
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class that wins among `near`, written as class and cosine.
    #[track_caller]
    fn check(near: &[(usize, f32)], voting: Voting, winner: Option<usize>) {
        let near: Vec<_> = near.iter().map(|&(class, cosine)| Vote { class, cosine }).collect();
        assert_eq!(classify(&near, 3, voting), winner);
    }

    #[test]
    fn plain_votes_count_heads_and_ties_go_to_the_nearest() {
        let plain = |k| Voting::Plain { k };
        check(&[(0, 0.9), (1, 0.8), (1, 0.7), (2, 0.1)], plain(3), Some(1));
        check(&[(0, 0.9), (1, 0.8), (1, 0.7)], plain(1), Some(0));
        check(&[(2, 0.9), (1, 0.8), (1, 0.7), (2, 0.6)], plain(4), Some(2));
        check(&[], plain(5), None);
    }

    /// Two votes at cosine 0.8 against one at 0.9: exp(0.1/T) < 2 where T > 0.1/ln 2 = 0.1443.
    #[test]
    fn weighted_votes_change_sides_at_the_computed_temperature() {
        let near = [(0, 0.9), (1, 0.8), (1, 0.8)];
        check(&near, Voting::Weighted { k: 3, temperature: 0.144 }, Some(0));
        check(&near, Voting::Weighted { k: 3, temperature: 0.145 }, Some(1));
        check(&near, Voting::DINO, Some(0));
    }

    #[test]
    fn a_very_low_temperature_is_the_nearest_neighbour() {
        check(&[(2, 0.9), (1, 0.8), (1, 0.8)], Voting::Weighted { k: 3, temperature: 1e-4 }, Some(2));
        check(&[(2, -0.9), (1, -1.0)], Voting::Weighted { k: 3, temperature: 1e-4 }, Some(2));
    }
}
