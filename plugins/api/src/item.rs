//! The nouns on the edges: segment, plan, frame, clip and batch.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The identity of a segment: stable across runs and worker counts, never reused.
///
/// 63 bits, so that it fits an `i64` tensor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SegmentId(pub u64);

/// Where the pictures of a medium come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A media file.
    File(PathBuf),
    /// Computed pictures with known content; needs no library.
    Pattern {
        /// Chooses the picture.
        number: u32,
    },
}

/// How a stored picture must be turned to stand upright: rotate clockwise, then mirror left-right.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Orientation {
    /// Quarter turns clockwise, 0 to 3.
    pub quarter_turns: u8,
    /// Mirror left-right after turning.
    pub mirror: bool,
}

/// One file or other origin, as the probe found it.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// Where the pictures come from.
    pub origin: Origin,
    /// Short name for people and logs: the path, or `pattern:3`.
    pub name: String,
    /// Stored width in pixels, before [`Media::orientation`].
    pub width: u32,
    /// Stored height in pixels, before [`Media::orientation`].
    pub height: u32,
    /// How to turn the stored picture upright.
    pub orientation: Orientation,
    /// Presentation times of all frames in stream time, nanoseconds, strictly increasing.
    pub times: Vec<u64>,
    /// Positions in [`Media::times`] at which decoding can start, increasing. Empty if unknown.
    pub keys: Vec<u32>,
    /// Short codec name, `h264`.
    pub codec: String,
    /// Size in bytes; 0 where there is no file.
    pub bytes: u64,
}

impl Media {
    /// Mean frames per second over the whole medium; 0 with fewer than two frames.
    #[must_use]
    pub fn frame_rate(&self) -> f64 {
        match (self.times.first(), self.times.last()) {
            (Some(first), Some(last)) if last > first => {
                (self.times.len() - 1) as f64 * 1e9 / (last - first) as f64
            }
            _ => 0.0,
        }
    }
}

/// The unit an instance id belongs to: a short file, or a piece of a long one.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Identity, used by the bank.
    pub id: SegmentId,
    /// The medium it is a piece of.
    pub media: Arc<Media>,
    /// Position of its first frame in [`Media::times`].
    pub first: u32,
    /// How many frames it has, at least 1.
    pub count: u32,
    /// Class, where a folder or list says so. Never shown to a pretext task.
    pub label: Option<Arc<str>>,
    /// Source recording or person; a group stays on one side of a split.
    pub group: Option<Arc<str>>,
    /// `train`, `test`, where a folder or list says so.
    pub split: Option<Arc<str>>,
}

impl Segment {
    /// Presentation times of the segment's frames, nanoseconds, strictly increasing.
    #[must_use]
    pub fn times(&self) -> &[u64] {
        &self.media.times[self.first as usize..(self.first + self.count) as usize]
    }
}

/// Everything that can be sampled, in a fixed order, with a version that names exactly this content.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Segments in the order of (source, path, position).
    pub segments: Vec<Arc<Segment>>,
    /// Hash of ids, frame times and labels; equal content has an equal version.
    pub version: u64,
}

/// Which frames make one clip: the window of one view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClipPlan {
    /// The view it becomes: `anchor`, `positive`, `negative`.
    pub view: Arc<str>,
    /// Frame numbers within the segment, 0-based, in clip order; repeats are allowed.
    pub frames: Vec<u32>,
}

/// All clips of one slot of one step: pure in (catalogue, seed, step, slot, attempt).
#[derive(Clone, Debug)]
pub struct SamplePlan {
    /// Training step, the logical time of the flow.
    pub step: u64,
    /// Position in the batch.
    pub slot: u32,
    /// 0, or how often this slot was drawn again because a segment could not be decoded.
    pub attempt: u32,
    /// The segment all clips come from.
    pub segment: Arc<Segment>,
    /// One plan a view, in the sampler's order.
    pub clips: Vec<ClipPlan>,
}

