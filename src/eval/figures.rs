//! How often a classifier was right: plain and balanced accuracy with intervals, and who was taken for whom.

use serde::Serialize;

use super::labelled::LabelledSet;

/// Where 95 % of a normal distribution lie, in standard deviations.
const Z: f64 = 1.959_964;

/// Figures of one classifier over the queries. Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Share of queries given their class.
    pub accuracy: f64,
    /// 95 % interval of the accuracy (Wilson): another draw of as many queries is likely to fall there.
    pub accuracy_interval: (f64, f64),
    /// Mean over the classes of the share of their queries that are right.
    pub balanced_accuracy: f64,
    /// 95 % interval of the balanced accuracy: normal, the variance of each class from its share with two right
    /// and two wrong added (Agresti and Coull 1998), so that a class without a mistake does not count as certain.
    pub balanced_interval: (f64, f64),
    /// Every class.
    pub by_class: Vec<ClassFigures>,
    /// `confusion[of][taken_for]`, counts of queries, classes as in `by_class`.
    pub confusion: Vec<Vec<usize>>,
}

/// Figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Queries of the class.
    pub queries: usize,
    /// Those given this class.
    pub right: usize,
}

impl Figures {
    /// From the class each query was given; `None` counts as wrong and stands in no column of the confusion.
    #[must_use]
    pub fn new(set: &LabelledSet, given: impl IntoIterator<Item = Option<usize>>) -> Self {
        let classes = set.classes.len();
        let mut queries = vec![0; classes];
        let mut confusion = vec![vec![0; classes]; classes];
        for (query, given) in set.queries.iter().zip(given) {
            let class = set.class[*query];
            queries[class] += 1;
            if let Some(given) = given {
                confusion[class][given] += 1;
            }
        }
        let by_class: Vec<ClassFigures> = set
            .classes
            .iter()
            .enumerate()
            .map(|(at, name)| ClassFigures {
                name: name.to_string(),
                queries: queries[at],
                right: confusion[at][at],
            })
            .collect();
        let (right, all) = (by_class.iter().map(|class| class.right).sum(), set.queries.len());
        let (balanced_accuracy, balanced_interval) = balanced(&by_class);
        Self {
            accuracy: share(right, all),
            accuracy_interval: wilson(right, all),
            balanced_accuracy,
            balanced_interval,
            by_class,
            confusion,
        }
    }
}

/// `part` of `whole`, 0 of nothing.
pub(super) fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Balanced accuracy over the classes with queries, and its interval.
fn balanced(by_class: &[ClassFigures]) -> (f64, (f64, f64)) {
    let seen: Vec<_> = by_class.iter().filter(|class| class.queries > 0).collect();
    let count = seen.len().max(1) as f64;
    let mean = seen.iter().map(|class| share(class.right, class.queries)).sum::<f64>() / count;
    let variance = seen.iter().map(|class| {
        let share = share(class.right + 2, class.queries + 4);
        share * (1.0 - share) / (class.queries + 4) as f64
    });
    let half = Z * variance.sum::<f64>().sqrt() / count;
    (mean, ((mean - half).max(0.0), (mean + half).min(1.0)))
}

/// Wilson's score interval at 95 % (z = 1.96).
fn wilson(right: usize, all: usize) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (all as f64, share(right, all));
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At one half it is `1/2 -+ z / (2 sqrt(n + z^2))`: for 20 queries 0.5 -+ 0.20070.
    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = wilson(10, 20);
        assert!((low - 0.299_298).abs() < 1e-5 && (high - 0.700_702).abs() < 1e-5, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert!(wilson(0, 10).0 < 1e-9 && wilson(0, 10).1 < 0.3);
    }

    #[test]
    fn the_balanced_interval_adds_up_the_classes() {
        let class = |queries, right| ClassFigures { name: String::new(), queries, right };
        // One class: Agresti and Coull's width, (50 + 2) of (96 + 4): 1.96 sqrt(.52 * .48 / 100) = 0.09792.
        let (mean, (low, high)) = balanced(&[class(96, 50), class(0, 0)]);
        assert!((mean - 50.0 / 96.0).abs() < 1e-12);
        assert!(
            (high - mean - 0.097_920).abs() < 1e-5 && (mean - low - 0.097_920).abs() < 1e-5,
            "{low} {high}"
        );
        // Four equal classes halve it.
        let (_, (low, _)) = balanced(&[(); 4].map(|()| class(96, 50)));
        assert!((mean - low - 0.048_960).abs() < 1e-5);
        // No mistake is no certainty.
        assert!(balanced(&[class(6, 6), class(6, 6)]).1.0 < 0.9);
    }
}
