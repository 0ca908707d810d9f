//! Square pieces of real pictures that can be looked at from anywhere: they go on mirrored for ever.

use reelflow_api::item::Picture;
use reelflow_api::rng::Key;

use crate::augment::colour::ToRgb;

/// Side of a texture in pixels.
pub const SIDE: usize = 256;

/// Standard deviation of grey, on a scale of 0 to 255, below which a picture is blank: on it nothing could
/// be seen moving.
const BLANK: f64 = 8.0;

/// `SIDE` x `SIDE` pixels, red, green, blue, bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Texture(Vec<u8>);

impl Texture {
    /// The square of a decoded picture that reaches over its shorter side, scaled to `SIDE`; `place` is where
    /// along the longer side, 0 to 1. `None` if the piece is blank.
    ///
    /// Upright or not makes no difference here: every use of a texture turns it by a random angle.
    #[must_use]
    pub fn cut(frame: &Picture, place: f64) -> Option<Self> {
        let (width, height) = (frame.width as usize, frame.height as usize);
        let side = width.min(height);
        let left = ((width - side) as f64 * place.clamp(0.0, 1.0)) as usize;
        let top = ((height - side) as f64 * place.clamp(0.0, 1.0)) as usize;
        let square = square(frame, left, top, side);
        let scaled = columns(&rows(&square, side), side);
        let texture = Self(scaled.iter().map(|&value| to_byte(value)).collect());
        (spread(&texture.grey(0, 0, SIDE)) >= BLANK).then_some(texture)
    }

    /// Smooth coloured noise, for tests that have no video.
    #[must_use]
    pub fn noise(key: Key) -> Self {
        let mut sum = vec![0.0; SIDE * SIDE * 3];
        for (octave, weight) in [(8usize, 90.0), (16, 60.0), (32, 40.0)] {
            let mut rng = key.number(octave as u64).rng();
            let knots: Vec<f64> = (0..octave * octave * 3).map(|_| rng.range(-weight, weight)).collect();
            for (at, value) in sum.iter_mut().enumerate() {
                let (pixel, channel) = (at / 3, at % 3);
                let (x, y) = (pixel % SIDE * octave / SIDE, pixel / SIDE * octave / SIDE);
                *value += knots[(y * octave + x) * 3 + channel];
            }
        }
        Self(sum.iter().map(|value| to_byte(128.0 + *value as f32)).collect())
    }

    /// The texture through one table of 256 values a channel, halved `halvings` times by averaging.
    #[must_use]
    pub fn through(&self, table: &[[f32; 256]; 3], halvings: u32) -> Tile {
        let mut pixels: Vec<[f32; 3]> =
            self.0.as_chunks::<3>().0.iter().map(|p| [0, 1, 2].map(|c| table[c][p[c] as usize])).collect();
        let mut side = SIDE;
        for _ in 0..halvings {
            pixels = halved(&pixels, side);
            side /= 2;
        }
        Tile { side, pixels }
    }

    /// Of eight random places the one with the most contrast about it: column and row, pixels.
    #[must_use]
    pub fn busy_spot(&self, key: Key) -> (f64, f64) {
        const REACH: usize = SIDE / 8;
        let mut rng = key.rng();
        let mut best = (0.0, 0.0);
        let mut most = -1.0;
        for _ in 0..8 {
            let room = (SIDE - 2 * REACH) as u64;
            let (x, y) = (rng.below(room) as usize, rng.below(room) as usize);
            let contrast = spread(&self.grey(x, y, 2 * REACH));
            if contrast > most {
                (most, best) = (contrast, ((x + REACH) as f64, (y + REACH) as f64));
            }
        }
        best
    }

    fn grey(&self, left: usize, top: usize, side: usize) -> Vec<f64> {
        let at = |x: usize, y: usize| {
            let p = (y * SIDE + x) * 3;
            self.0[p..p + 3].iter().map(|&value| f64::from(value)).sum::<f64>() / 3.0
        };
        (top..top + side).flat_map(|y| (left..left + side).map(move |x| at(x, y))).collect()
    }
}

