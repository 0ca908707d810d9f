//! A bank in a checkpoint: one safetensors file a shard, one for keys no reader may see yet, a manifest.

use std::collections::VecDeque;

use crossbeam_channel::bounded;
use reelflow_api::error::StageError;
use reelflow_api::stage::Parts;
use serde::{Deserialize, Serialize};

use super::queue::{Bank, Rows};
use super::sealed::{self, Block, Blocks};
use super::shard::{Content, Event, Write};

/// Layout of the files below; raise it when they change.
const FORMAT: u32 = 1;

/// What the manifest of a bank says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct About {
    kind: String,
    rows: u32,
    dim: u32,
    staleness: u32,
    /// First row of each shard, and the number of rows.
    starts: Vec<usize>,
    /// Row that the next key goes to.
    next_row: usize,
    /// Newest step written.
    written: Option<u64>,
    /// Newest step read.
    asked: Option<u64>,
    /// Keys in the pending file.
    pending: usize,
}

impl Bank {
    /// Everything needed to go on, as named parts; all names start with `bank.ID.`.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn save(&mut self) -> Result<Parts, StageError> {
        let limit = self.written.max(self.asked).and_then(|step| self.limit(step));
        let mut parts = Parts::new();
        let mut pending = Vec::new();
        for shard in 0..self.shards.len() {
            let (reply, content) = bounded(1);
            self.send(shard, Event::Save { limit, reply })?;
            let content = content.recv().map_err(|_| self.dead(shard))?;
            let name = self.shard_file(shard);
            parts.insert(name.clone(), sealed::to_safetensors(&name, &blocks(&content.rows))?);
            pending.extend(flatten(self.starts[shard], self.dim(), &content.pending));
        }
        // The order of steps, not of shards: the file does not depend on how many shards there are.
        pending.sort_by_key(|(step, row, ..)| (*step, *row));
        let name = self.pending_file();
        parts.insert(name.clone(), sealed::to_safetensors(&name, &pending_blocks(self.dim(), &pending))?);
        let about = About {
            kind: "queue".to_owned(),
            rows: self.settings.rows,
            dim: self.settings.dim,
            staleness: self.settings.staleness,
            starts: self.starts.clone(),
            next_row: self.next_row,
            written: self.written,
            asked: self.asked,
            pending: pending.len(),
        };
        sealed::seal(&self.manifest_file(), FORMAT, &about, parts)
    }

    /// Goes on from what [`Bank::save`] gave, also with another number of shards. Other parts are ignored.
    ///
    /// # Errors
    /// If a part is missing or damaged (it is named), or belongs to a bank of another size.
    pub fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        let manifest = self.manifest_file();
        let about: About = sealed::open(&manifest, FORMAT, parts)?;
        let settings = &self.settings;
        let (saved, wanted) =
            ((about.rows, about.dim, about.staleness), (settings.rows, settings.dim, settings.staleness));
        if saved != wanted {
            return Err(self.refused(format!(
                "the checkpoint holds (rows, dim, staleness) {saved:?}, the pipeline asks for {wanted:?}"
            )));
        }
        let dim = self.dim();
        let mut rows = Rows::default();
        for shard in 0..about.starts.len().saturating_sub(1) {
            let count = about.starts[shard + 1].saturating_sub(about.starts[shard]);
            rows.append(&read_rows(&self.shard_file(shard), count, dim, parts)?);
        }
        if rows.ids.len() != settings.rows as usize {
            return Err(StageError::storage(
                &manifest,
                format!("its shards hold {} rows, expected {}", rows.ids.len(), settings.rows),
            ));
        }
        let pending = read_pending(&self.pending_file(), about.pending, dim, parts)?;
        for shard in 0..self.shards.len() {
            let range = self.starts[shard]..self.starts[shard + 1];
            let content = Content {
                rows: Rows {
                    values: rows.values[range.start * dim..range.end * dim].to_vec(),
                    ids: rows.ids[range.clone()].to_vec(),
                    versions: rows.versions[range.clone()].to_vec(),
                },
                pending: unflatten(range, &pending),
            };
            self.send(shard, Event::Load(content))?;
        }
        self.next_row = about.next_row;
        self.written = about.written;
        self.asked = about.asked;
        self.forget_read_ahead();
        Ok(())
    }

    fn dim(&self) -> usize {
        self.settings.dim as usize
    }

    fn shard_file(&self, shard: usize) -> String {
        format!("bank.{}.shard-{shard:03}.safetensors", self.id)
    }

    fn pending_file(&self) -> String {
        format!("bank.{}.pending.safetensors", self.id)
    }

    fn manifest_file(&self) -> String {
        format!("bank.{}.json", self.id)
    }
}

