//! Fits a linear classifier to the frozen features of the segments a query may learn from.
//!
//! * Protocol `split`: one classifier, fitted to the part `train`, tried on `test`.
//! * `leave_group_out`, `leave_one_out`: cross-validation in [`FOLDS`] folds by group (by file), so every query is
//!   tried once, on a classifier that saw nothing of its group.
//!
//! Features are those of the encoder, averaged over the clips of a segment, each scaled to mean 0 and standard
//! deviation 1 over the part that is fitted. Every class counts the same, however many segments it has, so that a rare
//! one is not given up for a common one. The strength of the penalty is chosen among [`STRENGTHS`] on that part alone:
//! by the log loss of a cross-validation in [`INNER_FOLDS`] folds, again by group.

use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;
use reelflow_api::error::StageError;

use super::folds;
use super::labelled::{LabelledSet, Protocol};
use super::logistic::Logistic;

/// Folds of the protocols without a split.
pub const FOLDS: usize = 5;
/// Folds in which the penalty is chosen.
pub const INNER_FOLDS: usize = 3;
/// Penalties tried, from strong to weak: for 480 samples the C of scikit-learn from 2e-4 to 2.
pub const STRENGTHS: [f64; 5] = [10.0, 1.0, 0.1, 0.01, 0.001];
/// The penalty where one group is all there is to learn from, so that none can be chosen.
const UNCHOSEN: f64 = 0.1;
/// A feature that varies less than this share of the most variable one is rounding, not a feature.
const SPREAD_MIN: f64 = 1e-6;
/// Log loss of a class that was not there to be learnt; the same for every penalty.
const NEVER: f64 = -30.0;

/// What the classifiers said.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// Class of every query, in the order of [`LabelledSet::queries`].
    pub classes: Vec<usize>,
    /// Penalty of every classifier that was fitted, one with a split, one a fold without.
    pub strengths: Vec<f64>,
}

/// Classifies every query of `set`.
///
/// # Errors
/// If a feature is not finite.
pub fn probe(set: &LabelledSet) -> Result<Probed, StageError> {
    if set.protocol == Protocol::Split {
        let (classes, strength) = learn_and_try(set, &set.gallery, &set.queries)?;
        return Ok(Probed { classes, strengths: vec![strength] });
    }
    let folds = folds::by_group(&set.gallery, &set.group, &set.class, FOLDS);
    let tried: Vec<(Vec<usize>, f64)> = (0..folds.len())
        .into_par_iter()
        .map(|held_out| learn_and_try(set, &others(&folds, held_out), &folds[held_out]))
        .collect::<Result<_, _>>()?;
    let mut class_of = vec![0; set.class.len()];
    for (fold, (classes, _)) in folds.iter().zip(&tried) {
        fold.iter().zip(classes).for_each(|(index, class)| class_of[*index] = *class);
    }
    let classes = set.queries.iter().map(|index| class_of[*index]).collect();
    Ok(Probed { classes, strengths: tried.into_iter().map(|(_, strength)| strength).collect() })
}

/// Everyone but the fold `held_out`.
fn others(folds: &[Vec<usize>], held_out: usize) -> Vec<usize> {
    let kept = folds.iter().enumerate().filter(|(at, _)| *at != held_out);
    kept.flat_map(|(_, fold)| fold.iter().copied()).collect()
}

/// Classes of `queries` by a classifier fitted to `learnt`, and its penalty.
fn learn_and_try(
    set: &LabelledSet,
    learnt: &[usize],
    queries: &[usize],
) -> Result<(Vec<usize>, f64), StageError> {
    let strength = choose(set, learnt)?;
    let part = Part::new(set, learnt);
    let model = part.fit(strength, None)?;
    let log = model.log_probabilities(part.scaled(set, queries).view());
    let best = |row: ndarray::ArrayView1<'_, f64>| {
        // Of equals the first.
        (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
    };
    Ok((log.rows().into_iter().map(|row| part.classes[best(row)]).collect(), strength))
}

