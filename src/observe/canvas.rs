//! A picture under construction: filled boxes, dots and words, out as PNG.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

use super::letters;

/// Background of all pictures.
pub const PAPER: Rgb<u8> = Rgb([24, 24, 28]);
/// Words that matter.
pub const INK: Rgb<u8> = Rgb([235, 235, 235]);
/// Words beside.
pub const FAINT: Rgb<u8> = Rgb([150, 150, 160]);

/// Pixels from the left top corner; what lies outside is left out.
pub struct Canvas {
    /// The picture so far.
    pub picture: RgbImage,
}

impl Canvas {
    /// Empty paper of at least one pixel.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self { picture: RgbImage::from_pixel(width.max(1), height.max(1), PAPER) }
    }

    /// A filled box.
    pub fn fill(&mut self, left: u32, top: u32, width: u32, height: u32, colour: Rgb<u8>) {
        for (x, y) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (x, y))) {
            self.set(x, y, colour);
        }
    }

    /// A filled circle around (`x`, `y`).
    pub fn dot(&mut self, x: u32, y: u32, radius: u32, colour: Rgb<u8>) {
        let r = i64::from(radius);
        for (dx, dy) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dx, dy))) {
            let (x, y) = (i64::from(x) + dx, i64::from(y) + dy);
            if let (true, Ok(x), Ok(y)) = (dx * dx + dy * dy <= r * r, u32::try_from(x), u32::try_from(y)) {
                self.set(x, y, colour);
            }
        }
    }

    /// Words from left to right, their left top corner at (`left`, `top`).
    pub fn write(&mut self, left: u32, top: u32, text: &str, ink: Rgb<u8>) {
        letters::draw(text, |x, y| self.set(left + x, top + y, ink));
    }

    /// Words from bottom to top, their left bottom corner at (`left`, `bottom`).
    pub fn write_up(&mut self, left: u32, bottom: u32, text: &str, ink: Rgb<u8>) {
        letters::draw(text, |x, y| {
            if let Some(up) = bottom.checked_sub(x + 1) {
                self.set(left + y, up, ink);
            }
        });
    }

    fn set(&mut self, x: u32, y: u32, colour: Rgb<u8>) {
        if let Some(pixel) = self.picture.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }

    /// The picture as a PNG file.
    ///
    /// # Errors
    /// If it cannot be encoded; the message says why.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let (width, height) = self.picture.dimensions();
        PngEncoder::new(&mut bytes)
            .write_image(self.picture.as_raw(), width, height, ExtendedColorType::Rgb8)
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Pixels that `text` is wide.
#[must_use]
pub fn width_of(text: &str) -> u32 {
    text.chars().count() as u32 * letters::WIDTH
}

/// `count` colours that are as far apart as hues allow; every other one is darker.
#[must_use]
pub fn palette(count: usize) -> Vec<Rgb<u8>> {
    let colour = |index: usize| {
        let hue = index as f32 / count.max(1) as f32 * 6.0;
        let value = if index.is_multiple_of(2) { 1.0 } else { 0.68 };
        let channel = |shift: f32| {
            // A trapezium over the colour circle, as in HSV; never quite dark, so that it shows on the paper.
            let at = (hue + shift).rem_euclid(6.0);
            let light = ((at - 3.0).abs() - 1.0).clamp(0.0, 1.0);
            ((0.25 + 0.75 * light) * value * 255.0).round() as u8
        };
        Rgb([channel(0.0), channel(4.0), channel(2.0)])
    };
    (0..count).map(colour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_dots_and_words_are_where_they_should_be() {
        let mut canvas = Canvas::new(20, 12);
        canvas.fill(1, 2, 3, 2, INK);
        canvas.dot(10, 5, 1, FAINT);
        let lit = |canvas: &Canvas| canvas.picture.pixels().filter(|pixel| **pixel != PAPER).count();
        assert_eq!(lit(&canvas), 6 + 5);
        assert_eq!((canvas.picture.get_pixel(3, 3), canvas.picture.get_pixel(10, 4)), (&INK, &FAINT));
        // What does not fit is left out.
        canvas.fill(18, 10, 9, 9, INK);
        canvas.dot(0, 11, 1, FAINT);
        assert_eq!(lit(&canvas), 6 + 5 + 4 + 3);
    }

    #[test]
    fn words_may_stand_up() {
        let (mut flat, mut up) = (Canvas::new(30, 10), Canvas::new(10, 30));
        flat.write(2, 1, "K2", INK);
        up.write_up(1, 28, "K2", INK);
        for (x, y, pixel) in flat.picture.enumerate_pixels() {
            assert_eq!(up.picture.get_pixel(y, 29 - x), pixel, "{x} {y}");
        }
    }

    #[test]
    fn colours_differ_and_show_on_the_paper() {
        let colours = palette(16);
        for (at, colour) in colours.iter().enumerate() {
            assert!(!colours[..at].contains(colour));
            assert!(colour.0.iter().any(|value| *value > 120), "{colour:?}");
        }
        assert_eq!(palette(3)[0], Rgb([255, 64, 64]));
    }

    #[test]
    fn a_png_comes_out() {
        let mut canvas = Canvas::new(9, 7);
        canvas.write(1, 0, "A", INK);
        assert_eq!(image::load_from_memory(&canvas.png().unwrap()).unwrap().to_rgb8(), canvas.picture);
    }
}
