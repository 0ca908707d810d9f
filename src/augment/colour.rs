//! From the decoder's code values to red, green, blue, and the changes of colour on the way.
//!
//! A change is a function of one pixel without branches, and [`each`] a loop over equally long planes, so that
//! the compiler turns any chain of changes into vector instructions.

use reelflow_api::item::{Colour, Matrix};

use super::lanes::LANES;
use super::steps::Pivot;

/// Red, green and blue of a pixel, or what they are made of.
pub type Pixel = [f32; 3];

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
    /// Largest value of red, green, blue.
    pub most: f32,
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
        Self { matrix, shift, black: black as f32, most: 1.0 }
    }

    /// The same followed by a change of brightness, in one: `min(1, factor * min(1, x))` is the smaller of
    /// `factor * x` and `min(1, factor)`.
    #[must_use]
    pub fn times(self, factor: f32) -> Self {
        let scaled = |row: [f32; 3]| row.map(|value| value * factor);
        Self {
            matrix: self.matrix.map(scaled),
            shift: scaled(self.shift),
            most: self.most * smaller(factor, 1.0),
            ..self
        }
    }

    /// Red, green and blue of a pixel, held within 0 and [`ToRgb::most`].
    #[inline(always)]
    #[must_use]
    pub fn pixel(&self, [y, u, v]: Pixel) -> Pixel {
        let ([r, g, b], s) = (self.matrix, self.shift);
        let red = r[0] * y + r[2] * v + s[0];
        let green = g[0] * y + g[1] * u + g[2] * v + s[1];
        let blue = b[0] * y + b[1] * u + s[2];
        [red, green, blue].map(
            #[inline(always)]
            |value| smaller(larger(value, 0.0), self.most),
        )
    }
}

/// `value * scale + shift` for each channel: the last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    scale: Pixel,
    shift: Pixel,
}

impl Normal {
    /// Leaves every value what it is.
    pub const IDENTITY: Self = Self { scale: [1.0; 3], shift: [0.0; 3] };

    /// `(value - mean) / std`.
    #[must_use]
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { scale: std.map(|std| 1.0 / std), shift: [0, 1, 2].map(|c| -mean[c] / std[c]) }
    }

    #[inline(always)]
    fn pixel(&self, [r, g, b]: Pixel) -> Pixel {
        let (scale, shift) = (self.scale, self.shift);
        [r * scale[0] + shift[0], g * scale[1] + shift[1], b * scale[2] + shift[2]]
    }
}

/// The larger; unlike `f32::max` one instruction, because no value here is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller; unlike `f32::min` one instruction, because no value here is NaN.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Clamps to 0..=1.
#[inline(always)]
fn unit(value: f32) -> f32 {
    value.clamp(0.0, 1.0)
}

#[inline(always)]
fn grey([r, g, b]: Pixel) -> f32 {
    GREY[0] * r + GREY[1] * g + GREY[2] * b
}

/// Sums of the grey values by place modulo [`LANES`]; in f64, because a clip has hundreds of thousands.
#[inline(always)]
#[must_use]
pub fn grey_sums([r, g, b]: [&[f32]; 3]) -> [f64; LANES] {
    // Partial sums in f32 over at most 64 pixels each, so that they vectorise and stay exact enough.
    let mut totals = [0.0; LANES];
    for ((r, g), b) in r.chunks(64 * LANES).zip(g.chunks(64 * LANES)).zip(b.chunks(64 * LANES)) {
        let mut sums = [0.0f32; LANES];
        let (r, g, b) = (r.as_chunks::<LANES>(), g.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for ((r, g), b) in r.0.iter().zip(g.0).zip(b.0) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += grey([r[lane], g[lane], b[lane]]);
            }
        }
        for (((sum, r), g), b) in sums.iter_mut().zip(r.1).zip(g.1).zip(b.1) {
            *sum += grey([*r, *g, *b]);
        }
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
    }
    totals
}

/// Red, green and blue of some pixels on their way through changes, all equally long.
pub enum Planes<'p> {
    /// Changed where they lie.
    Here([&'p mut [f32]; 3]),
    /// The first change takes them to where they are to lie.
    Onto([&'p [f32]; 3], [&'p mut [f32]; 3]),
}

impl Planes<'_> {
    /// Takes them where they are to lie, unchanged.
    pub fn settle(self) {
        if let Self::Onto(from, to) = self {
            to.into_iter().zip(from).for_each(|(to, from)| to.copy_from_slice(from));
        }
    }
}

/// Makes `change` of every pixel.
#[inline(always)]
fn each(planes: Planes<'_>, change: impl Fn(Pixel) -> Pixel) -> [&mut [f32]; 3] {
    match planes {
        Planes::Here([r, g, b]) => {
            for ((r, g), b) in r.iter_mut().zip(&mut *g).zip(&mut *b) {
                [*r, *g, *b] = change([*r, *g, *b]);
            }
            [r, g, b]
        }
        Planes::Onto([r, g, b], to) => {
            let pixels = r.iter().zip(g).zip(b);
            let [to_r, to_g, to_b] = to;
            for (((r, g), b), ((to_r, to_g), to_b)) in
                pixels.zip(to_r.iter_mut().zip(&mut *to_g).zip(&mut *to_b))
            {
                [*to_r, *to_g, *to_b] = change([*r, *g, *b]);
            }
            [to_r, to_g, to_b]
        }
    }
}

