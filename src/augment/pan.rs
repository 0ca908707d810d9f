//! What happens to pixels once they are red, green and blue, and where in the view they go.
//!
//! Colours are finished while the pixels are in the first cache; only contrast needs the mean of what came
//! before it and so a second look.

use super::colour::{self, ColourOp, ToRgb};
use super::draw::Recipe;
use super::steps::Pivot;

/// Pixels whose colours are changed together: three planes of 1024 f32 are 12 KiB, within any first cache.
const BLOCK: usize = 1024;

/// The colour half of a recipe, with what it has seen of the clip.
pub struct Pan {
    /// Changes before the first contrast.
    before: Vec<ColourOp>,
    /// Each contrast with the changes up to the next.
    contrasts: Vec<(f32, Pivot, Vec<ColourOp>)>,
    normalize: Option<([f32; 3], [f32; 3])>,
    /// Pixels of a frame.
    area: usize,
    /// Frames of the clip.
    frames: usize,
}

impl Pan {
    /// For views of `frames` frames of `area` pixels.
    #[must_use]
    pub fn new(recipe: &Recipe, frames: usize, area: usize) -> Self {
        let mut parts = recipe.colours.split(|op| matches!(op, ColourOp::Contrast(..)));
        let before = parts.next().unwrap_or_default().to_vec();
        let contrasts = recipe.colours.iter().filter_map(|op| match op {
            ColourOp::Contrast(factor, pivot) => Some((*factor, *pivot)),
            _ => None,
        });
        let contrasts = contrasts.zip(parts).map(|((factor, pivot), ops)| (factor, pivot, ops.to_vec()));
        Self { before, contrasts: contrasts.collect(), normalize: recipe.normalize, area, frames }
    }

    /// The three planes of one frame of a view `[3, T, H, W]`.
    pub fn frame<'v>(&self, view: &'v mut [f32], frame: usize) -> [&'v mut [f32]; 3] {
        let (red, rest) = view.split_at_mut(self.frames * self.area);
        let (green, blue) = rest.split_at_mut(self.frames * self.area);
        [red, green, blue].map(|plane| &mut plane[frame * self.area..(frame + 1) * self.area])
    }

    /// Finishes the colours of a block of pixels of one frame as far as they can be without a mean.
    pub fn colour(&self, to_rgb: &ToRgb, y: &mut [f32], u: &mut [f32], v: &mut [f32]) {
        to_rgb.apply(y, u, v);
        colour::apply(&self.before, y, u, v);
        if self.contrasts.is_empty()
            && let Some((mean, std)) = self.normalize
        {
            for (channel, plane) in [y, u, v].into_iter().enumerate() {
                colour::normalize(mean[channel], std[channel], plane);
            }
        }
    }

    /// Makes the contrasts of one frame and what follows them, if each turns about the frame's own mean.
    pub fn finish_frame(&self, view: &mut [f32], frame: usize) {
        if self.contrasts.iter().any(|(_, pivot, _)| *pivot == Pivot::Clip) {
            return;
        }
        for index in 0..self.contrasts.len() {
            let [r, g, b] = self.frame(view, frame);
            let mean = colour::grey_sum(r, g, b) / self.area as f64;
            self.contrast(view, frame, index, mean);
        }
    }

    /// Makes the contrasts that [`Pan::finish_frame`] left, now that every pixel of the clip is there.
    pub fn finish(&self, view: &mut [f32]) {
        if self.contrasts.iter().all(|(_, pivot, _)| *pivot == Pivot::Frame) {
            return;
        }
        for (index, (_, pivot, _)) in self.contrasts.iter().enumerate() {
            let mut sums = Vec::with_capacity(self.frames);
            for frame in 0..self.frames {
                let [r, g, b] = self.frame(view, frame);
                sums.push(colour::grey_sum(r, g, b));
            }
            let clip_mean = sums.iter().sum::<f64>() / (self.frames * self.area) as f64;
            for (frame, sum) in sums.into_iter().enumerate() {
                let mean = match pivot {
                    Pivot::Clip => clip_mean,
                    Pivot::Frame => sum / self.area as f64,
                };
                self.contrast(view, frame, index, mean);
            }
        }
    }

    /// One contrast and what follows it on one frame, a block at a time so that it stays in the cache.
    fn contrast(&self, view: &mut [f32], frame: usize, index: usize, mean: f64) {
        let (factor, _, ops) = &self.contrasts[index];
        let normalize = self.normalize.filter(|_| index + 1 == self.contrasts.len());
        let [r, g, b] = self.frame(view, frame).map(|plane| plane.chunks_mut(BLOCK));
        for ((r, g), b) in r.zip(g).zip(b) {
            for plane in [&mut *r, &mut *g, &mut *b] {
                colour::contrast(*factor, mean as f32, plane);
            }
            colour::apply(ops, r, g, b);
            if let Some((mean, std)) = normalize {
                for (channel, plane) in [r, g, b].into_iter().enumerate() {
                    colour::normalize(mean[channel], std[channel], plane);
                }
            }
        }
    }
}