/// A texture ready to be sampled, values 0 to 255.
#[derive(Clone, Debug)]
pub struct Tile {
    side: usize,
    pixels: Vec<[f32; 3]>,
}

impl Tile {
    /// Bilinear; outside, the tile goes on mirrored. `x` and `y` in pixels of this tile.
    #[must_use]
    pub fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (x0, x1) = (self.mirror(left as i32), self.mirror(left as i32 + 1));
        let (y0, y1) = (self.mirror(top as i32) * self.side, self.mirror(top as i32 + 1) * self.side);
        let (a, b) = (self.pixels[y0 + x0], self.pixels[y0 + x1]);
        let (c, d) = (self.pixels[y1 + x0], self.pixels[y1 + x1]);
        [0, 1, 2].map(|i| {
            let (upper, lower) = (a[i] + (b[i] - a[i]) * fx, c[i] + (d[i] - c[i]) * fx);
            upper + (lower - upper) * fy
        })
    }

    /// The side is a power of two, so the period of twice the side is a mask, also below 0.
    fn mirror(&self, at: i32) -> usize {
        let at = at as usize & (2 * self.side - 1);
        if at < self.side { at } else { 2 * self.side - 1 - at }
    }
}

/// Nearest byte; what is outside 0 to 255 becomes the end.
pub(super) fn to_byte(value: f32) -> u8 {
    (value + 0.5) as u8
}

fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn halved(pixels: &[[f32; 3]], side: usize) -> Vec<[f32; 3]> {
    let half = side / 2;
    let mean = |at: usize| {
        let first = at / half * 2 * side + at % half * 2;
        let four = [first, first + 1, first + side, first + side + 1];
        [0, 1, 2].map(|c| four.iter().map(|&p| pixels[p][c]).sum::<f32>() * 0.25)
    };
    (0..half * half).map(mean).collect()
}

/// Red, green, blue, 0 to 255, of a square of the picture; chroma by the nearest sample.
fn square(frame: &Picture, left: usize, top: usize, side: usize) -> Vec<f32> {
    let convert = ToRgb::new(frame.colour);
    let (width, chroma_width) = (frame.width as usize, frame.chroma_width());
    let mut pixels = Vec::with_capacity(side * side * 3);
    for row in top..top + side {
        let line = |plane: &[u8], halved: bool| -> Vec<f32> {
            let pick = |x: usize| if halved { row / 2 * chroma_width + x / 2 } else { row * width + x };
            (left..left + side).map(|x| f32::from(plane[pick(x)])).collect()
        };
        let (y, u, v) = (line(frame.y(), false), line(frame.u(), true), line(frame.v(), true));
        for ((y, u), v) in y.into_iter().zip(u).zip(v) {
            pixels.extend(convert.pixel([y, u, v]).map(|value| value * 255.0));
        }
    }
    pixels
}

/// `side` rows of `side` pixels scaled to rows of `SIDE`.
fn rows(pixels: &[f32], side: usize) -> Vec<f32> {
    let taps = taps(side);
    let mut scaled = Vec::with_capacity(side * SIDE * 3);
    for row in pixels.chunks_exact(side * 3) {
        for (first, weights) in &taps {
            for channel in 0..3 {
                let tap = |(i, w): (usize, &f32)| w * row[(first + i) * 3 + channel];
                scaled.push(weights.iter().enumerate().map(tap).sum());
            }
        }
    }
    scaled
}