/// The penalty with the least log loss over the inner folds of `learnt`, every class counting the same; of equals the
/// stronger.
fn choose(set: &LabelledSet, learnt: &[usize]) -> Result<f64, StageError> {
    let folds = folds::by_group(learnt, &set.group, &set.class, INNER_FOLDS);
    if folds.len() < 2 {
        return Ok(UNCHOSEN);
    }
    let mut counts = vec![0; set.classes.len()];
    learnt.iter().for_each(|index| counts[set.class[*index]] += 1);
    let losses: Vec<[f64; STRENGTHS.len()]> = (0..folds.len())
        .into_par_iter()
        .map(|held_out| losses(set, &others(&folds, held_out), &folds[held_out], &counts))
        .collect::<Result<_, _>>()?;
    let loss = |at: usize| losses.iter().map(|fold| fold[at]).sum::<f64>();
    let best = (1..STRENGTHS.len()).fold(0, |best, at| if loss(at) < loss(best) { at } else { best });
    Ok(STRENGTHS[best])
}

/// Log loss over `queries`, summed, for each penalty; each fit starts where the stronger one ended. A segment counts one
/// part in `counts` of its class.
fn losses(
    set: &LabelledSet,
    learnt: &[usize],
    queries: &[usize],
    counts: &[usize],
) -> Result<[f64; STRENGTHS.len()], StageError> {
    let part = Part::new(set, learnt);
    let samples = part.scaled(set, queries);
    let mut found = [0.0; STRENGTHS.len()];
    let mut last = None;
    for (strength, loss) in STRENGTHS.iter().zip(&mut found) {
        let model = part.fit(*strength, last.as_ref())?;
        let log = model.log_probabilities(samples.view());
        for (row, index) in log.rows().into_iter().zip(queries) {
            let known = part.classes.binary_search(&set.class[*index]);
            let log = known.map_or(NEVER, |at| row[at].max(NEVER));
            *loss -= log / counts[set.class[*index]] as f64;
        }
        last = Some(model);
    }
    Ok(found)
}

/// What a classifier is fitted to.
struct Part {
    /// Classes that are there, increasing; the classifier knows no other.
    classes: Vec<usize>,
    /// Of every sample, an index into `classes`.
    class: Vec<usize>,
    /// `[learnt, features]`, scaled.
    samples: Array2<f64>,
    mean: Array1<f64>,
    /// What each feature is multiplied by.
    scale: Array1<f64>,
}

impl Part {
    fn new(set: &LabelledSet, learnt: &[usize]) -> Self {
        let samples = features(set, learnt);
        let mean = samples.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(set.dim));
        let spread = samples.std_axis(Axis(0), 0.0);
        let least = SPREAD_MIN * spread.iter().copied().fold(0.0, f64::max);
        let scale = spread.mapv(|spread| if spread > least { 1.0 / spread } else { 0.0 });
        let mut classes: Vec<usize> = learnt.iter().map(|index| set.class[*index]).collect();
        classes.sort_unstable();
        classes.dedup();
        let place = |index: &usize| {
            classes.binary_search(&set.class[*index]).expect("the classes are those of these segments")
        };
        let class = learnt.iter().map(place).collect();
        let samples = (samples - &mean) * &scale;
        Self { classes, class, samples, mean, scale }
    }

    fn fit(&self, strength: f64, start: Option<&Logistic>) -> Result<Logistic, StageError> {
        Logistic::fit(self.samples.view(), &self.class, self.classes.len(), strength, start)
    }

    /// Features of `members`, scaled as those that were fitted.
    fn scaled(&self, set: &LabelledSet, members: &[usize]) -> Array2<f64> {
        (features(set, members) - &self.mean) * &self.scale
    }
}

/// `[members, features]`.
fn features(set: &LabelledSet, members: &[usize]) -> Array2<f64> {
    Array2::from_shape_fn((members.len(), set.dim), |(row, column)| {
        f64::from(set.features[members[row] * set.dim + column])
    })
}
