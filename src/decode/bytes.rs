//! The bytes of a medium, wherever they lie: in a file, in a part of an archive, or in memory.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{MemberPlace, Origin};

use super::Failure;
use crate::archive;

/// Bytes that can be read from any place on, by several threads.
pub struct Bytes {
    from: From,
    length: u64,
}

enum From {
    /// A file from this byte on.
    File(File, u64),
    /// Unpacked.
    Memory(Arc<Vec<u8>>),
}

impl Bytes {
    /// Opens the bytes of a file or of a member of an archive; the latter is unpacked if it is compressed.
    ///
    /// # Errors
    /// `vanished`, `unreadable`; for a member `corrupt` or `limit` too.
    pub fn open(origin: &Origin) -> Result<Self, Failure> {
        match origin {
            Origin::File(path) => {
                let file = File::open(path).map_err(refused)?;
                let length = file.metadata().map_err(refused)?.len();
                Ok(Self { from: From::File(file, 0), length })
            }
            Origin::Member(member) => {
                let file = File::open(&member.archive).map_err(refused)?;
                if file.metadata().map_err(refused)?.len() != member.archive_bytes {
                    let message = "its archive is not as long as it was when it was listed";
                    return Err(Failure::new(SkipReason::Corrupt, message));
                }
                let from = match member.place {
                    MemberPlace::Stored { offset, .. } => From::File(file, offset),
                    MemberPlace::Deflated { .. } | MemberPlace::Unpacked { .. } => {
                        let unpacked = archive::unpacked(member);
                        From::Memory(unpacked.map_err(|(reason, message)| Failure::new(reason, message))?)
                    }
                };
                Ok(Self { from, length: member.size })
            }
            Origin::Pattern { .. } | Origin::Recorded(_) => {
                Err(Failure::new(SkipReason::NotMedia, "it is not made of bytes"))
            }
        }
    }

    /// Bytes that are in memory.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self { from: From::Memory(Arc::new(bytes)), length }
    }

    /// How many there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads as many bytes into `buffer` as there are from byte `at` on.
    ///
    /// # Errors
    /// Of the system.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let most = self.length.saturating_sub(at).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..most];
        match &self.from {
            From::Memory(bytes) => {
                let at = at as usize;
                if most > 0 {
                    buffer.copy_from_slice(&bytes[at..at + most]);
                }
                Ok(most)
            }
            From::File(file, offset) => {
                let mut filled = 0;
                while filled < most {
                    match file.read_at(&mut buffer[filled..], offset + at + filled as u64) {
                        Ok(0) => break,
                        Ok(more) => filled += more,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(filled)
            }
        }
    }

    /// Fills `buffer` from byte `at` on.
    ///
    /// # Errors
    /// Of the system, or if there are not as many.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let wanted = buffer.len();
        let got = self.read_at(buffer, at)?;
        if got < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Tells the system that `length` bytes from `at` on will be read soon.
    pub fn will_need(&self, at: u64, length: u64) {
        if let From::File(file, offset) = &self.from {
            // Only a hint.
            let _ =
                rustix::fs::fadvise(file, offset + at, NonZeroU64::new(length), rustix::fs::Advice::WillNeed);
        }
    }

    /// Compares the bytes with the checksum that an archive keeps of them, where it does.
    ///
    /// # Errors
    /// `corrupt`, `unreadable`
    pub fn check(&self, origin: &Origin) -> Result<(), Failure> {
        let Origin::Member(member) = origin else { return Ok(()) };
        let MemberPlace::Stored { crc: Some(crc), .. } = member.place else { return Ok(()) };
        let (mut sum, mut buffer, mut at) = (flate2::Crc::new(), vec![0u8; 256 << 10], 0);
        loop {
            let got = self.read_at(&mut buffer, at).map_err(|error| unreadable(&error))?;
            if got == 0 {
                break;
            }
            sum.update(&buffer[..got]);
            at += got as u64;
        }
        if at == self.length && sum.sum() == crc {
            return Ok(());
        }
        Err(Failure::new(SkipReason::Corrupt, "its checksum is wrong; copy the archive again"))
    }
}

/// What reading failed with.
pub fn unreadable(error: &io::Error) -> Failure {
    Failure::new(SkipReason::Unreadable, format!("cannot be read: {error}"))
}

/// What opening failed with.
pub fn refused(error: io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => SkipReason::Vanished,
        _ => SkipReason::Unreadable,
    };
    Failure::new(reason, format!("cannot be opened: {error}"))
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Member;

    use super::*;

    #[test]
    fn a_part_of_an_archive_reads_like_a_file_of_its_own() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), b"....hello....").unwrap();
        let member = |bytes, crc| Member {
            archive: path.path().to_owned(),
            archive_bytes: bytes,
            name: "a.mp4".into(),
            copy: 0,
            size: 5,
            place: MemberPlace::Stored { offset: 4, crc },
        };
        let origin = |bytes, crc| Origin::Member(Arc::new(member(bytes, crc)));
        let bytes = Bytes::open(&origin(13, None)).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((bytes.length(), bytes.read_at(&mut buffer, 2).unwrap()), (5, 3));
        assert_eq!(&buffer[..3], b"llo");
        assert_eq!(bytes.read_at(&mut buffer, 9).unwrap(), 0);
        assert!(bytes.read_exact_at(&mut buffer[..6], 0).is_err());
        let mut sum = flate2::Crc::new();
        sum.update(b"hello");
        for (crc, is_right) in [(sum.sum(), true), (sum.sum() + 1, false)] {
            let origin = origin(13, Some(crc));
            assert_eq!(Bytes::open(&origin).unwrap().check(&origin).is_ok(), is_right);
        }
        let changed = Bytes::open(&origin(12, None)).err().unwrap();
        assert_eq!(changed.reason, SkipReason::Corrupt);
    }
}
