//! The bytes of a tar from front to back, whatever it is compressed with.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{RATIO_FROM, RATIO_MAX, Trouble};

/// Most memory that a Zstandard frame may ask for: what `zstd --long` uses.
const WINDOW_MAX: u64 = 128 << 20;

/// What an archive is, by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A zip.
    Zip,
    /// A tar as it is, or nothing that is known.
    Plain,
    /// A tar in gzip (RFC 1952).
    Gzip,
    /// A tar in Zstandard (RFC 8878).
    Zstd,
}

/// What `file` is.
///
/// # Errors
/// If it cannot be read.
pub fn kind(file: &File) -> io::Result<Kind> {
    let mut head = [0u8; 4];
    let got = read_at(file, &mut head, 0)?;
    Ok(match head[..got] {
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Kind::Zip,
        [0x1F, 0x8B, ..] => Kind::Gzip,
        [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Kind::Zstd,
        _ => Kind::Plain,
    })
}

/// Reads as much of `buffer` as there is from byte `at` on.
///
/// # Errors
/// Of the system.
pub fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Bytes that are read from front to back.
pub trait Tape {
    /// Fills `buffer`, less at the end.
    ///
    /// # Errors
    /// Of the system; `InvalidData` where the compression does not add up.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble>;

    /// Passes over `count` bytes; `false` if the end comes first.
    ///
    /// # Errors
    /// As [`Tape::read`].
    fn skip(&mut self, count: u64) -> Result<bool, Trouble>;

    /// Bytes passed so far.
    fn position(&self) -> u64;

    /// Whether the positions are those of the archive's own bytes.
    fn is_plain(&self) -> bool;
}

/// A tar that is not compressed.
pub struct Plain<'f> {
    file: &'f File,
    length: u64,
    position: u64,
}

impl<'f> Plain<'f> {
    /// `file`, which has `length` bytes, from its start.
    pub fn new(file: &'f File, length: u64) -> Self {
        Self { file, length, position: 0 }
    }
}

impl Tape for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        let got = read_at(self.file, buffer, self.position)?;
        self.position += got as u64;
        Ok(got)
    }

    fn skip(&mut self, count: u64) -> Result<bool, Trouble> {
        let left = self.length.saturating_sub(self.position);
        self.position += count.min(left);
        Ok(count <= left)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn is_plain(&self) -> bool {
        true
    }
}

/// A file that counts what was read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        self.read.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// A tar that is compressed as a whole.
pub struct Packed {
    stream: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    position: u64,
}

impl Packed {
    /// `file` from its start; it must be [`Kind::Gzip`] or [`Kind::Zstd`].
    pub fn open(file: File, kind: Kind) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let source = BufReader::with_capacity(64 << 10, Counted { file, read: Arc::clone(&read) });
        let stream: Box<dyn Read + Send> = match kind {
            Kind::Zstd => Box::new(Frames::new(source)),
            _ => Box::new(MultiGzDecoder::new(source)),
        };
        Self { stream, read, position: 0 }
    }
}

impl Tape for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::Unreadable(error)),
            }
        }
        self.position += filled as u64;
        let read = self.read.load(Ordering::Relaxed);
        if self.position > RATIO_FROM && self.position / RATIO_MAX > read {
            return Err(Trouble::Hostile(format!(
                "{read} bytes of it become more than {RATIO_MAX} times as many; unpack it by hand if you trust it"
            )));
        }
        Ok(filled)
    }

    fn skip(&mut self, count: u64) -> Result<bool, Trouble> {
        let mut buffer = vec![0u8; count.min(256 << 10) as usize];
        let mut left = count;
        while left > 0 {
            let part = left.min(buffer.len() as u64) as usize;
            let got = self.read(&mut buffer[..part])?;
            left -= got as u64;
            if got < part {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn is_plain(&self) -> bool {
        false
    }
}

/// The frames of a Zstandard file, one after the other.
struct Frames {
    source: BufReader<Counted>,
    decoder: FrameDecoder,
    is_inside: bool,
}

impl Frames {
    fn new(source: BufReader<Counted>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_MAX);
        Self { source, decoder, is_inside: false }
    }

    /// Goes to the next frame that has content; `false` at the end.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(damage(error)),
            }
        }
        Ok(false)
    }

    fn leave(&mut self) -> io::Result<()> {
        let (stated, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        if stated.is_some() && found.is_some() && stated != found {
            return Err(damage("a checksum is wrong"));
        }
        self.is_inside = false;
        Ok(())
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_inside && !self.enter()? {
                return Ok(0);
            }
            self.is_inside = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(damage)?;
            }
            let got = self.decoder.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            self.leave()?;
        }
    }
}

fn damage(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
