//! Keeps what probing found in a file, so that the next start probes only what changed.
//!
//! A file is known again by its path, size and time of last change, or, under another path, by device, inode, size
//! and time; whoever changes a file and puts its old time back is believed, as rsync and make believe it. Kept are
//! media and those failures that lie in the file itself; they hold for the program and the decoders that found them
//! ([`maker`]), others probe anew.
//!
//! ```text
//! magic  u32 version  u32 bytes of maker  maker  u64 records  u64 looks  u64 checksum of all before
//! a record or look: u32 bytes, u64 checksum of them, bytes
//! ```
//!
//! Numbers are little-endian, checksums XXH3; the head is the same in all versions. Damage of any kind means that the file is passed over and made anew; a
//! newer version is refused. Saving writes beside the file and renames: of two processes that save at once one wins,
//! and what the other found is probed again.

pub mod look;
pub mod record;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rayon::prelude::*;
use reelflow_api::error::StageError;
use reelflow_api::item::{Media, Segment};
use xxhash_rust::xxh3::xxh3_64;

use crate::edge::files::{self, storage};
use look::Look;
use record::{Head, Probed};
use wire::{In, Out};

const MAGIC: &[u8; 8] = b"RFKEPT\r\n";
const VERSION: u32 = 1;

/// Raise it when probing finds another thing in the same file.
const PROBE: u32 = 1;

/// Saves that a record outlives without being of use: media of other pipelines, or a disk that is not mounted.
const UNUSED_MAX: u32 = 20;

/// Looks that are kept; the oldest goes first.
const LOOKS_MAX: usize = 64;

/// New records before a long scan saves what it has so far; later saves wait for half of what there is, so that all
/// of them together write no more than three times the file.
const SAVE_EVERY_MIN: usize = 4096;

/// Name, version and parts of what probes: results of another maker are not taken over.
#[must_use]
pub fn maker() -> &'static str {
    static MAKER: OnceLock<String> = OnceLock::new();
    MAKER.get_or_init(|| {
        format!("reelflow {} probe {PROBE} {}", env!("CARGO_PKG_VERSION"), crate::decode::maker())
    })
}

/// What earlier scans found, and what this one adds. May be asked from many threads.
pub struct Kept {
    path: Option<PathBuf>,
    maker: &'static str,
    known: RwLock<Known>,
    found: AtomicU64,
    probed: AtomicU64,
}

/// Path, size, seconds and nanoseconds of the last change.
type Name = (PathBuf, [u64; 3]);

#[derive(Default)]
struct Known {
    /// The file as it was read.
    bytes: Vec<u8>,
    records: Vec<Record>,
    by_name: HashMap<Name, usize>,
    by_identity: HashMap<[u64; 5], usize>,
    looks: BTreeMap<String, (u64, Look)>,
    /// Records that are in no file yet.
    unsaved: usize,
    /// Whether a look is in no file yet.
    has_new_look: bool,
    /// Whether saving in the middle of a scan has failed; it is not tried again before the end.
    has_failed: bool,
}

struct Record {
    head: Head,
    body: Body,
    is_used: AtomicBool,
}

enum Body {
    /// In [`Known::bytes`].
    Read(Range<usize>),
    New(Vec<u8>),
}

impl Known {
    fn body<'k>(&'k self, record: &'k Record) -> &'k [u8] {
        match &record.body {
            Body::Read(range) => &self.bytes[range.clone()],
            Body::New(bytes) => bytes,
        }
    }

    /// The record of this file, whatever it is called.
    fn record(&self, path: &Path, identity: &[u64; 5]) -> Option<&Record> {
        let by_name = self.by_name.get(&name(path, identity));
        Some(&self.records[*by_name.or_else(|| self.by_identity.get(identity))?])
    }

    fn read(&self, path: &Path, identity: &[u64; 5]) -> Option<Probed> {
        record::read(&mut In(self.body(self.record(path, identity)?)), path)
    }

    fn add(&mut self, record: Record) {
        let index = self.records.len();
        self.by_name.insert(name(&record.head.path, &record.head.identity), index);
        self.by_identity.insert(record.head.identity, index);
        self.records.push(record);
    }
}

fn name(path: &Path, identity: &[u64; 5]) -> Name {
    (path.to_owned(), [identity[2], identity[3], identity[4]])
}

