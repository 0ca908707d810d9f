//! Unpacks members into memory and keeps them there up to a bound, for all threads of the program.
//!
//! A member of a zip is unpacked by itself. One of a tar that is compressed as a whole lies behind all before it: a
//! stream that stands before it is used, or the archive is unpacked from its start again. Which members are kept
//! changes how fast they come and nothing else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Member, MemberPlace};

use super::Trouble;
use super::packed::{Packed, Tape, kind};

/// Streams that are kept open in the middle of an archive: as many as threads read from one in turn.
const STREAMS: usize = 4;

/// What is in memory.
struct Kept {
    /// The one used last comes last.
    members: VecDeque<(Arc<Member>, Arc<Vec<u8>>)>,
    streams: VecDeque<(PathBuf, u64, Packed)>,
    /// Bytes of all members, those included that are being unpacked.
    bytes: u64,
    bound: u64,
}

/// Unpacked members.
pub struct Store(Mutex<Kept>);

/// The one of the program.
pub static STORE: Store = Store::new();

impl Store {
    /// Nothing is kept, and nothing may be until it is allowed.
    pub const fn new() -> Self {
        Self(Mutex::new(Kept { members: VecDeque::new(), streams: VecDeque::new(), bytes: 0, bound: 0 }))
    }

    /// Nothing is left half done by a panic in between, so poison is ignored.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the members take `bytes` of memory at least; never less than was allowed before.
    pub fn allow(&self, bytes: u64) {
        let mut kept = self.kept();
        kept.bound = kept.bound.max(bytes);
    }

    /// Whether a member of `size` bytes can be kept without another having to go.
    pub fn has_room(&self, size: u64) -> bool {
        let kept = self.kept();
        kept.bytes + size <= kept.bound
    }

    /// Bytes in memory.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.kept().bytes
    }

    /// Keeps a member that was just read, if there is room.
    pub fn keep(&self, member: &Arc<Member>, bytes: Vec<u8>) {
        let mut kept = self.kept();
        if kept.bytes + member.size <= kept.bound && kept.position(member).is_none() {
            kept.bytes += member.size;
            kept.members.push_back((Arc::clone(member), Arc::new(bytes)));
        }
    }

    /// The bytes of a member that is compressed.
    ///
    /// # Errors
    /// With a reason and what was seen, if it is too large or does not unpack to what the archive says.
    pub fn unpacked(&self, member: &Arc<Member>) -> Result<Arc<Vec<u8>>, (SkipReason, String)> {
        {
            let mut kept = self.kept();
            if let Some(at) = kept.position(member) {
                let found = kept.members.remove(at).expect("it was found there");
                let bytes = Arc::clone(&found.1);
                kept.members.push_back(found);
                return Ok(bytes);
            }
            kept.reserve(member.size)?;
        }
        let unpacked = self.unpack(member);
        let mut kept = self.kept();
        match unpacked {
            // Another thread may have unpacked it too.
            Ok(bytes) if kept.position(member).is_none() => {
                let bytes = Arc::new(bytes);
                kept.members.push_back((Arc::clone(member), Arc::clone(&bytes)));
                Ok(bytes)
            }
            other => {
                kept.bytes -= member.size;
                other.map(Arc::new)
            }
        }
    }

    fn unpack(&self, member: &Member) -> Result<Vec<u8>, (SkipReason, String)> {
        let offset = match member.place {
            MemberPlace::Deflated { offset, packed, crc } => return inflated(member, offset, packed, crc),
            MemberPlace::Unpacked { offset } => offset,
            MemberPlace::Stored { .. } => unreachable!("what is stored as it is, is read where it lies"),
        };
        let mut stream = self.stream(member, offset).map_err(unreadable)?;
        let mut bytes = vec![0; member.size as usize];
        let ahead = offset - stream.position();
        let is_whole = stream
            .skip(ahead)
            .and_then(|is_there| Ok(is_there && stream.read(&mut bytes)? == bytes.len()))
            .map_err(|trouble| corrupt(format!("it does not unpack: {}", said(trouble))))?;
        if !is_whole {
            return Err(corrupt("its archive ends before it".to_owned()));
        }
        let mut kept = self.kept();
        if kept.streams.len() == STREAMS {
            kept.streams.pop_front();
        }
        kept.streams.push_back((member.archive.clone(), member.archive_bytes, stream));
        Ok(bytes)
    }

    /// A stream of the member's archive that stands at or before byte `offset`: the nearest of those that are open.
    fn stream(&self, member: &Member, offset: u64) -> io::Result<Packed> {
        {
            let mut kept = self.kept();
            let of_archive = |(path, bytes, stream): &(PathBuf, u64, Packed)| {
                (*path == member.archive && *bytes == member.archive_bytes && stream.position() <= offset)
                    .then(|| stream.position())
            };
            let nearest = (0..kept.streams.len())
                .filter_map(|at| Some((of_archive(&kept.streams[at])?, at)))
                .max()
                .and_then(|(_, at)| kept.streams.remove(at));
            if let Some((_, _, stream)) = nearest {
                return Ok(stream);
            }
        }
        let file = File::open(&member.archive)?;
        let kind = kind(&file)?;
        Ok(Packed::open(file, kind))
    }
}

impl Kept {
    fn position(&self, member: &Member) -> Option<usize> {
        self.members.iter().position(|(other, _)| **other == *member)
    }

    /// Takes `size` bytes of the bound, throwing out what was not used for longest.
    fn reserve(&mut self, size: u64) -> Result<(), (SkipReason, String)> {
        if size > self.bound {
            let message = format!(
                "unpacked it has {size} bytes, more than the {} MiB that may be in memory; keep it in a tar that is \
                 not compressed, or raise `unpacked_mib`",
                self.bound >> 20
            );
            return Err((SkipReason::Limit, message));
        }
        while self.bytes + size > self.bound {
            let Some((member, _)) = self.members.pop_front() else { break };
            self.bytes -= member.size;
        }
        self.bytes += size;
        Ok(())
    }
}

/// The bytes of a member that is compressed by itself.
fn inflated(member: &Member, offset: u64, packed: u64, crc: u32) -> Result<Vec<u8>, (SkipReason, String)> {
    let file = File::open(&member.archive).map_err(unreadable)?;
    let part = Part { file, at: offset, left: packed };
    let mut bytes = Vec::with_capacity(member.size as usize);
    // One byte more, to see that there is none.
    if let Err(error) = DeflateDecoder::new(part).take(member.size + 1).read_to_end(&mut bytes) {
        return Err(corrupt(format!("it does not unpack: {error}")));
    }
    if bytes.len() as u64 != member.size {
        return Err(corrupt(format!("it does not unpack to the {} bytes it claims", member.size)));
    }
    let mut sum = Crc::new();
    sum.update(&bytes);
    if sum.sum() == crc { Ok(bytes) } else { Err(corrupt("its checksum is wrong".to_owned())) }
}

fn unreadable(error: io::Error) -> (SkipReason, String) {
    (SkipReason::Unreadable, format!("its archive cannot be read: {error}"))
}

fn corrupt(what: String) -> (SkipReason, String) {
    (SkipReason::Corrupt, format!("{what}; copy the archive again"))
}

fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Hostile(message) | Trouble::NotArchive(message) => message,
        Trouble::Unreadable(error) => error.to_string(),
    }
}

/// `packed` bytes, inflated; `None` if they do not unpack, or to more than `most`.
pub fn inflate(packed: &[u8], most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed).take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// A part of a file.
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        let got = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}