/// Makes `first`, then `ops`, none of them contrast, then `last` of every pixel, in one loop if there is at most
/// one cheap change between.
#[inline(always)]
pub fn chain(planes: Planes<'_>, first: impl Fn(Pixel) -> Pixel, ops: &[ColourOp], last: Normal) {
    match *ops {
        [] => {
            each(
                planes,
                #[inline(always)]
                |pixel| last.pixel(first(pixel)),
            );
        }
        [ColourOp::Saturation(factor)] => {
            each(
                planes,
                #[inline(always)]
                |pixel| last.pixel(saturate(factor, first(pixel))),
            );
        }
        _ => {
            let mut planes = each(planes, first);
            for op in ops {
                planes = apply(*op, planes);
            }
            each(
                Planes::Here(planes),
                #[inline(always)]
                |pixel| last.pixel(pixel),
            );
        }
    }
}

#[inline(always)]
fn apply(op: ColourOp, planes: [&mut [f32]; 3]) -> [&mut [f32]; 3] {
    let planes = Planes::Here(planes);
    match op {
        ColourOp::Brightness(factor) => each(
            planes,
            #[inline(always)]
            |pixel| stretch(factor, 0.0, pixel),
        ),
        ColourOp::Saturation(factor) => each(
            planes,
            #[inline(always)]
            |pixel| saturate(factor, pixel),
        ),
        ColourOp::Hue(turns) => each(
            planes,
            #[inline(always)]
            |pixel| turn_hue(turns, pixel),
        ),
        ColourOp::Contrast(..) => unreachable!("contrast needs a pivot and is the first of a chain"),
    }
}

/// `value * factor + shift`: contrast about a pivot `p` has the shift `p * (1 - factor)`.
#[inline(always)]
#[must_use]
pub fn stretch(factor: f32, shift: f32, [r, g, b]: Pixel) -> Pixel {
    [unit(r * factor + shift), unit(g * factor + shift), unit(b * factor + shift)]
}

#[inline(always)]
fn saturate(factor: f32, pixel: Pixel) -> Pixel {
    stretch(factor, grey(pixel) * (1.0 - factor), pixel)
}

/// Turns the hue in HSV, keeping the largest and the smallest of red, green, blue.
#[inline(always)]
fn turn_hue(turns: f32, [r, g, b]: Pixel) -> Pixel {
    // One turn added keeps every angle below positive.
    let shift = 6.0 * turns + 6.0;
    let high = larger(larger(r, g), b);
    let range = high - smaller(smaller(r, g), b);
    // A grey pixel has numerator 0; the floor only keeps it from being 0/0.
    let scale = 1.0 / larger(range, 1e-12);
    let from_green = if high == g { (b - r) * scale + 2.0 } else { (r - g) * scale + 4.0 };
    let angle = if high == r { (g - b) * scale } else { from_green } + shift;
    let channel = |corner: f32| {
        // Angle 2 to 20 in sixths of a turn, brought below 6.
        let at = angle + corner;
        let at = if at >= 12.0 { at - 12.0 } else { at };
        let at = if at >= 6.0 { at - 6.0 } else { at };
        high - range * unit(smaller(at, 4.0 - at))
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rgb(matrix: Matrix, full_range: bool, yuv: [f32; 3], rgb: [f32; 3]) {
        let found = ToRgb::new(Colour { matrix, full_range }).pixel(yuv);
        for (one, wanted) in found.into_iter().zip(rgb) {
            assert!((one - wanted).abs() < 0.008, "{yuv:?} is {found:?}, not {rgb:?}");
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
        chain(Planes::Here([&mut r, &mut g, &mut b]), |pixel| pixel, &[op], Normal::IDENTITY);
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
        let factor = 2.0;
        assert_eq!(stretch(factor, 0.5 * (1.0 - factor), [0.5, 0.6, 0.1]), [0.5, 0.70000005, 0.0]);
        let ones = vec![1.0; 1001];
        let sums = grey_sums([&ones, &ones, &ones]);
        for (lane, sum) in sums.into_iter().enumerate() {
            let wanted = if lane == 0 { 126.0 } else { 125.0 };
            assert!((sum - wanted).abs() < 1e-3, "lane {lane}: {sum}");
        }
    }

    #[test]
    fn brightness_in_the_conversion_is_brightness_after_it() {
        let plain = ToRgb::new(Colour::default());
        for (i, factor) in [0.0, 0.3, 1.0, 1.7].into_iter().enumerate() {
            for code in 0..256 {
                let yuv = [code as f32, (code * 7 % 256) as f32, (code * (11 + i) % 256) as f32];
                let (found, wanted) =
                    (plain.times(factor).pixel(yuv), one(ColourOp::Brightness(factor), plain.pixel(yuv)));
                let off = found.iter().zip(wanted).map(|(f, w)| (f - w).abs()).fold(0.0, f32::max);
                assert!(off < 1e-6, "{factor} times {yuv:?} is {found:?}, not {wanted:?}");
            }
        }
    }
}
