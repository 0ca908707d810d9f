//! Hashes every batch; two runs with equal digests saw equal batches. Needs no libtorch.

use reelflow_api::error::StageError;
use reelflow_api::item::{Batch, SlotInfo};
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Parts, Scalars, Sink, SinkContext, SinkPlan, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// How `digest` describes itself.
pub const SPEC: Spec = Spec {
    name: "digest",
    kind: Kind::Sink,
    summary: "Hashes every batch; equal digests mean equal batches.",
    accepts: &[Port::Batches],
    output: Output::Nothing,
    example: "",
    schema: schema_of::<DigestSettings>,
    build: |table| Ok(Stage::Sink(Box::new(read::<DigestSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct DigestSettings {
    /// What is hashed: `samples`, who sits in which slot and every pixel; `pixels`, the pixels alone, so that the same
    /// clips from another place (a replay and its archive, a file and its copy) have the same digest.
    #[serde(default)]
    of: Of,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    #[default]
    Samples,
    Pixels,
}

impl Settings for DigestSettings {}

impl SinkPlan for DigestSettings {
    fn has_state(&self) -> bool {
        true
    }

    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        Ok(Box::new(Digest { of: self.of, chain: 0 }))
    }
}

/// Each step's hash covers the one before, so one number stands for the whole run.
struct Digest {
    of: Of,
    chain: u128,
}

const PART: &str = "digest.txt";

impl Sink for Digest {
    fn consume(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        self.chain = chain(self.of, self.chain, batch);
        Ok(vec![("samples", samples(batch))])
    }

    fn save(&mut self) -> Result<Parts, StageError> {
        Ok(Parts::from([(PART.to_owned(), format!("{:032x}\n", self.chain).into_bytes())]))
    }

    fn restore(&mut self, parts: &Parts) -> Result<(), StageError> {
        self.chain = parts
            .get(PART)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| u128::from_str_radix(text.trim(), 16).ok())
            .ok_or_else(|| {
                StageError::storage("digest", format!("`{PART}` is missing or holds no digest"))
            })?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<String>, StageError> {
        Ok(vec![format!("digest {:032x}", self.chain)])
    }
}

/// Checksum of who was sampled, for the books: slots, attempts, segments, frames. 53 bits, which a number in JSON
/// holds exactly.
fn samples(batch: &Batch) -> f64 {
    let mut hash = Xxh3::new();
    batch.slots.iter().for_each(|slot| who(slot, &mut hash));
    (hash.digest() >> 11) as f64
}

fn who(slot: &SlotInfo, hash: &mut Xxh3) {
    hash.update(&slot.slot.to_le_bytes());
    hash.update(&slot.attempt.to_le_bytes());
    hash.update(&slot.segment.0.to_le_bytes());
    for frame in slot.frames.iter().flatten() {
        hash.update(&frame.to_le_bytes());
    }
}

/// Hash of the previous digest, the step, who sits where if that is asked for, and every pixel's bits.
fn chain(of: Of, before: u128, batch: &Batch) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&before.to_le_bytes());
    hash.update(&batch.step.to_le_bytes());
    if of == Of::Samples {
        batch.slots.iter().for_each(|slot| who(slot, &mut hash));
    }
    for view in &batch.views {
        hash.update(view.name.as_bytes());
        for size in view.shape {
            hash.update(&(size as u64).to_le_bytes());
        }
        hash.update(view.pixels.bytes());
    }
    hash.digest128()
}
