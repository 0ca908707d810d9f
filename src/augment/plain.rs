//! The obvious way to cook a recipe, in f64 and pixel by pixel: what the fast kernel is tested against.

use reelflow_api::item::{Frame, Matrix, PixelFormat};

use super::colour::ColourOp;
use super::draw::Recipe;
use super::geometry::Affine;
use super::rotated::Shrunk;
use super::steps::Pivot;
use super::weights::triangle;

type Rgb = [f64; 3];

/// The view's pixels, `[3, T, H, W]`.
pub fn cook(recipe: &Recipe, frames: &[Frame<'_>]) -> Vec<f32> {
    let mut pictures: Vec<Vec<Rgb>> = frames.iter().map(|frame| picture(recipe, frame)).collect();
    for op in &recipe.colours {
        let grey_of =
            |picture: &[Rgb]| picture.iter().map(|&rgb| grey(rgb)).sum::<f64>() / picture.len() as f64;
        let means: Vec<f64> = pictures.iter().map(|picture| grey_of(picture)).collect();
        let clip_mean = means.iter().sum::<f64>() / means.len() as f64;
        for (picture, mean) in pictures.iter_mut().zip(means) {
            let pivot = if matches!(op, ColourOp::Contrast(_, Pivot::Frame)) { mean } else { clip_mean };
            picture.iter_mut().for_each(|rgb| *rgb = change(*op, pivot, *rgb));
        }
    }
    let (mean, std) = recipe.normalize.unwrap_or(([0.0; 3], [1.0; 3]));
    let mut pixels = Vec::new();
    for channel in 0..3 {
        for picture in &pictures {
            let (mean, std) = (f64::from(mean[channel]), f64::from(std[channel]));
            pixels.extend(picture.iter().map(|rgb| ((rgb[channel] - mean) / std) as f32));
        }
    }
    pixels
}

/// One frame before any change of colour.
fn picture(recipe: &Recipe, frame: &Frame<'_>) -> Vec<Rgb> {
    let map = recipe.canvas.map;
    let is_upright = (map.x[1] == 0.0 && map.y[0] == 0.0) || (map.x[0] == 0.0 && map.y[1] == 0.0);
    let mut picture = Vec::new();
    for row in 0..recipe.canvas.height {
        for col in 0..recipe.canvas.width {
            let value = |kind| {
                if is_upright {
                    filtered(frame, kind, &map, row, col)
                } else {
                    sampled(frame, kind, &map, row, col)
                }
            };
            picture.push(to_rgb(frame, [value(Kind::Y), value(Kind::U), value(Kind::V)]));
        }
    }
    picture
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Y,
    U,
    V,
}

/// A plane's size, its scale against luma and its shift: chroma is sited left.
fn plane(frame: &Frame<'_>, kind: Kind) -> (usize, usize, f64, f64) {
    let (w, h) = (frame.width as usize, frame.height as usize);
    match kind {
        Kind::Y => (w, h, 1.0, 0.0),
        Kind::U | Kind::V => (w.div_ceil(2), h.div_ceil(2), 0.5, 0.25),
    }
}

/// One sample on the scale of 8-bit codes.
fn code(frame: &Frame<'_>, kind: Kind, row: usize, col: usize) -> f64 {
    let byte = |plane: usize, at: usize| frame.planes[plane].bytes[row * frame.planes[plane].stride + at];
    match (frame.format, kind) {
        (PixelFormat::I420, _) => byte(kind as usize, col).into(),
        (PixelFormat::Nv12, Kind::Y) => byte(0, col).into(),
        (PixelFormat::Nv12, Kind::U) => byte(1, 2 * col).into(),
        (PixelFormat::Nv12, Kind::V) => byte(1, 2 * col + 1).into(),
        (PixelFormat::I420P10, _) => {
            let [low, high] = [0, 1].map(|i| f64::from(byte(kind as usize, 2 * col + i)));
            (low + 256.0 * high) / 4.0
        }
    }
}

/// Every source pixel weighed by its distance from where the output pixel's centre lies.
fn filtered(frame: &Frame<'_>, kind: Kind, map: &Affine, row: u32, col: u32) -> f64 {
    let (w, h, scale, shift) = plane(frame, kind);
    let (x, y) = map.at(f64::from(col) + 0.5, f64::from(row) + 0.5);
    let (x, y) = (x * scale + shift, y * scale);
    let radius_x = (scale * map.x[0].hypot(map.x[1])).max(1.0);
    let radius_y = (scale * map.y[0].hypot(map.y[1])).max(1.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for source_row in 0..h {
        for source_col in 0..w {
            let weight = triangle((source_col as f64 + 0.5 - x) / radius_x)
                * triangle((source_row as f64 + 0.5 - y) / radius_y);
            sum += weight * code(frame, kind, source_row, source_col);
            weights += weight;
        }
    }
    sum / weights
}

/// Bilinear between four pixels of the picture shrunk upright, each black if it is outside.
fn sampled(frame: &Frame<'_>, kind: Kind, map: &Affine, row: u32, col: u32) -> f64 {
    let shrunk = Shrunk::new(map, (frame.width, frame.height));
    let upright = Affine { x: [shrunk.step.0, 0.0, 0.0], y: [0.0, shrunk.step.1, 0.0] };
    let pixel = |row: f64, col: f64| {
        let is_inside = row >= 0.0 && col >= 0.0 && row < shrunk.size.1.into() && col < shrunk.size.0.into();
        match (is_inside, kind) {
            (true, _) => filtered(frame, kind, &upright, row as u32, col as u32),
            (false, Kind::Y) if frame.colour.full_range => 0.0,
            (false, Kind::Y) => 16.0,
            (false, _) => 128.0,
        }
    };
    let (x, y) = map.at(f64::from(col) + 0.5, f64::from(row) + 0.5);
    let (x, y) = (x / shrunk.step.0 - 0.5, y / shrunk.step.1 - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    (pixel(top, left) * (1.0 - fx) + pixel(top, left + 1.0) * fx) * (1.0 - fy)
        + (pixel(top + 1.0, left) * (1.0 - fx) + pixel(top + 1.0, left + 1.0) * fx) * fy
}

/// By the standards' definitions, not by a matrix.
fn to_rgb(frame: &Frame<'_>, [y, u, v]: [f64; 3]) -> Rgb {
    let (y, cb, cr) = if frame.colour.full_range {
        (y / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0)
    } else {
        ((y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0)
    };
    let (kr, kb) = match frame.colour.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let red = y + 2.0 * (1.0 - kr) * cr;
    let blue = y + 2.0 * (1.0 - kb) * cb;
    let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(|value| value.clamp(0.0, 1.0))
}

fn grey([r, g, b]: Rgb) -> f64 {
    0.299 * r + 0.587 * g + 0.114 * b
}

fn change(op: ColourOp, pivot: f64, rgb: Rgb) -> Rgb {
    let blend =
        |from: f64, factor: f32| rgb.map(|value| (from + (value - from) * f64::from(factor)).clamp(0.0, 1.0));
    match op {
        ColourOp::Brightness(factor) => blend(0.0, factor),
        ColourOp::Contrast(factor, _) => blend(pivot, factor),
        ColourOp::Saturation(factor) => blend(grey(rgb), factor),
        ColourOp::Hue(turns) => {
            let [hue, saturation, value] = to_hsv(rgb);
            from_hsv([(hue + f64::from(turns)).rem_euclid(1.0), saturation, value])
        }
    }
}

/// As in Python's `colorsys`.
fn to_hsv([r, g, b]: Rgb) -> [f64; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0.0, 0.0, high];
    }
    let [rc, gc, bc] = [r, g, b].map(|value| (high - value) / (high - low));
    let hue = if r == high {
        bc - gc
    } else if g == high {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    [(hue / 6.0).rem_euclid(1.0), (high - low) / high, high]
}

/// As in Python's `colorsys`.
fn from_hsv([hue, saturation, value]: [f64; 3]) -> Rgb {
    let sixth = (hue * 6.0).floor();
    let rest = hue * 6.0 - sixth;
    let p = value * (1.0 - saturation);
    let q = value * (1.0 - saturation * rest);
    let t = value * (1.0 - saturation * (1.0 - rest));
    match sixth as u32 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
