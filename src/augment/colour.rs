//! From the decoder's code values to red, green, blue, and the changes of colour on the way.
//!
//! Every function works on three equally long slices, pixel by pixel, in loops without branches so that
//! the compiler turns them into vector instructions.

use reelflow_api::item::{Colour, Matrix};

use super::steps::Pivot;

/// One change of colour with its drawn parameter. Values are clamped to 0..=1 after each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColourOp {
    /// Times a factor.
    Brightness(f32),
    /// Away from the mean grey by a factor.
    Contrast(f32, Pivot),
    /// Away from each pixel's grey by a factor; 0 takes the colour away.
    Saturation(f32),
    /// Around the colour circle, in full turns.
    Hue(f32),
}

/// Weights of red, green, blue in grey: luma of ITU-R BT.601, as Pillow and torchvision take it.
pub const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// Y'CbCr code values to R'G'B' on a scale of 0 to 1: `rgb = matrix * (y, u, v) + shift`.
///
/// Derived from ITU-R BT.601-7 and BT.709-6: `R = Y + 2 (1 - Kr) Cr`, `B = Y + 2 (1 - Kb) Cb`, and green
/// from `Y = Kr R + Kg G + Kb B`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToRgb {
    /// Rows red, green, blue; columns y, u, v.
    pub matrix: [[f32; 3]; 3],
    /// Added to red, green, blue.
    pub shift: [f32; 3],
    /// Code value of black luma.
    pub black: f32,
}

impl ToRgb {
    /// The conversion for pictures of this kind.
    #[must_use]
    pub fn new(colour: Colour) -> Self {
        let (kr, kb) = match colour.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) =
            if colour.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let (red_v, blue_u): (f64, f64) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let rows = [[0.0, red_v], [-blue_u * kb / kg, -red_v * kr / kg], [blue_u, 0.0]];
        let shift = rows.map(|[u, v]| (-black / luma - 128.0 * (u + v) / chroma) as f32);
        let matrix = rows.map(|[u, v]| [(1.0 / luma) as f32, (u / chroma) as f32, (v / chroma) as f32]);
        Self { matrix, shift, black: black as f32 }
    }

    /// Turns y, u, v into red, green, blue in place, clamped to 0..=1.
    pub fn apply(&self, y: &mut [f32], u: &mut [f32], v: &mut [f32]) {
        let ([r, g, b], s) = (self.matrix, self.shift);
        for ((y, u), v) in y.iter_mut().zip(u).zip(v) {
            let red = r[0] * *y + r[2] * *v + s[0];
            let green = g[0] * *y + g[1] * *u + g[2] * *v + s[1];
            let blue = b[0] * *y + b[1] * *u + s[2];
            (*y, *u, *v) = (unit(red), unit(green), unit(blue));
        }
    }
}

/// The larger; unlike `f32::max` one instruction, because no value here is NaN.
#[inline]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller; unlike `f32::min` one instruction, because no value here is NaN.
#[inline]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Clamps to 0..=1.
#[inline]
fn unit(value: f32) -> f32 {
    value.clamp(0.0, 1.0)
}

#[inline]
fn grey(r: f32, g: f32, b: f32) -> f32 {
    GREY[0] * r + GREY[1] * g + GREY[2] * b
}

