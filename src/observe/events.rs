//! Writes the event files that TensorBoard reads.
//!
//! A file is a row of records (TFRecord):
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | length bytes | u32 masked CRC-32C of the bytes
//! ```
//!
//! all little-endian; the bytes of a record are one `tensorflow.Event` in protobuf. Only the handful of
//! fields that scalars need are written, by hand: `tensorflow/core/util/event.proto` (`wall_time` 1,
//! `step` 2, `file_version` 3, `summary` 5, `session_log` 7) and `framework/summary.proto` (`value` 1,
//! with `tag` 1 and `simple_value` 2).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An open event file; every call is one complete record, so a killed run leaves a readable file.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Makes a new file `events.out.tfevents.*` in `folder` that takes over from step `start_step`:
    /// TensorBoard drops what earlier files of the folder say about this and later steps.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub fn create(folder: &Path, unix_secs: f64, start_step: u64) -> io::Result<Self> {
        let (file, path) = new_file(folder, unix_secs as u64)?;
        let mut events = Self { file, path };
        // `purge` works from version 2 on.
        events.record(&version_event(unix_secs))?;
        events.record(&start_event(unix_secs, start_step))?;
        Ok(events)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the scalars of one step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, unix_secs: f64, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        self.record(&scalar_event(unix_secs, step, scalars))
    }

    /// Puts everything on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn record(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&frame(event))
    }
}

/// TensorBoard reads the files of a folder in the order of their names: second, then running number.
fn new_file(folder: &Path, unix_secs: u64) -> io::Result<(File, PathBuf)> {
    for number in 0..1000 {
        let path = folder.join(format!("events.out.tfevents.{unix_secs:010}.{number:03}.reelflow"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("a thousand event files of the same second; remove some"))
}

fn version_event(unix_secs: f64) -> Vec<u8> {
    let mut event = double_field(1, unix_secs);
    event.extend(bytes_field(3, b"brain.Event:2"));
    event
}

fn start_event(unix_secs: f64, step: u64) -> Vec<u8> {
    let mut event = double_field(1, unix_secs);
    event.extend(varint_field(2, step));
    // SessionLog { status: START }
    event.extend(bytes_field(7, &varint_field(1, 1)));
    event
}

fn scalar_event(unix_secs: f64, step: u64, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut entry = bytes_field(1, tag.as_bytes());
        entry.extend(float_field(2, *value as f32));
        summary.extend(bytes_field(1, &entry));
    }
    let mut event = double_field(1, unix_secs);
    event.extend(varint_field(2, step));
    event.extend(bytes_field(5, &summary));
    event
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn varint_field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn double_field(number: u64, value: f64) -> Vec<u8> {
    [varint(number << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn bytes_field(number: u64, value: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn float_field(number: u64, value: f32) -> Vec<u8> {
    [varint(number << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

/// One record around `payload`.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(payload.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(payload);
    record.extend(masked_crc(payload).to_le_bytes());
    record
}

/// The checksum as TFRecord stores it: rotated and shifted, so that a checksum over data that holds
/// checksums stays useful (`tensorflow/core/lib/hash/crc32c.h`).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(127), [127]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    /// Reference, tensorboard 2.21:
    /// `event_pb2.Event(wall_time=1.5, step=300, summary=Summary(value=[Value(tag="loss",
    /// simple_value=0.25)])).SerializeToString().hex()`
    #[test]
    fn a_scalar_is_encoded_as_protobuf_encodes_it() {
        let event = scalar_event(1.5, 300, &[("loss".to_owned(), 0.25)]);
        let hex: String = event.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e");
    }

    #[test]
    fn records_carry_their_length_and_two_checksums() {
        let record = frame(b"abc");
        assert_eq!(record[..8], 3u64.to_le_bytes());
        assert_eq!(record[8..12], masked_crc(&3u64.to_le_bytes()).to_le_bytes());
        assert_eq!(&record[12..15], b"abc");
        assert_eq!(record[15..], masked_crc(b"abc").to_le_bytes());
        // The mask itself: 0xe3069283 rotated right by 15, plus the constant.
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_second_file_of_the_same_second_comes_after_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventFile::create(folder.path(), 17.9, 0).unwrap();
        let second = EventFile::create(folder.path(), 17.2, 5).unwrap();
        assert!(first.path() < second.path());
        let bytes = std::fs::read(first.path()).unwrap();
        assert!(bytes.windows(13).any(|window| window == b"brain.Event:2"));
    }
}
