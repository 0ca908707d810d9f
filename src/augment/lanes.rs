//! Turns rows into columns of lanes and back, eight rows at a time.
//!
//! Resampling along a row needs each pixel beside those of the rows below it, so that one vector holds eight
//! sums; everywhere else rows lie as they are. Eight columns at a time are exchanged with their rows in registers.

use std::array;
use std::ops::Range;

use super::wide::Width;

/// Output rows that are resampled together: two vectors of four f32, or one of eight.
pub const LANES: usize = 8;

/// Eight samples of each of eight rows, or eight columns with a lane for each row.
pub type Tile = [[f32; LANES]; LANES];

/// Makes rows of each tile its columns.
#[inline(always)]
pub fn exchange(wide: Width, tiles: &mut [Tile]) {
    for tile in tiles {
        *tile = match wide.eight() {
            Some(eight) => eight.exchanged(*tile),
            None => exchanged(*tile),
        };
    }
}

/// A tile's rows as its columns, value by value.
fn exchanged(tile: Tile) -> Tile {
    array::from_fn(|i| tile.map(|row| row[i]))
}

/// Writes columns of lanes into up to eight rows of a plane, one after the other in `rows`.
#[inline(always)]
pub fn spread(wide: Width, columns: &[[f32; LANES]], rows: &mut [f32]) {
    let mut each = rows.chunks_exact_mut(columns.len());
    match array::from_fn(|_| each.next()) {
        [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h)] => {
            let rows = [a, b, c, d, e, f, g, h];
            let Some(eight) = wide.eight() else { return spread_singly(columns, rows) };
            let (tiles, rest) = columns.as_chunks();
            let (done, count) = (columns.len() - rest.len(), tiles.len());
            let mut rows = rows.map(|row| row.split_at_mut(done));
            let [a, b, c, d, e, f, g, h] =
                rows.each_mut().map(|(row, _)| &mut row.as_chunks_mut::<LANES>().0[..count]);
            for (i, tile) in tiles.iter().enumerate() {
                [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]] = eight.exchanged(*tile);
            }
            spread_singly(rest, rows.map(|(_, row)| row));
        }
        fewer => {
            for (lane, row) in fewer.into_iter().flatten().enumerate() {
                row.iter_mut().zip(columns).for_each(|(to, column)| *to = column[lane]);
            }
        }
    }
}

/// The same, column by column into eight rows.
#[inline(always)]
fn spread_singly(columns: &[[f32; LANES]], [a, b, c, d, e, f, g, h]: [&mut [f32]; LANES]) {
    for (i, column) in columns.iter().enumerate() {
        [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]] = *column;
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
    fn lanes_are_rows_however_wide() {
        // Two tiles of eight columns and three more.
        const COUNT: usize = 19;
        let value = |lane: usize, i: usize| (100 * lane + i) as f32;
        let rows = array::from_fn(|lane| array::from_fn(|i| value(lane, i)));
        let columns: Vec<[f32; LANES]> = (0..COUNT).map(|i| array::from_fn(|lane| value(lane, i))).collect();
        for wide in Width::all() {
            let mut tiles = vec![rows; 2];
            wide.run(|| exchange(wide, &mut tiles));
            assert!(tiles.iter().all(|tile| tile[..] == columns[..LANES]), "{wide:?}: {tiles:?}");
            for rows in [LANES, 5] {
                let mut plane = vec![-1.0; COUNT * rows];
                wide.run(|| spread(wide, &columns, &mut plane));
                let wanted: Vec<f32> =
                    (0..rows).flat_map(|lane| (0..COUNT).map(move |i| value(lane, i))).collect();
                assert_eq!(plane, wanted, "{wide:?}");
            }
        }
    }

    #[test]
    fn lanes_become_columns() {
        let columns: [[f32; LANES]; 3] = array::from_fn(|i| array::from_fn(|lane| (10 * lane + i) as f32));
        let mut plane = vec![-1.0; 12];
        spread_exchanged(&columns, &mut plane, 1..3, 4);
        assert_eq!(plane, [-1.0, 0.0, 10.0, -1.0, -1.0, 1.0, 11.0, -1.0, -1.0, 2.0, 12.0, -1.0]);
    }
}