impl Kept {
    /// Knows nothing and is saved nowhere, but knows again what it was told.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            path: None,
            maker: "",
            known: RwLock::default(),
            found: AtomicU64::new(0),
            probed: AtomicU64::new(0),
        }
    }

    /// What the file at `path` keeps, and a note for people if there is a file and nothing of it can be used. What is
    /// found from now on is saved there; nothing is written yet, and the file need not be there.
    ///
    /// # Errors
    /// If it cannot be read, a newer version of the program wrote it, or it is some other file, which must not be
    /// lost.
    pub fn open(path: &Path) -> Result<(Self, Option<String>), StageError> {
        Self::open_with(path, path, true)
    }

    /// [`Kept::open`] of the file at `from`, for a `path` of which we chose the name: whatever is there is ours.
    ///
    /// # Errors
    /// If it cannot be read, or a newer version of the program wrote it.
    pub fn open_own(path: &Path, from: &Path) -> Result<(Self, Option<String>), StageError> {
        Self::open_with(path, from, false)
    }

    fn open_with(
        path: &Path,
        from: &Path,
        may_be_foreign: bool,
    ) -> Result<(Self, Option<String>), StageError> {
        let mut kept = Self { path: Some(path.to_owned()), maker: maker(), ..Self::nowhere() };
        let bytes = match std::fs::read(from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((kept, None)),
            Err(error) => return Err(storage("read", from, &error)),
        };
        let shown = from.display();
        let note = match parse(bytes, kept.maker) {
            Ok(known) => {
                kept.known = RwLock::new(known);
                None
            }
            Err(Unfit::Newer(version)) => {
                let message = format!(
                    "`{shown}` is of version {version}, this reelflow reads up to {VERSION}: use the newer one, or remove \
                     the file and all media are probed anew"
                );
                return Err(StageError::storage("catalogue", message));
            }
            Err(Unfit::Foreign) if may_be_foreign => {
                let message = format!("`{shown}` is no catalogue of reelflow; choose another name for it");
                return Err(StageError::refused("catalogue", message));
            }
            Err(Unfit::Foreign) => Some(format!("`{shown}` is damaged; all media are probed anew")),
            Err(Unfit::Damaged(what)) => {
                Some(format!("`{shown}` is damaged ({what}); all media are probed anew"))
            }
            Err(Unfit::Other(other)) => Some(format!(
                "`{shown}` was made by {other}, this is {}; all media are probed anew",
                kept.maker
            )),
        };
        // Under the new name it is not there yet.
        kept.write_lock().has_new_look = path != from;
        Ok((kept, note))
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the file `path` with this [`files::identity`].
    #[must_use]
    pub fn find(&self, path: &Path, identity: &[u64; 5]) -> Option<Probed> {
        let known = self.read_lock();
        let record = known.record(path, identity)?;
        let probed = record::read(&mut In(known.body(record)), path)?;
        record.is_used.store(true, Ordering::Relaxed);
        self.found.fetch_add(1, Ordering::Relaxed);
        if record.head.path == path && record.head.identity == *identity {
            return Some(probed);
        }
        // It has moved: it is known by its new place from now on.
        let body = Body::New(known.body(record).to_vec());
        drop(known);
        self.add(path, identity, body);
        Some(probed)
    }

    /// Takes down what probing the file `path` found; `identity` is from before it was read.
    pub fn note(&self, path: &Path, identity: &[u64; 5], probed: &Probed) {
        self.probed.fetch_add(1, Ordering::Relaxed);
        if !record::stays(probed) {
            return;
        }
        let mut out = Out::default();
        record::write(probed, &mut out);
        self.add(path, identity, Body::New(out.0));
    }

    fn add(&self, path: &Path, identity: &[u64; 5], body: Body) {
        let head = Head { path: path.to_owned(), identity: *identity, unused: 0 };
        let mut known = self.write_lock();
        known.add(Record { head, body, is_used: AtomicBool::new(true) });
        known.unsaved += 1;
    }

    /// How many files were known, and how many had to be probed.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.found.load(Ordering::Relaxed), self.probed.load(Ordering::Relaxed))
    }

    /// What the catalogue called `name` held when it was last looked at, as far as that can still be told.
    #[must_use]
    pub fn look(&self, name: &str) -> Option<Look> {
        self.read_lock().looks.get(name).map(|(_, look)| look.clone())
    }

    /// The segments of a look with their sources and contents, where their files' records are there.
    #[must_use]
    pub fn recall(&self, look: &Look) -> Vec<(Arc<str>, Arc<Segment>, Option<u64>)> {
        let known = self.read_lock();
        let mut read: HashMap<(&Path, &[u64; 5]), Option<Probed>> = HashMap::new();
        let segment = |row: &look::Row, media: &Arc<Media>| Segment {
            id: row.id,
            media: Arc::clone(media),
            first: row.first,
            count: row.count,
            label: row.label.clone(),
            group: row.group.clone(),
            split: row.split.clone(),
        };
        let mut found = Vec::with_capacity(look.rows.len());
        for row in &look.rows {
            let probed = read
                .entry((&row.path, &row.identity))
                .or_insert_with(|| known.read(&row.path, &row.identity));
            let Some(Probed { media: Ok(media), content }) = probed else { continue };
            let past = u64::from(row.first) + u64::from(row.count);
            if row.count > 0 && past <= media.times.len() as u64 {
                found.push((Arc::clone(&row.source), Arc::new(segment(row, media)), *content));
            }
        }
        found
    }

    /// Keeps what the catalogue called `name` holds now.
    pub fn set_look(&self, name: &str, look: Look) {
        let mut known = self.write_lock();
        let number = known.looks.values().map(|(number, _)| number + 1).max().unwrap_or(0);
        known.looks.insert(name.to_owned(), (number, look));
        if known.looks.len() > LOOKS_MAX {
            let oldest =
                known.looks.iter().min_by_key(|(_, (number, _))| *number).map(|(name, _)| name.clone());
            oldest.and_then(|name| known.looks.remove(&name));
        }
        known.has_new_look = true;
    }

    /// Saves in the middle of a long scan, if enough has come together; a failure shows at [`Kept::save`].
    pub fn save_if_due(&self) {
        let known = self.read_lock();
        let is_due = known.unsaved >= SAVE_EVERY_MIN.max(known.records.len() / 2) && !known.has_failed;
        drop(known);
        if is_due && self.save().is_err() {
            self.write_lock().has_failed = true;
        }
    }

    /// Writes everything that is of use to the file, if there is news. Returns whether it was written: it is not
    /// where another process is writing it just now.
    ///
    /// # Errors
    /// If it cannot be written; the old file stays.
    pub fn save(&self) -> Result<bool, StageError> {
        let mut known = self.write_lock();
        let Some(path) = self.path.as_deref().filter(|_| known.unsaved > 0 || known.has_new_look) else {
            return Ok(false);
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_dir(folder)?;
        }
        let chosen = known.worth_saving();
        let is_written = files::replace(path, |out| write(&known, &chosen, self.maker, out))?;
        if is_written {
            known.unsaved = 0;
            known.has_new_look = false;
        }
        Ok(is_written)
    }
}

