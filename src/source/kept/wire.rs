//! Numbers and texts as bytes, read back with every length checked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes into a vector.
#[derive(Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    /// Seven bits a byte, the lowest first.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Small numbers of either sign as few bytes.
    pub fn signed(&mut self, value: i64) {
        self.number((value << 1 ^ value >> 63) as u64);
    }

    /// Eight bytes, for hashes and floating point.
    pub fn fixed(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads from bytes; `None` where they end too early or are not what they should be.
#[derive(Clone, Copy)]
pub struct In<'b>(pub &'b [u8]);

impl<'b> In<'b> {
    pub fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn number(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }

    pub fn number32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn fixed(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn bytes(&mut self) -> Option<&'b [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }

    /// How many things follow that take at least `least` bytes each: never more than there can be.
    pub fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count.checked_mul(least)? <= self.0.len()).then_some(count)
    }

    pub fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn shared(&mut self) -> Option<Arc<str>> {
        Some(self.text()?.into())
    }

    pub fn path(&mut self) -> Option<PathBuf> {
        Some(OsStr::from_bytes(self.bytes()?).into())
    }

    pub fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(read(self)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut out = Out::default();
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            out.number(value);
            out.signed(value as i64);
            out.fixed(value);
        }
        out.path(Path::new("a/é"));
        out.optional(Some("x"), |out, text| out.bytes(text.as_bytes()));
        out.optional(None::<u64>, Out::number);
        let mut back = In(&out.0);
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(back.number(), Some(value));
            assert_eq!(back.signed(), Some(value as i64));
            assert_eq!(back.fixed(), Some(value));
        }
        assert_eq!(back.path(), Some("a/é".into()));
        assert_eq!(back.optional(In::text), Some(Some("x")));
        assert_eq!(back.optional(In::number), Some(None));
        assert!(back.0.is_empty());
    }

    #[test]
    fn what_ends_too_early_or_claims_too_much_is_nothing() {
        assert_eq!(In(&[0x80]).number(), None);
        assert_eq!(In(&[0xFF; 12]).number(), None);
        assert_eq!(In(&[5, 1, 2]).bytes(), None);
        assert_eq!(In(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0]).count(1), None);
        assert_eq!(In(&[2]).optional(In::byte), None);
        assert_eq!(In(&[2, 0xC3, 0x28]).text(), None);
    }
}
