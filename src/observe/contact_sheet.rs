//! Draws contact sheets: what the trainer sees, one row a view, its frames from left to right.

use image::{Rgb, RgbImage, imageops};
use reelflow_api::item::{Batch, View};

use super::canvas::{Canvas, FAINT, INK, width_of};
use super::letters;

/// Longest side of a thumbnail, pixels; larger views are scaled down.
const THUMB_MAX: u32 = 112;
/// Most thumbnails in a row; a longer clip shows evenly spaced frames.
const THUMBS_MAX: usize = 32;
/// Space between thumbnails, pixels.
const GAP: u32 = 2;
/// Space above each sample's rows, pixels; holds its title.
const TITLE: u32 = letters::HEIGHT + 7;
/// Space below each thumbnail, pixels; holds its frame number.
const NUMBER: u32 = letters::HEIGHT + 4;

/// How values of a view become light: `value * std + mean` is 0 for black and 1 for full light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Added to each channel.
    pub mean: [f32; 3],
    /// Each channel is multiplied by this.
    pub std: [f32; 3],
}

impl Light {
    /// Values from 0 to 1, as they are.
    pub const PLAIN: Self = Self { mean: [0.0; 3], std: [1.0; 3] };
}

/// [`png`] of all slots, with the title of each.
///
/// # Errors
/// If the picture cannot be encoded; the message says why.
pub fn titled_png(batch: &Batch, titles: &[String], light: Light) -> Result<Vec<u8>, String> {
    sheet(batch, batch.slots.len(), light, |index| titles.get(index).cloned().unwrap_or_default()).png()
}

/// The first `samples` slots of a batch as a PNG file: for each slot a title and one row a view, each frame
/// with its number in the segment below it. Views with one channel are grey, of more the first three are
/// taken as red, green, blue.
///
/// # Errors
/// If the picture cannot be encoded; the message says why.
pub fn png(batch: &Batch, samples: usize, light: Light) -> Result<Vec<u8>, String> {
    sheet(batch, samples, light, |index| title(batch, index)).png()
}

fn title(batch: &Batch, index: usize) -> String {
    let slot = &batch.slots[index];
    let attempt = if slot.attempt > 0 { format!(" attempt {}", slot.attempt) } else { String::new() };
    format!("step {} slot {} segment {:x}{attempt}", batch.step, slot.slot, slot.segment.0)
}

fn sheet(batch: &Batch, samples: usize, light: Light, title: impl Fn(usize) -> String) -> Canvas {
    let samples = samples.min(batch.slots.len());
    let letters_wide = batch.views.iter().map(|view| view.name.chars().count()).max().unwrap_or(0) as u32;
    let margin = letters_wide * letters::WIDTH + 10;
    let row_width = |view: &View| shown(view.shape[1]).len() as u32 * (thumb_size(view).0 + GAP);
    let row_height = |view: &View| thumb_size(view).1 + NUMBER;
    let titles = (0..samples).map(|index| 4 + width_of(&title(index))).max().unwrap_or(0);
    let width = margin + batch.views.iter().map(row_width).max().unwrap_or(0).max(40 * letters::WIDTH);
    let width = width.max(titles);
    let group = TITLE + batch.views.iter().map(row_height).sum::<u32>();
    let mut sheet = Canvas::new(width, (group * samples as u32).max(1) + GAP);
    let mut top = 0;
    for (index, slot) in batch.slots.iter().enumerate().take(samples) {
        sheet.write(4, top + 5, &title(index), FAINT);
        top += TITLE;
        for (number, view) in batch.views.iter().enumerate() {
            let (thumb_width, thumb_height) = thumb_size(view);
            sheet.write(4, top + thumb_height / 2 - letters::HEIGHT.min(thumb_height) / 2, &view.name, INK);
            for (place, frame) in shown(view.shape[1]).into_iter().enumerate() {
                let left = margin + place as u32 * (thumb_width + GAP);
                let picture = picture(view, index, frame, light);
                imageops::replace(
                    &mut sheet.picture,
                    &fit(picture, thumb_width, thumb_height),
                    left.into(),
                    top.into(),
                );
                if let Some(frame) = slot.frames.get(number).and_then(|frames| frames.get(frame)) {
                    sheet.write(left, top + thumb_height + 2, &frame.to_string(), FAINT);
                }
            }
            top += thumb_height + NUMBER;
        }
    }
    sheet
}

/// Which of `frames` frames are drawn.
fn shown(frames: usize) -> Vec<usize> {
    let count = frames.min(THUMBS_MAX);
    (0..count).map(|i| i * frames / count).collect()
}