impl Known {
    /// Records to save with the number to save in [`Head::unused`], in the order of their paths.
    fn worth_saving(&self) -> Vec<(&Record, u32)> {
        let looked_at: HashSet<&[u64; 5]> =
            self.looks.values().flat_map(|(_, look)| look.rows.iter().map(|row| &row.identity)).collect();
        let is_used = |record: &Record| record.is_used.load(Ordering::Relaxed);
        let used: HashSet<&Path> = self
            .records
            .iter()
            .filter(|record| is_used(record))
            .map(|record| record.head.path.as_path())
            .collect();
        let mut chosen = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let is_latest = self.by_name[&name(&record.head.path, &record.head.identity)] == index;
            let unused = if is_used(record) { 0 } else { record.head.unused + 1 };
            // What is of use under a path takes the place of what is not.
            let is_outdated = unused > 0 && used.contains(record.head.path.as_path());
            let is_wanted = unused <= UNUSED_MAX && !is_outdated || looked_at.contains(&record.head.identity);
            if is_latest && is_wanted {
                chosen.push((record, unused));
            }
        }
        chosen.sort_by(|(one, _), (two, _)| {
            (&one.head.path, one.head.identity).cmp(&(&two.head.path, two.head.identity))
        });
        chosen
    }
}

/// Why a file cannot be taken over.
enum Unfit {
    Newer(u32),
    Foreign,
    Damaged(&'static str),
    Other(String),
}

fn header(maker: &str, records: usize, looks: usize) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((maker.len() as u32).to_le_bytes());
    head.extend(maker.as_bytes());
    head.extend((records as u64).to_le_bytes());
    head.extend((looks as u64).to_le_bytes());
    head.extend(xxh3_64(&head).to_le_bytes());
    head
}

