//! `reelflow bank`: looks into the memory banks of a checkpoint, checks them, and takes segments out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use reelflow_api::error::StageError;
use reelflow_api::stage::Parts;

use crate::bank::sealed::{self, Block, Blocks};
use crate::bank::snapshot::{self, Snapshot};
use crate::bank::{NO_SEGMENT, Rows};
use crate::edge::files;
use crate::engine::checkpoint::{self, Checkpoint};
use crate::engine::run_dir;

/// Arguments of `reelflow bank`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Kind, size, filling, ages and files of each bank.
    Info(Place),
    /// Checks every checksum, row and id, of every checkpoint of a run; exit code 74 for damage.
    Verify(Place),
    /// Writes the rows that belong to segments as `ID.safetensors` (values, ids, versions) and `ID.csv`.
    Export(Export),
    /// Takes segments out of all banks and writes a new generation of the checkpoint.
    Forget(Forget),
}

/// Where the banks are.
#[derive(clap::Args, Debug)]
struct Place {
    /// A run's folder or one checkpoint's folder.
    path: PathBuf,
}

#[derive(clap::Args, Debug)]
struct Export {
    #[command(flatten)]
    place: Place,
    /// Folder for the files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
struct Forget {
    #[command(flatten)]
    place: Place,
    /// Segment ids, as `export` and the books of a run have them.
    #[arg(required = true, value_name = "SEGMENT")]
    segments: Vec<i64>,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let done = match &args.action {
        Action::Info(place) => info(&place.path),
        Action::Verify(place) => return verify(&place.path),
        Action::Export(export) => self::export(&export.place.path, &export.out),
        Action::Forget(forget) => self::forget(&forget.place.path, &forget.segments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

/// A bank and the parts of its sink.
fn banks(checkpoint: &Checkpoint) -> Result<Vec<(String, Snapshot, &Parts)>, StageError> {
    let mut found = Vec::new();
    for parts in checkpoint.sinks.values() {
        for id in snapshot::ids(parts) {
            let snapshot = Snapshot::read(&id, parts).map_err(|error| within(&checkpoint.dir, error))?;
            found.push((id, snapshot, parts));
        }
    }
    match found.is_empty() {
        true => Err(StageError::refused("bank", format!("`{}` has no bank", checkpoint.dir.display()))),
        false => Ok(found),
    }
}

/// An error about a part, with the folder in front.
fn within(dir: &Path, error: StageError) -> StageError {
    StageError { message: format!("in `{}`: {}", dir.display(), error.message), ..error }
}

fn info(path: &Path) -> Result<(), StageError> {
    let checkpoint = super::checkpoint("bank", path)?;
    super::say(&format!("checkpoint {}", checkpoint.dir.display()));
    for (id, snapshot, parts) in banks(&checkpoint)? {
        let about = &snapshot.about;
        let (rows, dim, shards) = (about.rows, about.dim, about.starts.len() - 1);
        let dtype = format!("{:?}", about.dtype).to_lowercase();
        super::say(&format!("bank {id}: {}, {rows} rows of {dim} {dtype} in {shards} shards", about.kind));
        super::say(&format!("  {}; {} keys wait", snapshot.ages().to_text(), about.pending));
        for (name, bytes) in parts.iter().filter(|(name, _)| name.starts_with(&format!("bank.{id}."))) {
            super::say(&format!("  {name} {} bytes", bytes.len()));
        }
    }
    Ok(())
}

fn verify(path: &Path) -> ExitCode {
    let dirs = match checkpoint_dirs(path) {
        Ok(dirs) => dirs,
        Err(error) => return super::fail(&error),
    };
    if dirs.is_empty() {
        super::say(&format!("{}: no checkpoint yet", path.display()));
    }
    let mut is_whole = true;
    for dir in dirs {
        match problems(&dir) {
            Ok((problems, count)) if problems.is_empty() => {
                super::say(&format!("ok: {} ({count} banks)", dir.display()));
            }
            Ok((problems, _)) => {
                is_whole = false;
                for problem in problems {
                    eprintln!("error: bank: in `{}`: {problem}", dir.display());
                }
            }
            Err(error) => {
                is_whole = false;
                eprintln!("error: {error}");
            }
        }
    }
    if is_whole { ExitCode::SUCCESS } else { ExitCode::from(74) }
}

/// What is wrong with the rows of one checkpoint's banks, and how many banks there are.
fn problems(dir: &Path) -> Result<(Vec<String>, usize), StageError> {
    let checkpoint = checkpoint::open(dir)?;
    let banks = banks(&checkpoint)?;
    Ok((banks.iter().flat_map(|(_, snapshot, _)| snapshot.problems()).collect(), banks.len()))
}

fn checkpoint_dirs(path: &Path) -> Result<Vec<PathBuf>, StageError> {
    if path.join("manifest.json").is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !run_dir::is_one(path) {
        let message = format!("`{}` is neither a run's folder nor a checkpoint's", path.display());
        return Err(StageError::refused("bank", message));
    }
    checkpoint::complete(&path.join("checkpoints"))
}

fn export(path: &Path, out: &Path) -> Result<(), StageError> {
    let checkpoint = super::checkpoint("bank", path)?;
    files::make_dir(out)?;
    for (id, snapshot, _) in banks(&checkpoint)? {
        let dim = snapshot.about.dim as usize;
        let (rows, numbers) = filled(&snapshot.rows(), dim);
        let count = rows.ids.len();
        let blocks = Blocks::from([
            ("values".to_owned(), Block::f32(&[count, dim], &rows.values)),
            ("ids".to_owned(), Block::i64(&[count], &rows.ids)),
            ("versions".to_owned(), Block::i64(&[count], &rows.versions)),
        ]);
        let tensors = out.join(format!("{id}.safetensors"));
        files::write_atomic(&tensors, &sealed::to_safetensors(&id, &blocks)?)?;
        let mut table = "row,segment,step\n".to_owned();
        for (i, row) in numbers.iter().enumerate() {
            table += &format!("{row},{},{}\n", rows.ids[i], rows.versions[i]);
        }
        files::write_atomic(&out.join(format!("{id}.csv")), table.as_bytes())?;
        super::say(&format!("{count} rows of bank {id} {}", tensors.display()));
    }
    Ok(())
}

/// The rows that belong to segments, and their numbers in the bank.
fn filled(all: &Rows, dim: usize) -> (Rows, Vec<usize>) {
    let (mut rows, mut numbers) = (Rows::default(), Vec::new());
    for row in (0..all.ids.len()).filter(|&row| all.ids[row] != NO_SEGMENT) {
        rows.values.extend_from_slice(&all.values[row * dim..(row + 1) * dim]);
        rows.ids.push(all.ids[row]);
        rows.versions.push(all.versions[row]);
        numbers.push(row);
    }
    (rows, numbers)
}

fn forget(path: &Path, segments: &[i64]) -> Result<(), StageError> {
    let segments: HashSet<i64> = segments.iter().copied().filter(|id| *id != NO_SEGMENT).collect();
    let mut checkpoint = super::checkpoint("bank", path)?;
    let root = checkpoint.dir.parent().unwrap_or(Path::new(".")).to_owned();
    // A run that goes on meanwhile would not know of it.
    let run = root.parent().filter(|run| run_dir::is_one(run));
    let _lock = run.map(run_dir::lock).transpose()?;
    let mut taken = 0;
    let dir = checkpoint.dir.clone();
    for parts in checkpoint.sinks.values_mut() {
        for id in snapshot::ids(parts) {
            let mut snapshot = Snapshot::read(&id, parts).map_err(|error| within(&dir, error))?;
            taken += snapshot.forget(&segments);
            parts.extend(snapshot.to_parts()?);
            // Manifests that speak for the bank's files as well.
            for manifest in sealed::manifests_of(&format!("bank.{id}.json"), parts) {
                sealed::reseal(&manifest, parts)?;
            }
        }
    }
    if taken == 0 {
        super::say("no key of these segments is there; nothing was written");
        return Ok(());
    }
    let new = checkpoint::write_generation(&root, &checkpoint)?;
    super::say(&format!("{taken} keys taken out {}", new.display()));
    eprintln!("older checkpoints beside it still have them; remove those that must not");
    Ok(())
}
