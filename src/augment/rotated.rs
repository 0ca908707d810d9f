//! Samples turned pictures: a table of positions and weights for a row of the view, used by all frames.
//!
//! Bilinear, on a grid of sub-samples as fine as the source where the picture shrinks, so that nothing is
//! skipped. What lies outside the recorded picture is black.

use reelflow_api::item::Frame;

use super::geometry::Affine;
use super::kernel::{CHROMA_SHIFT, Pan, conversions};

/// Four neighbours in a plane and their shares of one output pixel.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: [u32; 4],
    weights: [f32; 4],
}

/// A plane of the source: luma or chroma.
#[derive(Clone, Copy)]
struct Plane {
    width: u32,
    height: u32,
    /// Source pixels a luma pixel spans: 1, or one half.
    scale: f64,
    /// Added to x after scaling, see [`CHROMA_SHIFT`].
    shift: f64,
    /// Sub-samples along a row and a column of the view.
    across: u32,
    down: u32,
}

impl Plane {
    fn new(map: &Affine, (width, height): (u32, u32), scale: f64, shift: f64) -> Self {
        // A hair less than the length, so that a scale of exactly 2 takes 2 sub-samples and not 3.
        let count = |x: f64, y: f64| (scale * x.hypot(y) - 1e-6).ceil().max(1.0) as u32;
        let (across, down) = (count(map.x[0], map.y[0]), count(map.x[1], map.y[1]));
        Self { width, height, scale, shift, across, down }
    }

    /// Sub-samples of an output pixel.
    fn samples(&self) -> usize {
        (self.across * self.down) as usize
    }
}

/// What one row of the view reads of one plane.
#[derive(Default)]
struct Row {
    samples: Vec<Sample>,
    /// Share of each output pixel that lies outside the picture.
    outside: Vec<f32>,
}

impl Row {
    /// Fills the table for row `y` of a view `width` wide; `size` is the luma plane's.
    fn fill(&mut self, map: &Affine, plane: &Plane, size: (u32, u32), y: usize, width: usize) {
        self.samples.clear();
        self.outside.clear();
        let share = 1.0 / plane.samples() as f32;
        for x in 0..width {
            let mut outside = 0.0;
            for sub in 0..plane.across * plane.down {
                let (sub_x, sub_y) = (sub % plane.across, sub / plane.across);
                let (luma_x, luma_y) = map.at(
                    x as f64 + (f64::from(sub_x) + 0.5) / f64::from(plane.across),
                    y as f64 + (f64::from(sub_y) + 0.5) / f64::from(plane.down),
                );
                let is_inside =
                    (0.0..size.0.into()).contains(&luma_x) && (0.0..size.1.into()).contains(&luma_y);
                if is_inside {
                    let (x, y) = (luma_x * plane.scale + plane.shift, luma_y * plane.scale);
                    self.samples.push(bilinear(plane, x, y, share));
                } else {
                    self.samples.push(Sample::default());
                    outside += share;
                }
            }
            self.outside.push(outside);
        }
    }

    /// One row of one plane, with `black` where there is no picture.
    fn read(&self, plane: &[u8], per_pixel: usize, black: f32, out: &mut [f32]) {
        for ((out, samples), outside) in
            out.iter_mut().zip(self.samples.chunks_exact(per_pixel)).zip(&self.outside)
        {
            let mut sum = outside * black;
            for Sample { at, weights } in samples {
                for (&at, &weight) in at.iter().zip(weights) {
                    sum += weight * f32::from(plane[at as usize]);
                }
            }
            *out = sum;
        }
    }
}

/// The four pixels around a continuous position; beyond the edge pixels' centres the edge is repeated.
fn bilinear(plane: &Plane, x: f64, y: f64, share: f32) -> Sample {
    let split = |at: f64, count: u32| {
        let at = (at - 0.5).clamp(0.0, f64::from(count - 1));
        let low = at.floor();
        (low as u32, (low as u32 + 1).min(count - 1), (at - low) as f32)
    };
    let (left, right, fx) = split(x, plane.width);
    let (top, bottom, fy) = split(y, plane.height);
    let at = |row: u32, col: u32| row * plane.width + col;
    Sample {
        at: [at(top, left), at(top, right), at(bottom, left), at(bottom, right)],
        weights: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy].map(|w| w * share),
    }
}

/// Samples all frames through `map`, which leads from the view to the luma plane.
pub fn cook(map: &Affine, width: usize, height: usize, frames: &[&Frame], pan: &mut Pan<'_>) {
    let size = (frames[0].width, frames[0].height);
    let luma = Plane::new(map, size, 1.0, 0.0);
    let chroma = Plane::new(map, (size.0.div_ceil(2), size.1.div_ceil(2)), 0.5, CHROMA_SHIFT);
    let conversions = conversions(frames);
    let (mut luma_row, mut chroma_row) = (Row::default(), Row::default());
    let mut block = [vec![0.0; width], vec![0.0; width], vec![0.0; width]];
    for y in 0..height {
        luma_row.fill(map, &luma, size, y, width);
        chroma_row.fill(map, &chroma, size, y, width);
        for (index, (frame, to_rgb)) in frames.iter().zip(&conversions).enumerate() {
            let [a, b, c] = &mut block;
            luma_row.read(frame.y(), luma.samples(), to_rgb.black, a);
            chroma_row.read(frame.u(), chroma.samples(), 128.0, b);
            chroma_row.read(frame.v(), chroma.samples(), 128.0, c);
            pan.colour(to_rgb, a, b, c);
            for (from, to) in block.iter().zip(pan.frame(index)) {
                to[y * width..(y + 1) * width].copy_from_slice(from);
            }
        }
    }
}
