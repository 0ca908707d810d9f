//! Cooks a recipe: from the decoder's I420 planes to a view, touching each pixel as few times as possible.
//!
//! Upright pictures (no `rotate`) are resampled separably, eight output rows at a time, so that both passes
//! run over contiguous lanes. Rotated ones are shrunk like that and then turned. Either way the colours are finished while the pixels are in the first cache; only contrast needs
//! the mean of what came before it and so a second look.
//!
//! Chroma is taken as sited left: horizontally on the even luma column, vertically between two rows, the
//! default of MPEG-2, H.264, H.265 and VP9. It is resampled straight to the view's size.

use std::ops::Range;

use reelflow_api::item::Frame;

use super::colour::{self, ColourOp, ToRgb};
use super::draw::Recipe;
use super::geometry::Affine;
use super::rotated;
use super::steps::Pivot;
use super::weights::Axis;

/// Output rows that are resampled together: two vectors of four f32, or one of eight.
pub const LANES: usize = 8;

/// The view's pixels, `[3, T, H, W]`, of frames that share a size and have complete planes.
#[must_use]
pub fn cook(recipe: &Recipe, frames: &[&Frame]) -> Vec<f32> {
    let Some(first) = frames.first() else { return Vec::new() };
    let (width, height) = (recipe.canvas.width as usize, recipe.canvas.height as usize);
    let area = width * height;
    let mut pixels = vec![0.0; 3 * frames.len() * area];
    let mut pan = Pan::new(recipe, &mut pixels, frames.len(), area);
    let map = recipe.canvas.map;
    if map.x[1] == 0.0 && map.y[0] == 0.0 {
        let grid = Grid::new(&map, width, height, (first.width, first.height));
        grid.cook(frames, &mut pan, |row, col| row * width + col);
    } else if map.x[0] == 0.0 && map.y[1] == 0.0 {
        // Turned by a quarter: resampled with rows and columns exchanged, put back when stored.
        let exchanged = Affine { x: [map.x[1], 0.0, map.x[2]], y: [0.0, map.y[0], map.y[2]] };
        let grid = Grid::new(&exchanged, height, width, (first.width, first.height));
        grid.cook(frames, &mut pan, |row, col| col * width + row);
    } else {
        rotated::cook(&map, width, height, frames, &mut pan);
    }
    pan.finish();
    pixels
}

