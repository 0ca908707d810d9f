//! Finds a run's encoders for the commands that only use them: as trained, and as before the first step.

use std::path::Path;

use reelflow_api::error::StageError;

use crate::edge::threads;
use crate::eval::embed::{Clips, Pass};
use crate::eval::recipe::Recipe;
use crate::observe::quarantine::warning;
use crate::train::{self, Embedder};

/// Clips embedded at a time: enough to fill the cores, small beside the networks.
pub const BATCH: u32 = 16;

/// Encoders of one run, and how their clips are made.
pub struct Encoders {
    /// How clips are cut and normalised.
    pub recipe: Recipe,
    /// `untrained` if asked for, then `step N`.
    pub names: Vec<String>,
    /// In the order of the names.
    pub networks: Vec<Embedder>,
}

/// Opens the encoder of `run`, a run's folder (its newest checkpoint) or a checkpoint's, and with `untrained` also as
/// it was before training. `device` is `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// If there is no checkpoint, it is damaged or holds no trainer, or the device is not there.
pub fn open(run: &Path, device: &str, untrained: bool) -> Result<Encoders, StageError> {
    let checkpoint = super::checkpoint("eval", run)?;
    let recipe = Recipe::of(&checkpoint.manifest.pipeline)?;
    let parts = checkpoint.sinks.get(&recipe.train).ok_or_else(|| {
        StageError::storage(
            "eval",
            format!("`{}` has no state of `{}`", checkpoint.dir.display(), recipe.train),
        )
    })?;
    let (mut names, mut networks) = (Vec::new(), Vec::new());
    if untrained {
        names.push("untrained".to_owned());
        networks.push(train::embedder(parts, threads::for_training(), device, false)?);
    }
    names.push(format!("step {}", checkpoint.manifest.step));
    networks.push(train::embedder(parts, threads::for_training(), device, true)?);
    Ok(Encoders { recipe, names, networks })
}

/// Says on standard error what was left out when the clips were found and in a pass over them.
pub fn tell_skips(clips: &Clips, pass: &Pass) {
    let all = clips.skipped.iter().chain(&pass.skipped);
    all.clone().for_each(|skip| eprintln!("{}", warning(skip)));
    let count = all.count();
    if count > 0 {
        eprintln!("{count} of {} inputs were left out, or in part", clips.inputs_seen);
    }
}
