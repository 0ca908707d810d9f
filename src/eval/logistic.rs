//! Multinomial logistic regression with an L2 penalty, in which every class counts the same: the exact minimum, by
//! L-BFGS.
//!
//! With logits `h = x W + b` of `n` samples it minimises
//! `mean(log(sum_c exp(h_c)) - h_right) + strength/2 |W|^2`, where the mean is that of the means of the classes; `b` is
//! not penalised. That is what scikit-learn's `LogisticRegression(C = 1 / (n strength), class_weight = "balanced")`
//! minimises.

use argmin::core::{CostFunction, Error, Executor, Gradient, State as _};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use ndarray::{Array2, ArrayView2, Axis, s};
use reelflow_api::error::StageError;

/// The search ends where the gradient is shorter than this. The loss is a mean of order 1, so a probability is
/// then right to five digits.
const GRADIENT_MIN: f64 = 1e-6;
/// Most steps of the search. 480 samples of 512 numbers need some hundred with the weakest penalty in use.
const STEPS_MAX: u64 = 2000;
/// Steps whose curvature L-BFGS remembers; the usual choice of 10.
const REMEMBERED: usize = 10;

/// A fitted classifier.
#[derive(Clone, Debug)]
pub struct Logistic {
    /// `[features + 1, classes]`; the last row is added to every sample.
    weights: Array2<f64>,
}

impl Logistic {
    /// Fits `samples`, `[n, features]`, of the classes `class`, each below `classes`; every class should have a
    /// sample, as otherwise nothing holds its offset. `start` saves steps, it does not change the result.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn fit(
        samples: ArrayView2<'_, f64>,
        class: &[usize],
        classes: usize,
        strength: f64,
        start: Option<&Self>,
    ) -> Result<Self, StageError> {
        let samples = with_ones(samples);
        let shape = (samples.ncols(), classes);
        let first = match start.filter(|start| start.weights.dim() == shape) {
            Some(start) => start.weights.iter().copied().collect(),
            None => vec![0.0; shape.0 * shape.1],
        };
        let shares = shares(class, classes);
        let problem = Problem { samples: samples.view(), class, shares, classes, strength };
        let failed = |error: Error| StageError::failed("eval", format!("the linear probe failed: {error}"));
        if !problem.cost(&first).map_err(failed)?.is_finite() {
            return Err(StageError::failed("eval", "the linear probe met a value that is not finite"));
        }
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), REMEMBERED)
            .with_tolerance_grad(GRADIENT_MIN)
            .map_err(failed)?;
        let outcome = Executor::new(problem, solver)
            .configure(|state| state.param(first.clone()).max_iters(STEPS_MAX))
            .run()
            .map_err(failed)?;
        // Where rounding leaves no way down, the search ends at the best point so far.
        let best = outcome.state.get_best_param().cloned().unwrap_or(first);
        let weights = Array2::from_shape_vec(shape, best).expect("the search keeps the length of its start");
        Ok(Self { weights })
    }

    /// Logarithm of the probability of every class, `[n, classes]`, for samples `[n, features]`.
    #[must_use]
    pub fn log_probabilities(&self, samples: ArrayView2<'_, f64>) -> Array2<f64> {
        log_softmax(with_ones(samples).dot(&self.weights))
    }
}

/// What each sample counts: all of them 1, each class that is there the same.
fn shares(class: &[usize], classes: usize) -> Vec<f64> {
    let mut counts = vec![0_u32; classes];
    class.iter().for_each(|class| counts[*class] += 1);
    let present = counts.iter().filter(|count| **count > 0).count();
    class.iter().map(|class| 1.0 / (present as f64 * f64::from(counts[*class]))).collect()
}

fn with_ones(samples: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut wide = Array2::ones((samples.nrows(), samples.ncols() + 1));
    wide.slice_mut(s![.., ..samples.ncols()]).assign(&samples);
    wide
}

/// Of every row, relative to the row's own largest value, so that nothing overflows.
fn log_softmax(mut logits: Array2<f64>) -> Array2<f64> {
    for mut row in logits.rows_mut() {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|value| (value - max).exp()).sum();
        let shift = max + sum.ln();
        row -= shift;
    }
    logits
}

struct Problem<'a> {
    /// `[n, features + 1]`, the last column is ones.
    samples: ArrayView2<'a, f64>,
    class: &'a [usize],
    /// What each sample counts, 1 in all.
    shares: Vec<f64>,
    classes: usize,
    strength: f64,
}

impl Problem<'_> {
    fn weights<'w>(&self, param: &'w [f64]) -> ArrayView2<'w, f64> {
        ArrayView2::from_shape((self.samples.ncols(), self.classes), param)
            .expect("the search keeps the length of its start")
    }
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, param: &Vec<f64>) -> Result<f64, Error> {
        let weights = self.weights(param);
        let log = log_softmax(self.samples.dot(&weights));
        let right = log.rows().into_iter().zip(self.class).map(|(row, right)| row[*right]);
        let loss: f64 = right.zip(&self.shares).map(|(log, share)| -log * share).sum();
        let penalised = weights.slice(s![..-1, ..]);
        let penalty: f64 = penalised.iter().map(|weight| weight * weight).sum();
        Ok(loss + 0.5 * self.strength * penalty)
    }
}

