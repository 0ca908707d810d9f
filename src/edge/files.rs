//! Files that are either whole or not there: write to a temporary name, sync, rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use reelflow_api::error::StageError;
use xxhash_rust::xxh3::xxh3_64;

use super::failpoint;

/// Tells the recorder of a test what reached the file system; nothing outside tests.
macro_rules! note {
    ($op:expr) => {
        #[cfg(test)]
        {
            use recording::Op;
            recording::note($op);
        }
    };
}

/// What is the same for all names of one file and changes when it is written: device, inode, length, time of
/// the last change. `None` if it cannot be looked at.
#[must_use]
pub fn identity(path: &Path) -> Option<[u64; 5]> {
    let stat = rustix::fs::stat(path).ok()?;
    let whole = |value: i64| value as u64;
    Some([stat.st_dev, stat.st_ino, whole(stat.st_size), whole(stat.st_mtime), stat.st_mtime_nsec as u64])
}

/// Whether this process may read the file; costs less than opening it.
#[must_use]
pub fn may_read(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// Turns an I/O error into ours: exit code 74, with the path and what was tried.
pub fn storage(action: &str, path: &Path, error: &io::Error) -> StageError {
    StageError::storage("storage", format!("cannot {action} `{}`: {error}", path.display()))
}

/// Checksum of file contents, 16 hexadecimal digits (XXH3, 64 bits).
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// Reads a whole regular file; a pipe or device might never end.
///
/// # Errors
/// If it cannot be opened or read, or is no regular file.
pub fn read(path: &Path) -> Result<Vec<u8>, StageError> {
    len(path)?;
    fs::read(path).map_err(|error| storage("read", path, &error))
}

/// Bytes of a regular file, without reading it.
///
/// # Errors
/// If it cannot be looked at, or is a folder, pipe or device.
pub fn len(path: &Path) -> Result<u64, StageError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(meta.len()),
        Ok(_) => Err(storage("read", path, &io::Error::other("it is no regular file"))),
        Err(error) => Err(storage("read", path, &error)),
    }
}

/// Asks the system to forget what it holds of a file's content in memory, so that the next read goes to the disk.
/// What was written and is not yet on the disk stays.
///
/// # Errors
/// If it cannot be opened, or the file system does not take the advice.
pub fn forget(path: &Path) -> Result<(), StageError> {
    let forgotten = File::open(path)
        .and_then(|file| Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?));
    forgotten.map_err(|error| storage("drop from memory", path, &error))
}

/// Makes a folder and those above it, each with a durable name.
///
/// # Errors
/// If one cannot be made, or its name not be made durable.
pub fn make_dir(path: &Path) -> Result<(), StageError> {
    let above = folder_of(path);
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    make_dir(above)?;
    if make_last_dir(path)? { sync_dir("folder", above) } else { Ok(()) }
}

/// Makes a folder in one that must be there; whether it is new. The name is durable when the folder above is synced.
///
/// # Errors
/// If it cannot be made.
pub fn make_last_dir(path: &Path) -> Result<bool, StageError> {
    match fs::create_dir(path) {
        Ok(()) => {
            note!(Op::MakeDir(path.to_owned()));
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(storage("create folder", path, &error)),
    }
}

/// Writes and syncs a new file in place; for files inside a folder that is renamed as a whole. `part` names its
/// failpoints.
///
/// # Errors
/// If it cannot be created, written or synced.
pub fn write_synced(part: &str, path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    write_all(part, path, bytes).map_err(|error| storage("write", path, &error))
}

fn write_all(part: &str, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    note!(Op::Create(path.to_owned()));
    failpoint::hit_in(part, "tmp_created");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    note!(Op::Write(path.to_owned(), first.to_owned()));
    failpoint::hit_in(part, "half_written");
    file.write_all(second)?;
    note!(Op::Write(path.to_owned(), second.to_owned()));
    failpoint::hit_in(part, "before_fsync");
    // After a failure the file is given up: a second try could succeed without anything having reached the disk.
    file.sync_all()?;
    note!(Op::Sync(path.to_owned()));
    Ok(())
}

/// Replaces a file: readers see the old content or the new, never a part.
///
/// # Errors
/// If the temporary file beside it cannot be written, or not renamed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let temporary = with_suffix(path, ".tmp");
    write_synced("file", &temporary, bytes)?;
    rename("file", &temporary, path)
}

