//! Cuts a window out of a segment: frame numbers from a start, a pace and a length.
//!
//! Inside this folder frames count from 0, as in `ClipPlan`. The rules of METHODS count from 1; the tests
//! compare with their lists.

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Frames from one picked frame to the next when neither `stride` nor `stride_ms` is given (VTDL).
pub const STRIDE: u32 = 4;

/// What every sampler that cuts windows by itself is told. Flattened into its settings: each number needs a range here,
/// as what only serde finds wrong in a flattened table has lost its place.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct WindowSettings {
    /// Frames of each window.
    #[serde(default = "frames")]
    #[schemars(range(min = 1, max = 4096))]
    pub frames: u32,
    /// Frames from one picked frame to the next; 4 if `stride_ms` is not given either.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    stride: Option<u32>,
    /// Milliseconds of presentation time from one picked frame to the next (the nearest frame is taken),
    /// instead of `stride`: the same speed at any frame rate.
    #[serde(default)]
    stride_ms: Option<f64>,
}

fn frames() -> u32 {
    16
}

impl WindowSettings {
    /// How far one picked frame is from the next.
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace::new(self.stride, self.stride_ms)
    }

    /// What is wrong with the settings.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        check(self.stride, self.stride_ms)
    }
}

/// How far one picked frame is from the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// So many frames, whatever their times.
    Frames(u32),
    /// So many nanoseconds of presentation time: the same speed at any and at varying frame rate.
    Nanos(u64),
}

impl Pace {
    /// The pace that `stride` (frames) and `stride_ms` (milliseconds) ask for; see [`check`].
    #[must_use]
    pub fn new(stride: Option<u32>, stride_ms: Option<f64>) -> Self {
        match stride_ms {
            Some(ms) => Self::Nanos((ms * 1e6).round().max(1.0) as u64),
            None => Self::Frames(stride.unwrap_or(STRIDE).max(1)),
        }
    }

    /// How many frames are a possible start: those from which `strides` strides fit into the segment,
    /// at least the first frame.
    #[must_use]
    pub fn starts(self, times: &[u64], strides: u32) -> u32 {
        let n = times.len() as u32;
        match self {
            Self::Frames(stride) => n.saturating_sub(stride.saturating_mul(strides)) + 1,
            Self::Nanos(stride) => {
                // The last frame is shown for one mean gap; half a gap forgives rounded times.
                let gap = gap(times);
                let end = times.last().copied().unwrap_or(0) + gap + gap / 2;
                let length = stride.saturating_mul(strides.into());
                (times.partition_point(|&time| time.saturating_add(length) <= end) as u32).max(1)
            }
        }
        .min(n.max(1))
    }

    /// Frame numbers of a window of `frames` frames from `start`; past the end it goes on from frame 0.
    ///
    /// By time the frame nearest to each moment is taken, the earlier of two equally near: rounded
    /// times (33 ms, 67 ms, 100 ms) then pick the same frames as exact ones, which "at or before" would not.
    #[must_use]
    pub fn window(self, times: &[u64], start: u32, frames: u32) -> Vec<u32> {
        match self {
            Self::Frames(stride) => {
                let n = times.len() as u32;
                let next = |&at: &u32| Some(at.checked_add(stride).filter(|&to| to < n).unwrap_or(0));
                std::iter::successors(Some(start), next).take(frames as usize).collect()
            }
            Self::Nanos(stride) => {
                let first = times[0];
                let last = times[times.len() - 1] + gap(times) / 2;
                let next = |&at: &u64| Some(at.checked_add(stride).filter(|&to| to <= last).unwrap_or(first));
                std::iter::successors(Some(times[start as usize]), next)
                    .take(frames as usize)
                    .map(|moment| nearest(times, moment))
                    .collect()
            }
        }
    }
}

