//! Takes batches and forgets them: measures how fast the data comes.

use reelflow_api::error::StageError;
use reelflow_api::item::Batch;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Scalars, Sink, SinkContext, SinkPlan, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `null` describes itself.
pub const SPEC: Spec = Spec {
    name: "null",
    kind: Kind::Sink,
    summary: "Takes batches and forgets them.",
    accepts: &[Port::Batches],
    output: Output::Nothing,
    example: "",
    schema: schema_of::<NullSettings>,
    build: |table| Ok(Stage::Sink(Box::new(read::<NullSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct NullSettings {
    /// Milliseconds to wait at each step, to stand in for a slow trainer.
    #[serde(default)]
    delay_ms: u64,
}

impl Settings for NullSettings {}

impl SinkPlan for NullSettings {
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        Ok(Box::new(Null { delay: std::time::Duration::from_millis(self.delay_ms) }))
    }
}

struct Null {
    delay: std::time::Duration,
}

impl Sink for Null {
    fn consume(&mut self, _: &Batch) -> Result<Scalars, StageError> {
        std::thread::sleep(self.delay);
        Ok(Scalars::new())
    }
}
