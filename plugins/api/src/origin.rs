//! Where the bytes or pictures of a medium come from: a file, a member of an archive, a stream, a formula.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::feed::Recording;

/// Where the pictures of a medium come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A media file.
    File(PathBuf),
    /// A file in an archive, read where it lies.
    Member(Arc<Member>),
    /// Computed pictures with known content; needs no library.
    Pattern {
        /// Chooses the picture.
        number: u32,
    },
    /// Pictures of a live stream that are in memory.
    Recorded(Arc<Recording>),
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one == two,
            (Self::Member(one), Self::Member(two)) => one == two,
            (Self::Pattern { number: one }, Self::Pattern { number: two }) => one == two,
            (Self::Recorded(one), Self::Recorded(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Origin {
    /// What people and logs call it: the path of a file, `archive.tar/name` for a member; `None` where there is
    /// no file.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Member(member) => Some(member.path()),
            Self::Pattern { .. } | Self::Recorded(_) => None,
        }
    }

    /// The file on the disk that holds its bytes.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Member(member) => Some(&member.archive),
            Self::Pattern { .. } | Self::Recorded(_) => None,
        }
    }
}

/// A regular file in a tar or zip archive.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The archive.
    pub archive: PathBuf,
    /// Size of the archive in bytes when it was listed.
    pub archive_bytes: u64,
    /// Its name in the archive: relative, without `..`.
    pub name: PathBuf,
    /// How many members before it have the same name.
    pub copy: u32,
    /// Bytes, unpacked.
    pub size: u64,
    /// Where its bytes are.
    pub place: MemberPlace,
}

impl Member {
    /// `archive.tar/name`; later members of one name are `archive.tar/name#2` and so on.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let mut path = self.archive.join(&self.name).into_os_string();
        if self.copy > 0 {
            path.push(format!("#{}", self.copy + 1));
        }
        path.into()
    }
}

/// Where an archive keeps the bytes of a member.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MemberPlace {
    /// As they are, from byte `offset` of the archive on.
    Stored {
        /// First byte.
        offset: u64,
        /// CRC-32 of the bytes, where the archive tells it.
        crc: Option<u32>,
    },
    /// Compressed by themselves (deflate): `packed` bytes from byte `offset` on.
    Deflated {
        /// First byte.
        offset: u64,
        /// Compressed bytes.
        packed: u64,
        /// CRC-32 of the unpacked bytes.
        crc: u32,
    },
    /// From byte `offset` on of what the archive is when it is unpacked as a whole.
    Unpacked {
        /// First byte.
        offset: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_called_by_its_archive_and_name_and_the_second_of_a_name_by_its_number() {
        let member = |copy| Member {
            archive: "shards/1.tar".into(),
            archive_bytes: 9,
            name: "walk/a.mp4".into(),
            copy,
            size: 3,
            place: MemberPlace::Stored { offset: 0, crc: None },
        };
        assert_eq!(member(0).path(), Path::new("shards/1.tar/walk/a.mp4"));
        let origin = Origin::Member(Arc::new(member(1)));
        assert_eq!(origin.path().as_deref(), Some(Path::new("shards/1.tar/walk/a.mp4#2")));
        assert_eq!(origin.file(), Some(Path::new("shards/1.tar")));
        assert_ne!(origin, Origin::Member(Arc::new(member(0))));
    }
}
