//! Writes the trained encoder where other tools find it: safetensors with the published names, and JSON.

use std::path::{Path, PathBuf};

use reelflow_api::error::StageError;

use super::network::HEADS;
use super::sink::Trainer;
use crate::bank::sealed::{self, Blocks};
use crate::edge::files;

/// Name of the file with the weights.
pub const ENCODER: &str = "encoder.safetensors";

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
        "architecture": architecture,
        "features": architecture.features(),
        "clip_shape": trainer.clip_shape,
        "clip_layout": "C, T, H, W",
        "steps": trainer.next_step,
    });
    let weights = folder.join(ENCODER);
    files::make_dir(folder)?;
    files::write_atomic(&weights, &sealed::to_safetensors(ENCODER, &blocks)?)?;
    files::write_atomic(&folder.join("encoder.json"), format!("{about:#}\n").as_bytes())?;
    Ok(weights)
}
