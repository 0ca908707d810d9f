//! Draws anchor, positive and negative windows of one segment: the triplets of VTDL.
//!
//! Anchor and positive are the same frames; they differ only by what `augment` draws for each. The
//! negative is another window of the same segment, or the same one in another order.

use std::sync::Arc;

use reelflow_api::item::{Catalogue, ClipPlan, SamplePlan};
use reelflow_api::rng::{Key, Rng};
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Place, Sampler, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::segment_at;
use super::window::{Pace, WindowSettings};

/// How `triplet` describes itself.
pub const SPEC: Spec = Spec {
    name: "triplet",
    kind: Kind::Operator,
    summary: "Draws anchor, positive (same frames) and negative (other frames or another order) of one segment.",
    accepts: &[Port::Segments],
    output: Output::Carries(Port::Clips),
    example: "frames = 16\nstride = 4\nnegative = \"disjoint\"",
    schema: schema_of::<TripletSettings>,
    build: |table| Ok(Stage::Sampler(Box::new(read::<TripletSettings>(table)?))),
};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct TripletSettings {
    #[serde(flatten)]
    window: WindowSettings,
    /// Where windows may start: `vtdl` leaves 32 strides after the start where the segment is long
    /// enough, as the released code does; `fit` leaves just the window.
    #[serde(default)]
    rule: Rule,
    /// Where the negative lies: `vtdl` starts at least 2 frames from the anchor and may overlap it, as the
    /// released code does; `disjoint` shares no frame and no moment with the anchor where the segment is
    /// at least two windows long, and follows `vtdl` where it is shorter.
    #[serde(default)]
    negative: Negative,
    /// Segments with fewer frames are left out as `too_short`. Below 6 the negative can fall on the anchor.
    #[serde(default = "frames_min")]
    #[schemars(range(min = 1))]
    frames_min: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    #[default]
    Vtdl,
    Fit,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Negative {
    #[default]
    Vtdl,
    Disjoint,
    Reversed,
    Shuffled,
}

fn frames_min() -> u32 {
    6
}

/// Strides that the released sampler leaves after a start, whatever the window's length (METHODS 1.3).
const VTDL_STRIDES: u32 = 32;

impl Settings for TripletSettings {
    fn check(&self) -> Vec<Invalid> {
        self.window.check()
    }
}

impl Sampler for TripletSettings {
    fn views(&self) -> Vec<(Arc<str>, u32)> {
        ["anchor", "positive", "negative"].map(|name| (Arc::from(name), self.window.frames)).to_vec()
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
        let (anchor, negative) = self.windows(segment.times(), &mut rng);
        let clip = |view: &str, frames| ClipPlan { view: Arc::from(view), frames, given: None };
        Some(SamplePlan {
            step: place.step,
            slot: place.slot,
            attempt: place.attempt,
            segment: segment.clone(),
            clips: vec![clip("anchor", anchor.clone()), clip("positive", anchor), clip("negative", negative)],
        })
    }
}

impl TripletSettings {
    /// Frame numbers of anchor and negative in a segment with these frame times.
    fn windows(&self, times: &[u64], rng: &mut Rng) -> (Vec<u32>, Vec<u32>) {
        let pace = self.window.pace();
        if self.negative == Negative::Disjoint
            && let Some(pair) = disjoint(pace, times, self.window.frames, rng)
        {
            return pair;
        }
        let strides = match self.rule {
            Rule::Vtdl => VTDL_STRIDES,
            Rule::Fit => self.window.frames,
        };
        let starts = u64::from(pace.starts(times, strides));
        let window = |start| pace.window(times, start, self.window.frames);
        let start = rng.below(starts) as u32;
        let anchor = window(start);
        let negative = match self.negative {
            Negative::Vtdl | Negative::Disjoint => {
                window(apart(times.len() as u32, start, rng.below(starts) as u32))
            }
            Negative::Reversed => anchor.iter().rev().copied().collect(),
            Negative::Shuffled => shuffled(&anchor, rng),
        };
        (anchor, negative)
    }
}

/// Moves a negative start (counted from 0) that is fewer than 2 frames from the anchor's a third of the
/// segment on (METHODS 1.3).
///
/// Written counting from 1 like its source: `s_n = (s_n + n/3) mod n`, and 1 where that gives 0.
fn apart(n: u32, anchor: u32, negative: u32) -> u32 {
    if anchor.abs_diff(negative) >= 2 {
        return negative;
    }
    let from_one = (negative + 1 + n / 3) % n;
    from_one.max(1) - 1
}

/// The frames in a random order that is not their own, unless there is no other.
fn shuffled(frames: &[u32], rng: &mut Rng) -> Vec<u32> {
    let has_another = frames.iter().any(|frame| *frame != frames[0]);
    let mut all = frames.to_vec();
    rng.shuffle(&mut all);
    while has_another && all == frames {
        rng.shuffle(&mut all);
    }
    all
}

/// Two windows that share no moment, either one first; `None` if the segment is too short for two.
fn disjoint(pace: Pace, times: &[u64], frames: u32, rng: &mut Rng) -> Option<(Vec<u32>, Vec<u32>)> {
    let starts = pace.starts(times, frames.saturating_mul(2));
    let strides_fit = pace.window(times, 0, frames.saturating_mul(2));
    // A window that wraps is not increasing: then two do not fit.
    if !strides_fit.is_sorted_by(|a, b| a < b) {
        return None;
    }
    // `starts` places for the pair as a whole; the slack is split before and between the two.
    let (u, v) = (rng.below(starts.into()) as u32, rng.below(starts.into()) as u32);
    let anchor_first = rng.chance(0.5);
    let first = pace.window(times, u.min(v), frames);
    let joined = pace.window(times, u.max(v), frames.saturating_mul(2));
    let second = joined[frames as usize..].to_vec();
    let is_apart = first.last() < second.first() && second.is_sorted_by(|a, b| a < b);
    match (is_apart, anchor_first) {
        (false, _) => None,
        (true, true) => Some((first, second)),
        (true, false) => Some((second, first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::{build, catalogue, place, refused, segment, steady};

    fn settings(text: &str) -> TripletSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn anchor_and_positive_are_the_same_frames() {
        let sampler = build(&SPEC, SPEC.example);
        let catalogue = catalogue(&[40, 150, 400]);
        for step in 0..50 {
            let plan = sampler.plan(&catalogue, place(step, 1, 2, 0), Key::new(1)).unwrap();
            assert_eq!(plan.clips[0].frames, plan.clips[1].frames);
            assert_ne!(plan.clips[0].frames, plan.clips[2].frames);
            let views: Vec<&str> = plan.clips.iter().map(|clip| &*clip.view).collect();
            assert_eq!(views, ["anchor", "positive", "negative"]);
            assert!(plan.clips.iter().all(|clip| clip.frames.len() == 16));
        }
    }

    #[test]
    fn the_negative_of_a_short_segment_starts_a_third_in() {
        // n <= 128: both starts are 1, so the negative starts at (1 + n/3) mod n, counted from 1.
        for n in 6..=128 {
            let (anchor, negative) = settings("").windows(&steady(n), &mut Key::new(n.into()).rng());
            assert_eq!((anchor[0] + 1, negative[0] + 1), (1, (1 + n / 3) % n), "{n} frames");
        }
        let (_, negative) = settings("").windows(&steady(100), &mut Key::new(1).rng());
        assert_eq!((negative[0] + 1, negative[1] + 1, negative[15] + 1), (34, 38, 94));
    }

    #[test]
    fn starts_are_two_frames_apart_from_six_frames_on() {
        for n in 6u32..=700 {
            let starts = n.saturating_sub(128) + 1;
            for anchor in 0..starts {
                // Further away nothing is moved, so these are all the cases there are.
                for negative in anchor.saturating_sub(2)..(anchor + 3).min(starts) {
                    let moved = apart(n, anchor, negative);
                    assert!(moved < n, "n={n} anchor={anchor} negative={negative}: {moved} is outside");
                    assert!(
                        anchor.abs_diff(moved) >= 2,
                        "n={n} anchor={anchor} negative={negative}: {moved}"
                    );
                }
            }
        }
    }

    #[test]
    fn degenerate_segments_behave_as_documented() {
        assert_eq!(apart(1, 0, 0), 0, "one frame: negative equals anchor");
        assert_eq!(apart(2, 0, 0), 0, "two frames: a third of two is nothing");
        for n in 1..=5 {
            assert!(apart(n, 0, 0) < 2, "{n} frames cannot be two apart");
        }
    }

    #[test]
    fn every_frame_is_inside_for_every_length() {
        for text in [
            "",
            "negative = 'disjoint'",
            "negative = 'shuffled'",
            "rule = 'fit'",
            "stride_ms = 130.0",
            "frames = 5\nstride = 1",
        ] {
            let settings = settings(text);
            for n in 1..=700 {
                let (anchor, negative) = settings.windows(&steady(n), &mut Key::new(n.into()).rng());
                let all = anchor.iter().chain(&negative);
                assert!(all.clone().all(|&frame| frame < n), "{text}: {n} frames, {all:?}");
            }
        }
    }

    #[test]
    fn disjoint_windows_share_no_moment_where_two_fit() {
        for (text, span) in [("stride = 4", 64), ("stride_ms = 160.0", 64), ("frames = 8\nstride = 2", 16)] {
            let settings = settings(&format!("negative = 'disjoint'\n{text}"));
            let (mut anchor_first, mut checked) = (0, 0);
            for n in 2 * span..700 {
                let (anchor, negative) = settings.windows(&steady(n), &mut Key::new(n.into()).rng());
                let ends = |frames: &[u32]| (*frames.iter().min().unwrap(), *frames.iter().max().unwrap());
                let (a, b) = (ends(&anchor), ends(&negative));
                assert!(a.1 < b.0 || b.1 < a.0, "{text}, {n} frames: {anchor:?} and {negative:?}");
                anchor_first += u32::from(a.1 < b.0);
                checked += 1;
            }
            assert!(
                anchor_first > checked / 3 && anchor_first < checked * 2 / 3,
                "{anchor_first} of {checked}"
            );
        }
    }

    #[test]
    fn a_reversed_negative_is_the_anchor_played_backwards() {
        let settings = settings("negative = 'reversed'\nrule = 'fit'");
        for seed in 0..50 {
            let (mut anchor, negative) = settings.windows(&steady(300), &mut Key::new(seed).rng());
            assert!(anchor.is_sorted());
            anchor.reverse();
            assert_eq!(negative, anchor);
        }
    }

    #[test]
    fn a_shuffled_negative_has_the_anchors_frames_in_another_order() {
        for frames in [1, 2, 16] {
            let settings = settings(&format!("negative = 'shuffled'\nrule = 'fit'\nframes = {frames}"));
            for seed in 0..50 {
                let (anchor, mut negative) = settings.windows(&steady(300), &mut Key::new(seed).rng());
                assert!(anchor.is_sorted());
                assert_eq!(negative != anchor, frames > 1, "{frames} frames: {negative:?}");
                negative.sort_unstable();
                assert_eq!(negative, anchor);
            }
        }
        // A segment of one frame has no other order.
        let (anchor, negative) =
            settings("negative = 'shuffled'").windows(&steady(1), &mut Key::new(1).rng());
        assert_eq!(anchor, negative);
    }

    #[test]
    fn the_same_place_has_the_same_plan_and_other_places_others() {
        let sampler = build(&SPEC, "");
        let catalogue = catalogue(&[300; 4]);
        let frames = |step, slot, attempt| {
            let plan = sampler.plan(&catalogue, place(step, slot, 8, attempt), Key::new(5)).unwrap();
            (plan.segment.id, plan.clips)
        };
        assert_eq!(frames(3, 2, 0), frames(3, 2, 0));
        assert_ne!(frames(3, 2, 0), frames(3, 3, 0));
        assert_ne!(frames(3, 2, 0), frames(4, 2, 0));
        assert_ne!(frames(3, 2, 0).0, frames(3, 2, 1).0);
    }

    #[test]
    fn windows_of_a_variable_rate_segment_keep_their_pace() {
        let times: Vec<u64> = (0..300u64).map(|i| i * 33_000_000 + i % 3 * 9_000_000).collect();
        let sampler = build(&SPEC, "stride_ms = 100.0\nframes = 8");
        let catalogue = Catalogue { segments: vec![segment(0, times.clone())], version: 1 };
        let plan = sampler.plan(&catalogue, place(0, 0, 1, 0), Key::new(3)).unwrap();
        for clip in &plan.clips {
            let start = times[clip.frames[0] as usize];
            for (k, &frame) in clip.frames.iter().enumerate() {
                let off = times[frame as usize].abs_diff(start + k as u64 * 100_000_000);
                assert!(off <= 21_000_000, "frame {frame} is {off} ns off");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let found = refused::<TripletSettings>("stride = 4\nstride_ms = 40.0\nframes = 0");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(build(&SPEC, "").plan(&catalogue(&[]), place(0, 0, 1, 0), Key::new(1)).is_none());
    }
}
