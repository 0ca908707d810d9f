//! A bank in a checkpoint: one safetensors file a shard, one for keys no reader may see yet, a manifest.
//!
//! ```text
//! bank.ID.shard-000.safetensors   values [n, dim] f32 or f16, ids [n], versions [n]
//! bank.ID.pending.safetensors     values [p, dim] f32, ids [p], steps [p], rows [p]
//! bank.ID.json                    sizes, positions, checksums of the files and of itself
//! ```

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use reelflow_api::bank::{BankInit, RowType, Staleness};
use reelflow_api::error::StageError;
use reelflow_api::rng::Key;
use reelflow_api::stage::Parts;
use serde::{Deserialize, Serialize};

use super::ages::Ages;
use super::handle::{Bank, places};
use super::rows::{FirstRows, NO_SEGMENT, Rows, Stored, Values};
use super::sealed::{self, Block, Blocks};
use super::shard::{Content, Write};
use super::wire::Wire;

/// Layout of the files above; raise it when they change.
const FORMAT: u32 = 2;

/// What the manifest of a bank says. No floating-point numbers: see [`sealed::seal`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `queue` or `instance`.
    pub kind: String,
    /// Rows in all.
    pub rows: u32,
    /// Length of a row.
    pub dim: u32,
    /// Steps between a write and a read that sees it.
    pub staleness: Staleness,
    /// How a number is stored.
    pub dtype: RowType,
    /// How the first rows were drawn.
    pub init: BankInit,
    /// What they were drawn from.
    pub first_rows: Key,
    /// First row of each shard, and the number of rows.
    pub starts: Vec<usize>,
    /// Row that the next key goes to; of instances, the first row that was never given away.
    pub next_row: usize,
    /// Newest step written.
    pub written: Option<u64>,
    /// Newest step read.
    pub asked: Option<u64>,
    /// Keys in the pending file.
    pub pending: usize,
}

impl About {
    /// What cannot be, although the checksum is right; nothing that is computed from it overflows.
    fn check(&self) -> Result<(), String> {
        let is_step = |step: Option<u64>| step.is_none_or(|step| step < 1 << 62);
        let is_row = match self.kind.as_str() {
            "queue" => self.next_row < self.rows as usize,
            "instance" => self.next_row <= self.rows as usize,
            other => return Err(format!("its kind is {other:?}, known are queue and instance")),
        };
        match self {
            Self { dim: 0, .. } => Err("its rows have no length".to_owned()),
            _ if !is_row => Err(format!("its next row is {} of {}", self.next_row, self.rows)),
            _ if !is_step(self.written) || !is_step(self.asked) => {
                Err(format!("its steps are {:?} and {:?}", self.written, self.asked))
            }
            _ => Ok(()),
        }
    }
}

/// All of a bank at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    id: String,
    /// What it is.
    pub about: About,
    shards: Vec<Stored>,
    /// In the order of steps, then of rows.
    pending: Vec<Waiting>,
}

/// A key that waits.
#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    step: u64,
    /// Row in the bank.
    row: usize,
    id: i64,
    key: Vec<f32>,
}

/// Ids of the banks that have a manifest among `parts`.
#[must_use]
pub fn ids(parts: &Parts) -> Vec<String> {
    let id = |name: &String| Some(name.strip_prefix("bank.")?.strip_suffix(".json")?.to_owned());
    parts.keys().filter_map(id).collect()
}

impl Snapshot {
    /// Reads bank `id` out of a checkpoint's parts and checks every byte of it.
    ///
    /// # Errors
    /// If a part is missing or damaged (it is named), or they do not fit each other.
    pub fn read(id: &str, parts: &Parts) -> Result<Self, StageError> {
        let manifest = manifest_file(id);
        let about: About = sealed::open(&manifest, FORMAT, parts)?;
        about.check().map_err(|what| StageError::storage(&manifest, what))?;
        let rises = about.starts.windows(2).all(|pair| pair[0] < pair[1]);
        let ends = (about.starts.first(), about.starts.last());
        if !rises || about.starts.len() < 2 || ends != (Some(&0), Some(&(about.rows as usize))) {
            let message = format!("its shards start at {:?} in {} rows", about.starts, about.rows);
            return Err(StageError::storage(&manifest, message));
        }
        let shards = about.starts.windows(2).enumerate();
        let shards =
            shards.map(|(shard, pair)| read_rows(&shard_file(id, shard), pair[1] - pair[0], &about, parts));
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        let pending = read_pending(&pending_file(id), &about, parts)?;
        Ok(Self { id: id.to_owned(), about, shards, pending })
    }

