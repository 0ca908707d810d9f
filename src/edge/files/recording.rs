//! What a disk may hold after a power cut: a record of every change, and all the images it can leave.
//!
//! POSIX promises little: what was written to a file is safe once the file was synced, a name once its folder was.
//! Everything else may have reached the disk or not, each change for itself. The model keeps for each file and folder
//! what a running system sees beside what is safe; an image takes for each difference one of the two.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use reelflow_api::rng::Rng;

/// A change that went through the door.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A new folder.
    MakeDir(PathBuf),
    /// A new file, or an old one emptied.
    Create(PathBuf),
    /// Bytes added to its end.
    Write(PathBuf, Vec<u8>),
    /// The content of a file is safe.
    Sync(PathBuf),
    /// A file or folder has another name.
    Rename(PathBuf, PathBuf),
    /// The names in a folder are safe.
    SyncDir(PathBuf),
    /// A folder is removed with all it holds.
    RemoveTree(PathBuf),
}

thread_local! {
    static RECORD: RefCell<Option<Vec<Op>>> = const { RefCell::new(None) };
}

/// Adds to the record of this thread, if there is one.
pub fn note(op: Op) {
    RECORD.with_borrow_mut(|record| record.as_mut().map(|ops| ops.push(op)));
}

/// Records what `work` changes on this thread.
pub fn record(work: impl FnOnce()) -> Vec<Op> {
    RECORD.set(Some(Vec::new()));
    work();
    RECORD.take().expect("recording was begun")
}

/// Of each change that is not safe, what the image has.
pub enum Cut<'a> {
    /// All of them.
    All,
    /// None of them.
    None,
    /// Each by chance; of a file also parts: a piece, or every other 512-byte block.
    Chance(&'a mut Rng),
}

#[derive(Clone, Debug, Default)]
struct Seen<T> {
    now: T,
    safe: T,
}

/// Files and folders by number; a folder's names lead to numbers.
#[derive(Clone, Debug)]
enum Node {
    File(Seen<Vec<u8>>),
    Folder(Seen<BTreeMap<String, usize>>),
}

/// A disk with one folder, which is safe.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Where the folder is on the real disk.
    base: PathBuf,
    nodes: Vec<Node>,
}

impl Disk {
    /// A disk whose folder was empty at `base` when the record began.
    pub fn new(base: &Path) -> Self {
        Self { base: base.to_owned(), nodes: vec![Node::Folder(Seen::default())] }
    }

