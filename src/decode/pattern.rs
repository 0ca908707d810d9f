//! Computed pictures with known content: a texture that travels in one of eight directions.
//!
//! Needs no library and no file. The picture is a pure function of (number, time, size), in integers
//! only, so every machine computes the same bytes.

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Colour, Media, Orientation, Origin, Part, Picture};
use reelflow_api::rng::Key;

use super::{Decoder, Failure, Take};

/// Side of the texture in pixels; it repeats. A power of two, so that wrapping is a mask.
const TILE: usize = 64;

/// Directions of travel, `(x, y)`, by `number % 8`: right, left, down, up, then the diagonals.
pub const DIRECTIONS: [(&str, i64, i64); 8] = [
    ("right", 1, 0),
    ("left", -1, 0),
    ("down", 0, 1),
    ("up", 0, -1),
    ("right_down", 1, 1),
    ("left_up", -1, -1),
    ("right_up", 1, -1),
    ("left_down", -1, 1),
];

/// A pattern of 32 frames of 64x48 at 25 frames a second, where nobody said more.
#[must_use]
pub fn plain(number: u32) -> Media {
    media(number, 64, 48, (0..32).map(|i| i * 40_000_000).collect())
}

/// The medium of pattern `number` with frames at `times` (nanoseconds, strictly increasing).
///
/// Every fourth frame counts as a key frame, so that code which plans around them has some.
#[must_use]
pub fn media(number: u32, width: u32, height: u32, times: Vec<u64>) -> Media {
    Media {
        origin: Origin::Pattern { number },
        name: format!("pattern:{number}"),
        width,
        height,
        orientation: Orientation::default(),
        keys: (0..times.len() as u32).step_by(4).collect(),
        times: times.into(),
        codec: "pattern".to_owned(),
        bytes: 0,
        track: None,
        part: Part::default(),
    }
}

/// The picture of pattern `number` at `time` nanoseconds: 8-bit I420, BT.601, luma 16 to 235.
#[must_use]
pub fn picture(number: u32, time: u64, width: u32, height: u32) -> Picture {
    render(&Texture::new(number), number, time, width, height)
}

/// Three channels (luma, U, V) of smooth noise, each `TILE * TILE` bytes.
struct Texture([Vec<u8>; 3]);

impl Texture {
    fn new(number: u32) -> Self {
        let key = Key::new(u64::from(number)).part("pattern");
        Self([noise(key.part("luma"), 16, 235), noise(key.part("u"), 64, 192), noise(key.part("v"), 64, 192)])
    }
}

/// Bilinear noise on an 8-pixel lattice plus a quarter of it on a 4-pixel one, in `low..=high`.
fn noise(key: Key, low: u64, high: u64) -> Vec<u8> {
    let mut tile = vec![0u64; TILE * TILE];
    for (octave, (cell, weight)) in [(8usize, 3u64), (4, 1)].into_iter().enumerate() {
        let cells = TILE / cell;
        let mut rng = key.number(octave as u64).rng();
        let lattice: Vec<u64> = (0..cells * cells).map(|_| rng.below(high - low + 1)).collect();
        for (at, value) in tile.iter_mut().enumerate() {
            let (x, y) = (at % TILE, at / TILE);
            let (fx, fy) = ((x % cell) as u64, (y % cell) as u64);
            let c = cell as u64;
            let knot =
                |dx: usize, dy: usize| lattice[(y / cell + dy) % cells * cells + (x / cell + dx) % cells];
            let top = knot(0, 0) * (c - fx) + knot(1, 0) * fx;
            let bottom = knot(0, 1) * (c - fx) + knot(1, 1) * fx;
            *value += weight * (top * (c - fy) + bottom * fy) / (c * c);
        }
    }
    tile.into_iter().map(|value| (low + value / 4) as u8).collect()
}

/// Pixels a second at which the texture travels: 12 to 40, by number.
fn speed(number: u32) -> u64 {
    12 + Key::new(u64::from(number)).part("speed").rng().below(29)
}

