//! Writes the trained encoder where other tools find it: safetensors with torchvision's names, and JSON.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use reelflow_api::error::StageError;

use super::network::HEADS;
use super::sink::Trainer;
use crate::bank::sealed::{self, Blocks};

/// Writes `encoder.safetensors` and `encoder.json` into `folder` and returns the path of the first. Each
/// appears whole or not at all.
///
/// # Errors
/// If a file cannot be written.
pub(super) fn write(folder: &Path, trainer: &Trainer) -> Result<PathBuf, StageError> {
    let mut blocks: Blocks = trainer.query.store.blocks()?;
    blocks.retain(|name, _| !name.starts_with(HEADS));
    let settings = &trainer.settings.encoder;
    let architecture = settings.architecture();
    let about = serde_json::json!({
        "name": settings.name,
        "width": architecture.width,
        "blocks": architecture.blocks,
        "stem": architecture.stem,
        "features": architecture.features(),
        "clip_shape": trainer.clip_shape,
        "clip_layout": "C, T, H, W",
        "steps": trainer.next_step,
    });
    let weights = folder.join("encoder.safetensors");
    let failed = |path: &Path, error: std::io::Error| {
        StageError::storage(&trainer.id, format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let bytes = sealed::to_safetensors("encoder.safetensors", &blocks)?;
    replace(&weights, &bytes).map_err(|error| failed(&weights, error))?;
    let path = folder.join("encoder.json");
    replace(&path, format!("{about:#}\n").as_bytes()).map_err(|error| failed(&path, error))?;
    Ok(weights)
}

/// Writes a temporary file beside `path`, syncs it and renames it over `path`.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
