//! Reads the headers of a tar: POSIX ustar and pax, and GNU's long names.
//!
//! Written for this and not taken from a crate, because two things matter that readers for extraction leave open: a
//! header that belongs to a member takes bounded memory, and what is said twice must be said alike.

use reelflow_api::error::SkipReason;
use reelflow_api::item::MemberPlace;

use super::packed::Tape;
use super::store::STORE;
use super::{Shelf, Trouble, Wish};

const BLOCK: usize = 512;
/// Most bytes of a header that belongs to a member: a long name, pax records.
const EXTENSION_MAX: u64 = 1 << 20;

/// One header, as far as it is used.
struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
    target: Vec<u8>,
}

/// What the headers in front of a member's own say about it.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

/// Puts the members on `tape` on the shelf.
///
/// # Errors
/// If it is hostile or no tar; damage after the first member is only noted.
pub fn list(tape: &mut dyn Tape, shelf: &mut Shelf<'_>) -> Result<(), Trouble> {
    let mut extension = Extension::default();
    loop {
        let mut block = [0u8; BLOCK];
        let is_first = tape.position() == 0;
        match tape.read(&mut block) {
            Ok(BLOCK) => {}
            Ok(_) if is_first => return Err(Trouble::NotArchive("it is shorter than a tar".to_owned())),
            Ok(_) => {
                end_early(shelf, "it ends without the mark that ends a tar");
                return Ok(());
            }
            Err(trouble) => return damaged(shelf, trouble, is_first),
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let Some(header) = parse(&block) else {
            let message = "its bytes are no tar, and it is called one";
            if is_first {
                return Err(Trouble::NotArchive(message.to_owned()));
            }
            end_early(shelf, &format!("the header at byte {} is damaged", tape.position() - BLOCK as u64));
            return Ok(());
        };
        let padded = header.size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let went_on = match header.kind {
            b'x' | b'L' | b'K' => read_extension(tape, &header, padded, &mut extension),
            // For all that follow: only comments and times are honest here.
            b'g' => {
                let mut global = Extension::default();
                let read = read_extension(tape, &header, padded, &mut global);
                if global.size.is_some() || global.name.is_some() || global.target.is_some() {
                    return Err(Trouble::Hostile(
                        "one pax header names or measures all its members".to_owned(),
                    ));
                }
                read
            }
            _ => member(tape, header, std::mem::take(&mut extension), padded, shelf),
        };
        match went_on {
            Ok(true) => {}
            Ok(false) => {
                end_early(shelf, "it ends in the middle of a member");
                return Ok(());
            }
            Err(trouble) => return damaged(shelf, trouble, false),
        }
    }
}

fn end_early(shelf: &mut Shelf<'_>, how: &str) {
    let count = shelf.listed.media.len();
    shelf.listed.damage = Some(format!("{how}, after {count} media; copy the archive again"));
}

/// What cannot be unpacked any further is damage, as long as there was something before it.
fn damaged(shelf: &mut Shelf<'_>, trouble: Trouble, is_first: bool) -> Result<(), Trouble> {
    match trouble {
        Trouble::Unreadable(error) if is_first && is_of_packing(&error) => {
            Err(Trouble::NotArchive(format!("it does not unpack: {error}")))
        }
        Trouble::Unreadable(error) => {
            end_early(shelf, &format!("it cannot be read further: {error}"));
            Ok(())
        }
        trouble => Err(trouble),
    }
}

fn is_of_packing(error: &std::io::Error) -> bool {
    error.raw_os_error().is_none()
}

/// Takes the member whose header was read; `false` if its bytes are not all there.
fn member(
    tape: &mut dyn Tape,
    header: Header,
    extension: Extension,
    padded: u64,
    shelf: &mut Shelf<'_>,
) -> Result<bool, Trouble> {
    let raw = extension.name.unwrap_or(header.name);
    if extension.size.is_some_and(|size| size != header.size) {
        let (one, two) = (header.size, extension.size.unwrap_or(0));
        let name = String::from_utf8_lossy(&raw).escape_debug().to_string();
        return Err(Trouble::Hostile(format!(
            "`{name}` has two sizes, {one} and {two} bytes; pack it again"
        )));
    }
    let Some(name) = shelf.admit(&raw, header.size)? else { return tape.skip(padded) };
    let target = extension.target.unwrap_or(header.target);
    match header.kind {
        b'1' | b'2' => {
            shelf.link(&name, &target, header.kind == b'1')?;
            return tape.skip(padded);
        }
        b'3' | b'4' | b'6' => {
            let name = super::shown(&name);
            return Err(Trouble::Hostile(format!(
                "`{name}` is a device or a pipe; no honest set of media has one"
            )));
        }
        b'5' => return tape.skip(padded),
        // Regular: '0', old tars have 0, '7' is contiguous.
        b'0' | 0 | b'7' if !extension.is_sparse => {}
        _ => {
            shelf.leave_out(
                &name,
                SkipReason::NotRegular,
                "is stored in a special form (sparse); pack it as it is",
            );
            return tape.skip(padded);
        }
    }
    let offset = tape.position();
    match shelf.wish(&name, header.size) {
        Wish::Pass => tape.skip(padded),
        Wish::Text => {
            let mut text = vec![0; header.size as usize];
            if tape.read(&mut text)? < text.len() {
                return Ok(false);
            }
            shelf.listed.texts.insert(name, text);
            tape.skip(padded - header.size)
        }
        Wish::Media => {
            let is_plain = tape.is_plain();
            // Kept at once if there is room: otherwise it has to be unpacked from the start again.
            let kept = (!is_plain && STORE.has_room(header.size)).then(|| vec![0; header.size as usize]);
            let (is_whole, kept) = match kept {
                Some(mut bytes) => (tape.read(&mut bytes)? == bytes.len(), Some(bytes)),
                None => (tape.skip(header.size)?, None),
            };
            if !is_whole {
                let message =
                    format!("cut off: its {} bytes are not all there; copy the archive again", header.size);
                shelf.leave_out(&name, SkipReason::Corrupt, &message);
                return Ok(false);
            }
            let place = match is_plain {
                true => MemberPlace::Stored { offset, crc: None },
                false => MemberPlace::Unpacked { offset },
            };
            let member = shelf.add_media(name, header.size, place);
            if let Some(bytes) = kept {
                STORE.keep(&member, bytes);
            }
            tape.skip(padded - header.size)
        }
    }
}

/// The fields of a header block (POSIX 1003.1, pax, "ustar Interchange Format"); `None` if its checksum is wrong.
fn parse(block: &[u8; BLOCK]) -> Option<Header> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    if number(&block[148..156])? != sum {
        return None;
    }
    let text = |range: std::ops::Range<usize>| {
        let field = &block[range];
        field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
    };
    let mut name = text(0..100);
    // GNU's magic has a blank instead of the zero, and other fields where the prefix is.
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        let mut whole = text(345..500);
        whole.push(b'/');
        whole.append(&mut name);
        name = whole;
    }
    Some(Header { name, size: number(&block[124..136])?, kind: block[156], target: text(157..257) })
}