    /// The files; what was read comes back byte for byte.
    ///
    /// # Errors
    /// If a format cannot hold them.
    pub fn to_parts(&self) -> Result<Parts, StageError> {
        let mut parts = Parts::new();
        for (shard, rows) in self.shards.iter().enumerate() {
            let name = shard_file(&self.id, shard);
            let count = rows.ids.len();
            let blocks = Blocks::from([
                ("values".to_owned(), rows.values.to_block(&[count, self.dim()])),
                ("ids".to_owned(), Block::i64(&[count], &rows.ids)),
                ("versions".to_owned(), Block::i64(&[count], &rows.versions)),
            ]);
            parts.insert(name.clone(), sealed::to_safetensors(&name, &blocks)?);
        }
        let name = pending_file(&self.id);
        parts.insert(name.clone(), sealed::to_safetensors(&name, &self.pending_blocks())?);
        sealed::seal(&manifest_file(&self.id), FORMAT, &self.about, parts)
    }

    /// Takes all that is known of some segments out, as [`Bank::forget`]; the number of keys taken.
    pub fn forget(&mut self, ids: &HashSet<i64>) -> usize {
        let (first, dim) = (self.first_rows(), self.dim());
        let mut taken = 0;
        for (shard, start) in self.shards.iter_mut().zip(&self.about.starts) {
            for row in (0..shard.ids.len()).filter(|_| !ids.is_empty()) {
                if ids.contains(&shard.ids[row]) {
                    shard.ids[row] = NO_SEGMENT;
                    shard.values.write(row * dim, &first.row(start + row));
                    taken += 1;
                }
            }
        }
        for waiting in self.pending.iter_mut().filter(|waiting| ids.contains(&waiting.id)) {
            waiting.id = NO_SEGMENT;
            waiting.key = first.row(waiting.row);
            taken += 1;
        }
        taken
    }

    /// The rows as the next reader sees them.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for shard in &self.shards {
            shard.values.read(0..shard.ids.len() * self.dim(), &mut rows.values);
            rows.ids.extend_from_slice(&shard.ids);
            rows.versions.extend_from_slice(&shard.versions);
        }
        rows
    }

    /// How old they are at the next step.
    #[must_use]
    pub fn ages(&self) -> Ages {
        let rows = self.shards.iter().flat_map(|shard| shard.ids.iter().zip(&shard.versions));
        let step = self.about.written.map_or(0, |step| step + 1);
        Ages::of_rows(step, self.about.rows.into(), rows)
    }

    /// What is wrong although every checksum is right, a line each with the file's name: rows that are no
    /// numbers or not of unit length, steps that were never written, a segment with two rows.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let newest = self.about.written.map_or(-1, |step| step as i64);
        // Rows that no key has moved are as the first ones, which need not be of unit length; half-precision
        // rows may be off by their rounding on top of the key's.
        let tolerance = match self.about.dtype {
            RowType::F32 => super::handle::UNIT_TOLERANCE,
            RowType::F16 => 2.0 * super::handle::UNIT_TOLERANCE,
        };
        let mut owners = HashSet::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let file = shard_file(&self.id, number);
            let mut values = Vec::new();
            shard.values.read(0..shard.ids.len() * self.dim(), &mut values);
            for (i, row) in values.chunks_exact(self.dim()).enumerate() {
                let (id, version) = (shard.ids[i], shard.versions[i]);
                let place = format!("{file}: row {}", self.about.starts[number] + i);
                let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                if !square.is_finite() || (id != NO_SEGMENT && (square - 1.0).abs() > tolerance) {
                    problems.push(format!("{place} of segment {id} has squared length {square}, expected 1"));
                }
                let is_written = id != NO_SEGMENT;
                if version < -1 || version > newest || (is_written && version < 0) {
                    problems.push(format!("{place} is of step {version}, the newest written is {newest}"));
                }
                if is_written && self.about.kind == "instance" && !owners.insert(id) {
                    problems.push(format!("{place} belongs to segment {id}, which has another row"));
                }
            }
        }
        for (i, waiting) in self.pending.iter().enumerate() {
            let (row, step) = (waiting.row, waiting.step as i64);
            if row >= self.about.rows as usize || step > newest || waiting.key.iter().any(|x| !x.is_finite())
            {
                let file = pending_file(&self.id);
                problems.push(format!("{file}: key {i} is for row {row} of step {step}, which cannot be"));
            }
        }
        problems
    }

    fn dim(&self) -> usize {
        self.about.dim as usize
    }

    fn first_rows(&self) -> FirstRows {
        FirstRows { init: self.about.init, dim: self.dim(), key: self.about.first_rows }
    }

    fn pending_blocks(&self) -> Blocks {
        let count = self.pending.len();
        let column = |value: fn(&Waiting) -> i64| self.pending.iter().map(value).collect::<Vec<_>>();
        let values: Vec<f32> = self.pending.iter().flat_map(|waiting| waiting.key.iter().copied()).collect();
        Blocks::from([
            ("values".to_owned(), Block::f32(&[count, self.dim()], &values)),
            ("ids".to_owned(), Block::i64(&[count], &column(|waiting| waiting.id))),
            ("steps".to_owned(), Block::i64(&[count], &column(|waiting| waiting.step as i64))),
            ("rows".to_owned(), Block::i64(&[count], &column(|waiting| waiting.row as i64))),
        ])
    }

    /// What the owner of `range` of the rows has; `all` are [`Snapshot::rows`].
    fn content(&self, range: Range<usize>, all: &Rows) -> Content {
        let dim = self.dim();
        let values = Values::of(self.about.dtype, &all.values[range.start * dim..range.end * dim]);
        let rows = Stored {
            values,
            ids: all.ids[range.clone()].to_vec(),
            versions: all.versions[range.clone()].to_vec(),
        };
        Content { rows, pending: unflatten(range, &self.pending) }
    }
}

