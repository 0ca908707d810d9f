//! What all live sources have in common: how streams are cut, how much is kept, how long a camera may be away.

use std::time::Duration;

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cutter::{Rules, Timing};
use super::drive::Manner;

/// What happens to segments when memory is full.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overload {
    /// The oldest segment goes, whether it was used or not; counted.
    DropOldest,
    /// The source waits until a segment was used. Only where it can: `replay`, `test`.
    Block,
}

/// The settings that [`live_settings!`](super::live_settings) adds, by value.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Length of a segment, seconds.
    pub segment_secs: f64,
    /// Fewest frames of a segment.
    pub frames_min: u32,
    /// Memory, MiB.
    pub keep_mb: u64,
    /// What happens when it is full; the source's habit if not given.
    pub overload: Option<Overload>,
    /// Longest silence, seconds.
    pub stall_secs: f64,
    /// Longest absence, seconds.
    pub give_up_secs: Option<f64>,
    /// Most frames a second.
    pub max_fps: Option<f64>,
    /// Segments before the first step.
    pub start_after: u64,
}

/// What kind of source it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nature {
    /// It goes on whether anybody looks or not.
    Camera,
    /// It can be held up, ends, and is not connected again. Full memory makes it wait if `waits`.
    Tape {
        /// Whether it waits unless told otherwise.
        waits: bool,
    },
}

impl Keep {
    /// As the feed's thread reads it.
    #[must_use]
    pub fn manner(&self, nature: Nature) -> Manner {
        let bytes_max = self.keep_mb << 20;
        let habit = match nature {
            Nature::Tape { waits: true } => Overload::Block,
            _ => Overload::DropOldest,
        };
        let is_camera = nature == Nature::Camera;
        let rules = Rules {
            segment: ((self.segment_secs * 1e9).round() as u64).max(1),
            frames_min: self.frames_min,
            // Half, so that a whole segment stays while the next one is filled.
            bytes_max: bytes_max / 2,
            max_fps: self.max_fps,
            timing: if is_camera { Timing::Arrival } else { Timing::Media },
        };
        let secs = Duration::from_secs_f64;
        Manner {
            rules,
            bytes_max,
            overload: self.overload.unwrap_or(habit),
            start_after: self.start_after,
            stall: is_camera.then(|| secs(self.stall_secs)),
            give_up: self.give_up_secs.filter(|_| is_camera).map(secs),
            can_wait: !is_camera,
        }
    }

    /// What no type can say.
    #[must_use]
    pub fn check(&self, nature: Nature) -> Vec<Invalid> {
        let mut found = Vec::new();
        if nature == Nature::Camera && self.overload == Some(Overload::Block) {
            let message = "a camera does not wait, so `block` cannot be kept";
            found.push(Invalid::new("overload", message).help("overload = \"drop_oldest\""));
        }
        if let Some(limit) = self.give_up_secs.filter(|limit| *limit < self.stall_secs) {
            let message = format!("{limit} s is less than `stall_secs`, {} s", self.stall_secs);
            found.push(Invalid::new("give_up_secs", message).help("give up later than a stall is noticed"));
        }
        found
    }
}

/// Defaults, as serde wants them.
pub mod defaults {
    /// Long enough for a window of 16 frames with a stride of 4 at 25 frames a second, and for two.
    #[must_use]
    pub fn segment_secs() -> f64 {
        6.0
    }

    /// A window of most encoders.
    #[must_use]
    pub fn frames_min() -> u32 {
        16
    }

    /// Three minutes of 320x240 at 25 frames a second.
    #[must_use]
    pub fn keep_mb() -> u64 {
        512
    }

    /// So that a frozen camera is seen as such within ten seconds of its last frame.
    #[must_use]
    pub fn stall_secs() -> f64 {
        9.0
    }

    /// One segment is enough to begin.
    #[must_use]
    pub fn start_after() -> u64 {
        1
    }
}

/// Settings of a live source, its own and those that all have, and the [`Source`](reelflow_api::stage::Source) that
/// lists nothing and has a feed. Serde cannot flatten and refuse unknown keys at once.
macro_rules! live_settings {
    ($(#[$outer:meta])* struct $name:ident { $($own:tt)* }) => {
        $(#[$outer])*
        #[derive(serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($own)*
            /// Seconds of a segment: the piece of the stream that clips are sampled from and that an instance id
            /// belongs to. A break in the stream ends one early.
            #[serde(default = "crate::source::live::settings::defaults::segment_secs")]
            #[schemars(range(min = 0.05, max = 3600.0))]
            segment_secs: f64,
            /// Segments with fewer frames are left out as `too_short`; at least what the sampler's windows need.
            #[serde(default = "crate::source::live::settings::defaults::frames_min")]
            #[schemars(range(min = 1, max = 100_000))]
            frames_min: u32,
            /// Memory for decoded pictures, MiB.
            #[serde(default = "crate::source::live::settings::defaults::keep_mb")]
            #[schemars(range(min = 1, max = 1_048_576))]
            keep_mb: u64,
            /// What happens when that memory is full. Cameras always drop; others block unless they are paced.
            #[serde(default)]
            overload: Option<crate::source::live::settings::Overload>,
            /// A connection that is silent for so many seconds is made again.
            #[serde(default = "crate::source::live::settings::defaults::stall_secs")]
            #[schemars(range(min = 0.5, max = 3600.0))]
            stall_secs: f64,
            /// Seconds without a picture after which the source counts as ended; it is waited for for ever if not
            /// given.
            #[serde(default)]
            #[schemars(range(min = 1.0, max = 1e9))]
            give_up_secs: Option<f64>,
            /// Most frames a second; more are left out evenly.
            #[serde(default)]
            #[schemars(range(min = 0.01, max = 1000.0))]
            max_fps: Option<f64>,
            /// Segments that must be there before the first step is planned.
            #[serde(default = "crate::source::live::settings::defaults::start_after")]
            #[schemars(range(min = 1, max = 1_000_000))]
            start_after: u64,
            /// Class of everything that comes. Never shown to a pretext task.
            #[serde(default)]
            label: Option<String>,
        }

        impl $name {
            fn keep(&self) -> crate::source::live::settings::Keep {
                crate::source::live::settings::Keep {
                    segment_secs: self.segment_secs,
                    frames_min: self.frames_min,
                    keep_mb: self.keep_mb,
                    overload: self.overload,
                    stall_secs: self.stall_secs,
                    give_up_secs: self.give_up_secs,
                    max_fps: self.max_fps,
                    start_after: self.start_after,
                }
            }
        }

        impl reelflow_api::stage::Source for $name {
            fn list(&self) -> Result<reelflow_api::stage::Listing, reelflow_api::error::StageError> {
                Ok(reelflow_api::stage::Listing::default())
            }

            fn segment_secs(&self) -> Option<f64> {
                None
            }

            fn on_error(&self) -> reelflow_api::stage::OnError {
                reelflow_api::stage::OnError::Quarantine
            }

            fn feed(&self) -> Option<&dyn reelflow_api::feed::Feed> {
                Some(self)
            }
        }
    };
}
pub(in crate::source) use live_settings;
