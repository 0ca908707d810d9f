//! The plain twin of a bank: a list of rows and a list of what is to come, no threads, no shards.

use std::collections::BTreeMap;

use half::f16;
use reelflow_api::bank::{BankKind, BankSettings, RowType};
use reelflow_api::rng::{Key, Rng};

use crate::bank::{Bank, Rows};

/// `count` keys of unit length.
pub fn keys(rng: &mut Rng, count: usize, dim: usize) -> Vec<f32> {
    (0..count)
        .flat_map(|_| {
            let key: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
            let length = key.iter().map(|x| x * x).sum::<f64>().sqrt();
            key.into_iter().map(move |x| (x / length) as f32)
        })
        .collect()
}

struct Pending {
    step: u64,
    row: usize,
    id: i64,
    key: Vec<f32>,
}

/// Everything at once and in the open.
pub struct Model {
    settings: BankSettings,
    first: Rows,
    pub rows: Rows,
    pending: Vec<Pending>,
    next: usize,
    row_of: BTreeMap<i64, usize>,
}

impl Model {
    /// With the first rows of a bank that was opened with `key`.
    pub fn new(settings: &BankSettings, key: Key) -> Self {
        let one = BankSettings { shards: 1, ..settings.clone() };
        let mut first = Rows::empty(settings);
        first.apply(&Bank::open("model", &one, key).unwrap().read(0).unwrap());
        let rows = first.clone();
        Self {
            settings: settings.clone(),
            first,
            rows,
            pending: Vec::new(),
            next: 0,
            row_of: BTreeMap::new(),
        }
    }

    fn dim(&self) -> usize {
        self.settings.dim as usize
    }

    /// Row of the next key of `id`; `None` if there is no room.
    fn place(&mut self, id: i64) -> Option<usize> {
        let count = self.settings.rows as usize;
        if self.settings.kind == BankKind::Queue {
            self.next += 1;
            return Some((self.next - 1) % count);
        }
        let taken: Vec<usize> = self.row_of.values().copied().collect();
        let row = self.row_of.get(&id).copied().or_else(|| (0..count).find(|row| !taken.contains(row)))?;
        self.row_of.insert(id, row);
        Some(row)
    }

    /// Whether all of `ids` would have room.
    pub fn has_room(&self, ids: &[i64]) -> bool {
        let mut all: Vec<i64> = self.row_of.keys().copied().chain(ids.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        self.settings.kind == BankKind::Queue || all.len() <= self.settings.rows as usize
    }

    pub fn push(&mut self, step: u64, ids: &[i64], keys: &[f32]) {
        for (i, &id) in ids.iter().enumerate() {
            let row = self.place(id).unwrap();
            let key = keys[i * self.dim()..(i + 1) * self.dim()].to_vec();
            self.pending.push(Pending { step, row, id, key });
        }
    }

    pub fn forget(&mut self, ids: &[i64]) {
        let dim = self.dim();
        let first = |row: usize, rows: &Rows| rows.values[row * dim..(row + 1) * dim].to_vec();
        for pending in self.pending.iter_mut().filter(|pending| ids.contains(&pending.id)) {
            pending.id = -1;
            pending.key = first(pending.row, &self.first);
        }
        for row in 0..self.rows.ids.len() {
            if ids.contains(&self.rows.ids[row]) {
                self.rows.ids[row] = -1;
                let key = first(row, &self.first);
                self.rows.values[row * dim..(row + 1) * dim].copy_from_slice(&key);
            }
        }
        self.row_of.retain(|id, _| !ids.contains(id));
    }

    /// The rows as `step` sees them.
    pub fn read(&mut self, step: u64) -> &Rows {
        let least = self.settings.staleness.least();
        for Pending { row, id, key, step } in self.pending.extract_if(.., |write| write.step + least <= step)
        {
            let dim = self.settings.dim as usize;
            let values = &mut self.rows.values[row * dim..(row + 1) * dim];
            let new: Vec<f32> = match self.settings.kind {
                BankKind::Instance { momentum, .. } if id != -1 => mixed(values, &key, momentum),
                _ => key,
            };
            for (to, from) in values.iter_mut().zip(new) {
                *to = match self.settings.dtype {
                    RowType::F32 => from,
                    RowType::F16 => f16::from_f32(from).to_f32(),
                };
            }
            self.rows.ids[row] = id;
            self.rows.versions[row] = step as i64;
        }
        &self.rows
    }
}

/// The formula of InstDisc, written down once more.
fn mixed(row: &[f32], key: &[f32], momentum: f64) -> Vec<f32> {
    let mut sum: Vec<f64> = Vec::new();
    let mut square = 0.0;
    for i in 0..row.len() {
        let value = momentum * f64::from(row[i]) + (1.0 - momentum) * f64::from(key[i]);
        square += value * value;
        sum.push(value);
    }
    let length = square.sqrt();
    sum.iter().map(|value| (value / length) as f32).collect()
}