/// `side` rows of `SIDE` pixels scaled to `SIDE` rows.
fn columns(pixels: &[f32], side: usize) -> Vec<f32> {
    const ROW: usize = SIDE * 3;
    let mut scaled = vec![0.0; SIDE * ROW];
    for (line, (first, weights)) in scaled.chunks_exact_mut(ROW).zip(&taps(side)) {
        for (i, weight) in weights.iter().enumerate() {
            let row = &pixels[(first + i) * ROW..(first + i + 1) * ROW];
            line.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    scaled
}

/// For each of `SIDE` pixels the first of `side` it is made of, and their weights, which sum to 1: a triangle
/// as wide as the larger of both pixels, so shrinking averages and enlarging interpolates.
fn taps(side: usize) -> Vec<(usize, Vec<f32>)> {
    let ratio = side as f64 / SIDE as f64;
    let reach = ratio.max(1.0);
    let tap = |pixel: usize| {
        let centre = (pixel as f64 + 0.5) * ratio - 0.5;
        let first = (centre - reach).ceil().max(0.0) as usize;
        let last = ((centre + reach).floor() as usize).min(side - 1);
        let weights: Vec<f64> =
            (first..=last).map(|at| (1.0 - (at as f64 - centre).abs() / reach).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.iter().map(|weight| (weight / sum) as f32).collect())
    };
    (0..SIDE).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Colour;

    use super::*;

    /// A grey picture, full range, with luma `luma(x, y)`.
    fn frame(width: u32, height: u32, luma: impl Fn(u32, u32) -> u8) -> Picture {
        let mut planes: Vec<u8> =
            (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| luma(x, y)).collect();
        planes.resize(planes.len() + 2 * (width.div_ceil(2) * height.div_ceil(2)) as usize, 128);
        let colour = Colour { full_range: true, ..Colour::default() };
        Picture { time: 0, width, height, colour, planes }
    }

    #[test]
    fn a_picture_of_the_right_size_is_taken_as_it_is() {
        let texture = Texture::cut(&frame(256, 256, |x, y| (x ^ y) as u8), 0.5).unwrap();
        for (x, y) in [(0, 0), (255, 0), (3, 200), (255, 255)] {
            assert_eq!(texture.0[(y * SIDE + x) * 3..][..3], [(x ^ y) as u8; 3]);
        }
    }

    #[test]
    fn large_pictures_are_averaged_and_cut_where_told() {
        // Left half dark stripes, right half bright stripes, one pixel wide each.
        let stripes = |x: u32, _| if x < 512 { (x % 2 * 80) as u8 } else { (150 + x % 2 * 80) as u8 };
        let picture = frame(1024, 512, stripes);
        assert_eq!(Texture::cut(&picture, 0.0), None, "averaged stripes are blank");
        let middle = Texture::cut(&picture, 0.5).unwrap();
        assert_eq!((middle.0[30], middle.0[SIDE * 3 - 30]), (40, 190));
    }

    #[test]
    fn small_pictures_are_enlarged() {
        let texture = Texture::cut(&frame(64, 48, |x, _| (x * 4) as u8), 0.0).unwrap();
        let row: Vec<u8> = texture.0[..SIDE * 3].iter().copied().step_by(3).collect();
        assert!(row.windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] <= 1), "{row:?}");
    }

    #[test]
    fn tiles_interpolate_and_go_on_mirrored() {
        let identity = [std::array::from_fn(|value| value as f32); 3];
        let tile = Texture::cut(&frame(256, 256, |x, _| x as u8), 0.5).unwrap().through(&identity, 0);
        for (x, expected) in
            [(10.0, 10.0), (10.25, 10.25), (-1.0, 0.0), (-3.0, 2.0), (256.0, 255.0), (512.0, 0.0)]
        {
            assert_eq!(tile.at(x, 7.5), [expected; 3], "at {x}");
        }
    }

    #[test]
    fn halving_averages_four_pixels() {
        let identity = [std::array::from_fn(|value| value as f32); 3];
        let tile =
            Texture::cut(&frame(256, 256, |x, y| (x / 2 + y / 2) as u8), 0.5).unwrap().through(&identity, 1);
        assert_eq!((tile.side, tile.at(5.0, 9.0)), (128, [14.0; 3]));
    }

    #[test]
    fn the_busy_spot_is_not_in_the_blank_half() {
        let half = frame(256, 256, |x, y| if x < 128 { 90 } else { ((x * 37 + y * 91) % 256) as u8 });
        let texture = Texture::cut(&half, 0.5).unwrap();
        for number in 0..10 {
            assert!(texture.busy_spot(Key::new(number)).0 > 96.0);
        }
    }
}