fn thumb_size(view: &View) -> (u32, u32) {
    let [.., height, width] = view.shape.map(|side| side as u32);
    let longest = width.max(height).max(1);
    let fit = |side: u32| if longest <= THUMB_MAX { side } else { (side * THUMB_MAX / longest).max(1) };
    (fit(width), fit(height))
}

fn fit(picture: RgbImage, width: u32, height: u32) -> RgbImage {
    if picture.dimensions() == (width, height) {
        return picture;
    }
    imageops::thumbnail(&picture, width, height)
}

/// Frame `frame` of the clip in slot `index`.
fn picture(view: &View, index: usize, frame: usize, light: Light) -> RgbImage {
    let [channels, frames, height, width] = view.shape;
    let first = index * view.clip_len();
    let light = if view.normalize.is_some() { Light::PLAIN } else { light };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let pixel = y as usize * width + x as usize;
        Rgb([0, 1, 2].map(|colour: usize| {
            let plane = colour.min(channels - 1) * frames + frame;
            let value = view.pixels.at(first + plane * height * width + pixel);
            let value = value * light.std[colour] + light.mean[colour];
            (value * 255.0).round().clamp(0.0, 255.0) as u8
        }))
    })
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::{SegmentId, SlotInfo};

    use super::*;

    /// Two slots with a view of one channel, 3 frames of 4x2 pixels: frame t of slot s is s/2 + t/10 bright.
    fn batch() -> Batch {
        let slot = |slot| SlotInfo { slot, attempt: 0, segment: SegmentId(1), frames: vec![vec![5, 6, 7]] };
        let pixels = (0..2).flat_map(|s| (0..3).map(move |t| s as f32 * 0.5 + t as f32 * 0.1));
        let pixels: Vec<f32> = pixels.flat_map(|value| [value; 8]).collect();
        let view = View { name: "clip".into(), shape: [1, 3, 2, 4], pixels: pixels.into(), normalize: None };
        Batch { step: 1, slots: vec![slot(0), slot(1)], views: vec![view] }
    }

    #[test]
    fn frames_stand_in_time_order_slot_below_slot() {
        let batch = batch();
        let sheet = sheet(&batch, 8, Light::PLAIN, |index| title(&batch, index));
        let margin = 4 * letters::WIDTH + 10;
        let group = TITLE + 2 + NUMBER;
        for (slot, t) in (0..2).flat_map(|slot| (0..3).map(move |t| (slot, t))) {
            let pixel = sheet.picture.get_pixel(margin + t * (4 + GAP) + 1, slot * group + TITLE + 1);
            let wanted = ((slot as f32 * 0.5 + t as f32 * 0.1) * 255.0).round() as u8;
            assert_eq!(pixel.0, [wanted; 3], "slot {slot}, frame {t}");
        }
    }

    #[test]
    fn normalised_values_are_lit_again() {
        let light = Light { mean: [0.2, 0.4, 0.6], std: [0.5, 0.25, 1.0] };
        let mut batch = batch();
        batch.views[0].pixels.f32_mut().fill(0.4);
        let pixel = picture(&batch.views[0], 0, 0, light).get_pixel(0, 0).0;
        assert_eq!(pixel, [102, 128, 255]);
        // What is still to be normalised is light already.
        batch.views[0].normalize = Some((light.mean, light.std));
        assert_eq!(picture(&batch.views[0], 0, 0, light).get_pixel(0, 0).0, [102; 3]);
    }

    #[test]
    fn long_clips_and_large_pictures_are_thinned() {
        assert_eq!(shown(3), [0, 1, 2]);
        assert_eq!(shown(64), (0..32).map(|i| 2 * i).collect::<Vec<_>>());
        let pixels = vec![0.0; 120_000].into();
        let view = View { name: "clip".into(), shape: [1, 1, 300, 400], pixels, normalize: None };
        assert_eq!(thumb_size(&view), (112, 84));
        assert_eq!(fit(picture(&view, 0, 0, Light::PLAIN), 112, 84).dimensions(), (112, 84));
    }

    #[test]
    fn a_png_comes_out() {
        let batch = batch();
        let bytes = png(&batch, 1, Light::PLAIN).unwrap();
        let back = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(back, sheet(&batch, 1, Light::PLAIN, |index| title(&batch, index)).picture);
        let other = titled_png(&batch, &["other".to_owned()], Light::PLAIN).unwrap();
        assert_ne!(other, titled_png(&batch, &[], Light::PLAIN).unwrap());
    }
}
