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
            view.pixels.chunks_exact_mut(shape.iter().product()).zip(slots).enumerate()
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
        let clips: Vec<&[f32]> = view.pixels.chunks_exact(view.clip_len()).collect();
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