fn write(known: &Known, chosen: &[(&Record, u32)], maker: &str, file: &mut dyn Write) -> io::Result<()> {
    let sealed = |file: &mut dyn Write, bytes: &[u8]| {
        let length =
            u32::try_from(bytes.len()).map_err(|_| io::Error::other("a record of more than 4 GiB"))?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&xxh3_64(bytes).to_le_bytes())?;
        file.write_all(bytes)
    };
    file.write_all(&header(maker, chosen.len(), known.looks.len()))?;
    for (record, unused) in chosen {
        let mut out = Out::default();
        Head { unused: *unused, ..record.head.clone() }.write(&mut out);
        out.0.extend(known.body(record));
        sealed(file, &out.0)?;
    }
    for (name, (number, look)) in &known.looks {
        let mut out = Out::default();
        out.bytes(name.as_bytes());
        out.number(*number);
        look.write(&mut out);
        sealed(file, &out.0)?;
    }
    Ok(())
}

fn parse(bytes: Vec<u8>, maker: &str) -> Result<Known, Unfit> {
    let cut = || Unfit::Damaged("cut off");
    let mut rest = In(&bytes);
    if rest.take(MAGIC.len()) != Some(MAGIC) {
        return Err(if bytes.is_empty() { cut() } else { Unfit::Foreign });
    }
    let number = |rest: &mut In<'_>| Some(u32::from_le_bytes(rest.take(4)?.try_into().ok()?));
    let version = number(&mut rest).ok_or_else(cut)?;
    let length = number(&mut rest).ok_or_else(cut)? as usize;
    let found_maker = rest.take(length).ok_or_else(cut)?;
    let records = rest.fixed().ok_or_else(cut)?;
    let looks = rest.fixed().ok_or_else(cut)?;
    let head = bytes.len() - rest.0.len();
    if rest.fixed().ok_or_else(cut)? != xxh3_64(&bytes[..head]) {
        return Err(Unfit::Damaged("its head is not as it was written"));
    }
    if version > VERSION {
        return Err(Unfit::Newer(version));
    }
    if found_maker != maker.as_bytes() {
        return Err(Unfit::Other(String::from_utf8_lossy(found_maker).into_owned()));
    }
    let mut spans = Vec::new();
    for _ in 0..records.checked_add(looks).ok_or_else(cut)? {
        let length = number(&mut rest).ok_or_else(cut)? as usize;
        let checksum = rest.fixed().ok_or_else(cut)?;
        let start = bytes.len() - rest.0.len();
        rest.take(length).ok_or_else(cut)?;
        spans.push((start..start + length, checksum));
    }
    if !rest.0.is_empty() {
        return Err(Unfit::Damaged("more bytes than it says"));
    }
    let is_sound = |(span, checksum): &(Range<usize>, u64)| xxh3_64(&bytes[span.clone()]) == *checksum;
    if !spans.par_iter().all(is_sound) {
        return Err(Unfit::Damaged("a record is not as it was written"));
    }
    let (records, looks) = spans.split_at(records as usize);
    let known = fill(&bytes, records, looks).ok_or(Unfit::Damaged("a record says nothing sensible"))?;
    Ok(Known { bytes, ..known })
}

/// The records and looks at these places.
fn fill(bytes: &[u8], records: &[(Range<usize>, u64)], looks: &[(Range<usize>, u64)]) -> Option<Known> {
    let mut known = Known::default();
    for (span, _) in records {
        let mut rest = In(&bytes[span.clone()]);
        let head = Head::read(&mut rest)?;
        let body = Body::Read(span.end - rest.0.len()..span.end);
        known.add(Record { head, body, is_used: AtomicBool::new(false) });
    }
    for (span, _) in looks {
        let mut rest = In(&bytes[span.clone()]);
        let name = rest.text()?.to_owned();
        let number = rest.number()?;
        known.looks.insert(name, (number, Look::read(&mut rest)?));
    }
    Some(known)
}

#[cfg(test)]
mod tests;
