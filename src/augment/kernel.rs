//! Cooks a recipe picture by picture: from the decoder's planes to the view, touching each pixel as few
//! times as possible.
//!
//! Upright pictures (no `rotate`) are resampled separably by [`super::oven`]. Rotated ones are shrunk like
//! that and then turned. Colours are [`super::pan`]'s work.

use std::ops::Range;

use reelflow_api::item::Frame;

use super::colour::ToRgb;
use super::draw::Recipe;
use super::geometry::Affine;
use super::oven::{Grid, LANES, Oven};
use super::pan::Pan;
use super::rotated::Turner;
use super::wide::Width;

/// One clip's recipe with its tables.
pub struct Cook {
    way: Way,
    pan: Pan,
    /// Width and height of the view.
    size: (usize, usize),
}

/// How pixels get from the picture to the view.
enum Way {
    /// Row by row.
    Upright(Oven),
    /// Turned by a quarter: resampled with rows and columns exchanged, put back when stored.
    Exchanged(Oven),
    /// By any angle.
    Turned(Turner),
}

impl Cook {
    /// For a clip of `frames` pictures of `picture` (width, height) pixels.
    #[must_use]
    pub fn new(recipe: &Recipe, frames: usize, picture: (u32, u32)) -> Self {
        let (width, height) = (recipe.canvas.width as usize, recipe.canvas.height as usize);
        let map = recipe.canvas.map;
        let wide = Width::best();
        let way = if map.x[1] == 0.0 && map.y[0] == 0.0 {
            Way::Upright(Oven::new(Grid::new(&map, width, height, picture), wide))
        } else if map.x[0] == 0.0 && map.y[1] == 0.0 {
            let exchanged = Affine { x: [map.x[1], 0.0, map.x[2]], y: [0.0, map.y[0], map.y[2]] };
            Way::Exchanged(Oven::new(Grid::new(&exchanged, height, width, picture), wide))
        } else {
            Way::Turned(Turner::new(&map, width, height, picture, wide))
        };
        Self { way, pan: Pan::new(recipe, frames, width * height), size: (width, height) }
    }

    /// Cooks picture `index` into `view`, `[3, T, H, W]`; the picture is whole and has the stated size.
    pub fn add(&mut self, index: usize, frame: &Frame<'_>, view: &mut [f32]) {
        let (width, height) = self.size;
        let to_rgb = ToRgb::new(frame.colour);
        let mut planes = self.pan.frame(view, index);
        let pan = &self.pan;
        match &mut self.way {
            Way::Upright(oven) => oven.blocks(frame, |rows, block| {
                let [y, u, v] = block.each_mut().map(|plane| plane.as_flattened_mut());
                pan.colour(&to_rgb, y, u, v);
                for (from, to) in block.iter().zip(&mut planes) {
                    store(from, &mut to[rows.start * width..rows.end * width], width);
                }
            }),
            Way::Exchanged(oven) => oven.blocks(frame, |rows, block| {
                let [y, u, v] = block.each_mut().map(|plane| plane.as_flattened_mut());
                pan.colour(&to_rgb, y, u, v);
                for (from, to) in block.iter().zip(&mut planes) {
                    store_exchanged(from, to, rows.clone(), width);
                }
            }),
            Way::Turned(turner) => turner.turn(frame, &to_rgb, |row, line| {
                let [y, u, v] = line;
                pan.colour(&to_rgb, y, u, v);
                for (from, to) in line.iter().zip(&mut planes) {
                    to[row * width..(row + 1) * width].copy_from_slice(from);
                }
            }),
        }
        debug_assert_eq!(planes[0].len(), width * height);
        self.pan.finish_frame(view, index);
    }

    /// Makes what needs all pictures.
    pub fn finish(&self, view: &mut [f32]) {
        self.pan.finish(view);
    }
}

/// Writes a block of columns of lanes into rows of a plane.
fn store(from: &[[f32; LANES]], to: &mut [f32], width: usize) {
    for (lane, row) in to.chunks_exact_mut(width).enumerate() {
        for (to, lanes) in row.iter_mut().zip(from) {
            *to = lanes[lane];
        }
    }
}

/// The same with rows and columns exchanged.
fn store_exchanged(from: &[[f32; LANES]], to: &mut [f32], rows: Range<usize>, width: usize) {
    for (line, lanes) in to.chunks_exact_mut(width).zip(from) {
        line[rows.clone()].copy_from_slice(&lanes[..rows.len()]);
    }
}