impl<W: Wire> Bank<W> {
    /// All of the bank as it is now.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn snapshot(&mut self) -> Result<Snapshot, StageError> {
        let contents = self.contents()?;
        let dim = self.first.dim;
        let starts = self.starts.iter();
        let mut pending: Vec<Waiting> = contents
            .iter()
            .zip(starts)
            .flat_map(|(content, start)| flatten(*start, dim, &content.pending))
            .collect();
        // The order of steps, not of shards: the file does not depend on how many shards there are.
        pending.sort_by_key(|waiting| (waiting.step, waiting.row));
        let settings = &self.settings;
        let about = About {
            kind: settings.kind.name().to_owned(),
            rows: settings.rows,
            dim: settings.dim,
            staleness: settings.staleness,
            dtype: settings.dtype,
            init: self.first.init,
            first_rows: self.first.key,
            starts: self.starts.clone(),
            next_row: self.places.next(),
            written: self.written,
            asked: self.asked,
            pending: pending.len(),
        };
        let shards = contents.into_iter().map(|content| content.rows).collect();
        Ok(Snapshot { id: self.id.clone(), about, shards, pending })
    }

    /// Everything needed to go on, as named parts; all names start with `bank.ID.`.
    ///
    /// # Errors
    /// If an owner has died.
    pub fn save(&mut self) -> Result<Parts, StageError> {
        self.snapshot()?.to_parts()
    }

    /// Goes on from what [`Bank::save`] gave, also with another number of shards. Other parts are ignored.
    ///
    /// # Errors
    /// If a part is missing or damaged (it is named), or belongs to a bank of another size.
    pub fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        let snapshot = Snapshot::read(&self.id, parts)?;
        let (about, settings) = (&snapshot.about, &self.settings);
        let saved = (about.kind.as_str(), about.rows, about.dim, about.staleness, about.dtype);
        let kind = settings.kind.name();
        let wanted = (kind, settings.rows, settings.dim, settings.staleness, settings.dtype);
        if saved != wanted {
            return Err(self.refused(format!(
                "the checkpoint holds (kind, rows, dim, staleness, dtype) {saved:?}, the pipeline asks for {wanted:?}"
            )));
        }
        if let Some(stray) = snapshot.pending.iter().find(|waiting| waiting.row >= settings.rows as usize) {
            let message = format!("a key waits for row {} of {}", stray.row, settings.rows);
            return Err(StageError::storage(pending_file(&self.id), message));
        }
        let rows = snapshot.rows();
        let contents = self.starts.windows(2).map(|pair| snapshot.content(pair[0]..pair[1], &rows)).collect();
        let visible = snapshot.shards.iter().flat_map(|shard| shard.ids.iter().copied()).enumerate();
        let pending = snapshot.pending.iter().map(|waiting| (waiting.id, waiting.row));
        let taken = visible.map(|(row, id)| (id, row)).chain(pending);
        self.places = places(settings.kind, settings.rows as usize, about.next_row, taken);
        self.load(contents, snapshot.first_rows())?;
        self.written = about.written;
        self.asked = about.asked;
        Ok(())
    }
}