    /// Makes a change.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDir(path) => self.add(path, Node::Folder(Seen::default())),
            Op::Create(path) => match self.find(path) {
                Some(file) => self.file(file).now.clear(),
                None => self.add(path, Node::File(Seen::default())),
            },
            Op::Write(path, bytes) => {
                let file = self.find(path).expect("what was recorded is there");
                self.file(file).now.extend_from_slice(bytes);
            }
            Op::Sync(path) => {
                let file = self.find(path).expect("what was recorded is there");
                let file = self.file(file);
                file.safe = file.now.clone();
            }
            Op::SyncDir(path) => {
                // A folder above the base was there before and stays.
                if let Some(folder) = self.find(path) {
                    let folder = self.folder(folder);
                    folder.safe = folder.now.clone();
                }
            }
            Op::Rename(from, to) => {
                let node = self.find(from).expect("what was recorded is there");
                self.unname(from);
                self.name(to, node);
            }
            Op::RemoveTree(path) => {
                if let Some(node) = self.find(path) {
                    self.empty(node);
                    self.unname(path);
                }
            }
        }
    }

    /// Writes what the disk may hold below `target`, which must be empty.
    pub fn image(&self, target: &Path, cut: &mut Cut<'_>) {
        self.image_of(0, target, cut);
    }

    fn image_of(&self, node: usize, target: &Path, cut: &mut Cut<'_>) {
        match &self.nodes[node] {
            Node::File(file) => {
                std::fs::write(target, content(file, cut)).expect("what was recorded is there")
            }
            Node::Folder(folder) => {
                if !target.is_dir() {
                    std::fs::create_dir(target).expect("what was recorded is there");
                }
                let names: BTreeSet<&String> = folder.now.keys().chain(folder.safe.keys()).collect();
                for name in names {
                    let (now, safe) = (folder.now.get(name), folder.safe.get(name));
                    let has_now = match cut {
                        Cut::All => true,
                        Cut::None => false,
                        Cut::Chance(rng) => rng.chance(0.5),
                    };
                    if let Some(node) = if has_now { now } else { safe } {
                        self.image_of(*node, &target.join(name), cut);
                    }
                }
            }
        }
    }

    /// Number of what is at `path`; `None` if nothing is, or it is outside.
    fn find(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(&self.base).ok()?;
        inside.components().try_fold(0, |node, part| {
            let (Component::Normal(name), Node::Folder(folder)) = (part, &self.nodes[node]) else {
                return None;
            };
            folder.now.get(name.to_str().expect("what was recorded is there")).copied()
        })
    }

    fn add(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.name(path, self.nodes.len() - 1);
    }

    fn name(&mut self, path: &Path, node: usize) {
        let folder = self
            .find(path.parent().expect("what was recorded is there"))
            .expect("what was recorded is there");
        self.folder(folder).now.insert(name_of(path), node);
    }

    fn unname(&mut self, path: &Path) {
        let folder = self
            .find(path.parent().expect("what was recorded is there"))
            .expect("what was recorded is there");
        self.folder(folder).now.remove(&name_of(path));
    }

    /// Removes all names in a folder and below it.
    fn empty(&mut self, node: usize) {
        if let Node::Folder(folder) = &mut self.nodes[node] {
            for inside in std::mem::take(&mut folder.now).into_values() {
                self.empty(inside);
            }
        }
    }

    fn file(&mut self, node: usize) -> &mut Seen<Vec<u8>> {
        let Node::File(file) = &mut self.nodes[node] else { unreachable!("a folder is not written to") };
        file
    }

    fn folder(&mut self, node: usize) -> &mut Seen<BTreeMap<String, usize>> {
        let Node::Folder(folder) = &mut self.nodes[node] else { unreachable!("files hold no names") };
        folder
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .expect("what was recorded is there")
        .to_str()
        .expect("what was recorded is there")
        .to_owned()
}

fn content(file: &Seen<Vec<u8>>, cut: &mut Cut<'_>) -> Vec<u8> {
    let rng = match cut {
        Cut::All => return file.now.clone(),
        Cut::None => return file.safe.clone(),
        Cut::Chance(rng) => rng,
    };
    if file.now == file.safe {
        return file.now.clone();
    }
    match rng.below(4) {
        0 => file.now.clone(),
        1 => file.safe.clone(),
        2 => file.now[..rng.below(file.now.len() as u64 + 1) as usize].to_vec(),
        _ => {
            // The length is there, every other block is not.
            let mut bytes = file.now.clone();
            bytes.chunks_mut(512).step_by(2).for_each(|block| block.fill(0));
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::files;

    /// Files below `folder` and their content.
    fn files_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let all = files::list_dir(folder).unwrap();
        all.iter().map(|path| (name_of(path), std::fs::read(path).unwrap_or_default())).collect()
    }

    /// The images after the first `count` changes.
    fn images(ops: &[Op], base: &Path, count: usize) -> [Vec<(String, Vec<u8>)>; 2] {
        let mut disk = Disk::new(base);
        ops[..count].iter().for_each(|op| disk.apply(op));
        [Cut::All, Cut::None].map(|mut cut| {
            let target = tempfile::tempdir().unwrap();
            disk.image(target.path(), &mut cut);
            files_in(target.path())
        })
    }

    #[test]
    fn what_is_not_synced_may_be_there_or_not() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a");
        let ops = record(|| files::write_atomic(&path, b"abcd").unwrap());
        let temporary = base.path().join("a.tmp");
        let expected = [
            Op::Create(temporary.clone()),
            Op::Write(temporary.clone(), b"ab".to_vec()),
            Op::Write(temporary.clone(), b"cd".to_vec()),
            Op::Sync(temporary.clone()),
            Op::Rename(temporary, path),
            Op::SyncDir(base.path().to_owned()),
        ];
        assert_eq!(ops, expected);
        let file = |name: &str, content: &[u8]| vec![(name.to_owned(), content.to_vec())];
        assert_eq!(images(&ops, base.path(), 2), [file("a.tmp", b"ab"), vec![]]);
        assert_eq!(images(&ops, base.path(), 5), [file("a", b"abcd"), vec![]]);
        assert_eq!(images(&ops, base.path(), 6), [file("a", b"abcd"), file("a", b"abcd")]);
    }
}
