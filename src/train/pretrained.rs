//! First weights from a file instead of drawn ones: all of the encoder's and nothing else.

use std::path::{Path, PathBuf};

use reelflow_api::error::StageError;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::export::ENCODER;
use super::network::HEADS;
use super::sink::QUERY;
use super::store::{Store, from_block};
use crate::bank::sealed::{self, Blocks};
use crate::edge::files;

/// A file that first weights came from, as a checkpoint remembers it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Where it was.
    pub path: PathBuf,
    /// XXH3-128 of its bytes.
    pub checksum: String,
}

/// Beginnings of names that belong to classifiers (torchvision; the ports of C3D, VCOP, I3D) or to our heads.
const NOT_ENCODER: [&str; 8] = ["fc.", "fc6.", "fc7.", "fc8.", "linear.", "logits.", "classifier.", HEADS];

/// Names of a kind that a message lists at most.
const LISTED_MAX: usize = 5;

/// The file that `weights` means: `path` itself; in the folder of a run its exported encoder, in that of a
/// checkpoint the trained network of its one `train` sink.
///
/// # Errors
/// If there is none, or a checkpoint has several.
pub fn locate(path: &Path) -> Result<PathBuf, String> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let place = path.display();
    if !path.is_dir() {
        return Err(format!("there is no file `{place}`"));
    }
    let exported = [path.join(ENCODER), path.join("exported").join(ENCODER)];
    if let Some(file) = exported.into_iter().find(|file| file.is_file()) {
        return Ok(file);
    }
    let folders = files::list_dir(path).map_err(|error| error.message)?;
    let networks: Vec<PathBuf> =
        folders.iter().map(|folder| folder.join(QUERY)).filter(|file| file.is_file()).collect();
    match networks.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!(
            "`{place}` holds neither `exported/{ENCODER}` of a run nor `{QUERY}` of a checkpoint"
        )),
        [one, ..] => {
            Err(format!("`{place}` holds {} networks; name one, as `{}`", networks.len(), one.display()))
        }
    }
}

/// Loads the encoder's tensors of `store` from what [`locate`] finds at `path`. Heads keep what they have, and a
/// classifier in the file is left out. Counters of batches may be missing, as in weights older than PyTorch
/// 0.4.1.
///
/// # Errors
/// If the file cannot be read or is no safetensors; refused, with all names, if tensors are missing,
/// unexpected, or of another shape or type than f32. Nothing was changed then.
pub fn load(store: &Store, path: &Path) -> Result<Source, StageError> {
    let path = locate(path).map_err(|message| StageError::refused("encoder.weights", message))?;
    let bytes = files::read(&path)?;
    let name = path.display().to_string();
    let mut blocks = sealed::from_safetensors(&name, &bytes)?;
    blocks.retain(|name, _| !NOT_ENCODER.iter().any(|beginning| name.starts_with(beginning)));
    let source = Source { path, checksum: sealed::checksum(&bytes) };
    let wrong = differences(store, &blocks);
    if !wrong.is_empty() {
        let message = format!("these are not this encoder's weights: {}", wrong.join("; "));
        return Err(StageError::refused(&name, message));
    }
    let mut loaded = Vec::new();
    for entry in store.entries.iter().filter(|entry| blocks.contains_key(&entry.name)) {
        let tensor = from_block(&name, &entry.name, &entry.tensor.size(), entry.tensor.kind(), &blocks)?;
        loaded.push((entry, tensor));
    }
    tch::no_grad(|| loaded.iter().for_each(|(entry, tensor)| entry.tensor.shallow_clone().copy_(tensor)));
    Ok(source)
}

/// Loads the file of `source` again.
///
/// # Errors
/// As [`load`], and if the file is another one by now.
pub fn load_again(store: &Store, source: &Source) -> Result<(), StageError> {
    let found = load(store, &source.path)?;
    if found == *source {
        return Ok(());
    }
    let message = format!(
        "the first weights came from a file with checksum {}, this one has {}; put the first file back",
        source.checksum, found.checksum
    );
    Err(StageError::refused(source.path.display().to_string(), message))
}

