//! Reads the samples of a decoder's planes: 8 or 10 bits, all on the scale of 8-bit codes.

use super::lanes::LANES;
use super::weights::Axis;

/// One sample as a plane stores it.
pub trait Sample: Copy + Default {
    /// A row's bytes as samples.
    fn of(bytes: &[u8]) -> &[Self];

    /// The value on the scale of 8-bit codes, 0 to below 256.
    fn code(self) -> f32;
}

impl Sample for u8 {
    #[inline(always)]
    fn of(bytes: &[u8]) -> &[Self] {
        bytes
    }

    #[inline(always)]
    fn code(self) -> f32 {
        f32::from(self)
    }
}

/// 10 bits in the low bits of little-endian 16. A quarter of the value is its 8-bit code with the fraction that
/// 8 bits cannot hold, exactly.
impl Sample for [u8; 2] {
    #[inline(always)]
    fn of(bytes: &[u8]) -> &[Self] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn code(self) -> f32 {
        f32::from(u16::from_le_bytes(self)) * 0.25
    }
}

/// Samples of a row that are weighed together: two of the widest vectors that most processors have.
pub const WIDE: usize = 2 * LANES;

/// What sums begin with: adding to it changes nothing, not even a sign, so that the compiler leaves the addition out.
pub const NOTHING: f32 = -0.0;

/// The weighed sum of the source rows that make output row `output` of `axis`, [`WIDE`] samples at a time: `put` has
/// the number of each part and its sums. `row` gives a source row; all are equally long. Where they end within a part,
/// its last sums are of nothing.
#[inline(always)]
pub fn blend<'r, S: Sample + 'r>(
    axis: &Axis,
    output: usize,
    row: impl Fn(usize) -> &'r [S],
    put: impl FnMut(usize, [f32; WIDE]),
) {
    let (first, weights) = axis.of(output);
    let at = |tap: usize| row(first + tap);
    match *weights {
        [a, b] => weigh([at(0), at(1)], [a, b], put),
        [a, b, c] => weigh([at(0), at(1), at(2)], [a, b, c], put),
        [a, b, c, d] => weigh([at(0), at(1), at(2), at(3)], [a, b, c, d], put),
        [a, b, c, d, e] => weigh([at(0), at(1), at(2), at(3), at(4)], [a, b, c, d, e], put),
        _ => weigh_many(at, weights, put),
    }
}

/// Of a number of rows that the compiler knows.
#[inline(always)]
fn weigh<S: Sample, const N: usize>(
    rows: [&[S]; N],
    weights: [f32; N],
    mut put: impl FnMut(usize, [f32; WIDE]),
) {
    let (whole, rest) = (rows.map(|row| row.as_chunks().0), rows.map(|row| row.as_chunks::<WIDE>().1));
    let count = whole[0].len();
    let whole = whole.map(|parts| &parts[..count]);
    for part in 0..count {
        put(part, weighed(&whole, part, &weights));
    }
    if !rest[0].is_empty() {
        let filled = rest.map(|rest| [filled(rest)]);
        put(count, weighed(&filled.each_ref().map(|part| part.as_slice()), 0, &weights));
    }
}

/// The sums of part `part` of `rows`.
#[inline(always)]
fn weighed<S: Sample, const N: usize>(
    rows: &[&[[S; WIDE]]; N],
    part: usize,
    weights: &[f32; N],
) -> [f32; WIDE] {
    let mut sums = [NOTHING; WIDE];
    for (row, &weight) in rows.iter().zip(weights) {
        add(&row[part], weight, &mut sums);
    }
    sums
}

/// Of any number of rows.
#[inline(always)]
fn weigh_many<'r, S: Sample + 'r>(
    at: impl Fn(usize) -> &'r [S],
    weights: &[f32],
    mut put: impl FnMut(usize, [f32; WIDE]),
) {
    for part in 0..at(0).len().div_ceil(WIDE) {
        let mut sums = [NOTHING; WIDE];
        for (tap, &weight) in weights.iter().enumerate() {
            let rest = &at(tap)[part * WIDE..];
            match rest.first_chunk() {
                Some(whole) => add(whole, weight, &mut sums),
                None => add(&filled(rest), weight, &mut sums),
            }
        }
        put(part, sums);
    }
}

#[inline(always)]
fn add<S: Sample>(samples: &[S; WIDE], weight: f32, sums: &mut [f32; WIDE]) {
    for (sum, sample) in sums.iter_mut().zip(samples) {
        *sum += weight * sample.code();
    }
}

/// A part that the row does not fill, filled up with black.
#[inline(always)]
fn filled<S: Sample>(rest: &[S]) -> [S; WIDE] {
    let mut part = [S::default(); WIDE];
    part[..rest.len()].copy_from_slice(rest);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of `count` samples of 8 and of 10 bits; the sums are those of the pixels one by one.
    #[test]
    fn sums_are_those_of_single_pixels() {
        for (taps, count) in [(1, 16), (2, 37), (3, 5), (4, 64), (5, 33), (9, 50), (9, 3)] {
            let axis =
                Axis { first: vec![0, 1], weights: (0..2 * taps).map(|i| (i + 1) as f32).collect(), taps };
            let rows: Vec<Vec<u8>> =
                (0..=taps).map(|row| (0..count).map(|col| (7 * row + 5 * col) as u8).collect()).collect();
            let wanted: Vec<f32> = (0..count)
                .map(|col| (0..taps).map(|tap| (taps + tap + 1) as f32 * f32::from(rows[1 + tap][col])).sum())
                .collect();
            let deep: Vec<Vec<[u8; 2]>> = rows
                .iter()
                .map(|row| row.iter().map(|&code| (4 * u16::from(code)).to_le_bytes()).collect())
                .collect();
            let mut found = [vec![f32::NAN; count + WIDE], vec![f32::NAN; count + WIDE]];
            let put = |found: &mut [f32], part: usize, sums: [f32; WIDE]| {
                found[part * WIDE..][..WIDE].copy_from_slice(&sums);
            };
            blend(&axis, 1, |row| rows[row].as_slice(), |part, sums| put(&mut found[0], part, sums));
            blend(&axis, 1, |row| deep[row].as_slice(), |part, sums| put(&mut found[1], part, sums));
            for found in found {
                assert_eq!(found[..count], wanted, "{taps} rows of {count}");
            }
        }
    }
}
