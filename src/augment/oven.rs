//! Resamples the planes of upright pictures, antialiased, eight output rows at a time.
//!
//! Both passes run over contiguous lanes, so that the compiler turns them into vector instructions.
//!
//! Chroma is taken as sited left: horizontally on the even luma column, vertically between two rows, the
//! default of MPEG-2, H.264, H.265 and VP9. It is resampled straight to the view's size.

use std::ops::Range;

use reelflow_api::item::{Frame, PixelFormat, Plane};

use super::geometry::Affine;
use super::lanes::{LANES, Tile, exchange};
use super::samples::{NOTHING, Sample, WIDE, blend};
use super::weights::Axis;
use super::wide::Width;

/// Weights of an axis-aligned resampling of luma and chroma, shared by all frames.
pub struct Grid {
    cols: [Axis; 2],
    rows: [Axis; 2],
    /// Columns of the planes that are needed, first and end.
    extents: [(usize, usize); 2],
    width: usize,
    height: usize,
}

impl Grid {
    /// `map` leads from the view to the luma plane of `size`; `width` runs along its rows.
    #[must_use]
    pub fn new(map: &Affine, width: usize, height: usize, size: (u32, u32)) -> Self {
        let (slope_x, shift_x, slope_y, shift_y) = (map.x[0], map.x[2], map.y[1], map.y[2]);
        let (w, h) = (width as u32, height as u32);
        let cols = [
            Axis::new(slope_x, shift_x, w, size.0),
            Axis::new(slope_x / 2.0, shift_x / 2.0 + CHROMA_SHIFT, w, size.0.div_ceil(2)),
        ];
        let luma = whole(cols[0].extent(), size.0);
        let chroma = whole(cols[1].extent(), size.0.div_ceil(2));
        Self {
            extents: [luma, chroma],
            cols,
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

/// The columns `[low, high)` of a plane with so many more beside them that they are whole parts of [`WIDE`], if the plane
/// has them.
fn whole((low, high): (usize, usize), width: u32) -> (usize, usize) {
    let count = (high - low).next_multiple_of(WIDE).min(width as usize);
    let low = low.min(width as usize - count);
    (low, low + count)
}

/// `LANES` rows of Y, U and V: `block[plane][column][lane]`.
pub type Block = [Vec<[f32; LANES]>; 3];

/// A grid with the buffers it needs, kept from block to block and frame to frame.
pub struct Oven {
    grid: Grid,
    wide: Width,
    block: Block,
    /// `LANES` output rows before they are resampled horizontally, in parts of [`WIDE`] samples; then, tile by tile,
    /// with rows as lanes.
    parts: Vec<[Tile; WIDE / LANES]>,
}

impl Oven {
    /// Somewhere to resample with `grid`.
    #[must_use]
    pub fn new(grid: Grid, wide: Width) -> Self {
        let block = [(); 3].map(|()| vec![[0.0; LANES]; grid.width]);
        let widths = grid.extents.map(|(low, high)| high - low);
        // Chroma of two planes in one is twice as wide.
        let most = widths[0].max(2 * widths[1]).div_ceil(WIDE);
        Self { grid, wide, block, parts: vec![Default::default(); most] }
    }

    /// Resamples a frame and hands it on in blocks of rows; the last may have fewer than `LANES`.
    pub fn blocks(&mut self, frame: &Frame<'_>, mut each: impl FnMut(Range<usize>, &mut Block)) {
        let [y, u, v] = frame.planes;
        for top in (0..self.grid.height).step_by(LANES) {
            let rows = top..(top + LANES).min(self.grid.height);
            match frame.format {
                PixelFormat::I420 => {
                    for (index, plane) in [y, u, v].into_iter().enumerate() {
                        self.down::<u8>(plane, index, 1, rows.clone());
                        self.across::<1, 0>(index);
                    }
                }
                PixelFormat::I420P10 => {
                    for (index, plane) in [y, u, v].into_iter().enumerate() {
                        self.down::<[u8; 2]>(plane, index, 1, rows.clone());
                        self.across::<1, 0>(index);
                    }
                }
                PixelFormat::Nv12 => {
                    self.down::<u8>(y, 0, 1, rows.clone());
                    self.across::<1, 0>(0);
                    // U and V go down together and are told apart on the way across.
                    self.down::<u8>(u, 1, 2, rows.clone());
                    self.across::<2, 0>(1);
                    self.across::<2, 1>(2);
                }
            }
            each(rows, &mut self.block);
        }
    }

    /// Resamples output rows `rows` of plane `index` down its columns into `parts`; `step` samples lie at each
    /// place of a row. Only columns that the output needs are touched.
    fn down<S: Sample>(&mut self, plane: Plane<'_>, index: usize, step: usize, rows: Range<usize>) {
        let kind = usize::from(index > 0);
        let axis = &self.grid.rows[kind];
        let (low, high) = self.grid.extents[kind];
        let (bytes, skipped) = (high * step * size_of::<S>(), low * step);
        let Self { parts, wide, .. } = self;
        let parts = &mut parts[..((high - low) * step).div_ceil(WIDE)];
        wide.run(
            #[inline(always)]
            || {
                for (lane, row) in (0..LANES).zip(rows) {
                    blend(
                        axis,
                        row,
                        #[inline(always)]
                        |source| &S::of(plane.row(source, bytes))[skipped..],
                        #[inline(always)]
                        |part, sums| {
                            for (tile, sums) in parts[part].iter_mut().zip(sums.as_chunks().0) {
                                tile[lane] = *sums;
                            }
                        },
                    );
                }
                exchange(*wide, parts.as_flattened_mut());
            },
        );
    }

    /// Resamples `parts` along the rows into block `index`; its samples are number `AT` of each `STEP`.
    fn across<const STEP: usize, const AT: usize>(&mut self, index: usize) {
        let kind = usize::from(index > 0);
        let (axis, low) = (&self.grid.cols[kind], self.grid.extents[kind].0);
        let Self { wide, block, parts, .. } = self;
        let columns = parts.as_flattened().as_flattened().as_chunks::<STEP>().0;
        let out = &mut block[index];
        wide.run(
            #[inline(always)]
            || match axis.taps {
                // The compiler knows these numbers, and what it unrolls is faster.
                2 => weigh::<STEP, AT>(axis, 2, low, columns, out),
                3 => weigh::<STEP, AT>(axis, 3, low, columns, out),
                4 => weigh::<STEP, AT>(axis, 4, low, columns, out),
                5 => weigh::<STEP, AT>(axis, 5, low, columns, out),
                taps => weigh::<STEP, AT>(axis, taps, low, columns, out),
            },
        );
    }
}

/// Weighs the `taps` columns that make each output column; the first of `columns` is number `low` of the picture.
#[inline(always)]
fn weigh<const STEP: usize, const AT: usize>(
    axis: &Axis,
    taps: usize,
    low: usize,
    columns: &[[[f32; LANES]; STEP]],
    out: &mut [[f32; LANES]],
) {
    let weights = axis.weights.chunks_exact(taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let columns = &columns[first as usize - low..][..taps];
        let mut sums = [NOTHING; LANES];
        for (column, weight) in columns.iter().zip(weights) {
            for (sum, value) in sums.iter_mut().zip(&column[AT]) {
                *sum += weight * value;
            }
        }
        *out = sums;
    }
}