/// Sum of the grey values; in f64, because a clip has hundreds of thousands.
#[must_use]
pub fn grey_sum(r: &[f32], g: &[f32], b: &[f32]) -> f64 {
    // Eight partial sums in f32 over at most 64 pixels each, so that it vectorises and stays exact enough.
    let mut total = 0.0;
    for ((r, g), b) in r.chunks(512).zip(g.chunks(512)).zip(b.chunks(512)) {
        let mut sums = [0.0f32; 8];
        for ((r, g), b) in r.chunks(8).zip(g.chunks(8)).zip(b.chunks(8)) {
            for (((sum, r), g), b) in sums.iter_mut().zip(r).zip(g).zip(b) {
                *sum += grey(*r, *g, *b);
            }
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

/// Makes `ops`, none of them contrast, on three planes.
pub fn apply(ops: &[ColourOp], r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    for op in ops {
        match *op {
            ColourOp::Brightness(factor) => {
                for plane in [&mut *r, &mut *g, &mut *b] {
                    plane.iter_mut().for_each(|value| *value = unit(*value * factor));
                }
            }
            ColourOp::Saturation(factor) => saturate(factor, r, g, b),
            ColourOp::Hue(turns) => turn_hue(turns, r, g, b),
            ColourOp::Contrast(..) => unreachable!("contrast needs a pivot; the kernel calls `contrast`"),
        }
    }
}

/// Stretches values away from `pivot`, the mean grey.
pub fn contrast(factor: f32, pivot: f32, plane: &mut [f32]) {
    let shift = pivot * (1.0 - factor);
    plane.iter_mut().for_each(|value| *value = unit(*value * factor + shift));
}

fn saturate(factor: f32, r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let shift = grey(*r, *g, *b) * (1.0 - factor);
        (*r, *g, *b) = (unit(*r * factor + shift), unit(*g * factor + shift), unit(*b * factor + shift));
    }
}

/// Turns the hue in HSV, keeping the largest and the smallest of red, green, blue.
fn turn_hue(turns: f32, r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    // One turn added keeps every angle below positive.
    let shift = 6.0 * turns + 6.0;
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let high = larger(larger(*r, *g), *b);
        let range = high - smaller(smaller(*r, *g), *b);
        // A grey pixel has numerator 0; the floor only keeps it from being 0/0.
        let scale = 1.0 / larger(range, 1e-12);
        let from_green = if high == *g { (*b - *r) * scale + 2.0 } else { (*r - *g) * scale + 4.0 };
        let angle = if high == *r { (*g - *b) * scale } else { from_green } + shift;
        let channel = |corner: f32| {
            // Angle 2 to 20 in sixths of a turn, brought below 6.
            let at = angle + corner;
            let at = if at >= 12.0 { at - 12.0 } else { at };
            let at = if at >= 6.0 { at - 6.0 } else { at };
            high - range * unit(smaller(at, 4.0 - at))
        };
        (*r, *g, *b) = (channel(5.0), channel(3.0), channel(1.0));
    }
}

/// `(value - mean) / std` for one channel.
pub fn normalize(mean: f32, std: f32, plane: &mut [f32]) {
    let (scale, shift) = (1.0 / std, -mean / std);
    plane.iter_mut().for_each(|value| *value = *value * scale + shift);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rgb(matrix: Matrix, full_range: bool, yuv: [f32; 3], rgb: [f32; 3]) {
        let [mut y, mut u, mut v] = yuv.map(|code| [code]);
        ToRgb::new(Colour { matrix, full_range }).apply(&mut y, &mut u, &mut v);
        for (found, wanted) in [y[0], u[0], v[0]].into_iter().zip(rgb) {
            assert!((found - wanted).abs() < 0.008, "{yuv:?} is {y:?} {u:?} {v:?}, not {rgb:?}");
        }
    }

    #[test]
    fn code_values_of_colour_bars_give_pure_colours() {
        // 8-bit codes of 100 % bars; rounding them to integers leaves up to 0.0065.
        check_rgb(Matrix::Bt601, false, [16.0, 128.0, 128.0], [0.0, 0.0, 0.0]);
        check_rgb(Matrix::Bt601, false, [235.0, 128.0, 128.0], [1.0, 1.0, 1.0]);
        check_rgb(Matrix::Bt601, false, [81.0, 90.0, 240.0], [1.0, 0.0, 0.0]);
        check_rgb(Matrix::Bt601, false, [145.0, 54.0, 34.0], [0.0, 1.0, 0.0]);
        check_rgb(Matrix::Bt601, false, [41.0, 240.0, 110.0], [0.0, 0.0, 1.0]);
        check_rgb(Matrix::Bt709, false, [63.0, 102.0, 240.0], [1.0, 0.0, 0.0]);
        check_rgb(Matrix::Bt709, false, [173.0, 42.0, 26.0], [0.0, 1.0, 0.0]);
        check_rgb(Matrix::Bt601, true, [76.0, 85.0, 255.0], [1.0, 0.0, 0.0]);
        check_rgb(Matrix::Bt601, true, [0.0, 128.0, 128.0], [0.0, 0.0, 0.0]);
    }

    fn one(op: ColourOp, rgb: [f32; 3]) -> [f32; 3] {
        let [mut r, mut g, mut b] = rgb.map(|value| [value]);
        apply(&[op], &mut r, &mut g, &mut b);
        [r[0], g[0], b[0]]
    }

    #[track_caller]
    fn check_op(op: ColourOp, rgb: [f32; 3], expected: [f32; 3]) {
        let found = one(op, rgb);
        let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{op:?} of {rgb:?} is {found:?}, not {expected:?}");
    }

    #[test]
    fn colours_change_as_their_names_say() {
        check_op(ColourOp::Brightness(1.5), [0.2, 0.4, 0.8], [0.3, 0.6, 1.0]);
        check_op(ColourOp::Saturation(0.0), [1.0, 0.0, 0.0], [0.299; 3]);
        check_op(ColourOp::Saturation(1.0), [0.2, 0.4, 0.8], [0.2, 0.4, 0.8]);
        check_op(ColourOp::Hue(1.0 / 3.0), [0.8, 0.1, 0.2], [0.2, 0.8, 0.1]);
        check_op(ColourOp::Hue(-1.0 / 3.0), [0.8, 0.1, 0.2], [0.1, 0.2, 0.8]);
        check_op(ColourOp::Hue(0.5), [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]);
        check_op(ColourOp::Hue(0.0), [0.3, 0.3, 0.3], [0.3, 0.3, 0.3]);
        check_op(ColourOp::Hue(0.37), [0.6, 0.6, 0.6], [0.6, 0.6, 0.6]);
    }

    #[test]
    fn hue_there_and_back_is_nothing() {
        for i in 0..1000 {
            let rgb = [7, 11, 13].map(|prime| (i * prime % 101) as f32 / 100.0);
            let turns = (i % 99) as f32 / 99.0 - 0.5;
            let back = one(ColourOp::Hue(-turns), one(ColourOp::Hue(turns), rgb));
            let off = back.iter().zip(rgb).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{rgb:?} came back as {back:?}");
        }
    }

    #[test]
    fn contrast_keeps_the_pivot_and_grey_sums_are_exact() {
        let mut plane = [0.5, 0.6, 0.1];
        contrast(2.0, 0.5, &mut plane);
        assert_eq!(plane, [0.5, 0.70000005, 0.0]);
        let ones = vec![1.0; 1001];
        assert!((grey_sum(&ones, &ones, &ones) - 1001.0).abs() < 1e-3);
    }
}
