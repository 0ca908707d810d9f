//! Numbers drawn into pictures, so that whoever receives them can tell which ones are missing.
//!
//! Forty squares of 8x8 pixels, black or white, in the upper left corner: five rows of eight, highest bit first.
//! Four rows are the number, the fifth checks it. Black and white survive any encoder.

use reelflow_api::item::Picture;

/// Side of a square, pixels.
const SQUARE: usize = 8;
/// Squares in a row, and rows.
const GRID: (usize, usize) = (8, 5);
/// Size a picture needs at least, pixels.
pub const SIZE_MIN: (u32, u32) = ((GRID.0 * SQUARE) as u32, (GRID.1 * SQUARE) as u32);
/// Luma of 0 and 1.
const INK: [u8; 2] = [16, 235];

/// The five bytes that are drawn.
fn code(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [a, b, c, d, a ^ b ^ c ^ d ^ 0xa5]
}

/// Draws `number` into a picture of at least [`SIZE_MIN`].
pub fn draw(picture: &mut Picture, number: u32) {
    let width = picture.width as usize;
    for (row, byte) in code(number).into_iter().enumerate() {
        for column in 0..GRID.0 {
            let ink = INK[usize::from(byte >> (7 - column) & 1)];
            for line in 0..SQUARE {
                let at = (row * SQUARE + line) * width + column * SQUARE;
                picture.planes[at..at + SQUARE].fill(ink);
            }
        }
    }
}

/// The number in a picture, `None` if there is none or it cannot be read without doubt.
#[must_use]
pub fn read(picture: &Picture) -> Option<u32> {
    if picture.width < SIZE_MIN.0 || picture.height < SIZE_MIN.1 {
        return None;
    }
    let width = picture.width as usize;
    let mut bytes = [0u8; 5];
    for (row, byte) in bytes.iter_mut().enumerate() {
        for column in 0..GRID.0 {
            // The middle: an encoder blurs the edges.
            let (top, left) = (row * SQUARE + 2, column * SQUARE + 2);
            let middle = (top..top + 4).flat_map(|y| &picture.planes[y * width + left..][..4]);
            let mean = middle.map(|&value| u32::from(value)).sum::<u32>() / 16;
            *byte = *byte << 1 | u8::from(mean > 126);
            if mean.abs_diff(126) < 50 {
                return None;
            }
        }
    }
    let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (code(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pattern::picture;

    #[test]
    fn a_number_is_read_back_and_a_doubtful_one_is_not() {
        let mut drawn = picture(1, 0, 70, 48);
        assert_eq!(read(&drawn), None);
        for number in [0, 1, 77, 0xdead_beef, u32::MAX] {
            draw(&mut drawn, number);
            assert_eq!(read(&drawn), Some(number));
        }
        let mut grey = drawn.clone();
        grey.planes[70 * 2..70 * 6].fill(120);
        assert_eq!(read(&grey), None);
        // One bit turned: the check does not fit.
        for line in 0..8 {
            drawn.planes[line * 70..line * 70 + 8].fill(16);
        }
        assert_eq!(read(&drawn), None);
        assert_eq!(read(&picture(1, 0, 32, 48)), None);
    }
}