/// What is wrong with a stride given in frames, in milliseconds or in both.
#[must_use]
pub fn check(stride: Option<u32>, stride_ms: Option<f64>) -> Vec<Invalid> {
    let mut found = Vec::new();
    if let (Some(stride), Some(ms)) = (stride, stride_ms) {
        found.push(
            Invalid::new("stride_ms", format!("{ms} contradicts `stride = {stride}`"))
                .help("keep `stride` (frames) or `stride_ms` (presentation time), not both"),
        );
    }
    if let Some(ms) = stride_ms.filter(|ms| !(ms.is_finite() && (0.001..=3.6e6).contains(ms))) {
        found.push(Invalid::new("stride_ms", format!("{ms} is out of range, expected 0.001 to 3600000")));
    }
    if stride == Some(0) {
        found.push(Invalid::new("stride", "0 would repeat one frame").help("use 1 for neighbouring frames"));
    }
    found
}

/// Mean time from frame to frame, nanoseconds; 0 for one frame.
fn gap(times: &[u64]) -> u64 {
    match times {
        [first, .., last] => (last - first) / (times.len() as u64 - 1),
        _ => 0,
    }
}

/// Number of the frame nearest to `moment`, the earlier of two.
fn nearest(times: &[u64], moment: u64) -> u32 {
    let after = times.partition_point(|&time| time < moment);
    if after == times.len() {
        return after as u32 - 1;
    }
    let is_before = after > 0 && moment - times[after - 1] <= times[after] - moment;
    if is_before { after as u32 - 1 } else { after as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::steady;

    /// Window of 16 frames with stride 4, all counted from 1 as METHODS 1.3 does.
    #[track_caller]
    fn check_from_one(n: u32, start: u32, expected: &[u32]) {
        for pace in [Pace::Frames(4), Pace::Nanos(160_000_000)] {
            let found: Vec<u32> =
                pace.window(&steady(n), start - 1, 16).into_iter().map(|frame| frame + 1).collect();
            assert_eq!(found, expected, "{pace:?}, n={n}, start {start}");
        }
    }

    #[test]
    fn windows_match_the_worked_examples() {
        check_from_one(100, 1, &[1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61]);
        check_from_one(50, 1, &[1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 1, 5, 9]);
        check_from_one(100, 34, &[34, 38, 42, 46, 50, 54, 58, 62, 66, 70, 74, 78, 82, 86, 90, 94]);
        check_from_one(60, 21, &[21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 1, 5, 9, 13, 17, 21]);
    }

    #[test]
    fn starts_leave_room_for_the_window() {
        for (n, expected) in [(1, 1), (127, 1), (128, 1), (129, 2), (300, 173)] {
            assert_eq!(Pace::Frames(4).starts(&steady(n), 32), expected, "{n} frames");
            assert_eq!(Pace::Nanos(160_000_000).starts(&steady(n), 32), expected, "{n} frames by time");
        }
    }

    #[test]
    fn variable_rate_keeps_the_speed() {
        // 10 frames a second for a second, then 50 frames a second.
        let ms: Vec<u64> = (0..10).map(|i| i * 100).chain((0..50).map(|i| 1000 + i * 20)).collect();
        let times: Vec<u64> = ms.iter().map(|t| t * 1_000_000).collect();
        let picked = Pace::Nanos(200_000_000).window(&times, 4, 6);
        let moments: Vec<u64> = picked.iter().map(|&i| ms[i as usize]).collect();
        assert_eq!(moments, [400, 600, 800, 1000, 1200, 1400]);
    }

    #[test]
    fn rounded_times_pick_the_same_frames() {
        let exact: Vec<u64> = (0..90).map(|i| i * 1_000_000_000 / 30).collect();
        let rounded: Vec<u64> = (0..90).map(|i| (i * 1000 + 15) / 30 * 1_000_000).collect();
        let pace = Pace::new(None, Some(100.0));
        assert_eq!(pace.window(&exact, 0, 20), pace.window(&rounded, 0, 20));
        assert_eq!(pace.window(&rounded, 0, 20)[..4], [0, 3, 6, 9]);
    }

    #[test]
    fn two_strides_are_a_contradiction() {
        assert!(check(Some(4), None).is_empty());
        assert!(check(None, Some(40.0)).is_empty());
        assert_eq!(check(Some(4), Some(40.0)).len(), 1);
        assert_eq!(check(None, Some(0.0)).len(), 1);
        assert_eq!(check(Some(0), None).len(), 1);
    }
}