/// A key that waits: step, row in the bank, segment id, values.
type Waiting = (u64, usize, i64, Vec<f32>);

fn flatten(start: usize, dim: usize, pending: &VecDeque<Write>) -> Vec<Waiting> {
    let key = |write: &Write, i: usize| write.keys[i * dim..(i + 1) * dim].to_vec();
    pending
        .iter()
        .flat_map(|write| {
            (0..write.rows.len())
                .map(move |i| (write.step, start + write.rows[i] as usize, write.ids[i], key(write, i)))
        })
        .collect()
}

/// The writes of one shard's `range` of rows, oldest first.
fn unflatten(range: std::ops::Range<usize>, pending: &[Waiting]) -> VecDeque<Write> {
    let mut writes: VecDeque<Write> = VecDeque::new();
    for (step, row, id, key) in pending.iter().filter(|(_, row, ..)| range.contains(row)) {
        if writes.back().is_none_or(|write| write.step != *step) {
            writes.push_back(Write { step: *step, rows: Vec::new(), ids: Vec::new(), keys: Vec::new() });
        }
        let write = writes.back_mut().expect("one was just added if there was none");
        write.rows.push((row - range.start) as u32);
        write.ids.push(*id);
        write.keys.extend_from_slice(key);
    }
    writes
}

fn blocks(rows: &Rows) -> Blocks {
    let count = rows.ids.len();
    let dim = rows.values.len() / count.max(1);
    Blocks::from([
        ("values".to_owned(), Block::f32(&[count, dim], &rows.values)),
        ("ids".to_owned(), Block::i64(&[count], &rows.ids)),
        ("versions".to_owned(), Block::i64(&[count], &rows.versions)),
    ])
}

fn pending_blocks(dim: usize, pending: &[Waiting]) -> Blocks {
    let count = pending.len();
    let column = |value: fn(&Waiting) -> i64| pending.iter().map(value).collect::<Vec<_>>();
    let values: Vec<f32> = pending.iter().flat_map(|(.., key)| key.iter().copied()).collect();
    Blocks::from([
        ("values".to_owned(), Block::f32(&[count, dim], &values)),
        ("ids".to_owned(), Block::i64(&[count], &column(|waiting| waiting.2))),
        ("steps".to_owned(), Block::i64(&[count], &column(|waiting| waiting.0 as i64))),
        ("rows".to_owned(), Block::i64(&[count], &column(|waiting| waiting.1 as i64))),
    ])
}

fn read_rows(name: &str, count: usize, dim: usize, parts: &Parts) -> Result<Rows, StageError> {
    let blocks = part_blocks(name, parts)?;
    Ok(Rows {
        values: f32s(name, "values", &[count, dim], &blocks)?,
        ids: i64s(name, "ids", count, &blocks)?,
        versions: i64s(name, "versions", count, &blocks)?,
    })
}

fn read_pending(name: &str, count: usize, dim: usize, parts: &Parts) -> Result<Vec<Waiting>, StageError> {
    let blocks = part_blocks(name, parts)?;
    let values = f32s(name, "values", &[count, dim], &blocks)?;
    let ids = i64s(name, "ids", count, &blocks)?;
    let steps = i64s(name, "steps", count, &blocks)?;
    let rows = i64s(name, "rows", count, &blocks)?;
    let key = |i: usize| values[i * dim..(i + 1) * dim].to_vec();
    Ok((0..count).map(|i| (steps[i] as u64, rows[i] as usize, ids[i], key(i))).collect())
}

fn part_blocks(name: &str, parts: &Parts) -> Result<Blocks, StageError> {
    let bytes = parts.get(name).ok_or_else(|| StageError::storage(name, "is missing from the checkpoint"))?;
    sealed::from_safetensors(name, bytes)
}

fn f32s(name: &str, block: &str, shape: &[usize], blocks: &Blocks) -> Result<Vec<f32>, StageError> {
    blocks.get(block).and_then(|block| block.to_f32(shape)).ok_or_else(|| misfit(name, block, shape))
}

fn i64s(name: &str, block: &str, count: usize, blocks: &Blocks) -> Result<Vec<i64>, StageError> {
    blocks.get(block).and_then(|block| block.to_i64(&[count])).ok_or_else(|| misfit(name, block, &[count]))
}

fn misfit(name: &str, block: &str, shape: &[usize]) -> StageError {
    StageError::storage(name, format!("has no `{block}` of shape {shape:?}"))
}
