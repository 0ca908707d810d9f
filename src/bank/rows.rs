//! What a bank holds: rows as they are stored, rows as a reader has them, and what changed between reads.

use std::collections::HashSet;
use std::ops::Range;

use half::f16;
use reelflow_api::bank::{BankInit, BankSettings, RowType};
use reelflow_api::rng::Key;
use serde::{Deserialize, Serialize};

use super::sealed::Block;

/// Id of a row that belongs to no segment: no key has reached it, or its segment was forgotten.
pub const NO_SEGMENT: i64 = -1;

/// The rows of a bank as one reader sees them. Never torn: a row is one key, or one segment's mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// `[rows, dim]`, f32.
    pub values: Vec<f32>,
    /// `[rows]`: segment id of each row, -1 for a row that belongs to none.
    pub ids: Vec<i64>,
    /// `[rows]`: step that last wrote each row, -1 for a row that no key has reached.
    pub versions: Vec<i64>,
}

impl Rows {
    /// Rows of zeros that belong to nobody: what a reader has before its first read.
    #[must_use]
    pub fn empty(settings: &BankSettings) -> Self {
        let (rows, dim) = (settings.rows as usize, settings.dim as usize);
        Self { values: vec![0.0; rows * dim], ids: vec![NO_SEGMENT; rows], versions: vec![-1; rows] }
    }

    /// Brings the rows of one read up to the next.
    pub fn apply(&mut self, changes: &Changes) {
        let dim = self.values.len() / self.ids.len().max(1);
        for (i, &row) in changes.rows.iter().enumerate() {
            let row = row as usize;
            self.values[row * dim..(row + 1) * dim].copy_from_slice(&changes.values[i * dim..(i + 1) * dim]);
            self.ids[row] = changes.ids[i];
            self.versions[row] = changes.versions[i];
        }
    }
}

/// Rows that differ from what the same reader was given before; the first time all of them. No row twice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Changes {
    /// `[n]`: which rows.
    pub rows: Vec<i64>,
    /// `[n, dim]`, f32.
    pub values: Vec<f32>,
    /// `[n]`, as [`Rows::ids`].
    pub ids: Vec<i64>,
    /// `[n]`, as [`Rows::versions`].
    pub versions: Vec<i64>,
}

impl Changes {
    /// Adds the changes of other rows.
    pub(super) fn append(&mut self, mut more: Self) {
        self.rows.append(&mut more.rows);
        self.values.append(&mut more.values);
        self.ids.append(&mut more.ids);
        self.versions.append(&mut more.versions);
    }

    /// Adds what changed later; of a row in both, the later content stays.
    pub(super) fn merge(&mut self, later: Self) {
        let earlier = std::mem::replace(self, later);
        let dim = earlier.values.len() / earlier.rows.len().max(1);
        let newer: HashSet<i64> = self.rows.iter().copied().collect();
        for i in (0..earlier.rows.len()).filter(|&i| !newer.contains(&earlier.rows[i])) {
            self.rows.push(earlier.rows[i]);
            self.values.extend_from_slice(&earlier.values[i * dim..(i + 1) * dim]);
            self.ids.push(earlier.ids[i]);
            self.versions.push(earlier.versions[i]);
        }
    }
}

/// Numbers as a shard keeps them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Values {
    F32(Vec<f32>),
    F16(#[serde(with = "bits")] Vec<f16>),
}

/// Half-precision numbers on their way to another process: their bits.
mod bits {
    use half::f16;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f16], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| value.to_bits()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f16>, D::Error> {
        Ok(Vec::<u16>::deserialize(from)?.into_iter().map(f16::from_bits).collect())
    }
}

impl Values {
    /// `values`, rounded to the nearest if the type is narrower.
    pub fn of(dtype: RowType, values: &[f32]) -> Self {
        match dtype {
            RowType::F32 => Self::F32(values.to_vec()),
            RowType::F16 => Self::F16(values.iter().map(|&x| f16::from_f32(x)).collect()),
        }
    }

    /// Appends the numbers of `range` to `to`.
    pub fn read(&self, range: Range<usize>, to: &mut Vec<f32>) {
        match self {
            Self::F32(values) => to.extend_from_slice(&values[range]),
            Self::F16(values) => to.extend(values[range].iter().map(|x| x.to_f32())),
        }
    }

    /// Replaces the numbers from `start` on.
    pub fn write(&mut self, start: usize, new: &[f32]) {
        match self {
            Self::F32(values) => values[start..start + new.len()].copy_from_slice(new),
            Self::F16(values) => {
                values[start..].iter_mut().zip(new).for_each(|(to, &from)| *to = f16::from_f32(from));
            }
        }
    }

