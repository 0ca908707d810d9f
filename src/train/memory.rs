//! A bank as the trainer has it: its rows as a tensor on the device, brought up to date by what changed.

use reelflow_api::bank::BankSettings;
use reelflow_api::error::StageError;
use reelflow_api::pretext::BankRows;
use reelflow_api::rng::Key;
use reelflow_api::stage::{Parts, Scalars};
use tch::{Device, Kind, Tensor};

use crate::bank::{Ages, Bank, Changes, NO_SEGMENT};

/// A bank and a copy of its rows on the trainer's device. The copy is exact: what changed is written over it
/// bit for bit, and nothing else touches it.
pub(super) struct Memory {
    bank: Bank,
    /// `[rows, dim]`, f32.
    values: Tensor,
    /// `[rows]`, i64.
    ids: Tensor,
    device: Device,
}

impl Memory {
    /// Starts a bank whose first rows are drawn from `key`.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn open(id: &str, settings: &BankSettings, key: Key, device: Device) -> Result<Self, StageError> {
        let (rows, dim) = (i64::from(settings.rows), i64::from(settings.dim));
        Ok(Self {
            bank: Bank::open(id, settings, key)?,
            values: Tensor::zeros([rows, dim], (Kind::Float, device)),
            ids: Tensor::full([rows], NO_SEGMENT, (Kind::Int64, device)),
            device,
        })
    }

    /// What step `step` compares the segments `ids` with; `key` draws negatives if the bank has draws.
    ///
    /// # Errors
    /// As [`Bank::read`] and [`Bank::own_rows`].
    pub fn read(&mut self, step: u64, ids: &[i64], key: Key) -> Result<BankRows, StageError> {
        let changes = self.bank.read(step)?;
        self.apply(&changes);
        let total = i64::from(self.bank.settings().rows);
        let Some(negatives) = self.bank.negatives(key) else {
            let (rows, ids) = (self.values.shallow_clone(), self.ids.shallow_clone());
            return Ok(BankRows { rows, ids, own: None, total });
        };
        let own: Vec<i64> = self.bank.own_rows(ids)?.into_iter().map(|row| row as i64).collect();
        let index = |rows: &[i64]| Tensor::from_slice(rows).to_device(self.device);
        let drawn = index(&negatives);
        Ok(BankRows {
            rows: self.values.index_select(0, &drawn),
            ids: self.ids.index_select(0, &drawn),
            own: Some(self.values.index_select(0, &index(&own))),
            total,
        })
    }

    fn apply(&mut self, changes: &Changes) {
        if changes.rows.is_empty() {
            return;
        }
        let count = changes.rows.len() as i64;
        let on_device = |tensor: Tensor| tensor.to_device(self.device);
        let rows = on_device(Tensor::from_slice(&changes.rows));
        let values = on_device(Tensor::from_slice(&changes.values)).reshape([count, -1]);
        let ids = on_device(Tensor::from_slice(&changes.ids));
        drop(self.values.index_copy_(0, &rows, &values));
        drop(self.ids.index_copy_(0, &rows, &ids));
    }

    /// Remembers the keys of `step`, `[ids.len(), dim]`. Returns at once.
    ///
    /// # Errors
    /// As [`Bank::push`].
    pub fn remember(&mut self, step: u64, ids: &[i64], keys: &Tensor) -> Result<(), StageError> {
        let keys = keys.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut values = vec![0f32; keys.numel()];
        keys.copy_data(&mut values, keys.numel());
        self.bank.push(step, ids, &values)
    }

    /// As [`Bank::prefetch`].
    ///
    /// # Errors
    /// If an owner has died.
    pub fn prefetch(&mut self, step: u64) -> Result<(), StageError> {
        self.bank.prefetch(step)
    }

    /// Takes all that is known of some segments out, as [`Bank::forget`]; gives how many keys that were.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn forget(&mut self, ids: &[i64]) -> Result<u64, StageError> {
        let count = self.bank.count_of(ids)?;
        // A segment may have a row before its first key.
        self.bank.forget(ids)?;
        Ok(count)
    }

    /// How old the rows are that the newest step saw.
    pub fn ages(&self) -> Ages {
        self.bank.ages()
    }

    /// How old the rows are that the bank holds, as [`Bank::ages_kept`].
    ///
    /// # Errors
    /// If an owner has died.
    pub fn ages_kept(&mut self) -> Result<Ages, StageError> {
        self.bank.ages_kept()
    }

    /// [`Memory::ages`] in numbers of a step: rows filled, and lowest, middle and highest age in steps. The lowest is
    /// `staleness` or, where that is `"any"`, tells how far behind the reader is.
    pub fn scalars(&self) -> Scalars {
        let ages = self.ages();
        let mut scalars = vec![("bank_filled", ages.filled as f64)];
        if let Some([low, middle, high]) = ages.spread {
            let ages = [("bank_age_min", low), ("bank_age_median", middle), ("bank_age_max", high)];
            scalars.extend(ages.map(|(name, steps)| (name, steps as f64)));
        }
        scalars
    }

    /// As [`Bank::save`].
    ///
    /// # Errors
    /// If an owner has died.
    pub fn save(&mut self) -> Result<Parts, StageError> {
        self.bank.save()
    }

    /// As [`Bank::restore`]; the next read brings all rows.
    ///
    /// # Errors
    /// If a part is missing, damaged or of another bank.
    pub fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        self.bank.restore(parts)
    }
}
