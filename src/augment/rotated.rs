//! Cooks turned pictures: shrinks upright first, then turns what is left.
//!
//! Shrinking is the separable kernel's work, antialiased, onto a grid about as fine as the view. Turning is
//! one bilinear look into that grid, with a table of places and weights that all frames share. Y, U and V lie
//! side by side in it, so one look fetches all three. What lies outside the recorded picture is black.

use reelflow_api::item::Frame;

use super::colour::ToRgb;
use super::geometry::Affine;
use super::oven::{Grid, Oven};
use super::wide::Width;

/// The picture shrunk upright: how many pixels, and how many luma pixels each spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shrunk {
    /// Columns and rows.
    pub size: (u32, u32),
    /// Luma pixels from column to column and from row to row, about 1 or more.
    pub step: (f64, f64),
}

impl Shrunk {
    /// About as fine as the view that `map` makes of a picture of `size`, never finer than the picture.
    #[must_use]
    pub fn new(map: &Affine, size: (u32, u32)) -> Self {
        let count =
            |row: [f64; 3], side: u32| (f64::from(side) / row[0].hypot(row[1]).max(1.0)).round().max(1.0);
        let (cols, rows) = (count(map.x, size.0), count(map.y, size.1));
        Self { size: (cols as u32, rows as u32), step: (f64::from(size.0) / cols, f64::from(size.1) / rows) }
    }

    /// From the view to the shrunk picture.
    fn seen_by(&self, map: &Affine) -> Affine {
        Affine { x: map.x.map(|value| value / self.step.0), y: map.y.map(|value| value / self.step.1) }
    }
}

/// Y, U, V and nothing of one pixel: four lanes, so that a pixel is one vector.
type Pixel = [f32; 4];

/// Where an output pixel looks: the left top one of four neighbours, and the shares of the four.
struct Look {
    at: u32,
    shares: [f32; 4],
}

/// The part of the shrunk picture that the view looks at, and where it looks.
struct Window {
    /// Left top corner in the shrunk picture; may lie outside.
    left: i64,
    top: i64,
    cols: usize,
    rows: usize,
    looks: Vec<Look>,
}

impl Window {
    fn new(map: &Affine, width: usize, height: usize) -> Self {
        let (right, bottom) = (width as f64 - 0.5, height as f64 - 0.5);
        let corners = [(0.5, 0.5), (right, 0.5), (0.5, bottom), (right, bottom)].map(|(x, y)| map.at(x, y));
        // Left top neighbour of a place: the pixel whose centre lies at or before it.
        let range = |places: [f64; 4]| {
            let low = places.iter().copied().fold(f64::MAX, f64::min);
            let high = places.iter().copied().fold(f64::MIN, f64::max);
            // A pixel more on each side forgives the rounding of corners against pixels between them.
            ((low - 0.5).floor() as i64 - 1, (high - 0.5).floor() as i64 + 3)
        };
        let (left, end) = range(corners.map(|corner| corner.0));
        let (top, foot) = range(corners.map(|corner| corner.1));
        let (cols, rows) = ((end - left) as usize, (foot - top) as usize);
        let mut looks = Vec::with_capacity(width * height);
        for row in 0..height {
            for col in 0..width {
                let (x, y) = map.at(col as f64 + 0.5, row as f64 + 0.5);
                let (x, y) = (x - 0.5 - left as f64, y - 0.5 - top as f64);
                let (fx, fy) = (x.fract() as f32, y.fract() as f32);
                looks.push(Look {
                    at: (y as usize * cols + x as usize) as u32,
                    shares: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
                });
            }
        }
        Self { left, top, cols, rows, looks }
    }

    /// Looks up one row of the view.
    fn read(&self, pixels: &[Pixel], row: usize, [y, u, v]: &mut [Vec<f32>; 3]) {
        let looks = &self.looks[row * y.len()..(row + 1) * y.len()];
        for (((look, y), u), v) in looks.iter().zip(y).zip(u).zip(v) {
            let above = &pixels[look.at as usize..][..2];
            let below = &pixels[look.at as usize + self.cols..][..2];
            let mut sum = [0.0; 4];
            for (pixel, share) in above.iter().chain(below).zip(look.shares) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += share * value;
                }
            }
            (*y, *u, *v) = (sum[0], sum[1], sum[2]);
        }
    }
}

/// A turned view's tables and buffers, shared by all frames.
pub struct Turner {
    window: Window,
    oven: Oven,
    /// Where in the window the picture begins: row, column.
    origin: (usize, usize),
    pixels: Vec<Pixel>,
    /// Luma of what lies outside the picture, as `pixels` has it.
    black: f32,
    line: [Vec<f32>; 3],
    height: usize,
}

impl Turner {
    /// For views of `width` x `height` that `map` leads from to the luma plane of a picture of `size`.
    #[must_use]
    pub fn new(map: &Affine, width: usize, height: usize, size: (u32, u32), wide: Width) -> Self {
        let shrunk = Shrunk::new(map, size);
        let window = Window::new(&shrunk.seen_by(map), width, height);
        // The part of the window that is picture, in the shrunk picture's pixels.
        let clip = |from: i64, count: usize, most: u32| {
            let end = (from + count as i64).clamp(0, most.into());
            (from.clamp(0, end), end)
        };
        let (left, right) = clip(window.left, window.cols, shrunk.size.0);
        let (top, mut bottom) = clip(window.top, window.rows, shrunk.size.1);
        if left == right {
            // The view looks past the picture, after much turning and a crop at a corner: all black.
            bottom = top;
        }
        let upright = Affine {
            x: [shrunk.step.0, 0.0, left as f64 * shrunk.step.0],
            y: [0.0, shrunk.step.1, top as f64 * shrunk.step.1],
        };
        let grid = Grid::new(&upright, (right - left) as usize, (bottom - top) as usize, size);
        Self {
            origin: ((top - window.top) as usize, (left - window.left) as usize),
            oven: Oven::new(grid, wide),
            pixels: Vec::new(),
            black: f32::NAN,
            line: [(); 3].map(|()| vec![0.0; width]),
            window,
            height,
        }
    }

    /// Turns a picture and hands on its rows of Y, U and V.
    pub fn turn(
        &mut self,
        frame: &Frame<'_>,
        to_rgb: &ToRgb,
        mut each: impl FnMut(usize, &mut [Vec<f32>; 3]),
    ) {
        let Self { window, oven, origin, pixels, black, line, height } = self;
        if *black != to_rgb.black {
            *black = to_rgb.black;
            pixels.clear();
            pixels.resize(window.cols * window.rows, [*black, 128.0, 128.0, 0.0]);
        }
        oven.blocks(frame, |rows, [y, u, v]| {
            for (lane, row) in rows.enumerate() {
                let start = (origin.0 + row) * window.cols + origin.1;
                for (((pixel, y), u), v) in
                    pixels[start..].iter_mut().zip(y.iter()).zip(u.iter()).zip(v.iter())
                {
                    *pixel = [y[lane], u[lane], v[lane], 0.0];
                }
            }
        });
        for row in 0..*height {
            window.read(pixels, row, line);
            each(row, line);
        }
    }
}