/// What happens to pixels once they are red, green and blue, and where they go.
pub struct Pan<'a> {
    /// Changes before the first contrast.
    before: &'a [ColourOp],
    /// Each contrast with the changes up to the next.
    contrasts: Vec<(f32, Pivot, &'a [ColourOp])>,
    normalize: Option<([f32; 3], [f32; 3])>,
    /// Red, green, blue of all frames, `[T, H, W]` each.
    planes: [&'a mut [f32]; 3],
    area: usize,
    /// Sum of the grey values of each frame, for the contrast at hand.
    sums: Vec<f64>,
}

impl<'a> Pan<'a> {
    fn new(recipe: &'a Recipe, pixels: &'a mut [f32], frames: usize, area: usize) -> Self {
        let mut parts = recipe.colours.as_slice();
        let next = |ops: &'a [ColourOp]| {
            let end = ops.iter().position(|op| matches!(op, ColourOp::Contrast(..))).unwrap_or(ops.len());
            ops.split_at(end)
        };
        let before;
        (before, parts) = next(parts);
        let mut contrasts = Vec::new();
        while let [ColourOp::Contrast(factor, pivot), rest @ ..] = parts {
            let ops;
            (ops, parts) = next(rest);
            contrasts.push((*factor, *pivot, ops));
        }
        let (red, rest) = pixels.split_at_mut(frames * area);
        let (green, blue) = rest.split_at_mut(frames * area);
        Self {
            before,
            contrasts,
            normalize: recipe.normalize,
            planes: [red, green, blue],
            area,
            sums: vec![0.0; frames],
        }
    }

    /// Finishes the colours of a block of pixels of one frame as far as they can be without a mean.
    pub fn colour(&mut self, to_rgb: &ToRgb, y: &mut [f32], u: &mut [f32], v: &mut [f32]) {
        to_rgb.apply(y, u, v);
        colour::apply(self.before, y, u, v);
        if self.contrasts.is_empty() {
            self.normalize([y, u, v]);
        }
    }

    fn normalize(&self, planes: [&mut [f32]; 3]) {
        let Some((mean, std)) = self.normalize else { return };
        for (channel, plane) in planes.into_iter().enumerate() {
            colour::normalize(mean[channel], std[channel], plane);
        }
    }

    /// The three planes of one frame.
    pub fn frame(&mut self, frame: usize) -> [&mut [f32]; 3] {
        let range = frame * self.area..(frame + 1) * self.area;
        self.planes.each_mut().map(|plane| &mut plane[range.clone()])
    }

    /// Makes the contrasts and what follows them, now that every pixel is there.
    fn finish(mut self) {
        let frames = self.sums.len();
        for index in 0..self.contrasts.len() {
            let (factor, pivot, ops) = self.contrasts[index];
            for frame in 0..frames {
                let [r, g, b] = self.frame(frame);
                self.sums[frame] = colour::grey_sum(r, g, b);
            }
            let is_last = index + 1 == self.contrasts.len();
            let clip_mean = self.sums.iter().sum::<f64>() / (frames * self.area) as f64;
            for frame in 0..frames {
                let mean = match pivot {
                    Pivot::Clip => clip_mean,
                    Pivot::Frame => self.sums[frame] / self.area as f64,
                };
                self.contrast_frame(frame, factor, mean as f32, ops, is_last);
            }
        }
    }

    /// One contrast and what follows it on one frame, a block at a time so that it stays in the cache.
    fn contrast_frame(&mut self, frame: usize, factor: f32, mean: f32, ops: &[ColourOp], is_last: bool) {
        let normalize = self.normalize.filter(|_| is_last);
        let [r, g, b] = self.frame(frame).map(|plane| plane.chunks_mut(BLOCK));
        for ((r, g), b) in r.zip(g).zip(b) {
            for plane in [&mut *r, &mut *g, &mut *b] {
                colour::contrast(factor, mean, plane);
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

/// Pixels whose colours are changed together: three planes of 1024 f32 are 12 KiB, within any first cache.
const BLOCK: usize = 1024;

/// Weights of an axis-aligned resampling of luma and chroma, shared by all frames.
pub struct Grid {
    cols: [Axis; 2],
    rows: [Axis; 2],
    width: usize,
    height: usize,
}

impl Grid {
    /// `map` leads from the view to the luma plane of `size`; `width` runs along its rows.
    #[must_use]
    pub fn new(map: &Affine, width: usize, height: usize, size: (u32, u32)) -> Self {
        let (slope_x, shift_x, slope_y, shift_y) = (map.x[0], map.x[2], map.y[1], map.y[2]);
        let (w, h) = (width as u32, height as u32);
        Self {
            cols: [
                Axis::new(slope_x, shift_x, w, size.0),
                Axis::new(slope_x / 2.0, shift_x / 2.0 + CHROMA_SHIFT, w, size.0.div_ceil(2)),
            ],
            rows: [
                Axis::new(slope_y, shift_y, h, size.1),
                Axis::new(slope_y / 2.0, shift_y / 2.0, h, size.1.div_ceil(2)),
            ],
            width,
            height,
        }
    }

    /// Somewhere to resample with this grid.
    #[must_use]
    pub fn oven(&self) -> Oven<'_> {
        let block = [(); 3].map(|()| vec![[0.0; LANES]; self.width]);
        Oven { grid: self, block, line: Vec::new(), lines: Vec::new() }
    }

    /// Resamples all frames; `place` says where a row and column of the grid lies in a plane of the view.
    fn cook(&self, frames: &[&Frame], pan: &mut Pan<'_>, place: impl Fn(usize, usize) -> usize) {
        let mut oven = self.oven();
        for (index, frame) in frames.iter().enumerate() {
            let to_rgb = ToRgb::new(frame.colour);
            oven.blocks(frame, |rows, block| {
                let [y, u, v] = block.each_mut().map(|plane| plane.as_flattened_mut());
                pan.colour(&to_rgb, y, u, v);
                for (from, to) in block.iter().zip(pan.frame(index)) {
                    store(from, to, rows.clone(), &place);
                }
            });
        }
    }
}

/// Left siting: a chroma centre lies a quarter chroma pixel left of its block's centre.
const CHROMA_SHIFT: f64 = 0.25;

/// Writes a block of columns of lanes into a plane.
fn store(from: &[[f32; LANES]], to: &mut [f32], rows: Range<usize>, place: &impl Fn(usize, usize) -> usize) {
    for (lane, row) in rows.enumerate() {
        for (col, lanes) in from.iter().enumerate() {
            to[place(row, col)] = lanes[lane];
        }
    }
}

/// `LANES` rows of Y, U and V: `block[plane][column][lane]`.
pub type Block = [Vec<[f32; LANES]>; 3];

/// A grid with the buffers it needs, kept from block to block and frame to frame.
pub struct Oven<'a> {
    grid: &'a Grid,
    block: Block,
    /// One output row before it is resampled horizontally.
    line: Vec<f32>,
    /// `LANES` such rows side by side.
    lines: Vec<[f32; LANES]>,
}

impl Oven<'_> {
    /// Resamples a frame and hands it on in blocks of rows; the last may have fewer than `LANES`.
    pub fn blocks(&mut self, frame: &Frame, mut each: impl FnMut(Range<usize>, &mut Block)) {
        let grid = self.grid;
        let planes = [
            (frame.y(), frame.width as usize, 0),
            (frame.u(), frame.chroma_width(), 1),
            (frame.v(), frame.chroma_width(), 1),
        ];
        for top in (0..grid.height).step_by(LANES) {
            let rows = top..(top + LANES).min(grid.height);
            for (index, (plane, stride, kind)) in planes.into_iter().enumerate() {
                self.resample(plane, stride, (&grid.rows[kind], &grid.cols[kind]), rows.clone(), index);
            }
            each(rows, &mut self.block);
        }
    }

    /// Resamples output rows `rows` of a plane: first down the columns, then along the rows, for all lanes.
    fn resample(
        &mut self,
        plane: &[u8],
        stride: usize,
        (vertical, horizontal): (&Axis, &Axis),
        rows: Range<usize>,
        index: usize,
    ) {
        let (low, high) = horizontal.extent();
        self.lines.resize(high - low, [0.0; LANES]);
        self.line.resize(high - low, 0.0);
        for (lane, row) in rows.enumerate() {
            vertical.blend(
                row,
                |source| &plane[source * stride + low..source * stride + high],
                &mut self.line,
            );
            for (lanes, &value) in self.lines.iter_mut().zip(&self.line) {
                lanes[lane] = value;
            }
        }
        for (col, out) in self.block[index].iter_mut().enumerate() {
            let (first, weights) = horizontal.of(col);
            let mut sums = [0.0; LANES];
            for (lanes, &weight) in self.lines[first - low..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(lanes) {
                    *sum += weight * value;
                }
            }
            *out = sums;
        }
    }
}
