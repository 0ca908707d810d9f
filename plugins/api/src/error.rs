//! Why an input was left out of a run, and why a stage gave up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The closed list of reasons for which an input, or a part of one, is not used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A folder, pipe, socket or device where a file was expected.
    NotRegular,
    /// The operating system refused to open or read it.
    Unreadable,
    /// A file of zero bytes.
    Empty,
    /// The bytes are no media format that reelflow reads.
    NotMedia,
    /// Media without a video track.
    NoVideo,
    /// No decoder for the video track is installed.
    NoDecoder,
    /// The track is encrypted.
    Encrypted,
    /// Fewer frames than a window needs.
    TooShort,
    /// A track that delivers no frame.
    NoFrames,
    /// Damaged: fewer frames than promised, or a decoder error.
    Corrupt,
    /// Nothing came for longer than the stall limit.
    Stalled,
    /// Larger than a configured limit.
    Limit,
    /// It points outside itself.
    UnsafeReference,
    /// It was there when listed and is gone now.
    Vanished,
    /// The same content is already used.
    Duplicate,
}

impl SkipReason {
    /// The name used in `quarantine.jsonl` and in counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRegular => "not_regular",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::NotMedia => "not_media",
            Self::NoVideo => "no_video",
            Self::NoDecoder => "no_decoder",
            Self::Encrypted => "encrypted",
            Self::TooShort => "too_short",
            Self::NoFrames => "no_frames",
            Self::Corrupt => "corrupt",
            Self::Stalled => "stalled",
            Self::Limit => "limit",
            Self::UnsafeReference => "unsafe_reference",
            Self::Vanished => "vanished",
            Self::Duplicate => "duplicate",
        }
    }
}

/// One input, or one window of it, that could not be used: a line of `quarantine.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Skip {
    /// The file, as the source found it.
    pub file: PathBuf,
    /// The stage that gave up on it: `scan`, `probe`, `decode`.
    pub stage: String,
    /// Why, from the closed list.
    pub reason: SkipReason,
    /// What was seen and what would help, one line.
    pub message: String,
    /// Media time in seconds where it happened, if it has a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_secs: Option<f64>,
}

/// A failure that ends the run: which stage, what, and what helps.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct StageError {
    /// The stage's id in the pipeline file, or the part of the program.
    pub stage: String,
    /// What happened, with operands.
    pub message: String,
    /// The exit code: 1 failed, 69 unavailable, 74 storage, 75 transient, 78 configuration.
    pub code: u8,
}

impl StageError {
    /// The run itself failed (exit code 1).
    pub fn failed(stage: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage: stage.into(), message: message.into(), code: 1 }
    }

    /// A device, library or host that was asked for is not there (exit code 69).
    pub fn unavailable(stage: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage: stage.into(), message: message.into(), code: 69 }
    }

    /// Storage cannot be written, or saved state is damaged (exit code 74).
    pub fn storage(stage: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage: stage.into(), message: message.into(), code: 74 }
    }

    /// Something that may be better next time: out of memory, a peer lost (exit code 75). The last checkpoint loads.
    pub fn transient(stage: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage: stage.into(), message: message.into(), code: 75 }
    }

    /// What was asked for does not fit the saved state or the data (exit code 78).
    pub fn refused(stage: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage: stage.into(), message: message.into(), code: 78 }
    }
}
