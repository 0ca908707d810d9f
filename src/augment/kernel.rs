//! Cooks a recipe picture by picture: from the decoder's planes to the view, touching each pixel as few
//! times as possible.
//!
//! Upright pictures (no `rotate`) are resampled separably by [`super::oven`]. Rotated ones are shrunk like
//! that and then turned. Colours are [`super::pan`]'s work.

use reelflow_api::item::Frame;
use reelflow_api::pixels::{Dtype, Pixels};

use super::colour::{Planes, ToRgb};
use super::draw::Recipe;
use super::geometry::Affine;
use super::lanes::{spread, spread_exchanged};
use super::oven::{Grid, Oven};
use super::pan::Pan;
use super::plate::{Plate, each_block};
use super::rotated::Turner;
use super::wide::Width;

/// One clip's recipe with its tables.
pub struct Cook {
    wide: Width,
    way: Way,
    pan: Pan,
    plate: Plate,
    /// Width and height of the view.
    size: (usize, usize),
    /// Sums of the grey values of each picture before the first contrast, 0 where there is none.
    greys: Vec<f64>,
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
    /// For a view of `dtype` of a clip of `frames` pictures of `picture` (width, height) pixels.
    #[must_use]
    pub fn new(recipe: &Recipe, dtype: Dtype, frames: usize, picture: (u32, u32), wide: Width) -> Self {
        let (width, height) = (recipe.canvas.width as usize, recipe.canvas.height as usize);
        let map = recipe.canvas.map;
        let way = if map.x[1] == 0.0 && map.y[0] == 0.0 {
            Way::Upright(Oven::new(Grid::new(&map, width, height, picture), wide))
        } else if map.x[0] == 0.0 && map.y[1] == 0.0 {
            let exchanged = Affine { x: [map.x[1], 0.0, map.x[2]], y: [0.0, map.y[0], map.y[2]] };
            Way::Exchanged(Oven::new(Grid::new(&exchanged, height, width, picture), wide))
        } else {
            Way::Turned(Turner::new(&map, width, height, picture, wide))
        };
        let pan = Pan::new(recipe, wide);
        let plate = Plate::new(dtype, frames, width * height, pan.needs_clip());
        Self { wide, way, pan, plate, size: (width, height), greys: vec![0.0; frames] }
    }

    /// Cooks picture `index` into `view`, `[3, T, H, W]`; the picture is whole and has the stated size.
    pub fn add(&mut self, index: usize, frame: &Frame<'_>, view: &mut Pixels) {
        let width = self.size.0;
        let to_rgb = ToRgb::new(frame.colour);
        let mut planes = self.plate.planes(index);
        let (pan, wide) = (&self.pan, self.wide);
        let mut grey = 0.0;
        match &mut self.way {
            Way::Upright(oven) => oven.blocks(frame, |rows, block| {
                let sums = pan.colour(&to_rgb, block.each_mut().map(|plane| plane.as_flattened_mut()));
                grey += sums[..rows.len()].iter().sum::<f64>();
                for (from, to) in block.iter().zip(&mut planes) {
                    let to = &mut to[rows.start * width..rows.end * width];
                    wide.run(
                        #[inline(always)]
                        || spread(wide, from, to),
                    );
                }
            }),
            Way::Exchanged(oven) => oven.blocks(frame, |rows, block| {
                let sums = pan.colour(&to_rgb, block.each_mut().map(|plane| plane.as_flattened_mut()));
                grey += sums[..rows.len()].iter().sum::<f64>();
                for (from, to) in block.iter().zip(&mut planes) {
                    spread_exchanged(from, to, rows.clone(), width);
                }
            }),
            Way::Turned(turner) => turner.turn(frame, &to_rgb, |row, line| {
                grey += pan.colour(&to_rgb, line.each_mut().map(Vec::as_mut_slice)).iter().sum::<f64>();
                for (from, to) in line.iter().zip(&mut planes) {
                    to[row * width..(row + 1) * width].copy_from_slice(from);
                }
            }),
        }
        self.greys[index] = grey;
        if self.pan.needs_clip() {
            self.plate.set_aside(view, index, self.wide);
        } else {
            self.finish_one(index, view);
        }
    }

    /// Makes what is left to do for a picture that needs no other, and puts it into the view.
    fn finish_one(&mut self, index: usize, view: &mut Pixels) {
        let Self { pan, plate, wide, .. } = self;
        let area = (self.size.0 * self.size.1) as f64;
        let Some(last) = pan.contrasts().checked_sub(1) else {
            return plate.serve(view, index, *wide, |planes| planes.settle());
        };
        let mut mean = self.greys[index] / area;
        for number in 0..last {
            each_block(plate.planes(index), |block| pan.contrast(number, mean, mean, Planes::Here(block)));
            mean = pan.grey_sum(plate.planes(index).map(|plane| &*plane)) / area;
        }
        plate.serve(view, index, *wide, |block| pan.contrast(last, mean, mean, block));
    }

    /// Makes what needs all pictures.
    pub fn finish(&mut self, view: &mut Pixels) {
        if self.pan.needs_clip() {
            for contrast in 0..self.pan.contrasts() {
                self.contrast_all(contrast, view);
            }
            self.plate.serve_all(view, self.wide);
        }
    }

    /// Makes contrast number `number` on all pictures.
    fn contrast_all(&mut self, number: usize, view: &mut Pixels) {
        let Self { pan, plate, greys, .. } = self;
        if number > 0 {
            // The sums taken on the way are those before the first contrast.
            for (index, grey) in greys.iter_mut().enumerate() {
                *grey = pan.grey_sum(plate.waiting(view, index).map(|plane| &*plane));
            }
        }
        let area = (self.size.0 * self.size.1) as f64;
        let clip = greys.iter().sum::<f64>() / (area * greys.len() as f64);
        for (index, grey) in greys.iter().enumerate() {
            each_block(plate.waiting(view, index), |block| {
                pan.contrast(number, grey / area, clip, Planes::Here(block))
            });
        }
    }
}
