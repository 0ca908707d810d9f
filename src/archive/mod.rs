//! Reads tar and zip archives where they lie: lists their members, and unpacks into memory, never onto a disk.
//!
//! An archive is somebody else's: every number in it is checked before it is believed, memory is bounded by
//! settings and not by what is claimed, and names that point out of it have the whole archive refused.

mod packed;
mod store;
mod tar;
mod zip;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Member, MemberPlace};

use self::store::STORE;

/// Most members of an archive, folders included.
const MEMBERS_MAX: u64 = 100_000;
/// Most bytes of a member, unpacked.
const MEMBER_MAX: u64 = 2 << 30;
/// Most bytes of all members, unpacked.
const TOTAL_MAX: u64 = 16 << 30;
/// Most bytes that one compressed byte may become. Video hardly shrinks; text does not reach 20.
const RATIO_MAX: u64 = 200;
/// Unpacked bytes from which on the ratio counts: small files of zeros are harmless.
const RATIO_FROM: u64 = 16 << 20;
/// Most bytes of a member that is read as text.
const TEXT_MAX: u64 = 64 << 10;

/// What is wanted of a member, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// Nothing.
    Pass,
    /// Its text.
    Text,
    /// To be listed; its bytes are wanted later.
    Media,
}

/// What is in an archive.
#[derive(Debug, Default)]
pub struct Listed {
    /// Members that were wished for as media, in the order of the archive.
    pub media: Vec<Arc<Member>>,
    /// Members that were wished for as text, at most 64 KiB each. Of several with one name, the last.
    pub texts: HashMap<PathBuf, Vec<u8>>,
    /// Members that were wished for and cannot be used, with what was seen.
    pub left_out: Vec<(PathBuf, SkipReason, String)>,
    /// Why it could not be read to its end; what comes before is listed.
    pub damage: Option<String>,
}

/// Why an archive gives nothing.
#[derive(Debug)]
pub enum Trouble {
    /// It tries to reach out of itself or claims what no honest archive does: it is refused as a whole.
    Hostile(String),
    /// Its bytes are no archive, although it is called one.
    NotArchive(String),
    /// The system refuses to read it.
    Unreadable(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Whether a file is called like an archive that is read: `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, `.zip`.
#[must_use]
pub fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip"]
        .iter()
        .any(|end| name.len() > end.len() && name.ends_with(end))
}

/// Lists the archive at `path`, a regular file; what it is, is told by its first bytes. `wish` is asked for every
/// regular file in it.
///
/// # Errors
/// See [`Trouble`].
pub fn list(path: &Path, wish: &dyn Fn(&Path) -> Wish) -> Result<Listed, Trouble> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut shelf =
        Shelf { path, bytes, wish, listed: Listed::default(), copies: HashMap::new(), members: 0, total: 0 };
    match packed::kind(&file)? {
        packed::Kind::Zip => zip::list(&file, &mut shelf)?,
        packed::Kind::Plain => tar::list(&mut packed::Plain::new(&file, bytes), &mut shelf)?,
        kind => tar::list(&mut packed::Packed::open(file, kind), &mut shelf)?,
    }
    Ok(shelf.listed)
}

/// Lets the members that are unpacked take `bytes` of memory at least, in the whole program.
pub fn allow(bytes: u64) {
    STORE.allow(bytes);
}

/// The bytes of a member that is compressed; kept for others, up to what was allowed.
///
/// # Errors
/// With a reason and what was seen, if it is too large or does not unpack to what the archive says.
pub fn unpacked(member: &Arc<Member>) -> Result<Arc<Vec<u8>>, (SkipReason, String)> {
    STORE.unpacked(member)
}

/// What is found is put here, and counted.
struct Shelf<'a> {
    path: &'a Path,
    bytes: u64,
    wish: &'a dyn Fn(&Path) -> Wish,
    listed: Listed,
    copies: HashMap<PathBuf, u32>,
    members: u64,
    total: u64,
}

impl Shelf<'_> {
    /// Counts a member of any kind and checks its name. `None` for a name that names nothing (`./`).
    fn admit(&mut self, name: &[u8], size: u64) -> Result<Option<PathBuf>, Trouble> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(Trouble::Hostile(format!("it has more than {MEMBERS_MAX} members; split it")));
        }
        let name = clean(name)?;
        if size > MEMBER_MAX {
            let name = shown(&name);
            return Err(Trouble::Hostile(format!(
                "`{name}` claims {size} bytes, a member may have 2 GiB; keep it as a file"
            )));
        }
        self.total += size;
        if self.total > TOTAL_MAX {
            return Err(Trouble::Hostile("its members claim more than 16 GiB; split it".to_owned()));
        }
        Ok((!name.as_os_str().is_empty()).then_some(name))
    }

    /// What is wanted of the regular file `name`; more than a text may have is not.
    fn wish(&self, name: &Path, size: u64) -> Wish {
        match (self.wish)(name) {
            Wish::Text if size > TEXT_MAX => Wish::Pass,
            wish => wish,
        }
    }

    fn add_media(&mut self, name: PathBuf, size: u64, place: MemberPlace) -> Arc<Member> {
        let copies = self.copies.entry(name.clone()).or_default();
        let (archive, archive_bytes, copy) = (self.path.to_owned(), self.bytes, *copies);
        *copies += 1;
        let member = Arc::new(Member { archive, archive_bytes, name, copy, size, place });
        self.listed.media.push(Arc::clone(&member));
        member
    }

    /// Notes that a member cannot be used, if it was wished for as a medium.
    fn leave_out(&mut self, name: &Path, reason: SkipReason, message: &str) {
        if (self.wish)(name) == Wish::Media {
            self.listed.left_out.push((name.to_owned(), reason, message.to_owned()));
        }
    }

    /// Refuses a link that leaves the archive; one that stays inside is not followed.
    fn link(&mut self, name: &Path, target: &[u8], is_hard: bool) -> Result<(), Trouble> {
        let what = if is_hard { "hard link" } else { "symbolic link" };
        let from = if is_hard { Path::new("") } else { name.parent().unwrap_or(Path::new("")) };
        let target = path_of(target);
        let mut depth = from.components().count();
        for part in target.components() {
            match part {
                Component::Normal(_) => depth += 1,
                Component::CurDir => {}
                Component::ParentDir if depth > 0 => depth -= 1,
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    let (name, target) = (shown(name), shown(&target));
                    return Err(Trouble::Hostile(format!(
                        "`{name}` is a {what} that leaves it, to `{target}`"
                    )));
                }
            }
        }
        self.leave_out(
            name,
            SkipReason::NotRegular,
            &format!("a {what}, which is not followed; pack the file itself"),
        );
        Ok(())
    }
}

/// The name as a relative path without `.` parts.
fn clean(name: &[u8]) -> Result<PathBuf, Trouble> {
    let escape = |how: &str| Trouble::Hostile(format!("the name `{}` {how}", shown(&path_of(name))));
    if name.contains(&0) || name.len() > 4096 {
        return Err(escape("is no name of a file"));
    }
    let mut path = PathBuf::new();
    for part in path_of(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err(escape("leaves it by `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(escape("is absolute")),
        }
    }
    Ok(path)
}

fn path_of(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