/// YUV to RGB matrix of a picture.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Matrix {
    /// ITU-R BT.601, usual below 720 lines.
    #[default]
    Bt601,
    /// ITU-R BT.709, usual from 720 lines up.
    Bt709,
}

/// How code values map to colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Colour {
    /// YUV to RGB matrix.
    pub matrix: Matrix,
    /// `true`: luma 0 to 255; `false`: luma 16 to 235, chroma 16 to 240.
    pub full_range: bool,
}

/// One decoded picture: 8-bit I420, planes tightly packed one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Presentation time in stream time, nanoseconds.
    pub time: u64,
    /// Luma width in pixels.
    pub width: u32,
    /// Luma height in pixels.
    pub height: u32,
    /// Meaning of the code values.
    pub colour: Colour,
    /// `width*height` luma, then twice `ceil(width/2)*ceil(height/2)` chroma (U, V), bytes 0 to 255.
    pub planes: Vec<u8>,
}

impl Frame {
    /// Width of a chroma row.
    #[must_use]
    pub fn chroma_width(&self) -> usize {
        (self.width as usize).div_ceil(2)
    }

    /// Number of chroma rows.
    #[must_use]
    pub fn chroma_height(&self) -> usize {
        (self.height as usize).div_ceil(2)
    }

    /// Luma plane, `height` rows of `width` bytes.
    #[must_use]
    pub fn y(&self) -> &[u8] {
        &self.planes[..self.width as usize * self.height as usize]
    }

    /// Blue-difference plane, `chroma_height` rows of `chroma_width` bytes.
    #[must_use]
    pub fn u(&self) -> &[u8] {
        let (luma, chroma) = (self.y().len(), self.chroma_width() * self.chroma_height());
        &self.planes[luma..luma + chroma]
    }

    /// Red-difference plane, `chroma_height` rows of `chroma_width` bytes.
    #[must_use]
    pub fn v(&self) -> &[u8] {
        let (luma, chroma) = (self.y().len(), self.chroma_width() * self.chroma_height());
        &self.planes[luma + chroma..luma + 2 * chroma]
    }
}

/// A decoded clip: pictures in clip order; views of one sample share them.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The view it becomes.
    pub view: Arc<str>,
    /// Pictures in clip order, all of one size.
    pub frames: Vec<Arc<Frame>>,
}

/// A plan with its pictures: what decoding makes of a [`SamplePlan`].
#[derive(Clone, Debug)]
pub struct DecodedSample {
    /// What was asked for.
    pub plan: SamplePlan,
    /// One clip a view, in the plan's order.
    pub clips: Vec<Clip>,
}

/// Who sits in a slot of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotInfo {
    /// Position in the batch.
    pub slot: u32,
    /// 0, or how often the slot was drawn again.
    pub attempt: u32,
    /// Where the clips come from.
    pub segment: SegmentId,
    /// Frame numbers of each view, in the order of [`Batch::views`].
    pub frames: Vec<Vec<u32>>,
}

/// One view of all slots: a dense block of pixels.
#[derive(Clone, Debug)]
pub struct View {
    /// `anchor`, `positive`, `negative`.
    pub name: Arc<str>,
    /// Channels, frames, rows, columns of one clip: `[C, T, H, W]`.
    pub shape: [usize; 4],
    /// `[B, C, T, H, W]`, f32, in the value range the augment stage states.
    pub pixels: Vec<f32>,
}

impl View {
    /// Values in one clip: `C*T*H*W`.
    #[must_use]
    pub fn clip_len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Augmented views of one or more slots of one step.
///
/// Before the `batch` stage it holds one slot, after it all slots of the step in slot order, so a
/// stage that works on views is the same code on both sides.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Training step.
    pub step: u64,
    /// Slots in increasing order.
    pub slots: Vec<SlotInfo>,
    /// One block a view, all with `slots.len()` clips.
    pub views: Vec<View>,
}

impl Batch {
    /// The view called `name`.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| *view.name == *name)
    }
}
