//! Draws contact sheets of what the trainer would see: PNG files, one row a view.

use std::path::PathBuf;

use reelflow_api::error::StageError;
use reelflow_api::item::Batch;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Scalars, Sink, SinkContext, SinkPlan, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::steps::{MEAN, STD};
use crate::edge::files;
use crate::observe::contact_sheet::{Light, png};

/// How `preview` describes itself.
pub const SPEC: Spec = Spec {
    name: "preview",
    kind: Kind::Sink,
    summary: "Draws contact sheets of what the trainer would see, one row a view.",
    accepts: &[Port::Batches],
    output: Output::Nothing,
    example: "every = 100\nmax_sheets = 16\nmax_samples = 4",
    schema: schema_of::<PreviewSettings>,
    build: |table| Ok(Stage::Sink(Box::new(read::<PreviewSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct PreviewSettings {
    /// Steps from one sheet to the next; the first is drawn at step 0.
    #[serde(default = "every")]
    #[schemars(range(min = 1))]
    every: u64,
    /// Sheets of a run at most; later steps draw none.
    #[serde(default = "max_sheets")]
    #[schemars(range(min = 1))]
    max_sheets: u64,
    /// Slots on a sheet at most, the first ones of the batch.
    #[serde(default = "max_samples")]
    #[schemars(range(min = 1, max = 64))]
    max_samples: u32,
    /// Mean that `normalize` took off red, green, blue. Left out: none if all values lie within 0 to 1, else
    /// the default of `normalize`. Bytes are never normalised and shown as they are.
    #[serde(default)]
    mean: Option<[f32; 3]>,
    /// Standard deviation that `normalize` divided by; left out as for `mean`.
    #[serde(default)]
    std: Option<[f32; 3]>,
}

fn every() -> u64 {
    100
}

fn max_sheets() -> u64 {
    16
}

fn max_samples() -> u32 {
    4
}

impl Settings for PreviewSettings {}

impl SinkPlan for PreviewSettings {
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        let folder = context.run_dir.join("contact_sheets");
        files::make_dir(&folder)?;
        Ok(Box::new(Preview { settings: self.clone(), id: context.id, folder }))
    }
}

/// Keeps no count: which steps have a sheet follows from the step, so a resumed run draws the same ones.
struct Preview {
    settings: PreviewSettings,
    id: String,
    folder: PathBuf,
}

impl PreviewSettings {
    fn wants(&self, step: u64) -> bool {
        step.is_multiple_of(self.every) && step / self.every < self.max_sheets
    }

    /// How to show the values of this batch, the same way for all its views.
    fn light(&self, batch: &Batch) -> Light {
        let values = || batch.views.iter().flat_map(|view| view.pixels.values());
        let is_plain = values().all(|value| (0.0..=1.0).contains(&value));
        let (mean, std) = if is_plain { (Light::PLAIN.mean, Light::PLAIN.std) } else { (MEAN, STD) };
        Light { mean: self.mean.unwrap_or(mean), std: self.std.unwrap_or(std) }
    }
}

impl Sink for Preview {
    fn consume(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        if self.settings.wants(batch.step) {
            let light = self.settings.light(batch);
            let bytes = png(batch, self.settings.max_samples as usize, light)
                .map_err(|why| StageError::failed(self.id.as_str(), format!("cannot draw a sheet: {why}")))?;
            let name = format!("{}-{:08}.png", self.id, batch.step);
            files::write_atomic(&self.folder.join(name), &bytes)?;
        }
        Ok(Scalars::new())
    }

    fn finish(&mut self) -> Result<Vec<String>, StageError> {
        Ok(vec![format!("contact_sheets {}", self.folder.display())])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use reelflow_api::item::{SegmentId, SlotInfo, View};
    use reelflow_api::rng::Key;

    use super::*;

    fn settings(text: &str) -> PreviewSettings {
        toml::from_str(text).unwrap()
    }

    fn batch(step: u64, value: f32) -> Batch {
        let slot = SlotInfo { slot: 0, attempt: 0, segment: SegmentId(1), frames: vec![vec![0]] };
        let view = View {
            name: "clip".into(),
            shape: [3, 1, 4, 4],
            pixels: vec![value; 48].into(),
            normalize: None,
        };
        Batch { step, slots: vec![slot], views: vec![view] }
    }

    fn context(run_dir: &Path) -> SinkContext {
        SinkContext {
            id: "look".into(),
            run_dir: run_dir.into(),
            key: Key::new(1),
            steps: None,
            batch_size: 1,
            epoch_clips: None,
            views: Vec::new(),
            banks: BTreeMap::new(),
            labels: std::sync::Arc::default(),
            device: "cpu".into(),
            threads: 1,
        }
    }

    #[test]
    fn sheets_are_written_every_so_many_steps_up_to_a_limit() {
        let run_dir = tempfile::tempdir().unwrap();
        let mut sink = settings("every = 2\nmax_sheets = 3").open(context(run_dir.path())).unwrap();
        for step in 0..10 {
            sink.consume(&batch(step, 0.5)).unwrap();
        }
        let folder = run_dir.path().join("contact_sheets");
        let names: Vec<String> = files::list_dir(&folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["look-00000000.png", "look-00000002.png", "look-00000004.png"]);
        assert!(sink.finish().unwrap()[0].ends_with("contact_sheets"));
    }

    #[test]
    fn normalising_is_undone_only_where_it_was_done() {
        assert_eq!(settings("").light(&batch(0, 0.5)), Light::PLAIN);
        assert_eq!(settings("").light(&batch(0, -0.5)), Light { mean: MEAN, std: STD });
        let given = settings("mean = [0.0, 0.0, 0.0]\nstd = [2.0, 2.0, 2.0]").light(&batch(0, 0.5));
        assert_eq!(given, Light { mean: [0.0; 3], std: [2.0; 3] });
    }
}