/// What is missing, unexpected and misshapen, each a part of a sentence.
fn differences(store: &Store, blocks: &Blocks) -> Vec<String> {
    let own: Vec<_> = store.entries.iter().filter(|entry| !entry.name.starts_with(HEADS)).collect();
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    for entry in &own {
        let shape: Vec<usize> = entry.tensor.size().iter().map(|&size| size as usize).collect();
        let dtype = if entry.tensor.kind() == tch::Kind::Int64 { Dtype::I64 } else { Dtype::F32 };
        match blocks.get(&entry.name) {
            None if entry.name.ends_with(".num_batches_tracked") => {}
            None => missing.push(entry.name.clone()),
            Some(block) if block.shape == shape && block.dtype == dtype => {}
            Some(block) => misshapen.push(format!(
                "{} ({:?} {:?}, expected {dtype:?} {shape:?})",
                entry.name, block.dtype, block.shape
            )),
        }
    }
    let known = |name: &String| own.iter().any(|entry| entry.name == *name);
    let unexpected: Vec<String> = blocks.keys().filter(|name| !known(name)).cloned().collect();
    [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| {
            let more = names.len().saturating_sub(LISTED_MAX);
            let listed = names[..names.len() - more].join(", ");
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{what}: {listed}{rest}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use reelflow_api::pretext::Head;
    use reelflow_api::rng::Key;
    use tch::Device;

    use super::*;
    use crate::bank::sealed::Block;
    use crate::train::encoder::EncoderSettings;
    use crate::train::network::Network;

    fn network(seed: u64) -> Network {
        let settings: EncoderSettings = toml::from_str("name = \"r3d\"\nwidth = 2").unwrap();
        let head = Head { name: "embedding", dim: 4, hidden: None, unit: true, dropout: 0.0 };
        Network::new(&settings.architecture(), &[head], Key::new(seed), Device::Cpu)
    }

    /// Loads what `change` makes of a network's tensors; what was refused, and whether anything changed.
    fn loaded(change: impl Fn(&mut Blocks)) -> (Option<String>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let mut blocks = network(1).store.blocks().unwrap();
        change(&mut blocks);
        std::fs::write(&path, sealed::to_safetensors("", &blocks).unwrap()).unwrap();
        let other = network(2);
        let before = other.store.blocks().unwrap();
        let refused = load(&other.store, &path).err().map(|error| {
            assert_eq!(error.code, 78);
            error.to_string()
        });
        let after = other.store.blocks().unwrap();
        for (name, block) in &after {
            let head = name.starts_with(HEADS);
            assert!(!head || *block == before[name], "{name}: heads stay");
            assert!(
                refused.is_some() || head || *block == network(1).store.blocks().unwrap()[name],
                "{name}"
            );
        }
        (refused, after != before)
    }

    #[test]
    fn an_encoder_is_taken_and_classifiers_heads_and_counters_do_not_matter() {
        assert_eq!(loaded(|_| ()), (None, true));
        let with_classifier = |blocks: &mut Blocks| {
            blocks.insert("fc.weight".to_owned(), Block::f32(&[1], &[0.0]));
            blocks.retain(|name, _| !name.ends_with("num_batches_tracked") && !name.starts_with(HEADS));
        };
        assert_eq!(loaded(with_classifier), (None, true));
    }

    #[test]
    fn all_that_differs_is_named_and_nothing_is_taken() {
        let (refused, changed) = loaded(|blocks| {
            let stem = blocks.remove("stem.0.weight").unwrap();
            blocks.insert("module.stem.0.weight".to_owned(), stem);
            blocks.insert("stem.1.bias".to_owned(), Block::f32(&[3], &[0.0; 3]));
        });
        let refused = refused.unwrap();
        for part in [
            "missing: stem.0.weight",
            "unexpected: module.stem.0.weight",
            "of another shape: stem.1.bias (F32 [3], expected F32 [2])",
            "weights.safetensors",
        ] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert!(!changed);
        let (refused, _) = loaded(Blocks::clear);
        assert!(refused.unwrap().contains(" more"));
    }

    #[test]
    fn a_folder_means_its_exported_encoder_or_its_one_network() {
        let dir = tempfile::tempdir().unwrap();
        let put = |place: &str| {
            let path = dir.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let blocks = network(1).store.blocks().unwrap();
            std::fs::write(&path, sealed::to_safetensors("", &blocks).unwrap()).unwrap();
            path
        };
        let refused = |place: &str| locate(&dir.path().join(place)).unwrap_err();
        assert!(refused("gone").starts_with("there is no file"));
        let network = put("step=00000004/train/query.safetensors");
        assert!(refused("").contains("neither"));
        assert_eq!(locate(&dir.path().join("step=00000004")), Ok(network.clone()));
        // The head in it is left out, as in a file.
        load(&self::network(2).store, &dir.path().join("step=00000004")).unwrap();
        let exported = put("exported/encoder.safetensors");
        assert_eq!(locate(dir.path()), Ok(exported.clone()));
        assert_eq!(locate(&dir.path().join("exported")), Ok(exported));
        put("step=00000004/other/query.safetensors");
        assert!(refused("step=00000004").contains("holds 2 networks; name one"));
    }

    #[test]
    fn another_file_at_the_same_place_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let write = |seed| {
            let blocks = network(seed).store.blocks().unwrap();
            std::fs::write(&path, sealed::to_safetensors("", &blocks).unwrap()).unwrap();
        };
        write(1);
        let source = load(&network(2).store, &path).unwrap();
        load_again(&network(2).store, &source).unwrap();
        write(3);
        assert!(
            load_again(&network(2).store, &source)
                .unwrap_err()
                .to_string()
                .contains("put the first file back")
        );
        assert!(load(&network(2).store, &dir.path().join("none")).is_err());
    }
}
