//! Turns rows into columns of lanes and back, eight rows at a time.
//!
//! Resampling along a row needs each pixel beside those of the rows below it, so that one vector holds eight
//! sums; everywhere else rows lie as they are. The loops name all eight rows, so that the compiler sees vector
//! shuffles in them.

use std::array;
use std::ops::Range;

/// Output rows that are resampled together: two vectors of four f32, or one of eight.
pub const LANES: usize = 8;

/// `columns[i][lane]` becomes number `AT` of the `STEP` values at place `i` of line `lane`.
#[inline(always)]
pub fn gather<const STEP: usize, const AT: usize>(lines: &[Vec<f32>; LANES], columns: &mut [[f32; LANES]]) {
    let count = columns.len();
    // All of one length, so that the loop needs no checks.
    let [a, b, c, d, e, f, g, h] = lines.each_ref().map(|line| &line.as_chunks::<STEP>().0[..count]);
    for (i, column) in columns.iter_mut().enumerate() {
        *column = [a[i][AT], b[i][AT], c[i][AT], d[i][AT], e[i][AT], f[i][AT], g[i][AT], h[i][AT]];
    }
}

/// Writes columns of lanes into up to eight rows of a plane, one after the other in `rows`.
#[inline(always)]
pub fn spread(columns: &[[f32; LANES]], rows: &mut [f32]) {
    let count = columns.len();
    let mut each = rows.chunks_exact_mut(count);
    match array::from_fn(|_| each.next().map(|row| &mut row[..count])) {
        [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h)] => {
            for (i, column) in columns.iter().enumerate() {
                [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]] = *column;
            }
        }
        fewer => {
            for (lane, row) in fewer.into_iter().flatten().enumerate() {
                row.iter_mut().zip(columns).for_each(|(to, column)| *to = column[lane]);
            }
        }
    }
}

/// Writes columns of lanes into a plane of rows of `width`, rows and columns exchanged: lanes become columns
/// `range`.
pub fn spread_exchanged(columns: &[[f32; LANES]], plane: &mut [f32], range: Range<usize>, width: usize) {
    for (row, column) in plane.chunks_exact_mut(width).zip(columns) {
        row[range.clone()].copy_from_slice(&column[..range.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_rows_whichever_way() {
        let lines = array::from_fn(|lane| (0..6).map(|i| (10 * lane + i) as f32).collect::<Vec<f32>>());
        let mut columns = vec![[0.0; LANES]; 3];
        gather::<2, 1>(&lines, &mut columns);
        assert_eq!([columns[0][0], columns[2][7]], [1.0, 75.0]);
        gather::<1, 0>(&lines, &mut columns);
        for rows in [8, 5] {
            let mut plane = vec![-1.0; 3 * rows];
            spread(&columns, &mut plane);
            let wanted: Vec<f32> = (0..rows).flat_map(|lane| lines[lane][..3].to_vec()).collect();
            assert_eq!(plane, wanted);
        }
        let mut plane = vec![-1.0; 12];
        spread_exchanged(&columns, &mut plane, 1..3, 4);
        assert_eq!(plane, [-1.0, 0.0, 10.0, -1.0, -1.0, 1.0, 11.0, -1.0, -1.0, 2.0, 12.0, -1.0]);
    }
}
