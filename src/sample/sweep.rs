//! Goes through every segment once with evenly spaced windows: what evaluation looks at.

use std::sync::Arc;

use reelflow_api::item::{Catalogue, ClipPlan, SamplePlan};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Place, Sampler, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window::{Pace, WindowSettings};

/// How `sweep` describes itself.
pub const SPEC: Spec = Spec {
    name: "sweep",
    kind: Kind::Operator,
    summary: "Goes through every segment once with evenly spaced windows: view `clip`.",
    accepts: &[Port::Segments],
    output: Output::Carries(Port::Clips),
    example: "clips = 10\nframes = 16\nstride = 2",
    schema: schema_of::<SweepSettings>,
    build: |table| Ok(Stage::Sampler(Box::new(read::<SweepSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct SweepSettings {
    /// Windows of each segment, centred at evenly spaced places between half a window from its start and
    /// half a window from its end; one window lies in the middle.
    #[serde(default = "clips")]
    #[schemars(range(min = 1, max = 10000))]
    clips: u32,
    #[serde(flatten)]
    window: WindowSettings,
    /// `forward`; or a control that takes the motion away: `middle_frame` repeats the window's middle
    /// frame, `shuffled` puts the frames in a random order.
    #[serde(default)]
    order: Order,
    /// Segments with fewer frames are left out as `too_short`.
    #[serde(default = "frames_min")]
    #[schemars(range(min = 1))]
    frames_min: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Forward,
    MiddleFrame,
    Shuffled,
}

fn clips() -> u32 {
    10
}

fn frames_min() -> u32 {
    1
}

impl Settings for SweepSettings {
    fn check(&self) -> Vec<Invalid> {
        self.window.check()
    }
}

impl Sampler for SweepSettings {
    fn views(&self) -> Vec<(Arc<str>, u32)> {
        vec![(Arc::from("clip"), self.window.frames)]
    }

    fn frames_min(&self) -> u32 {
        self.frames_min
    }

    fn samples(&self, catalogue: &Catalogue) -> Option<u64> {
        Some(catalogue.segments.len() as u64 * u64::from(self.clips))
    }

    /// Sample `i` is window `i % clips` of segment `i / clips`, in the catalogue's order. There is no second
    /// attempt: a window that cannot be decoded leaves its slot empty instead of being counted twice.
    fn plan(&self, catalogue: &Catalogue, place: Place, key: Key) -> Option<SamplePlan> {
        if place.attempt > 0 {
            return None;
        }
        let (segment, clip) =
            (place.ordinal() / u64::from(self.clips), place.ordinal() % u64::from(self.clips));
        let segment = catalogue.segments.get(usize::try_from(segment).ok()?)?;
        let frames = self.window(segment.times(), clip as u32, key.part("order").number(place.ordinal()));
        Some(SamplePlan {
            step: place.step,
            slot: place.slot,
            attempt: 0,
            segment: segment.clone(),
            clips: vec![ClipPlan { view: Arc::from("clip"), frames, given: None }],
        })
    }
}

impl SweepSettings {
    /// Frame numbers of window `clip` of a segment with these frame times.
    fn window(&self, times: &[u64], clip: u32, key: Key) -> Vec<u32> {
        let pace = self.window.pace();
        let mut frames = pace.window(times, self.start(pace, times, clip), self.window.frames);
        match self.order {
            Order::Forward => {}
            Order::MiddleFrame => frames = vec![frames[frames.len() / 2]; frames.len()],
            Order::Shuffled => key.rng().shuffle(&mut frames),
        }
        frames
    }

    /// Start of window `clip`: centres evenly spaced between `L/2` and `n - L/2` (METHODS 8) are starts
    /// evenly spaced between 0 and the last start from which the whole window fits.
    fn start(&self, pace: Pace, times: &[u64], clip: u32) -> u32 {
        let last = u64::from(pace.starts(times, self.window.frames) - 1);
        match u64::from(self.clips) {
            1 => (last / 2) as u32,
            // Rounded to the nearest frame.
            clips => ((2 * u64::from(clip) * last + clips - 1) / (2 * (clips - 1))) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::{build, catalogue, place};

    #[track_caller]
    fn starts(text: &str, n: u32, expected: &[u32]) {
        let sampler = build(&SPEC, text);
        let catalogue = catalogue(&[n]);
        let found: Vec<u32> = (0..)
            .map_while(|i| sampler.plan(&catalogue, place(i, 0, 1, 0), Key::new(1)))
            .map(|plan| plan.clips[0].frames[0])
            .collect();
        assert_eq!(found, expected);
        assert_eq!(sampler.samples(&catalogue), Some(expected.len() as u64));
    }

    #[test]
    fn windows_are_evenly_spaced_from_end_to_end() {
        // L = 16: centres 8 to 92, starts 0 to 84, 84/9 apart.
        starts("frames = 16\nstride = 1", 100, &[0, 9, 19, 28, 37, 47, 56, 65, 75, 84]);
        starts("clips = 1\nframes = 16\nstride = 1", 100, &[42]);
        starts("clips = 3\nframes = 16\nstride = 4", 164, &[0, 50, 100]);
        starts("clips = 3\nframes = 16\nstride_ms = 160.0", 164, &[0, 50, 100]);
        starts("clips = 3\nframes = 16\nstride = 4", 20, &[0, 0, 0]);
    }

    #[test]
    fn samples_go_segment_by_segment_and_end() {
        let sampler = build(&SPEC, "clips = 2\nframes = 4\nstride = 1");
        let catalogue = catalogue(&[10, 20, 30]);
        let ids: Vec<u64> = (0..8)
            .filter_map(|i| sampler.plan(&catalogue, place(i / 4, (i % 4) as u32, 4, 0), Key::new(1)))
            .map(|plan| plan.segment.id.0)
            .collect();
        assert_eq!(ids, [0, 0, 1, 1, 2, 2]);
        assert!(sampler.plan(&catalogue, place(0, 0, 4, 1), Key::new(1)).is_none());
    }

    #[test]
    fn controls_take_the_motion_away() {
        let frames = |order: &str| {
            let sampler = build(&SPEC, &format!("clips = 1\nframes = 8\nstride = 1\norder = '{order}'"));
            sampler.plan(&catalogue(&[8]), place(0, 0, 1, 0), Key::new(1)).unwrap().clips[0].frames.clone()
        };
        assert_eq!(frames("forward"), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frames("middle_frame"), [4; 8]);
        let mut shuffled = frames("shuffled");
        assert_ne!(shuffled, frames("forward"));
        shuffled.sort_unstable();
        assert_eq!(shuffled, frames("forward"));
    }
}
