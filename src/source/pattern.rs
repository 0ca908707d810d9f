//! Media that are computed, not stored: textures travelling in known directions. Needs no files.

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Media, Origin};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Candidate, Listing, OnError, Source, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::pattern::{DIRECTIONS, media};

/// How `pattern` describes itself.
pub const SPEC: Spec = Spec {
    name: "pattern",
    kind: Kind::Source,
    summary: "Computed media with known content; needs no files.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "media = 8\nframes = 32",
    schema: schema_of::<PatternSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<PatternSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct PatternSettings {
    /// How many media there are.
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 1_000_000))]
    media: u32,
    /// Frames of each.
    #[serde(default = "frames")]
    #[schemars(range(min = 1, max = 1_000_000))]
    frames: u32,
    /// Width in pixels.
    #[serde(default = "width")]
    #[schemars(range(min = 2, max = 4096))]
    width: u32,
    /// Height in pixels.
    #[serde(default = "height")]
    #[schemars(range(min = 2, max = 4096))]
    height: u32,
    /// Mean frames per second.
    #[serde(default = "fps")]
    #[schemars(range(min = 0.1, max = 1000.0))]
    fps: f64,
    /// Share of the frame interval by which frames come late at random; above 0 the frame rate varies.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.9))]
    variable: f64,
    /// `none`, or `direction`: the class is the direction of travel; every fourth run of eight media is
    /// the split `test`, the rest `train`.
    #[serde(default)]
    labels: PatternLabels,
    /// Seconds of the pieces a longer medium is cut into; whole media if not given.
    #[serde(default)]
    #[schemars(range(min = 0.01, max = 1e6))]
    segment_secs: Option<f64>,
}

/// Where the classes of patterns come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum PatternLabels {
    /// No classes.
    #[default]
    None,
    /// The direction of travel.
    Direction,
}

fn count() -> u32 {
    8
}

fn frames() -> u32 {
    64
}

fn width() -> u32 {
    64
}

fn height() -> u32 {
    48
}

fn fps() -> f64 {
    25.0
}

impl Settings for PatternSettings {}

impl Source for PatternSettings {
    fn list(&self) -> Result<Listing, StageError> {
        let labelled = self.labels == PatternLabels::Direction;
        let runs = DIRECTIONS.len() as u32;
        let candidates = (0..self.media)
            .map(|number| Candidate {
                origin: Origin::Pattern { number },
                label: labelled.then(|| Arc::from(DIRECTIONS[(number % runs) as usize].0)),
                group: None,
                split: labelled.then(|| Arc::from(if number / runs % 4 == 3 { "test" } else { "train" })),
                span_secs: None,
            })
            .collect();
        Ok(Listing { candidates, skipped: Vec::new() })
    }

    fn segment_secs(&self) -> Option<f64> {
        self.segment_secs
    }

    fn on_error(&self) -> OnError {
        OnError::Fail
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        let Origin::Pattern { number } = origin else { return None };
        let interval = 1e9 / self.fps;
        let mut rng = Key::new(u64::from(*number)).part("times").rng();
        let times = (0..self.frames)
            .map(|frame| {
                // Late by less than an interval: times stay strictly increasing; the first is 0.
                let late = if frame == 0 { 0.0 } else { self.variable * rng.unit() };
                ((f64::from(frame) + late) * interval).round() as u64
            })
            .collect();
        Some(media(*number, self.width, self.height, times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PatternSettings {
        PatternSettings {
            media: 33,
            frames: 50,
            width: 20,
            height: 10,
            fps: 10.0,
            variable: 0.0,
            labels: PatternLabels::Direction,
            segment_secs: None,
        }
    }

    #[test]
    fn labels_are_directions_and_every_fourth_run_is_test() {
        let listing = settings().list().unwrap();
        assert_eq!(listing.candidates.len(), 33);
        assert_eq!(listing.candidates[9].label.as_deref(), Some("left"));
        assert_eq!(listing.candidates[23].split.as_deref(), Some("train"));
        assert_eq!(listing.candidates[24].split.as_deref(), Some("test"));
        assert_eq!(listing.candidates[32].split.as_deref(), Some("train"));
    }

    #[test]
    fn times_follow_the_frame_rate_and_stay_increasing_when_it_varies() {
        let even = settings().describe(&Origin::Pattern { number: 1 }).unwrap();
        assert_eq!(even.times[..3], [0, 100_000_000, 200_000_000]);
        let varied = PatternSettings { variable: 0.9, ..settings() };
        let one = varied.describe(&Origin::Pattern { number: 1 }).unwrap();
        let two = varied.describe(&Origin::Pattern { number: 2 }).unwrap();
        assert!(one.times.windows(2).all(|pair| pair[0] < pair[1]));
        assert_ne!(one.times, two.times);
        assert_ne!(one.times, even.times);
    }
}
