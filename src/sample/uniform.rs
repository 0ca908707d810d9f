//! Draws one window a sample anywhere in the segment.

use std::sync::Arc;

use reelflow_api::item::{Catalogue, ClipPlan, SamplePlan};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Place, Sampler, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::segment_at;
use super::window::WindowSettings;

/// How `uniform` describes itself.
pub const SPEC: Spec = Spec {
    name: "uniform",
    kind: Kind::Operator,
    summary: "Draws one window a sample anywhere in a segment: view `clip`.",
    accepts: &[Port::Segments],
    output: Output::Carries(Port::Clips),
    example: "frames = 16\nstride_ms = 80.0",
    schema: schema_of::<UniformSettings>,
    build: |table| Ok(Stage::Sampler(Box::new(read::<UniformSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct UniformSettings {
    #[serde(flatten)]
    window: WindowSettings,
    /// Strides to leave after the start where the segment is long enough; `frames` if not given. A shorter
    /// segment starts at its first frame and goes on from there when it ends.
    #[serde(default)]
    span: Option<u32>,
    /// Segments with fewer frames are left out as `too_short`.
    #[serde(default = "frames_min")]
    #[schemars(range(min = 1))]
    frames_min: u32,
}

fn frames_min() -> u32 {
    1
}

impl Settings for UniformSettings {
    fn check(&self) -> Vec<Invalid> {
        self.window.check()
    }
}

impl Sampler for UniformSettings {
    fn views(&self) -> Vec<(Arc<str>, u32)> {
        vec![(Arc::from("clip"), self.window.frames)]
    }

    fn frames_min(&self) -> u32 {
        self.frames_min
    }

    fn samples(&self, _: &Catalogue) -> Option<u64> {
        None
    }

    fn plan(&self, catalogue: &Catalogue, place: Place, key: Key) -> Option<SamplePlan> {
        let segment = &catalogue.segments[segment_at(catalogue.segments.len(), place, key)?];
        let mut rng = key
            .part("window")
            .number(place.step)
            .number(place.slot.into())
            .number(place.attempt.into())
            .rng();
        let pace = self.window.pace();
        let starts = pace.starts(segment.times(), self.span.unwrap_or(self.window.frames));
        let start = rng.below(starts.into()) as u32;
        let frames = pace.window(segment.times(), start, self.window.frames);
        Some(SamplePlan {
            step: place.step,
            slot: place.slot,
            attempt: place.attempt,
            segment: segment.clone(),
            clips: vec![ClipPlan { view: Arc::from("clip"), frames, given: None }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::{build, catalogue, place, refused};

    #[test]
    fn every_start_that_fits_is_drawn_and_no_other() {
        let sampler = build(&SPEC, "frames = 4\nstride = 2");
        let catalogue = catalogue(&[13]);
        let mut starts = [0u32; 13];
        for step in 0..600 {
            let plan = sampler.plan(&catalogue, place(step, 0, 1, 0), Key::new(1)).unwrap();
            let frames = &plan.clips[0].frames;
            assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 2), "{frames:?}");
            starts[frames[0] as usize] += 1;
        }
        assert!(starts[..=5].iter().all(|&n| n > 60), "{starts:?}");
        assert_eq!(starts[6..].iter().sum::<u32>(), 0, "{starts:?}");
    }

    #[test]
    fn span_leaves_more_room() {
        let sampler = build(&SPEC, "frames = 4\nstride = 1\nspan = 13");
        let catalogue = catalogue(&[13]);
        for step in 0..20 {
            let plan = sampler.plan(&catalogue, place(step, 0, 1, 0), Key::new(1)).unwrap();
            assert_eq!(plan.clips[0].frames, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn the_example_builds_and_nonsense_does_not() {
        assert_eq!(build(&SPEC, SPEC.example).views(), [(Arc::from("clip"), 16)]);
        assert_eq!(refused::<UniformSettings>("stride = 0").len(), 1);
    }
}
