//! Reads the directory at the end of a zip (PKWARE APPNOTE 6.3.10), with the 64-bit forms.

use std::fs::File;

use reelflow_api::error::SkipReason;
use reelflow_api::item::MemberPlace;

use super::packed::read_at;
use super::{MEMBERS_MAX, RATIO_FROM, RATIO_MAX, Shelf, Trouble, Wish, shown, store};

/// Bytes of an entry of the directory without its name.
const ENTRY: usize = 46;
/// Bytes of a member's own header without its name.
const LOCAL: usize = 30;
/// Bytes at the end of which one part is the end record: itself and the longest comment.
const TAIL: u64 = 22 + 65_535;

/// An entry of the directory.
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Unix file type and mode, 0 where another system made it.
    mode: u32,
    /// Of the member's own header.
    header: u64,
}

/// Puts the members of `file` on the shelf.
///
/// # Errors
/// If it is hostile, or has no directory: without that a zip tells nothing.
pub fn list(file: &File, shelf: &mut Shelf<'_>) -> Result<(), Trouble> {
    let mut directory = Directory::find(file, shelf.bytes)?;
    let mut places: Vec<(u64, u64)> = Vec::new();
    for _ in 0..directory.entries {
        let Some(entry) = directory.next()? else {
            let message = format!(
                "its directory ends after {} of {} members; copy it again",
                shelf.members, directory.entries
            );
            shelf.listed.damage = Some(message);
            break;
        };
        places.extend(take(file, &entry, shelf)?);
    }
    // Members that lie over each other are how small zips become large.
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(Trouble::Hostile("its members lie over each other".to_owned()));
    }
    Ok(())
}

/// Takes one member; gives the first byte and the byte behind the last of one that is wanted.
fn take(file: &File, entry: &Entry, shelf: &mut Shelf<'_>) -> Result<Option<(u64, u64)>, Trouble> {
    let Some(name) = shelf.admit(&entry.name, entry.size)? else { return Ok(None) };
    if entry.size > RATIO_FROM && entry.size / RATIO_MAX > entry.packed {
        let (name, packed, size) = (shown(&name), entry.packed, entry.size);
        return Err(Trouble::Hostile(format!(
            "`{name}` claims to become {size} bytes from {packed}, more than {RATIO_MAX} times as many"
        )));
    }
    // The types of stat.h: 0o100000 is a file, 0o040000 a folder, 0o120000 a link; 0 where none is told.
    match entry.mode & 0o170_000 {
        0o120_000 => {
            let mut target = vec![0; entry.packed.min(4096) as usize];
            let there =
                place(file, entry, shelf.bytes)?.map_or(Ok(0), |at| read_at(file, &mut target, at))?;
            target.truncate(there);
            let target =
                if entry.method == 8 { store::inflate(&target, 4096).unwrap_or_default() } else { target };
            return shelf.link(&name, &target, false).map(|()| None);
        }
        0 | 0o100_000 | 0o040_000 => {}
        _ => {
            let name = shown(&name);
            return Err(Trouble::Hostile(format!(
                "`{name}` is a device or a pipe; no honest set of media has one"
            )));
        }
    }
    if entry.name.ends_with(b"/") || entry.mode & 0o170_000 == 0o040_000 {
        return Ok(None);
    }
    let wish = shelf.wish(&name, entry.size);
    if wish == Wish::Pass {
        return Ok(None);
    }
    if entry.flags & 1 != 0 {
        shelf.leave_out(&name, SkipReason::Encrypted, "is encrypted; decrypt the archive first");
        return Ok(None);
    }
    let Some(offset) = place(file, entry, shelf.bytes)? else {
        shelf.leave_out(
            &name,
            SkipReason::Corrupt,
            "is not where the directory says; copy the archive again",
        );
        return Ok(None);
    };
    let stored = MemberPlace::Stored { offset, crc: Some(entry.crc) };
    let deflated = MemberPlace::Deflated { offset, packed: entry.packed, crc: entry.crc };
    let place = match entry.method {
        0 if entry.packed == entry.size => stored,
        8 => deflated,
        other => {
            let message = format!("is compressed by method {other}; zip it with `deflate` or `store`");
            shelf.leave_out(&name, SkipReason::NotMedia, &message);
            return Ok(None);
        }
    };
    match wish {
        Wish::Text => {
            let mut packed = vec![0; entry.packed.min(super::TEXT_MAX) as usize];
            let got = read_at(file, &mut packed, offset)?;
            packed.truncate(got);
            let text =
                if entry.method == 8 { store::inflate(&packed, super::TEXT_MAX) } else { Some(packed) };
            if let Some(text) = text {
                shelf.listed.texts.insert(name, text);
            }
        }
        _ => {
            shelf.add_media(name, entry.size, place);
        }
    }
    Ok(Some((offset, offset + entry.packed)))
}

