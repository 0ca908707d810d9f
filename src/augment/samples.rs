//! Reads the samples of a decoder's planes: 8 or 10 bits, all on the scale of 8-bit codes.

use super::weights::Axis;

/// One sample as a plane stores it.
pub trait Sample: Copy {
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

/// The weighed sum of the source rows that make output row `output` of `axis`; `row` gives a source row, at
/// least as long as `out`.
#[inline(always)]
pub fn blend<'r, S: Sample + 'r>(
    axis: &Axis,
    output: usize,
    row: impl Fn(usize) -> &'r [S],
    out: &mut [f32],
) {
    let (first, weights) = axis.of(output);
    // Four rows at a time, to load and store the sums a quarter as often.
    for (part, weights) in weights.chunks(4).enumerate() {
        let at = |tap: usize| row(first + 4 * part + tap);
        match (part, weights) {
            (0, &[a, b, c, d]) => weigh::<S, 4, false>([at(0), at(1), at(2), at(3)], [a, b, c, d], out),
            (0, &[a, b, c]) => weigh::<S, 3, false>([at(0), at(1), at(2)], [a, b, c], out),
            (0, &[a, b]) => weigh::<S, 2, false>([at(0), at(1)], [a, b], out),
            (0, &[a]) => weigh::<S, 1, false>([at(0)], [a], out),
            (_, &[a, b, c, d]) => weigh::<S, 4, true>([at(0), at(1), at(2), at(3)], [a, b, c, d], out),
            (_, &[a, b, c]) => weigh::<S, 3, true>([at(0), at(1), at(2)], [a, b, c], out),
            (_, &[a, b]) => weigh::<S, 2, true>([at(0), at(1)], [a, b], out),
            (_, &[a]) => weigh::<S, 1, true>([at(0)], [a], out),
            _ => unreachable!("`chunks` gives one to four"),
        }
    }
}

/// Sets `out` to the weighed sum of `rows`, or adds the sum to it.
#[inline(always)]
fn weigh<S: Sample, const N: usize, const ADD: bool>(rows: [&[S]; N], weights: [f32; N], out: &mut [f32]) {
    let count = out.len();
    let rows = rows.map(|row| &row[..count]);
    for (col, out) in out.iter_mut().enumerate() {
        let mut sum = weights[0] * rows[0][col].code();
        for tap in 1..N {
            sum += weights[tap] * rows[tap][col].code();
        }
        *out = if ADD { *out + sum } else { sum };
    }
}
