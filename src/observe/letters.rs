//! Letters and digits for pictures, five dots wide and seven high; lower case is drawn as upper case.

/// Dots from one letter to the next.
pub const WIDTH: u32 = 6;
/// Dots of a line without the gap below it.
pub const HEIGHT: u32 = 7;

/// Rows from the top, five bits each, the left dot is bit 4. Other characters are drawn as a box.
const GLYPHS: &[(char, [u8; 7])] = &[
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 2, 4, 8, 31]),
    ('3', [31, 2, 4, 2, 1, 17, 14]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('B', [30, 17, 17, 30, 17, 17, 30]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [28, 18, 17, 17, 17, 18, 28]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 23, 17, 17, 15]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 17, 25, 21, 19, 17, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]),
    ('Q', [14, 17, 17, 17, 21, 18, 13]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 17, 10, 4]),
    ('W', [17, 17, 17, 21, 21, 21, 10]),
    ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 17, 10, 4, 4, 4]),
    ('Z', [31, 1, 2, 4, 8, 16, 31]),
    (' ', [0; 7]),
    ('-', [0, 0, 0, 31, 0, 0, 0]),
    ('_', [0, 0, 0, 0, 0, 0, 31]),
    ('.', [0, 0, 0, 0, 0, 12, 12]),
    (':', [0, 12, 12, 0, 12, 12, 0]),
    ('/', [1, 1, 2, 4, 8, 16, 16]),
];

/// A frame, for what has no glyph.
const BOX: [u8; 7] = [31, 17, 17, 17, 17, 17, 31];

/// Calls `dot` with column and row of every dot of `text`, from (0, 0).
pub fn draw(text: &str, mut dot: impl FnMut(u32, u32)) {
    for (at, letter) in text.chars().enumerate() {
        let letter = letter.to_ascii_uppercase();
        let rows = GLYPHS.iter().find(|(known, _)| *known == letter).map_or(&BOX, |(_, rows)| rows);
        for (row, bits) in rows.iter().enumerate() {
            for col in (0..5).filter(|col| bits >> (4 - col) & 1 == 1) {
                dot(at as u32 * WIDTH + col, row as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut rows = vec![vec![b'.'; (text.len() as u32 * WIDTH) as usize - 1]; HEIGHT as usize];
        draw(text, |x, y| rows[y as usize][x as usize] = b'#');
        let found: Vec<String> = rows.into_iter().map(|row| String::from_utf8(row).unwrap()).collect();
        assert_eq!(found.join("\n"), expected);
    }

    #[test]
    fn letters_can_be_read() {
        check(
            "n7",
            "#...#.#####\n#...#.....#\n##..#....#.\n#.#.#...#..\n#..##..#...\n#...#..#...\n#...#..#...",
        );
        check("?", "#####\n#...#\n#...#\n#...#\n#...#\n#...#\n#####");
    }
}
