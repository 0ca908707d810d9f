//! The loss against known values (METHODS 1.8); in f64, because the smallest is below f32's grain.

use std::collections::BTreeMap;

use reelflow_api::pretext::{BankRows, Pretext};
use reelflow_api::rng::Key;
use tch::Device;

use super::*;

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Unit vectors in the plane spanned by axis 0 and `axis`, with `dots` as products with axis 0.
fn with_dots(dots: &[f64], dim: i64) -> Tensor {
    let rows = dots.iter().map(|&dot| {
        let mut row = vec![0.0; dim as usize];
        row[0] = dot;
        row[1] = (1.0 - dot * dot).sqrt();
        Tensor::from_slice(&row)
    });
    Tensor::stack(&rows.collect::<Vec<_>>(), 0)
}

fn value(positive: f64, negative: f64, bank: &[f64], temperature: f64) -> f64 {
    let query = with_dots(&[1.0], 4);
    let (positive, negative) = (with_dots(&[positive], 4), with_dots(&[negative], 4));
    let scores = scores(&query, &positive, Some(&negative), &with_dots(bank, 4), None, temperature);
    info_nce(&scores).double_value(&[])
}

#[test]
fn values_of_the_method_report() {
    for (got, expected) in [
        (value(0.5, 0.2, &[0.1, -0.3], 0.07), 0.016_929_1),
        (value(0.5, 0.2, &[0.1, -0.3], 0.1), 0.066_197_9),
        (value(0.5, 0.6, &[0.1, -0.3], 0.07), 1.644_040_9),
    ] {
        assert!((got - expected).abs() < 5e-8, "{got} is not {expected}");
    }
    let small = value(1.0, 0.0, &[0.0], 0.07);
    assert!((small - 1.249_75e-6).abs() < 5e-12, "{small}");
}

#[test]
fn equal_logits_give_the_logarithm_of_the_number_of_classes() {
    for (rows, expected) in [
        (3569, 8.18060),
        (5000, 8.51759),
        (9536, 9.16304),
        (12_500, 9.43364),
        (16_384, 9.70418),
        (65_536, 11.09039),
    ] {
        let same = Tensor::full([1, 2], 0.5f64.sqrt(), DOUBLE);
        let bank = same.expand([rows, 2], false);
        let loss = info_nce(&scores(&same, &same, Some(&same), &bank, None, 0.07)).double_value(&[]);
        assert!((loss - expected).abs() < 5e-6, "{rows}: {loss}");
    }
}

#[test]
fn gradient_flows_into_query_and_temporal_negative_and_nowhere_else() {
    let leaf = |dot: f64| with_dots(&[dot, dot / 2.0], 4).set_requires_grad(true);
    for loss in [|scores: &Tensor| info_nce(scores), |scores: &Tensor| nce(scores, 3.0, 50)] {
        let (query, key, negative, rows) = (leaf(0.9), leaf(0.5), leaf(0.3), leaf(0.1));
        loss(&scores(&query, &key, Some(&negative), &rows, None, 0.07)).backward();
        for (name, tensor, gets) in
            [("query", query, true), ("negative", negative, true), ("key", key, false), ("rows", rows, false)]
        {
            let grad = tensor.grad();
            let some = grad.defined() && grad.abs().sum(Kind::Double).double_value(&[]) > 0.0;
            assert_eq!(some, gets, "{name}");
        }
    }
}

#[test]
fn a_left_out_row_counts_for_nothing() {
    let query = with_dots(&[1.0], 4);
    let loss = |bank: &[f64], left_out: Option<&[bool]>| {
        let mask = left_out.map(|mask| Tensor::from_slice(mask).unsqueeze(0));
        let all = scores(&query, &with_dots(&[0.5], 4), None, &with_dots(bank, 4), mask.as_ref(), 0.07);
        [info_nce(&all), nce(&all, 3.0, 50), Tensor::from(log_z(&all, 50))].map(|loss| loss.double_value(&[]))
    };
    let masked = loss(&[0.1, 0.9, -0.2], Some(&[false, true, false]));
    assert_eq!(masked, loss(&[0.1, -0.2], None));
    let unmasked = loss(&[0.1, 0.9, -0.2], None);
    assert!(masked.iter().zip(unmasked).all(|(masked, unmasked)| *masked < unmasked));
    let none_left = loss(&[0.9], Some(&[true]));
    assert!(none_left.iter().all(|value| value.is_finite()), "{none_left:?}");
}

/// `-log p⁺/(p⁺ + K·Pn) - Σ log K·Pn/(p⁻ + K·Pn)` as METHODS 7.2 writes it, and its constant.
fn by_the_letter(right: f64, wrong: &[f64], z: Option<f64>, total: f64) -> (f64, f64) {
    let all = [&[right], wrong].concat();
    let mean = all.iter().map(|s| s.exp()).sum::<f64>() / all.len() as f64;
    let z = z.unwrap_or(total * mean);
    let p = |s: f64| s.exp() / z;
    let noise = wrong.len() as f64 / total;
    let negatives: f64 = wrong.iter().map(|&s| (noise / (p(s) + noise)).ln()).sum();
    (-(p(right) / (p(right) + noise)).ln() - negatives, z)
}