/// Octal digits, or with the highest bit set a big-endian number.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7F);
        return field[1..]
            .iter()
            .try_fold(first, |sum, &byte| (sum < 1 << 55).then_some(sum << 8 | u64::from(byte)));
    }
    let digits: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(|byte| !matches!(byte, 0 | b' '))
        .collect();
    digits.iter().try_fold(0u64, |sum, &digit| {
        ((b'0'..=b'7').contains(&digit) && sum < 1 << 60).then_some(sum << 3 | u64::from(digit & 7))
    })
}

/// Reads a header that belongs to the member behind it.
fn read_extension(
    tape: &mut dyn Tape,
    header: &Header,
    padded: u64,
    extension: &mut Extension,
) -> Result<bool, Trouble> {
    if header.size > EXTENSION_MAX {
        return Err(Trouble::Hostile(format!(
            "a header of {} bytes stands in front of a member",
            header.size
        )));
    }
    let mut bytes = vec![0; header.size as usize];
    if tape.read(&mut bytes)? < bytes.len() || !tape.skip(padded - header.size)? {
        return Ok(false);
    }
    let text = || bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())].to_vec();
    match header.kind {
        b'L' => extension.name = Some(text()),
        b'K' => extension.target = Some(text()),
        _ => records(&bytes, extension)?,
    }
    Ok(true)
}

/// Records of a pax header: `LENGTH KEY=VALUE\n`.
fn records(mut bytes: &[u8], extension: &mut Extension) -> Result<(), Trouble> {
    let odd = || Trouble::Hostile("a pax header that does not add up".to_owned());
    while bytes.iter().any(|byte| *byte != 0) {
        let blank = bytes.iter().position(|byte| *byte == b' ').ok_or_else(odd)?;
        let decimal = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        let length =
            decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok()).ok_or_else(odd)?;
        let record =
            bytes.get(blank + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(odd)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(odd)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"linkpath" => extension.target = Some(value.to_vec()),
            b"size" => extension.size = Some(decimal(value).ok_or_else(odd)?),
            _ if key.starts_with(b"GNU.sparse") => extension.is_sparse = true,
            _ => {}
        }
        bytes = &bytes[length..];
    }
    Ok(())
}