    /// As a tensor of a file.
    pub fn to_block(&self, shape: &[usize]) -> Block {
        match self {
            Self::F32(values) => Block::f32(shape, values),
            Self::F16(values) => Block::f16(shape, values),
        }
    }

    /// Of a tensor of a file; `None` if it has another type or shape.
    pub fn of_block(dtype: RowType, shape: &[usize], block: &Block) -> Option<Self> {
        match dtype {
            RowType::F32 => block.to_f32(shape).map(Self::F32),
            RowType::F16 => block.to_f16(shape).map(Self::F16),
        }
    }
}

/// A range of rows as stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Stored {
    pub values: Values,
    pub ids: Vec<i64>,
    pub versions: Vec<i64>,
}

impl Stored {
    /// Rows that no key has reached.
    pub fn fresh(dtype: RowType, first: &FirstRows, range: Range<usize>) -> Self {
        let count = range.len();
        let values: Vec<f32> = range.flat_map(|row| first.row(row)).collect();
        let values = Values::of(dtype, &values);
        Self { values, ids: vec![NO_SEGMENT; count], versions: vec![-1; count] }
    }
}

/// What stands in the rows before the first key arrives; a pure function of the row's number.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct FirstRows {
    pub init: BankInit,
    pub dim: usize,
    pub key: Key,
}

impl FirstRows {
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut rng = self.key.number(row as u64).rng();
        match self.init {
            BankInit::Uniform => {
                let bound = 1.0 / (self.dim as f64 / 3.0).sqrt();
                (0..self.dim).map(|_| rng.range(-bound, bound) as f32).collect()
            }
            BankInit::Sphere => {
                let values: Vec<f64> = (0..self.dim).map(|_| rng.range(-1.0, 1.0)).collect();
                let length = values.iter().map(|x| x * x).sum::<f64>().sqrt();
                values.iter().map(|x| (x / length) as f32).collect()
            }
        }
    }
}

/// `l2norm(momentum row + (1 - momentum) key)` (InstDisc, METHODS 7.1), computed in f64 in the order of the
/// numbers. The key itself where the two cancel out and no direction is left.
pub(super) fn moved(row: &[f32], key: &[f32], momentum: f64) -> Vec<f32> {
    let mix = |(&m, &f): (&f32, &f32)| momentum * f64::from(m) + (1.0 - momentum) * f64::from(f);
    let mixed: Vec<f64> = row.iter().zip(key).map(mix).collect();
    let length = mixed.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Below this the sum is the rounding of f32, which points anywhere.
    if length < 1e-6 {
        return key.to_vec();
    }
    mixed.into_iter().map(|x| (x / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_moves_half_way_to_its_key_and_stays_of_unit_length() {
        let half = 0.5f32.sqrt();
        assert_eq!(moved(&[1.0, 0.0], &[0.0, 1.0], 0.5), [half, half]);
        assert_eq!(moved(&[1.0, 0.0], &[0.0, 1.0], 1.0), [1.0, 0.0]);
        assert_eq!(moved(&[1.0, 0.0], &[0.0, 1.0], 0.0), [0.0, 1.0]);
        assert_eq!(moved(&[1.0, 0.0], &[-1.0, 0.0], 0.5), [-1.0, 0.0], "no direction is left");
    }

    #[test]
    fn of_a_row_that_changed_twice_the_later_content_stays() {
        let changes = |rows: &[i64], value: f32| Changes {
            rows: rows.to_vec(),
            values: vec![value; rows.len() * 2],
            ids: vec![value as i64; rows.len()],
            versions: vec![value as i64; rows.len()],
        };
        let mut all = changes(&[4, 1], 1.0);
        all.merge(changes(&[1, 3], 2.0));
        assert_eq!((all.rows, all.ids), (vec![1, 3, 4], vec![2, 2, 1]));
        assert_eq!(all.values, [2.0, 2.0, 2.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn half_precision_keeps_unit_length_within_a_five_hundredth() {
        let mut rng = Key::new(4).rng();
        for dim in [2usize, 128, 65_536] {
            let first = FirstRows { init: BankInit::Sphere, dim, key: Key::new(rng.next_u64()) };
            let stored = Values::of(RowType::F16, &first.row(0));
            let mut row = Vec::new();
            stored.read(0..dim, &mut row);
            let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            // 2^-11 of each number, twice in the square (IEEE 754 binary16, to nearest).
            assert!((square - 1.0).abs() < 0.001, "{dim}: {square}");
        }
    }
}