/// Where the bytes of a member begin: behind its own header, whose name may be of another length than the
/// directory's. `None` if there is no such header, or the bytes are not all there.
fn place(file: &File, entry: &Entry, length: u64) -> Result<Option<u64>, Trouble> {
    let mut head = [0u8; LOCAL];
    if read_at(file, &mut head, entry.header)? < LOCAL || head[..4] != *b"PK\x03\x04" {
        return Ok(None);
    }
    let offset = entry.header + LOCAL as u64 + u64::from(le16(&head, 26)) + u64::from(le16(&head, 28));
    Ok(offset.checked_add(entry.packed).filter(|end| *end <= length).map(|_| offset))
}

/// The entries, read one by one.
struct Directory<'f> {
    file: &'f File,
    at: u64,
    end: u64,
    entries: u64,
}

impl<'f> Directory<'f> {
    fn find(file: &'f File, length: u64) -> Result<Self, Trouble> {
        let none = || Trouble::NotArchive("it has no directory at its end; it may be cut off".to_owned());
        let from = length.saturating_sub(TAIL);
        let mut tail = vec![0; (length - from) as usize];
        let got = read_at(file, &mut tail, from)?;
        tail.truncate(got);
        let at = (0..(tail.len() + 1).saturating_sub(22))
            .rev()
            .find(|&at| tail[at..].starts_with(b"PK\x05\x06"))
            .ok_or_else(none)?;
        let end = &tail[at..];
        let (mut entries, mut size, mut start) =
            (u64::from(le16(end, 10)), u64::from(le32(end, 12)), u64::from(le32(end, 16)));
        if at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07") {
            let mut record = [0u8; 56];
            let place = le64(&tail, at - 20 + 8);
            if read_at(file, &mut record, place)? == 56 && record.starts_with(b"PK\x06\x06") {
                (entries, size, start) = (le64(&record, 32), le64(&record, 40), le64(&record, 48));
            }
        }
        if entries > MEMBERS_MAX {
            return Err(Trouble::Hostile(format!("it has more than {MEMBERS_MAX} members; split it")));
        }
        let end = start.checked_add(size).filter(|end| *end <= length).ok_or_else(none)?;
        Ok(Self { file, at: start, end, entries })
    }

    /// The next entry; `None` if it is not there.
    fn next(&mut self) -> Result<Option<Entry>, Trouble> {
        let mut head = [0u8; ENTRY];
        if self.at + ENTRY as u64 > self.end
            || read_at(self.file, &mut head, self.at)? < ENTRY
            || head[..4] != *b"PK\x01\x02"
        {
            return Ok(None);
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(le16(&head, at)));
        let mut rest = vec![0; name + extra];
        if read_at(self.file, &mut rest, self.at + ENTRY as u64)? < rest.len() {
            return Ok(None);
        }
        self.at += (ENTRY + name + extra + comment) as u64;
        let mut entry = Entry {
            flags: le16(&head, 8),
            method: le16(&head, 10),
            crc: le32(&head, 16),
            packed: le32(&head, 20).into(),
            size: le32(&head, 24).into(),
            // "Version made by": 3 is Unix, which keeps the mode in the upper half.
            mode: if head[5] == 3 { le32(&head, 38) >> 16 } else { 0 },
            header: le32(&head, 42).into(),
            name: rest[..name].to_vec(),
        };
        wide(&rest[name..], &mut entry);
        Ok(Some(entry))
    }
}

/// The 64-bit forms of the fields that are all ones (4.5.3).
fn wide(mut extra: &[u8], entry: &mut Entry) {
    while extra.len() >= 4 {
        let (id, length) = (le16(extra, 0), usize::from(le16(extra, 2)));
        let Some(mut body) = extra.get(4..4 + length) else { return };
        extra = &extra[4 + length..];
        if id != 1 {
            continue;
        }
        for field in [&mut entry.size, &mut entry.packed, &mut entry.header] {
            if *field == u64::from(u32::MAX) && body.len() >= 8 {
                *field = le64(body, 0);
                body = &body[8..];
            }
        }
    }
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
