//! Makes tar and zip archives in memory, honest ones and liars.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

/// A member of a tar: a header block, and `body` in whole blocks. `kind` is its type flag, `b'0'` for a file.
#[must_use]
pub fn member(name: &str, kind: u8, target: &str, body: &[u8]) -> Vec<u8> {
    sized(name, kind, target, body.len() as u64, body)
}

/// A member that claims `size` bytes.
///
/// # Panics
/// If name or target is longer than 100 bytes.
#[must_use]
pub fn sized(name: &str, kind: u8, target: &str, size: u64, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..263].copy_from_slice(b"ustar\0");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend(body);
    block.resize(block.len().div_ceil(512) * 512, 0);
    block
}

/// A whole tar.
#[must_use]
pub fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// `bytes` as a gzip file.
///
/// # Panics
/// Never: memory takes all that is written.
#[must_use]
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).expect("memory takes all that is written");
    packer.finish().expect("memory takes all that is written")
}

/// `bytes` as a Zstandard frame.
#[must_use]
pub fn zstandard(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A member of a zip.
#[derive(Clone, Copy, Debug)]
pub struct Zipped<'a> {
    /// Its name.
    pub name: &'a str,
    /// Unix file type and mode.
    pub mode: u32,
    /// Its bytes.
    pub body: &'a [u8],
    /// Compressed, or as they are.
    pub deflate: bool,
    /// A size to claim in place of the true one.
    pub claimed: Option<u32>,
}

/// An empty file, to be filled in.
pub const ZIPPED: Zipped<'_> =
    Zipped { name: "a.mp4", mode: 0o100_644, body: b"", deflate: true, claimed: None };

/// A whole zip.
///
/// # Panics
/// Never: memory takes all that is written.
#[must_use]
pub fn zip(members: &[Zipped<'_>]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for Zipped { name, mode, body, deflate, claimed } in members {
        let packed = if *deflate {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
            packer.write_all(body).expect("memory takes all that is written");
            packer.finish().expect("memory takes all that is written")
        } else {
            body.to_vec()
        };
        let mut sum = flate2::Crc::new();
        sum.update(body);
        let size = claimed.unwrap_or(body.len() as u32);
        let mut common = vec![20, 0, 0, 0, if *deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
        for number in [sum.sum(), packed.len() as u32, size] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let at = bytes.len() as u32;
        bytes.extend([b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat());
        directory.extend([b"PK\x01\x02\x14\x03", &common[..], &[0; 6]].concat());
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, count) = (bytes.len() as u32, (members.len() as u16).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &at.to_le_bytes(), &[0, 0]].concat());
    bytes
}
