//! What happens to pixels once they are resampled: red, green and blue, changes of colour, normalising.
//!
//! Colours are finished while the pixels are in the first cache; only contrast needs the mean of what came
//! before it and so a second look.

use super::colour::{self, ColourOp, Normal, Pixel, Planes, ToRgb};
use super::draw::Recipe;
use super::lanes::LANES;
use super::steps::Pivot;
use super::wide::Width;

/// The colour half of a recipe.
pub struct Pan {
    wide: Width,
    /// Brightness that comes before all else, and so is part of the conversion to red, green and blue.
    brightness: f32,
    /// Other changes before the first contrast.
    before: Vec<ColourOp>,
    /// Each contrast with the changes up to the next.
    contrasts: Vec<(f32, Pivot, Vec<ColourOp>)>,
    normal: Normal,
}

impl Pan {
    /// For the colours of `recipe`.
    #[must_use]
    pub fn new(recipe: &Recipe, wide: Width) -> Self {
        let mut parts = recipe.colours.split(|op| matches!(op, ColourOp::Contrast(..)));
        let (brightness, before) = match parts.next().unwrap_or_default() {
            [ColourOp::Brightness(factor), rest @ ..] => (*factor, rest.to_vec()),
            all => (1.0, all.to_vec()),
        };
        let contrasts = recipe.colours.iter().filter_map(|op| match op {
            ColourOp::Contrast(factor, pivot) => Some((*factor, *pivot)),
            _ => None,
        });
        let contrasts = contrasts.zip(parts).map(|((factor, pivot), ops)| (factor, pivot, ops.to_vec()));
        let normal = recipe.normalize.map_or(Normal::IDENTITY, |(mean, std)| Normal::new(mean, std));
        Self { wide, brightness, before, contrasts: contrasts.collect(), normal }
    }

    /// How many contrasts there are, each of which needs a mean.
    #[must_use]
    pub fn contrasts(&self) -> usize {
        self.contrasts.len()
    }

    /// Whether some contrast turns about the mean of all pictures.
    #[must_use]
    pub fn needs_clip(&self) -> bool {
        self.contrasts.iter().any(|(_, pivot, _)| *pivot == Pivot::Clip)
    }

    /// Turns a block of Y, U and V into colours and finishes them as far as they can be without a mean. The sums
    /// of their grey values by place modulo [`LANES`] if there is contrast, else 0.
    pub fn colour(&self, to_rgb: &ToRgb, [y, u, v]: [&mut [f32]; 3]) -> [f64; LANES] {
        let to_rgb = to_rgb.times(self.brightness);
        self.wide.run(
            #[inline(always)]
            || {
                let last = if self.contrasts.is_empty() { self.normal } else { Normal::IDENTITY };
                colour::chain(
                    Planes::Here([&mut *y, &mut *u, &mut *v]),
                    #[inline(always)]
                    |pixel: Pixel| to_rgb.pixel(pixel),
                    &self.before,
                    last,
                );
                if self.contrasts.is_empty() { [0.0; LANES] } else { colour::grey_sums([y, u, v]) }
            },
        )
    }

    /// Makes contrast number `index` and what follows it on some pixels of a picture. `own` and `clip` are the mean
    /// greys of the picture and of all.
    pub fn contrast(&self, index: usize, own: f64, clip: f64, planes: Planes<'_>) {
        let (factor, pivot, ops) = &self.contrasts[index];
        let pivot = if *pivot == Pivot::Frame { own } else { clip };
        let (factor, shift) = (*factor, pivot as f32 * (1.0 - factor));
        let last = if index + 1 == self.contrasts.len() { self.normal } else { Normal::IDENTITY };
        self.wide.run(
            #[inline(always)]
            || {
                colour::chain(
                    planes,
                    #[inline(always)]
                    |pixel| colour::stretch(factor, shift, pixel),
                    ops,
                    last,
                );
            },
        );
    }

    /// Sum of the grey values of a picture.
    #[must_use]
    pub fn grey_sum(&self, planes: [&[f32]; 3]) -> f64 {
        let sums = self.wide.run(
            #[inline(always)]
            || colour::grey_sums(planes),
        );
        sums.iter().sum()
    }
}
