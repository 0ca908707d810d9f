//! The loss: a softmax in which the anchor's own copy shall win over remembered and nearby clips.

use reelflow_api::error::StageError;
use reelflow_api::pretext::{Nets, Step, StepLoss};
use tch::{Kind, Reduction, Tensor};

use crate::Vtdl;

/// InfoNCE and what it was made of.
pub struct Nce {
    /// Scalar, mean over the batch, with gradient into `query` and `negative`.
    pub loss: Tensor,
    /// `[B, 1 + K + (0 or 1)]`: positive, bank rows, temporal negative; divided by the temperature.
    pub logits: Tensor,
}

/// `-log( e^{q·k/τ} / (e^{q·k/τ} + Σ_j e^{q·m_j/τ} + e^{q·n/τ}) )`, mean over the batch: a softmax over
/// `K + 2` classes of which class 0 is right (VTDL, `src/NCE/NCEAverage.py`, `src/train_temporal_dis.py`).
///
/// `query`, `key` and `negative` are `[B, dim]`, `rows` is `[K, dim]`, all of unit length. `key` and
/// `rows` get no gradient. `left_out`, `[B, K]` bool, takes bank rows out of a sample's negatives.
#[must_use]
pub fn info_nce(
    query: &Tensor,
    key: &Tensor,
    negative: Option<&Tensor>,
    rows: &Tensor,
    left_out: Option<&Tensor>,
    temperature: f64,
) -> Nce {
    let similarity = |other: &Tensor| (query * other).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
    let mut bank = query.matmul(&rows.detach().tr());
    if let Some(left_out) = left_out {
        bank = bank.masked_fill(left_out, f64::NEG_INFINITY);
    }
    let mut columns = vec![similarity(&key.detach()), bank];
    columns.extend(negative.map(similarity));
    let logits = Tensor::cat(&columns, 1) / temperature;
    let right = Tensor::zeros([query.size()[0]], (Kind::Int64, query.device()));
    let loss = logits.cross_entropy_loss(&right, None::<&Tensor>, Reduction::Mean, -100, 0.0);
    Nce { loss, logits }
}

/// `max(0, |q - k| - |q - n| + 1)`, mean over the batch (VTDL, `src/train_temporal_dis.py`). `key` gets no
/// gradient. The small number is PyTorch's, which keeps the gradient finite where two are equal.
#[must_use]
pub fn margin_loss(query: &Tensor, key: &Tensor, negative: &Tensor) -> Tensor {
    Tensor::triplet_margin_loss(query, &key.detach(), negative, 1.0, 2.0, 1e-6, false, Reduction::Mean)
}

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
    let nce = info_nce(&query, &key, negative.as_ref(), &bank.rows, left_out.as_ref(), settings.temperature);
    let scalars = tch::no_grad(|| {
        let mean = |logits: Tensor| (logits.mean(Kind::Float) * settings.temperature).double_value(&[]);
        let wins = nce.logits.argmax(1, false).eq(0).to_kind(Kind::Float).mean(Kind::Float);
        let mut scalars =
            vec![("pos_sim", mean(nce.logits.narrow(1, 0, 1))), ("top1", wins.double_value(&[]))];
        if negative.is_some() {
            scalars.push(("neg_sim", mean(nce.logits.narrow(1, -1, 1))));
        }
        scalars
    });
    let margin = negative.as_ref().filter(|_| settings.margin_weight > 0.0);
    let loss = match margin.map(|negative| margin_loss(&query, &key, negative)) {
        Some(margin) => nce.loss + margin * settings.margin_weight,
        None => nce.loss,
    };
    Ok(StepLoss { loss, keys: vec![(settings.bank.clone(), key.detach())], scalars })
}

#[cfg(test)]
mod tests;
