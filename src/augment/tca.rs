//! Temporal-consistent augmentation: changes a clip so that all its time derivatives only change by a factor.
//!
//! The general form is `x'(t, p) = c x(t, p) + g(p)`: a scalar `c` that is not 0 and a picture `g` that stands
//! still (METHODS 1.2). Every form here is that, up to the rounding of f32; nothing is clipped.

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, View};
use reelflow_api::rng::{Key, Rng};
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Stage, ViewMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `tca` describes itself.
pub const SPEC: Spec = Spec {
    name: "tca",
    kind: Kind::Operator,
    summary: "Mixes a still picture into clips or scales them; motion keeps its direction and order.",
    accepts: &[Port::Views, Port::Batches],
    output: Output::SameAsInput,
    example: "form = \"self_frame\"\nalpha = 0.1\nviews = [\"anchor\"]",
    schema: schema_of::<TcaSettings>,
    build: |table| Ok(Stage::Views(Box::new(read::<TcaSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct TcaSettings {
    /// `self_frame` mixes in one frame of the clip itself; `next_frame` a frame of the next slot's clip;
    /// `permuted` a frame of a random slot's clip (these two after `batch`); `scale` multiplies the clip by a
    /// factor; `offset` adds a number; `static_noise` adds a smooth random picture.
    #[serde(default)]
    form: Form,
    /// Strength. Mixes: the share of the still picture is drawn from 0 to this, once a step. `scale`: the
    /// factor is drawn from 1 plus/minus this. `offset`, `static_noise`: values are drawn from plus/minus this,
    /// in units of the view (standard deviations after `normalize`).
    #[serde(default = "alpha")]
    #[schemars(range(min = 0.0, max = 1.0))]
    alpha: f64,
    /// Names of the views to change. The released VTDL code changes the anchor, the paper's abstract speaks of
    /// the positive.
    #[serde(default = "views")]
    views: Vec<String>,
    /// Probability that a clip is changed, 0 to 1.
    #[serde(default = "always")]
    #[schemars(range(min = 0.0, max = 1.0))]
    p: f64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    SelfFrame,
    NextFrame,
    Permuted,
    Scale,
    Offset,
    StaticNoise,
}

/// Of the released VTDL code; its sequel uses 0.3 (METHODS 1.2).
fn alpha() -> f64 {
    0.1
}

fn views() -> Vec<String> {
    vec!["anchor".into()]
}

fn always() -> f64 {
    1.0
}

/// Largest share of a permuted slot's picture in the released code (METHODS 1.2, version 3).
const PERMUTED_MOST: f64 = 0.3;

/// Knots a side of the smooth noise picture; few, so that it has no edges of its own.
const KNOTS: usize = 5;

impl Settings for TcaSettings {
    fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.form == Form::Permuted && self.alpha > PERMUTED_MOST {
            let message = format!("{} is too much for `permuted`, at most {PERMUTED_MOST}", self.alpha);
            found.push(Invalid::new("alpha", message));
        }
        if self.alpha >= 1.0 && self.form != Form::Offset && self.form != Form::StaticNoise {
            let message = format!("{} can take all motion away", self.alpha);
            found.push(Invalid::new("alpha", message).help("choose a value below 1, usually 0.1 to 0.3"));
        }
        if self.views.is_empty() {
            found.push(Invalid::new("views", "no view is named").help("views = [\"anchor\"]"));
        }
        found
    }
}

impl ViewMap for TcaSettings {
    fn needs_batch(&self) -> bool {
        matches!(self.form, Form::NextFrame | Form::Permuted)
    }

    fn apply(&self, batch: &mut Batch, key: Key) -> Result<(), StageError> {
        for name in &self.views {
            let names: Vec<Arc<str>> = batch.views.iter().map(|view| view.name.clone()).collect();
            let step = batch.step;
            let slots: Vec<u64> = batch.slots.iter().map(|slot| slot.slot.into()).collect();
            let Some(view) = batch.views.iter_mut().find(|view| *view.name == **name) else {
                let message = format!("no view is called `{name}`; there are {}", names.join(", "));
                return Err(StageError::refused("tca", message));
            };
            // Not keyed by the view: the released code has one view, and two views then share a draw,
            // as anchor and positive must when both are changed alike.
            self.change(view, &slots, step, key);
        }
        Ok(())
    }
}

impl TcaSettings {
    /// Changes all clips of a view; `slots` are their places in the batch.
    fn change(&self, view: &mut View, slots: &[u64], step: u64, key: Key) {
        let shape = view.shape;
        let share = key.part("share").number(step).rng().range(0.0, self.alpha) as f32;
        let draw = |part: &str, slot: u64| key.part(part).number(step).number(slot).rng();
        let frame_of = |slot: u64| draw("frame", slot).below(shape[1] as u64) as usize;
        let stills = self.stills(view, slots, step, key, frame_of);
        for (index, (clip, &slot)) in
            view.pixels.f32_mut().chunks_exact_mut(shape.iter().product()).zip(slots).enumerate()
        {
            if !draw("chance", slot).chance(self.p) {
                continue;
            }
            let mut rng = draw("value", slot);
            let mut value = || rng.range(-self.alpha, self.alpha) as f32;
            match self.form {
                Form::SelfFrame => mix(clip, &still(clip, shape, frame_of(slot)), shape, share),
                Form::NextFrame | Form::Permuted => mix(clip, &stills[index], shape, share),
                Form::Scale => {
                    let factor = 1.0 + value();
                    clip.iter_mut().for_each(|x| *x *= factor);
                }
                Form::Offset => {
                    let offset = value();
                    clip.iter_mut().for_each(|x| *x += offset);
                }
                Form::StaticNoise => add(clip, &noise(shape, self.alpha, &mut rng), shape),
            }
        }
    }

    /// The pictures that each slot gets from another slot, taken before any clip is changed.
    fn stills(
        &self,
        view: &View,
        slots: &[u64],
        step: u64,
        key: Key,
        frame_of: impl Fn(u64) -> usize,
    ) -> Vec<Vec<f32>> {
        let mut others: Vec<usize> = (0..slots.len()).collect();
        match self.form {
            Form::NextFrame => others.rotate_left(1.min(slots.len())),
            Form::Permuted => key.part("order").number(step).rng().shuffle(&mut others),
            _ => return Vec::new(),
        }
        let clips: Vec<&[f32]> = view.pixels.f32().chunks_exact(view.clip_len()).collect();
        others
            .into_iter()
            .zip(slots)
            .map(|(other, &slot)| still(clips[other], view.shape, frame_of(slot)))
            .collect()
    }
}

/// Frame `frame` of a clip as `[C, H, W]`.
fn still(clip: &[f32], [_, frames, height, width]: [usize; 4], frame: usize) -> Vec<f32> {
    clip.chunks_exact(frames * height * width)
        .flat_map(|channel| &channel[frame * height * width..(frame + 1) * height * width])
        .copied()
        .collect()
}

/// `(1 - share) x + share g`, written so that a pixel equal to the picture stays exactly what it is.
fn mix(clip: &mut [f32], picture: &[f32], shape: [usize; 4], share: f32) {
    each_frame(clip, picture, shape, |x, g| *x += share * (g - *x));
}

/// `x + g`.
fn add(clip: &mut [f32], picture: &[f32], shape: [usize; 4]) {
    each_frame(clip, picture, shape, |x, g| *x += g);
}

fn each_frame(
    clip: &mut [f32],
    picture: &[f32],
    [_, frames, height, width]: [usize; 4],
    change: impl Fn(&mut f32, f32),
) {
    let area = height * width;
    for (channel, picture) in clip.chunks_exact_mut(frames * area).zip(picture.chunks_exact(area)) {
        for frame in channel.chunks_exact_mut(area) {
            frame.iter_mut().zip(picture).for_each(|(x, &g)| change(x, g));
        }
    }
}

/// A smooth picture `[C, H, W]` with values in plus/minus `alpha`: random knots, linear in between.
fn noise([channels, _, height, width]: [usize; 4], alpha: f64, rng: &mut Rng) -> Vec<f32> {
    let mut picture = Vec::with_capacity(channels * height * width);
    let place = |pixel: usize, count: usize| {
        let at = (pixel as f64 + 0.5) / count as f64 * (KNOTS - 1) as f64;
        (at as usize, at.fract())
    };
    for _ in 0..channels {
        let knots: Vec<f64> = (0..KNOTS * KNOTS).map(|_| rng.range(-alpha, alpha)).collect();
        let knot = |row: usize, col: usize| knots[row * KNOTS + col];
        for y in 0..height {
            let (row, down) = place(y, height);
            for x in 0..width {
                let (col, across) = place(x, width);
                let line = |row: usize| knot(row, col) * (1.0 - across) + knot(row, col + 1) * across;
                picture.push((line(row) * (1.0 - down) + line(row + 1) * down) as f32);
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::{SegmentId, SlotInfo};

    use super::*;

    const SHAPE: [usize; 4] = [3, 8, 4, 5];

    /// Random clips called `anchor` and `positive` in slots 4, 5, 6…
    fn batch(slots: u32) -> Batch {
        let mut rng = Key::new(3).rng();
        let mut view = |name: &str| View {
            name: name.into(),
            shape: SHAPE,
            pixels: (0..slots as usize * 480).map(|_| rng.range(-2.0, 2.0) as f32).collect::<Vec<_>>().into(),
            normalize: None,
        };
        let views = vec![view("anchor"), view("positive")];
        let slot = |slot| SlotInfo { slot, attempt: 0, segment: SegmentId(1), frames: vec![vec![], vec![]] };
        Batch { step: 7, slots: (4..4 + slots).map(slot).collect(), views }
    }

    fn settings(text: &str) -> TcaSettings {
        toml::from_str(text).unwrap()
    }

    fn changed(text: &str, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        settings(text).apply(&mut batch, Key::new(5)).unwrap();
        batch
    }

    /// Values of a pixel and channel over time.
    fn series(clip: &[f32], channel: usize, pixel: usize) -> Vec<f32> {
        (0..8).map(|t| clip[(channel * 8 + t) * 20 + pixel]).collect()
    }

    fn difference(values: &[f32]) -> Vec<f32> {
        values.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    const FORMS: [&str; 6] = ["self_frame", "next_frame", "permuted", "scale", "offset", "static_noise"];

    #[test]
    fn differences_of_order_one_to_three_scale_by_one_factor_a_clip() {
        let before = batch(3);
        for form in FORMS {
            let after = changed(&format!("form = '{form}'\nalpha = 0.3"), &before);
            for (x, y) in
                before.views[0].pixels.f32().chunks(480).zip(after.views[0].pixels.f32().chunks(480))
            {
                assert_ne!(x, y, "{form} changed nothing");
                // The factor as the first pixel shows it; all others must agree.
                let (a, b) = (series(x, 0, 0), series(y, 0, 0));
                let factor = (b[1] - b[0]) / (a[1] - a[0]);
                assert!((0.65..=1.35).contains(&factor), "{form}: {factor}");
                for (channel, pixel) in (0..3).flat_map(|c| (0..20).map(move |p| (c, p))) {
                    let (mut a, mut b) = (series(x, channel, pixel), series(y, channel, pixel));
                    for order in 1..=3 {
                        (a, b) = (difference(&a), difference(&b));
                        for (a, b) in a.iter().zip(&b) {
                            // Rounding of values up to 2, times 8 for the third difference.
                            let off = (factor * a - b).abs();
                            assert!(off < 3e-5, "{form}, order {order}: {b} is not {factor} * {a}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_mixed_in_frame_stays_and_nothing_leaves_its_range() {
        let before = batch(4);
        let after = changed("alpha = 0.3", &before);
        let mut shares = Vec::new();
        for (x, y) in before.views[0].pixels.f32().chunks(480).zip(after.views[0].pixels.f32().chunks(480)) {
            let is_same = |t: usize| {
                (0..3).all(|c| {
                    let frame = (c * 8 + t) * 20..(c * 8 + t + 1) * 20;
                    x[frame.clone()] == y[frame]
                })
            };
            let fixed: Vec<usize> = (0..8).filter(|&t| is_same(t)).collect();
            assert_eq!(fixed.len(), 1, "one frame is the still one");
            for pixel in 0..20 {
                let (a, b) = (series(x, 1, pixel), series(y, 1, pixel));
                let low = a.iter().copied().fold(f32::MAX, f32::min);
                let high = a.iter().copied().fold(f32::MIN, f32::max);
                assert!(b.iter().all(|&v| v >= low - 1e-6 && v <= high + 1e-6), "{b:?} leaves {low}..{high}");
                shares.push(1.0 - (b[1] - b[0]) / (a[1] - a[0]));
            }
        }
        let spread = shares.iter().map(|share| (share - shares[0]).abs()).fold(0.0, f32::max);
        assert!(spread < 1e-3, "one share a step: {shares:?}");
    }

    #[test]
    fn nothing_changes_without_strength_or_chance() {
        let before = batch(3);
        for form in FORMS {
            for text in ["alpha = 0.0", "p = 0.0"] {
                let after = changed(&format!("form = '{form}'\n{text}"), &before);
                assert_eq!(before.views[0].pixels, after.views[0].pixels, "{form} with {text}");
            }
        }
        let after = changed("views = ['positive']", &before);
        assert_eq!(before.views[0].pixels, after.views[0].pixels);
        assert_ne!(before.views[1].pixels, after.views[1].pixels);
    }

    #[test]
    fn a_still_clip_stays_as_it_is() {
        let mut before = batch(1);
        let first = before.views[0].pixels.f32().to_vec();
        for (i, value) in before.views[0].pixels.f32_mut().iter_mut().enumerate() {
            *value = first[i / 160 * 160 + i % 20];
        }
        assert_eq!(changed("alpha = 0.3", &before).views[0].pixels, before.views[0].pixels);
    }

    #[test]
    fn before_or_after_the_batch_makes_no_difference() {
        let whole = batch(4);
        for form in ["self_frame", "scale", "offset", "static_noise"] {
            let text = format!("form = '{form}'\np = 0.7");
            assert!(!settings(&text).needs_batch());
            let together = changed(&text, &whole);
            for index in 0..4 {
                let mut alone = whole.clone();
                alone.slots = vec![whole.slots[index].clone()];
                for view in &mut alone.views {
                    view.pixels = view.pixels.f32()[index * 480..(index + 1) * 480].to_vec().into();
                }
                let alone = changed(&text, &alone);
                let part = &together.views[0].pixels.f32()[index * 480..(index + 1) * 480];
                assert_eq!(alone.views[0].pixels.f32(), part, "{form}, slot {index}");
            }
        }
        assert!(settings("form = 'next_frame'").needs_batch() && settings("form = 'permuted'").needs_batch());
    }

    #[test]
    fn the_next_slot_lends_its_frame_as_it_was() {
        let before = batch(3);
        let after = changed("form = 'next_frame'\nalpha = 0.3", &before);
        let clips =
            |batch: &Batch| batch.views[0].pixels.f32().chunks(480).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let (x, y) = (clips(&before), clips(&after));
        let a = (series(&x[0], 0, 0), series(&y[0], 0, 0));
        let share = 1.0 - (a.1[1] - a.1[0]) / (a.0[1] - a.0[0]);
        for index in 0..3 {
            let next = &x[(index + 1) % 3];
            let picture: Vec<f32> = (0..20)
                .map(|p| {
                    let (a, b) = (series(&x[index], 2, p)[0], series(&y[index], 2, p)[0]);
                    a + (b - a) / share
                })
                .collect();
            let is_frame = |t: usize| (0..20).all(|p| (series(next, 2, p)[t] - picture[p]).abs() < 1e-3);
            assert!((0..8).any(is_frame), "slot {index} got a picture its neighbour does not have");
        }
    }

    #[test]
    fn draws_change_from_step_to_step() {
        let before = batch(2);
        let mut later = before.clone();
        later.step = 8;
        for form in FORMS {
            let text = format!("form = '{form}'");
            assert_ne!(
                changed(&text, &before).views[0].pixels,
                changed(&text, &later).views[0].pixels,
                "{form}"
            );
        }
    }

    #[test]
    fn mistakes_are_refused_with_operands() {
        assert_eq!(settings("form = 'permuted'\nalpha = 0.4").check().len(), 1);
        assert_eq!(settings("form = 'scale'\nalpha = 1.0").check().len(), 1);
        assert_eq!(settings("views = []").check().len(), 1);
        assert!(settings("").check().is_empty());
        let error = settings("views = ['query']").apply(&mut batch(1), Key::new(1)).unwrap_err();
        assert!(error.message.contains("`query`") && error.message.contains("anchor, positive"), "{error}");
    }
}