#[test]
fn nce_is_what_the_method_report_writes() {
    let (dots, total) = ([0.7, 0.1, -0.3, 0.25], 40.0);
    let scaled = dots.map(|dot| dot / 0.07);
    let all = Tensor::from_slice(&scaled).unsqueeze(0);
    let (expected, z) = by_the_letter(scaled[0], &scaled[1..], None, total);
    assert!((log_z(&all, 40) - z.ln()).abs() < 1e-12);
    let loss = nce(&all, z.ln(), 40).double_value(&[]);
    assert!((loss - expected).abs() < 1e-9 * expected, "{loss} is not {expected}");
    // Two samples count half each.
    let both = Tensor::cat(&[&all, &all.flip([1i64])], 0);
    let reversed: Vec<f64> = scaled.iter().rev().copied().collect();
    let (other, _) = by_the_letter(reversed[0], &reversed[1..], Some(z), total);
    let loss = nce(&both, z.ln(), 40).double_value(&[]);
    assert!((loss - (expected + other) / 2.0).abs() < 1e-9 * other, "{loss}");
}

/// With all scores alike `p = 1/N`, so the loss is `ln(1 + K) + K ln((1 + K)/K)` whatever score and `N` are.
#[test]
fn nce_of_equal_scores_depends_on_their_number_only() {
    for (k, total) in [(1i64, 2), (10, 1000), (4096, 65_536)] {
        let all = Tensor::full([3, k + 1], 5.3, DOUBLE);
        let k = k as f64;
        let expected = (1.0 + k).ln() + k * ((1.0 + k) / k).ln();
        let loss = nce(&all, log_z(&all, total), total).double_value(&[]);
        assert!((loss - expected).abs() < 1e-9 * expected, "{k}: {loss} is not {expected}");
    }
}

#[test]
fn the_constant_is_that_of_the_first_step() {
    let settings = Vtdl { loss: Loss::Nce, ..vtdl(false) };
    let first = step_loss(&settings, &with_dots(&[0.3, 0.2], 128), &[-1, -1], None);
    let (name, z) = first.frozen[0].clone();
    assert_eq!(name, "log_z");
    let second = step_loss(&settings, &with_dots(&[0.9, 0.8], 128), &[-1, -1], Some(z));
    assert_eq!(second.frozen, [(name, z)]);
    let own = step_loss(&settings, &with_dots(&[0.9, 0.8], 128), &[-1, -1], None);
    // Positive and temporal negative, both 1, have most of either sum.
    let more = ((2.0 + (-0.1f64 / 0.07).exp() + (-0.2f64 / 0.07).exp()) / 2.0).ln();
    assert!((own.frozen[0].1 - z - more).abs() < 1e-3, "{} is not {more} more", own.frozen[0].1 - z);
    assert!(own.loss.double_value(&[]) != second.loss.double_value(&[]));
}

#[test]
fn the_own_row_takes_the_place_of_the_key() {
    let settings = Vtdl { own_row: true, ..vtdl(false) };
    let rows = with_dots(&[0.0, 0.0], 128);
    let near = step_loss(&settings, &rows, &[-1, -1], None).loss.double_value(&[]);
    let far = step_loss(&vtdl(false), &rows, &[-1, -1], None).loss.double_value(&[]);
    // The own rows of `step_loss` are of axis 1: no match where the key is a perfect one.
    assert!((near - far - 1.0 / 0.07).abs() < 0.7, "{near} and {far}");
}

#[test]
fn the_margin_term_is_0_a_margin_apart_and_spares_the_key() {
    let query = with_dots(&[1.0], 4).set_requires_grad(true);
    let (key, far) = (with_dots(&[1.0], 4).set_requires_grad(true), with_dots(&[-1.0], 4));
    let value = |negative: &Tensor| margin_loss(&query, &key, negative).double_value(&[]);
    // Distances 0 and 2, then 0 and the square root of 2 - 2 * 0.68 = 0.8.
    assert!(value(&far) < 1e-6, "{}", value(&far));
    assert!((value(&with_dots(&[0.68], 4)) - 0.2).abs() < 1e-4);
    margin_loss(&query, &key, &with_dots(&[0.68], 4)).backward();
    assert!(query.grad().defined() && !key.grad().defined());
}

#[test]
fn the_margin_term_is_added_by_its_weight() {
    let rows = with_dots(&[0.0, 0.0], 128);
    let loss = |margin_weight| {
        let settings = Vtdl { margin_weight, ..vtdl(false) };
        step_loss(&settings, &rows, &[-1, -1], None).loss.double_value(&[])
    };
    // Positive and negative are as far from the anchor: the margin is all that is left.
    assert!((loss(2.0) - loss(0.0) - 2.0).abs() < 1e-2, "{} {}", loss(2.0), loss(0.0));
}

/// Networks whose embeddings are all nearly the same, as before training.
struct Untrained(u64);

