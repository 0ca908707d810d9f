//! Cross-entropy over the clips that have one of the classes.

use reelflow_api::error::StageError;
use reelflow_api::pretext::{Nets, Step, StepLoss};
use tch::{Kind, Reduction, Tensor};

use crate::{Classify, HEAD};

/// Target of a clip that teaches nothing.
const NO_CLASS: i64 = -100;

/// `-log softmax(head(clip))[class]`, mean over the clips that have a class. Without a single one the loss is 0.
///
/// # Errors
/// If there is no such view.
pub fn loss(settings: &Classify, nets: &mut dyn Nets, step: &Step<'_>) -> Result<StepLoss, StageError> {
    let view = step
        .views
        .get(&settings.view)
        .ok_or_else(|| StageError::refused("classify", format!("there is no view `{}`", settings.view)))?;
    let target = |label: &Option<std::sync::Arc<str>>| {
        settings.class_of(label.as_deref()).map_or(NO_CLASS, |class| class as i64)
    };
    let targets: Vec<i64> = step.labels.iter().map(target).collect();
    let known = targets.iter().filter(|&&class| class != NO_CLASS).count();
    let targets = Tensor::from_slice(&targets).to_device(view.device());
    let logits = nets.query(HEAD, view);
    let sum = logits.cross_entropy_loss(&targets, None::<&Tensor>, Reduction::Sum, NO_CLASS, 0.0);
    let right =
        tch::no_grad(|| logits.argmax(1, false).eq_tensor(&targets).sum(Kind::Float).double_value(&[]));
    let share = right / known.max(1) as f64;
    Ok(StepLoss {
        loss: sum / known.max(1) as f64,
        keys: Vec::new(),
        frozen: Vec::new(),
        scalars: vec![("top1", share), ("labelled", known as f64)],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use reelflow_api::pretext::Pretext;
    use reelflow_api::rng::Key;
    use tch::Device;

    use super::*;

    /// Gives the clips themselves as outputs.
    struct Identity;

    impl Nets for Identity {
        fn query(&mut self, _: &str, clips: &Tensor) -> Tensor {
            clips.shallow_clone()
        }

        fn key(&mut self, _: &str, _: &Tensor) -> Tensor {
            unreachable!("there is nothing to remember")
        }
    }

    fn lost(logits: &[[f64; 2]], labels: &[Option<&str>]) -> StepLoss {
        let classes = ["a", "b"].map(str::to_owned).to_vec();
        let task = Classify { classes, view: "clip".to_owned(), hidden: None, dropout: 0.0 };
        let rows: Vec<Tensor> = logits.iter().map(|row| Tensor::from_slice(row)).collect();
        let views = BTreeMap::from([("clip".to_owned(), Tensor::stack(&rows, 0))]);
        let labels: Vec<Option<Arc<str>>> = labels.iter().map(|label| label.map(Arc::from)).collect();
        let ids = Tensor::zeros([labels.len() as i64], (Kind::Int64, Device::Cpu));
        let (banks, frozen) = (BTreeMap::new(), BTreeMap::new());
        let key = Key::new(1);
        let step =
            Step { step: 0, views: &views, ids: &ids, labels: &labels, banks: &banks, frozen: &frozen, key };
        task.loss(&mut Identity, &step).unwrap()
    }

    #[test]
    fn the_loss_is_the_mean_over_clips_with_a_class() {
        let ln2 = 2f64.ln();
        let found = lost(&[[0.0, 0.0], [9.0, 9.0], [5.0, -5.0]], &[Some("a"), Some("b"), Some("other")]);
        assert!((found.loss.double_value(&[]) - ln2).abs() < 1e-12);
        assert_eq!(found.scalars[1], ("labelled", 2.0));
        // log(1 + e^-3) for a right answer by 3, log(1 + e^3) for a wrong one.
        let found = lost(&[[3.0, 0.0], [3.0, 0.0]], &[Some("a"), Some("b")]);
        let expected = ((1.0 + (-3f64).exp()).ln() + (1.0 + 3f64.exp()).ln()) / 2.0;
        assert!((found.loss.double_value(&[]) - expected).abs() < 1e-12);
        assert_eq!(found.scalars[0], ("top1", 0.5));
    }

    #[test]
    fn clips_without_a_class_teach_nothing() {
        let found = lost(&[[3.0, 0.0]], &[None]);
        assert_eq!(found.loss.double_value(&[]), 0.0);
        assert_eq!(found.scalars, [("top1", 0.0), ("labelled", 0.0)]);
    }
}
