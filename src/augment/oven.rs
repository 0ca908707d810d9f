//! Resamples the planes of upright pictures, antialiased, eight output rows at a time.
//!
//! Both passes run over contiguous lanes, so that the compiler turns them into vector instructions.
//!
//! Chroma is taken as sited left: horizontally on the even luma column, vertically between two rows, the
//! default of MPEG-2, H.264, H.265 and VP9. It is resampled straight to the view's size.

use std::ops::Range;

use reelflow_api::item::{Frame, Plane};

use super::geometry::Affine;
use super::weights::Axis;

/// Output rows that are resampled together: two vectors of four f32, or one of eight.
pub const LANES: usize = 8;

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
}

/// Left siting: a chroma centre lies a quarter chroma pixel left of its block's centre.
const CHROMA_SHIFT: f64 = 0.25;

/// `LANES` rows of Y, U and V: `block[plane][column][lane]`.
pub type Block = [Vec<[f32; LANES]>; 3];

/// A grid with the buffers it needs, kept from block to block and frame to frame.
pub struct Oven {
    grid: Grid,
    block: Block,
    /// One output row before it is resampled horizontally.
    line: Vec<f32>,
    /// `LANES` such rows side by side.
    lines: Vec<[f32; LANES]>,
}

impl Oven {
    /// Somewhere to resample with `grid`.
    #[must_use]
    pub fn new(grid: Grid) -> Self {
        let block = [(); 3].map(|()| vec![[0.0; LANES]; grid.width]);
        Self { grid, block, line: Vec::new(), lines: Vec::new() }
    }

    /// Resamples a frame and hands it on in blocks of rows; the last may have fewer than `LANES`.
    pub fn blocks(&mut self, frame: &Frame<'_>, mut each: impl FnMut(Range<usize>, &mut Block)) {
        for top in (0..self.grid.height).step_by(LANES) {
            let rows = top..(top + LANES).min(self.grid.height);
            for (index, plane) in frame.planes.iter().enumerate() {
                self.resample(*plane, index, rows.clone());
            }
            each(rows, &mut self.block);
        }
    }

    /// Resamples output rows `rows` of a plane: first down the columns, then along the rows, for all lanes.
    fn resample(&mut self, plane: Plane<'_>, index: usize, rows: Range<usize>) {
        let kind = usize::from(index > 0);
        let (vertical, horizontal) = (&self.grid.rows[kind], &self.grid.cols[kind]);
        let (low, high) = horizontal.extent();
        self.lines.resize(high - low, [0.0; LANES]);
        self.line.resize(high - low, 0.0);
        for (lane, row) in rows.enumerate() {
            vertical.blend(row, |source| &plane.row(source, high)[low..], &mut self.line);
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