fn shard_file(id: &str, shard: usize) -> String {
    format!("bank.{id}.shard-{shard:03}.safetensors")
}

fn pending_file(id: &str) -> String {
    format!("bank.{id}.pending.safetensors")
}

fn manifest_file(id: &str) -> String {
    format!("bank.{id}.json")
}

fn flatten(start: usize, dim: usize, pending: &VecDeque<Write>) -> Vec<Waiting> {
    let mut flat = Vec::new();
    for write in pending {
        for (i, row) in write.rows.iter().enumerate() {
            let key = write.keys[i * dim..(i + 1) * dim].to_vec();
            flat.push(Waiting { step: write.step, row: start + *row as usize, id: write.ids[i], key });
        }
    }
    flat
}

/// The writes of one shard's `range` of rows, oldest first.
fn unflatten(range: Range<usize>, pending: &[Waiting]) -> VecDeque<Write> {
    let mut writes: VecDeque<Write> = VecDeque::new();
    for waiting in pending.iter().filter(|waiting| range.contains(&waiting.row)) {
        let step = waiting.step;
        if writes.back().is_none_or(|write| write.step != step) {
            writes.push_back(Write { step, rows: Vec::new(), ids: Vec::new(), keys: Vec::new() });
        }
        let write = writes.back_mut().expect("one was just added if there was none");
        write.rows.push((waiting.row - range.start) as u32);
        write.ids.push(waiting.id);
        write.keys.extend_from_slice(&waiting.key);
    }
    writes
}

fn read_rows(name: &str, count: usize, about: &About, parts: &Parts) -> Result<Stored, StageError> {
    let blocks = part_blocks(name, parts)?;
    let shape = [count, about.dim as usize];
    let values = blocks.get("values").and_then(|block| Values::of_block(about.dtype, &shape, block));
    Ok(Stored {
        values: values.ok_or_else(|| misfit(name, "values", &shape))?,
        ids: i64s(name, "ids", count, &blocks)?,
        versions: i64s(name, "versions", count, &blocks)?,
    })
}

fn read_pending(name: &str, about: &About, parts: &Parts) -> Result<Vec<Waiting>, StageError> {
    let (count, dim) = (about.pending, about.dim as usize);
    let blocks = part_blocks(name, parts)?;
    let shape = [count, dim];
    let values = blocks.get("values").and_then(|block| block.to_f32(&shape));
    let values = values.ok_or_else(|| misfit(name, "values", &shape))?;
    let ids = i64s(name, "ids", count, &blocks)?;
    let steps = i64s(name, "steps", count, &blocks)?;
    let rows = i64s(name, "rows", count, &blocks)?;
    let is_wrong = |i: &usize| {
        let (row, step) = (rows[*i], steps[*i]);
        row < 0 || !(0..1 << 62).contains(&step)
    };
    if let Some(i) = (0..count).find(is_wrong) {
        let message = format!("key {i} is for row {} of step {}, which cannot be", rows[i], steps[i]);
        return Err(StageError::storage(name, message));
    }
    let waiting = |i: usize| Waiting {
        step: steps[i] as u64,
        row: rows[i] as usize,
        id: ids[i],
        key: values[i * dim..(i + 1) * dim].to_vec(),
    };
    Ok((0..count).map(waiting).collect())
}

fn part_blocks(name: &str, parts: &Parts) -> Result<Blocks, StageError> {
    let bytes = parts.get(name).ok_or_else(|| StageError::storage(name, "is missing from the checkpoint"))?;
    sealed::from_safetensors(name, bytes)
}

fn i64s(name: &str, block: &str, count: usize, blocks: &Blocks) -> Result<Vec<i64>, StageError> {
    blocks.get(block).and_then(|block| block.to_i64(&[count])).ok_or_else(|| misfit(name, block, &[count]))
}

fn misfit(name: &str, block: &str, shape: &[usize]) -> StageError {
    StageError::storage(name, format!("has no `{block}` of shape {shape:?} and the manifest's type"))
}