fn render(texture: &Texture, number: u32, time: u64, width: u32, height: u32) -> Picture {
    let (_, dx, dy) = DIRECTIONS[number as usize % DIRECTIONS.len()];
    // How far the content has moved, in 1/16 pixel; wraps with the texture.
    let moved = (u128::from(time) * u128::from(speed(number)) * 16 / 1_000_000_000) as i64;
    let (w, h) = (width as usize, height as usize);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    let mut planes = Vec::with_capacity(w * h + 2 * cw * ch);
    for (plane, (columns, rows, scale)) in [(w, h, 1i64), (cw, ch, 2), (cw, ch, 2)].into_iter().enumerate() {
        for row in 0..rows as i64 {
            for column in 0..columns as i64 {
                let x = column * 16 * scale - dx * moved;
                let y = row * 16 * scale - dy * moved;
                planes.push(bilinear(&texture.0[plane], x, y));
            }
        }
    }
    Picture { time, width, height, colour: Colour::default(), planes }
}

/// Value of a wrapping tile at (x, y) in 1/16 pixel.
fn bilinear(tile: &[u8], x: i64, y: i64) -> u8 {
    let mask = TILE as i64 - 1;
    let (fx, fy) = ((x & 15) as u32, (y & 15) as u32);
    let at = |dx: i64, dy: i64| {
        let (column, row) = (((x >> 4) + dx) & mask, ((y >> 4) + dy) & mask);
        u32::from(tile[row as usize * TILE + column as usize])
    };
    let top = at(0, 0) * (16 - fx) + at(1, 0) * fx;
    let bottom = at(0, 1) * (16 - fx) + at(1, 1) * fx;
    ((top * (16 - fy) + bottom * fy + 128) / 256) as u8
}

/// Decodes patterns; keeps the texture of the last one.
#[derive(Default)]
pub struct PatternDecoder {
    last: Option<(u32, Texture)>,
}

impl Decoder for PatternDecoder {
    fn decode(&mut self, media: &Media, wanted: &[u32], take: &mut Take<'_>) -> Result<u64, Failure> {
        let Origin::Pattern { number } = media.origin else {
            return Err(Failure::new(SkipReason::NotMedia, format!("{} is not a pattern", media.name)));
        };
        if self.last.as_ref().is_none_or(|(kept, _)| *kept != number) {
            self.last = Some((number, Texture::new(number)));
        }
        let texture = &self.last.as_ref().expect("filled just above").1;
        for (index, &position) in wanted.iter().enumerate() {
            let time = *media.times.get(position as usize).ok_or_else(|| {
                Failure::new(
                    SkipReason::Corrupt,
                    format!("frame {position} of {}, which has {}", media.name, media.times.len()),
                )
            })?;
            take(index, &render(texture, number, time, media.width, media.height).frame());
        }
        Ok(wanted.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pictures;

    #[test]
    fn pictures_have_the_size_and_range_they_promise() {
        let frame = picture(3, 123_000_000, 33, 21);
        assert_eq!(frame.planes.len(), 33 * 21 + 2 * 17 * 11);
        assert!(frame.y().iter().all(|&y| (16..=235).contains(&y)));
        let spread = frame.y().iter().max().unwrap() - frame.y().iter().min().unwrap();
        assert!(spread > 60, "a texture needs contrast, has {spread}");
    }

    #[test]
    fn content_travels_in_the_direction_of_its_number() {
        // At the time it has moved by exactly 4 pixels, the picture is the first one shifted by 4.
        for number in 0..4 {
            let (name, dx, dy) = DIRECTIONS[number as usize];
            let time = 4_000_000_000u64.div_ceil(speed(number));
            let (first, later) = (picture(number, 0, 40, 40), picture(number, time, 40, 40));
            for (x, y) in [(10i64, 10i64), (20, 13), (31, 27)] {
                let from = first.y()[(y * 40 + x) as usize];
                let to = later.y()[((y + 4 * dy) * 40 + x + 4 * dx) as usize];
                assert_eq!(from, to, "{name} at {x},{y}");
            }
            assert_ne!(first.planes, later.planes);
        }
    }

    #[test]
    fn a_decoder_gives_the_wanted_frames_whatever_came_before() {
        let (one, two) = (plain(1), plain(2));
        let mut decoder = PatternDecoder::default();
        let all: Vec<u32> = (0..32).collect();
        let whole = pictures(&mut decoder, &one, &all).unwrap();
        pictures(&mut decoder, &two, &[5]).unwrap();
        let some = pictures(&mut decoder, &one, &[3, 30]).unwrap();
        assert_eq!(some[0], whole[3]);
        assert_eq!(some[1], whole[30]);
        assert_eq!(some[1], picture(1, one.times[30], 64, 48));
        assert_eq!(pictures(&mut decoder, &one, &[32]).unwrap_err().reason, SkipReason::Corrupt);
    }
}
