//! The loss: a softmax in which the anchor's own copy shall win over remembered and nearby clips.

use reelflow_api::error::StageError;
use reelflow_api::pretext::{Nets, Step, StepLoss};
use tch::{Kind, Reduction, Tensor};

use crate::{Loss, Vtdl};

/// `[B, 1 + K + (0 or 1)]`: similarity of the query with positive, bank rows and temporal negative, divided by
/// the temperature; minus infinity for what is left out.
///
/// `query`, `key` and `negative` are `[B, dim]`, `rows` is `[K, dim]`, all of unit length. `key` and
/// `rows` get no gradient. `left_out`, `[B, K]` bool, takes bank rows out of a sample's negatives.
pub fn scores(
    query: &Tensor,
    key: &Tensor,
    negative: Option<&Tensor>,
    rows: &Tensor,
    left_out: Option<&Tensor>,
    temperature: f64,
) -> Tensor {
    let similarity = |other: &Tensor| (query * other).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
    let mut bank = query.matmul(&rows.detach().tr());
    if let Some(left_out) = left_out {
        bank = bank.masked_fill(left_out, f64::NEG_INFINITY);
    }
    let mut columns = vec![similarity(&key.detach()), bank];
    columns.extend(negative.map(similarity));
    Tensor::cat(&columns, 1) / temperature
}

/// `-log( e^{q·k/τ} / (e^{q·k/τ} + Σ_j e^{q·m_j/τ} + e^{q·n/τ}) )` of [`scores`], mean over the batch: a softmax
/// over `K + 2` classes of which class 0 is right (VTDL, `src/NCE/NCEAverage.py`, `src/train_temporal_dis.py`).
pub fn info_nce(scores: &Tensor) -> Tensor {
    let right = Tensor::zeros([scores.size()[0]], (Kind::Int64, scores.device()));
    scores.cross_entropy_loss(&right, None::<&Tensor>, Reduction::Mean, -100, 0.0)
}

/// The logarithm of InstDisc's constant: `Z = N · mean(e^s)` over all [`scores`] `s` of the first step that are
/// not left out, positives among them, with `N` rows in the bank (METHODS 7.2; InstDisc, `lib/NCEAverage.py`).
#[must_use]
pub fn log_z(scores: &Tensor, total: i64) -> f64 {
    let scores = scores.detach().to_kind(Kind::Double);
    let count = scores.isfinite().sum(Kind::Double).double_value(&[]);
    (total as f64).ln() + scores.flatten(0, -1).logsumexp([0i64].as_slice(), false).double_value(&[])
        - count.ln()
}

/// `-log p⁺/(p⁺ + K·Pn) - Σ log K·Pn/(p⁻ + K·Pn)`, mean over the batch, with `p = e^s/Z` of [`scores`] `s`,
/// `Pn = 1/N` and the `K` negatives that the sample has (METHODS 7.2; InstDisc, `lib/NCECriterion.py`).
pub fn nce(scores: &Tensor, log_z: f64, total: i64) -> Tensor {
    let count = scores.size()[1];
    let negatives = scores.narrow(1, 1, count - 1);
    // A sample all of whose negatives are left out has no terms to weigh; one keeps the logarithm finite.
    let k = negatives.isfinite().sum_dim_intlist([1i64].as_slice(), true, scores.kind()).clamp_min(1.0);
    // log p - log K·Pn, whose logistic function is the share of p.
    let against_noise = |scores: Tensor| scores - log_z - (&k / total as f64).log();
    let right = against_noise(scores.narrow(1, 0, 1)).log_sigmoid();
    let wrong = (-against_noise(negatives)).log_sigmoid();
    let each = right.squeeze_dim(1) + wrong.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
    -each.mean(None::<Kind>)
}

/// Name of the frozen constant's logarithm.
const LOG_Z: &str = "log_z";

/// One step of VTDL: anchor and negative through the query network, one after the other; the positive
/// through the key network; the keys go to the bank.
///
/// # Errors
/// If a view or the bank is missing, or the bank is of another width.
pub(crate) fn loss(
    settings: &Vtdl,
    head: &'static str,
    nets: &mut dyn Nets,
    step: &Step<'_>,
) -> Result<StepLoss, StageError> {
    let view = |name: &String| {
        step.views.get(name).ok_or_else(|| StageError::refused("vtdl", format!("there is no view `{name}`")))
    };
    let bank = step
        .banks
        .get(&settings.bank)
        .ok_or_else(|| StageError::refused("vtdl", format!("there is no bank `{}`", settings.bank)))?;
    let width = bank.rows.size()[1];
    if width != i64::from(settings.dim) {
        return Err(StageError::refused(
            "vtdl",
            format!("bank `{}` has dim {width}, the pretext has dim {}", settings.bank, settings.dim),
        ));
    }
    let query = nets.query(head, view(&settings.anchor)?);
    let key = nets.key(head, view(&settings.positive)?);
    let negative = match settings.temporal_negative {
        true => Some(nets.query(head, view(&settings.negative)?)),
        false => None,
    };
    let left_out =
        settings.same_segment_mask.then(|| step.ids.unsqueeze(1).eq_tensor(&bank.ids.unsqueeze(0)));
    let positive = match (settings.own_row, &bank.own) {
        (false, _) => &key,
        (true, Some(own)) => own,
        (true, None) => {
            let message = format!("`own_row` needs a bank of type `instance`, `{}` is none", settings.bank);
            return Err(StageError::refused("vtdl", message));
        }
    };
    let (negative, left_out) = (negative.as_ref(), left_out.as_ref());
    let scores = scores(&query, positive, negative, &bank.rows, left_out, settings.temperature);
    let mut frozen = Vec::new();
    let loss = match settings.loss {
        Loss::InfoNce => info_nce(&scores),
        Loss::Nce => {
            let log_z = step.frozen.get(LOG_Z).copied().unwrap_or_else(|| log_z(&scores, bank.total));
            frozen.push((LOG_Z.to_owned(), log_z));
            nce(&scores, log_z, bank.total)
        }
    };
    let scalars = tch::no_grad(|| {
        let mean = |logits: Tensor| (logits.mean(Kind::Float) * settings.temperature).double_value(&[]);
        let wins = scores.argmax(1, false).eq(0).to_kind(Kind::Float).mean(Kind::Float);
        let mut scalars = vec![("pos_sim", mean(scores.narrow(1, 0, 1))), ("top1", wins.double_value(&[]))];
        if negative.is_some() {
            scalars.push(("neg_sim", mean(scores.narrow(1, -1, 1))));
        }
        scalars
    });
    Ok(StepLoss { loss, keys: vec![(settings.bank.clone(), key.detach())], frozen, scalars })
}

#[cfg(test)]
mod tests;