/// Replaces a file that several processes may replace at once: each is written whole under a temporary name, which
/// one of them holds at a time. Returns `false`, and leaves all as it is, while another process holds it.
///
/// # Errors
/// If the temporary file beside it cannot be written, or not renamed; it is removed.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<bool, StageError> {
    let temporary = with_suffix(path, ".tmp");
    let Some(file) = claim(&temporary).map_err(|error| storage("write", &temporary, &error))? else {
        return Ok(false);
    };
    let written = file.set_len(0).and_then(|()| {
        let mut out = io::BufWriter::with_capacity(1 << 20, &file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.sync_all()
    });
    if let Err(error) = written {
        // Half a file is of no use to anybody; that it stays is no second error.
        let _ = fs::remove_file(&temporary);
        return Err(storage("write", path, &error));
    }
    rename("file", &temporary, path)?;
    Ok(true)
}

/// Opens or makes a file and takes its lock; `None` if another process holds it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Whoever held it before may have given it its final name meanwhile; that file is not to be touched.
        let opened = rustix::fs::fstat(&file)?;
        if rustix::fs::stat(path)
            .is_ok_and(|named| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino))
        {
            return Ok(Some(file));
        }
    }
}

/// Renames a file or folder and makes the new name durable. `part` names its failpoints.
///
/// # Errors
/// If it cannot be renamed or synced.
pub fn rename(part: &str, from: &Path, to: &Path) -> Result<(), StageError> {
    failpoint::hit_in(part, "before_rename");
    fs::rename(from, to).map_err(|error| storage("rename to", to, &error))?;
    note!(Op::Rename(from.to_owned(), to.to_owned()));
    sync_dir(part, folder_of(to))
}

/// Makes the entries of a folder durable. `part` names its failpoints.
///
/// # Errors
/// If it cannot be opened or synced.
pub fn sync_dir(part: &str, path: &Path) -> Result<(), StageError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    failpoint::hit_in(part, "before_dirsync");
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| storage("sync folder", path, &error))?;
    note!(Op::SyncDir(path.to_owned()));
    failpoint::hit_in(part, "after_dirsync");
    Ok(())
}

/// Removes a folder with all it holds; nothing happens if it is not there.
///
/// # Errors
/// If something in it cannot be removed.
pub fn remove_dir(path: &Path) -> Result<(), StageError> {
    note!(Op::RemoveTree(path.to_owned()));
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(storage("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Entries of a folder, sorted by name; none if it is not there.
///
/// # Errors
/// If it cannot be listed.
#[expect(clippy::disallowed_methods, reason = "this is the door that sorts")]
pub fn list_dir(path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(storage("list", path, &error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| storage("list", path, &error))?;
    paths.sort();
    Ok(paths)
}

/// A lock that lives as long as this value and dies with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the only lock on `path`, without waiting.
///
/// # Errors
/// If another process holds it, or the file cannot be made.
pub fn lock(path: &Path) -> Result<Lock, StageError> {
    let file = File::create(path).map_err(|error| storage("create lock", path, &error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StageError::storage(
            "storage",
            format!("`{}` is held by another run; wait for it or choose another `run.out`", path.display()),
        )),
        Err(error) => Err(storage("lock", path, &error.into())),
    }
}

/// The folder that `path` is in; empty for a name alone.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
pub mod recording;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(list_dir(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().code, 74);
        drop(first);
        lock(&path).unwrap();
    }

    #[test]
    fn one_process_at_a_time_replaces_a_shared_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared");
        let held = claim(&with_suffix(&path, ".tmp")).unwrap().unwrap();
        assert!(!replace(&path, |out| out.write_all(b"no")).unwrap());
        assert!(!path.exists());
        drop(held);
        assert!(replace(&path, |out| out.write_all(b"long content")).unwrap());
        assert!(replace(&path, |out| out.write_all(b"short")).unwrap());
        let failed =
            replace(&path, |out| out.write_all(b"half").and_then(|()| Err(io::Error::other("full"))));
        assert_eq!(failed.unwrap_err().code, 74);
        assert_eq!(read(&path).unwrap(), b"short");
        assert_eq!(list_dir(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn errors_name_the_path() {
        let error = read(Path::new("no/such/file")).unwrap_err();
        assert!(error.to_string().contains("no/such/file"), "{error}");
    }
}
