//! What a trained classifier says of each segment: the class with the largest sum of probabilities over its clips.
//!
//! The test protocol of fine-tuning (METHODS 1.6 and 8): softmax of each clip, summed over the clips of a video. Top-1
//! is the accuracy of the figures, mean class accuracy the balanced one.

use std::collections::BTreeMap;

use reelflow_api::item::SegmentId;

use super::Embedded;
use super::labelled::LabelledSet;

/// The class of every query of `set`, an index into its classes, from the probabilities of `outputs`; `None` where the
/// best output is no class of the set. `None` in all if the clips have no probabilities.
#[must_use]
pub fn classify(items: &[Embedded], set: &LabelledSet, outputs: &[String]) -> Option<Vec<Option<usize>>> {
    let mut sums: BTreeMap<SegmentId, Vec<f64>> = BTreeMap::new();
    for item in items {
        let scores = item.scores.as_ref().filter(|scores| scores.len() == outputs.len())?;
        let sum = sums.entry(item.segment.id).or_insert_with(|| vec![0.0; outputs.len()]);
        sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += f64::from(*score));
    }
    let class_of = |output: usize| set.classes.iter().position(|class| **class == *outputs[output]);
    let given = |query: &usize| class_of(best(sums.get(&set.ids[*query])?)?);
    Some(set.queries.iter().map(given).collect())
}

/// Position of the largest, of equals the first; `None` if there is none or one is no number.
fn best(sums: &[f64]) -> Option<usize> {
    if sums.iter().any(|sum| sum.is_nan()) {
        return None;
    }
    (0..sums.len()).reduce(|best, at| if sums[at] > sums[best] { at } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tests::items;
    use crate::eval::{EvalOptions, evaluate};

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn probabilities_of_a_segments_clips_are_summed() {
        // One clip of the first test segment is for b by little, the other for a by much.
        let mut items = items("a//train:1 b//train:2 a//test:1|2 b//test:3 c//test:4");
        let scores = [[0.5, 0.5], [0.5, 0.5], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]];
        for (item, scores) in items.iter_mut().zip(scores) {
            item.scores = Some(scores.to_vec());
        }
        let set = LabelledSet::new(&items, &EvalOptions::default()).unwrap();
        assert_eq!(classify(&items, &set, &names("a b")), Some(vec![Some(0), Some(1), Some(1)]));
        // Outputs go by name; one that nothing here is called is a wrong answer in no column.
        assert_eq!(classify(&items, &set, &names("b x")), Some(vec![Some(1), None, None]));
        assert_eq!(classify(&items, &set, &names("a b c")), None, "scores of another classifier");
        let options = EvalOptions { outputs: names("a b"), probe: false, ..EvalOptions::default() };
        let figures = evaluate(&items, &options).unwrap().classifier.unwrap();
        assert!((figures.accuracy - 2.0 / 3.0).abs() < 1e-12, "{figures:?}");
        assert!((figures.balanced_accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(figures.confusion, [[1, 0, 0], [0, 1, 0], [0, 1, 0]]);
        items[0].scores = None;
        assert_eq!(classify(&items, &set, &names("a b")), None);
    }

    #[test]
    fn of_equals_the_first_is_best_and_no_number_is_no_class() {
        assert_eq!((best(&[1.0, 2.0, 2.0]), best(&[])), (Some(1), None));
        assert_eq!(best(&[1.0, f64::NAN]), None);
    }
}