impl Nets for Untrained {
    fn query(&mut self, _: &str, clips: &Tensor) -> Tensor {
        self.0 += 1;
        let mut rng = Key::new(self.0).rng();
        let count = clips.size()[0];
        let values: Vec<f64> =
            (0..count * 128).map(|i| if i % 128 == 0 { 1.0 } else { 1e-4 * rng.normal() }).collect();
        let rows = Tensor::from_slice(&values).reshape([count, 128]);
        &rows / rows.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).sqrt()
    }

    fn key(&mut self, head: &str, clips: &Tensor) -> Tensor {
        self.query(head, clips)
    }
}

fn vtdl(same_segment_mask: bool) -> Vtdl {
    Vtdl {
        bank: "keys".to_owned(),
        temperature: 0.07,
        dim: 128,
        hidden: None,
        loss: Loss::InfoNce,
        own_row: false,
        same_segment_mask,
        temporal_negative: true,
        margin_weight: 0.0,
        anchor: "anchor".to_owned(),
        positive: "positive".to_owned(),
        negative: "negative".to_owned(),
    }
}

fn step_loss(settings: &Vtdl, rows: &Tensor, row_ids: &[i64], log_z: Option<f64>) -> StepLoss {
    let clips = || Tensor::zeros([4, 3, 2, 2, 2], (Kind::Float, Device::Cpu));
    let views = settings.views().into_iter().map(|name| (name, clips())).collect();
    let own = Some(with_dots(&[0.0; 4], 128));
    let bank =
        BankRows { rows: rows.shallow_clone(), ids: Tensor::from_slice(row_ids), own, total: rows.size()[0] };
    let banks = BTreeMap::from([("keys".to_owned(), bank)]);
    let ids = Tensor::from_slice(&[1i64, 2, 3, 4]);
    let frozen = log_z.map(|value| (LOG_Z.to_owned(), value)).into_iter().collect();
    let step = Step {
        step: 0,
        views: &views,
        ids: &ids,
        labels: &[],
        banks: &banks,
        frozen: &frozen,
        key: Key::new(1),
    };
    settings.loss(&mut Untrained(0), &step).unwrap()
}

#[test]
fn near_equal_keys_start_at_ln_2_and_climb_to_ln_k_plus_2_once_the_bank_is_full() {
    let rows = 3569;
    let mut rng = Key::new(7).rng();
    let random: Vec<f64> = (0..rows * 128).map(|_| rng.normal()).collect();
    let random = Tensor::from_slice(&random).reshape([rows, 128]);
    let random = &random / random.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).sqrt();
    let ids = vec![-1; rows as usize];
    let settings = vtdl(false);
    let start = step_loss(&settings, &random, &ids, None).loss.double_value(&[]);
    // About 0.696: positive and temporal negative tie, random rows hardly count.
    assert!((start - 0.696).abs() < 0.02, "{start}");
    let keys = step_loss(&settings, &random, &ids, None).keys.remove(0).1;
    let full = keys.narrow(0, 0, 1).expand([rows, 128], false);
    let full = step_loss(&settings, &full, &ids, None).loss.double_value(&[]);
    assert!((full - 8.1806).abs() < 1e-3, "{full}");
}

#[test]
fn the_mask_leaves_out_a_slots_own_segment_only() {
    let rows = with_dots(&[1.0, 1.0], 128);
    // Row 0 is of segment 3, which sits in slot 2.
    let loss = |mask, ids: &[i64]| step_loss(&vtdl(mask), &rows, ids, None).loss.double_value(&[]);
    let (none, masked) = (loss(false, &[3, -1]), loss(true, &[3, -1]));
    assert!((none - 4f64.ln()).abs() < 1e-3, "{none}");
    let expected = (3.0 * 4f64.ln() + 3f64.ln()) / 4.0;
    assert!((masked - expected).abs() < 1e-3, "{masked} is not {expected}");
}

#[test]
fn a_bank_of_another_width_is_refused() {
    let settings = Vtdl { dim: 64, ..vtdl(false) };
    let views = BTreeMap::from([
        ("anchor".to_owned(), Tensor::zeros([1], DOUBLE)),
        ("positive".to_owned(), Tensor::zeros([1], DOUBLE)),
        ("negative".to_owned(), Tensor::zeros([1], DOUBLE)),
    ]);
    let ids = Tensor::from_slice(&[1i64]);
    let ids_of_rows = Tensor::from_slice(&[-1i64]);
    let bank = BankRows { rows: with_dots(&[1.0], 128), ids: ids_of_rows, own: None, total: 1 };
    let banks = BTreeMap::from([("keys".to_owned(), bank)]);
    let frozen = BTreeMap::new();
    let step = Step {
        step: 0,
        views: &views,
        ids: &ids,
        labels: &[],
        banks: &banks,
        frozen: &frozen,
        key: Key::new(1),
    };
    let Err(error) = settings.loss(&mut Untrained(0), &step) else { panic!("must be refused") };
    assert!(error.to_string().contains("128") && error.to_string().contains("64"), "{error}");
}