impl Gradient for Problem<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, param: &Vec<f64>) -> Result<Vec<f64>, Error> {
        let weights = self.weights(param);
        let mut off = log_softmax(self.samples.dot(&weights));
        off.mapv_inplace(f64::exp);
        for (mut row, (right, share)) in off.axis_iter_mut(Axis(0)).zip(self.class.iter().zip(&self.shares)) {
            row[*right] -= 1.0;
            row *= *share;
        }
        let mut gradient = self.samples.t().dot(&off);
        let mut penalised = gradient.slice_mut(s![..-1, ..]);
        penalised.scaled_add(self.strength, &weights.slice(s![..-1, ..]));
        Ok(gradient.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use reelflow_api::rng::Key;

    use super::*;

    /// Two equal samples a class at -1 and +1, one feature, two classes. By symmetry `b = 0` and the weights are
    /// `-w` and `w`; the gradient is zero where `w = sigmoid(-2 w) / strength`, solved here by bisection.
    #[test]
    fn two_classes_on_a_line_have_the_weight_of_the_equation() {
        for strength in [1.0, 0.1, 0.01] {
            let (mut low, mut high) = (0.0, 100.0);
            for _ in 0..200 {
                let w: f64 = (low + high) / 2.0;
                let pull = 1.0 / (1.0 + (2.0 * w).exp()) - strength * w;
                if pull > 0.0 { low = w } else { high = w }
            }
            let samples = array![[-1.0], [-1.0], [1.0], [1.0]];
            let found = Logistic::fit(samples.view(), &[0, 0, 1, 1], 2, strength, None).unwrap();
            let expected = array![[-low, low], [0.0, 0.0]];
            let off = (&found.weights - &expected).mapv(f64::abs);
            assert!(off.iter().all(|off| *off < 1e-4), "{strength}: {:?}, not {expected:?}", found.weights);
        }
    }

    /// The penalised loss and its gradient, by loops over single numbers.
    fn plain(
        samples: &Array2<f64>,
        class: &[usize],
        weights: &Array2<f64>,
        strength: f64,
    ) -> (f64, Vec<f64>) {
        let (n, (rows, classes)) = (samples.nrows(), weights.dim());
        let count = |of: usize| class.iter().filter(|class| **class == of).count();
        let (mut loss, mut gradient) = (0.0, vec![0.0; rows * classes]);
        for i in 0..n {
            let x = |j: usize| if j + 1 < rows { samples[[i, j]] } else { 1.0 };
            let h: Vec<f64> = (0..classes).map(|c| (0..rows).map(|j| x(j) * weights[[j, c]]).sum()).collect();
            let sum: f64 = h.iter().map(|h| h.exp()).sum();
            let share = 1.0 / (classes * count(class[i])) as f64;
            loss += (sum.ln() - h[class[i]]) * share;
            for c in 0..classes {
                let off = h[c].exp() / sum - f64::from(u8::from(c == class[i]));
                (0..rows).for_each(|j| gradient[j * classes + c] += off * x(j) * share);
            }
        }
        for j in 0..rows - 1 {
            for c in 0..classes {
                loss += 0.5 * strength * weights[[j, c]].powi(2);
                gradient[j * classes + c] += strength * weights[[j, c]];
            }
        }
        (loss, gradient)
    }

    #[test]
    fn the_gradient_is_zero_at_the_fit_and_every_step_away_costs() {
        let mut rng = Key::new(5).rng();
        let samples = Array2::from_shape_fn((60, 9), |_| rng.normal() * 3.0);
        // Classes of 32, 16, 8 and 4 samples.
        let class: Vec<usize> = (0..60_u32).map(|index| (index + 4).ilog2() as usize - 2).collect();
        for strength in [1.0, 0.01] {
            let fit = Logistic::fit(samples.view(), &class, 4, strength, None).unwrap();
            let (loss, gradient) = plain(&samples, &class, &fit.weights, strength);
            let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(length < 2.0 * GRADIENT_MIN, "{strength}: {length}");
            for _ in 0..20 {
                let away = &fit.weights + &Array2::from_shape_fn(fit.weights.dim(), |_| rng.normal() * 0.01);
                assert!(plain(&samples, &class, &away, strength).0 > loss);
            }
            // From elsewhere to the same point: two gradients of 1e-6 leave the weights 2e-6 / strength apart.
            let other = Logistic::fit(samples.view(), &class, 4, 10.0, None).unwrap();
            let again = Logistic::fit(samples.view(), &class, 4, strength, Some(&other)).unwrap();
            let off = (again.log_probabilities(samples.view()) - fit.log_probabilities(samples.view()))
                .mapv(f64::abs);
            assert!(off.iter().all(|off| *off < 2e-3), "{strength}");
        }
    }

    #[test]
    fn far_apart_rows_do_not_drown_each_other() {
        // One maximum for all rows would make exp(-1000) of the first row zero.
        let log = log_softmax(array![[-1000.0, -1001.0], [1000.0, 0.0]]);
        let one = -(1.0 + (-1.0_f64).exp()).ln();
        assert!((log[[0, 0]] - one).abs() < 1e-12 && (log[[0, 1]] - one + 1.0).abs() < 1e-12, "{log}");
        assert_eq!(log[[1, 0]], 0.0);
    }

    #[test]
    fn values_that_are_not_finite_are_an_error() {
        let error = Logistic::fit(array![[f64::NAN]].view(), &[0], 2, 1.0, None).unwrap_err();
        assert_eq!(error.code, 1);
    }
}
