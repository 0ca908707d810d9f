//! The nouns on the edges: segment, plan, frame, clip and batch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::SkipReason;
pub use crate::origin::{Member, MemberPlace, Origin};
use crate::pixels::Pixels;
use crate::track::Track;

/// The identity of a segment: stable across runs and worker counts, never reused.
///
/// 63 bits, so that it fits an `i64` tensor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SegmentId(pub u64);

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
    pub times: Arc<[u64]>,
    /// Positions in [`Media::times`] at which decoding can start, increasing. Empty if unknown.
    pub keys: Arc<[u32]>,
    /// Short codec name, `h264`.
    pub codec: String,
    /// Size in bytes; 0 where there is no file.
    pub bytes: u64,
    /// Where the file keeps its access units, if a decoder may read them without a demuxer.
    pub track: Option<Arc<Track>>,
    /// Which part of its origin it is, and what is missing of it.
    pub part: Part,
}

/// Which part of its origin a medium is. Most are the whole of it, and whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Pictures of the origin before the first of this part.
    pub before: u32,
    /// The part behind this one, where pictures have another size or time begins anew.
    pub next: Option<Arc<Media>>,
    /// What of the origin cannot be used, although the rest can.
    pub damage: Option<Arc<Damage>>,
}

/// What of a medium cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// From the closed list.
    pub reason: SkipReason,
    /// What was seen and what would help, one line.
    pub message: String,
    /// Media time in seconds from which on it is missing, if that is known.
    pub at_secs: Option<f64>,
}

impl Media {
    /// Pixels of a picture.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

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
#[derive(Clone, Debug, PartialEq)]
pub struct ClipPlan {
    /// The view it becomes: `anchor`, `positive`, `negative`.
    pub view: Arc<str>,
    /// Frame numbers within the segment, 0-based, in clip order; repeats are allowed.
    pub frames: Vec<u32>,
    /// Augmentation that was decided beforehand and takes the place of the draws.
    pub given: Option<Given>,
}

/// Augmentation of one clip as a plan file states it, in place of what would be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Left, top, width and height of the part to crop, pixels of the upright picture.
    pub crop: [u32; 4],
    /// Mirror left-right.
    pub flip: bool,
    /// Factor of the brightness, 1 changes nothing.
    pub brightness: f32,
    /// Factor of the contrast, 1 changes nothing.
    pub contrast: f32,
    /// Factor of the saturation, 1 changes nothing.
    pub saturation: f32,
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

/// How the samples of a picture lie in memory. Chroma is halved both ways, rounded up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PixelFormat {
    /// Three planes Y, U, V, 8 bit.
    #[default]
    I420,
    /// Two planes, Y and U beside V, 8 bit.
    Nv12,
    /// Three planes Y, U, V, 10 bit in the low bits of little-endian 16.
    I420P10,
}

impl PixelFormat {
    /// Planes, and bytes of a row of each for a picture `width` pixels wide.
    #[must_use]
    pub fn row_bytes(self, width: u32) -> Vec<usize> {
        let (luma, chroma) = (width as usize, (width as usize).div_ceil(2));
        match self {
            Self::I420 => vec![luma, chroma, chroma],
            Self::Nv12 => vec![luma, 2 * chroma],
            Self::I420P10 => vec![2 * luma, 2 * chroma, 2 * chroma],
        }
    }
}

/// One plane of a picture that lies somewhere else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
    /// Rows from top to bottom, each `stride` bytes after the one before; the last may be shorter.
    pub bytes: &'a [u8],
    /// Bytes from row to row.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// `bytes` bytes of row `row`.
    #[inline]
    #[must_use]
    pub fn row(&self, row: usize, bytes: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..][..bytes]
    }
}

/// A decoded picture where the decoder put it: only looked at, never kept.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Presentation time in stream time, nanoseconds.
    pub time: u64,
    /// Luma width in pixels.
    pub width: u32,
    /// Luma height in pixels.
    pub height: u32,
    /// Meaning of the code values.
    pub colour: Colour,
    /// How samples lie in [`Frame::planes`].
    pub format: PixelFormat,
    /// The planes; those the format does not have are empty.
    pub planes: [Plane<'a>; 3],
}

impl Frame<'_> {
    /// Whether every plane holds all its rows.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let rows = |plane: usize| match plane {
            0 => self.height as usize,
            _ => (self.height as usize).div_ceil(2),
        };
        let widths = self.format.row_bytes(self.width);
        self.width > 0
            && self.height > 0
            && widths.iter().enumerate().all(|(index, &bytes)| {
                let plane = &self.planes[index];
                plane.stride >= bytes && plane.bytes.len() >= (rows(index) - 1) * plane.stride + bytes
            })
    }

    /// A copy that can be kept: I420, 8 bit (10 bits are rounded to 8).
    #[must_use]
    pub fn to_picture(&self) -> Picture {
        let (w, h) = (self.width as usize, self.height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let mut planes = Vec::with_capacity(w * h + 2 * cw * ch);
        for (plane, columns, rows) in [(0, w, h), (1, cw, ch), (2, cw, ch)] {
            for row in 0..rows {
                match self.format {
                    PixelFormat::I420 => planes.extend_from_slice(self.planes[plane].row(row, columns)),
                    PixelFormat::Nv12 if plane == 0 => {
                        planes.extend_from_slice(self.planes[0].row(row, columns));
                    }
                    PixelFormat::Nv12 => {
                        let both = self.planes[1].row(row, 2 * columns).chunks_exact(2);
                        planes.extend(both.map(|pair| pair[plane - 1]));
                    }
                    PixelFormat::I420P10 => {
                        let deep = self.planes[plane].row(row, 2 * columns).chunks_exact(2);
                        planes.extend(deep.map(|pair| {
                            let value = u16::from_le_bytes([pair[0], pair[1]]);
                            ((value + 2) >> 2).min(255) as u8
                        }));
                    }
                }
            }
        }
        Picture { time: self.time, width: self.width, height: self.height, colour: self.colour, planes }
    }
}

/// A picture of its own: 8-bit I420, planes tightly packed one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
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

impl Picture {
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

    /// The picture as stages see it.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        let plane = |bytes, stride| Plane { bytes, stride };
        Frame {
            time: self.time,
            width: self.width,
            height: self.height,
            colour: self.colour,
            format: PixelFormat::I420,
            planes: [
                plane(self.y(), self.width as usize),
                plane(self.u(), self.chroma_width()),
                plane(self.v(), self.chroma_width()),
            ],
        }
    }
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
    /// `[B, C, T, H, W]`, in the value range the augment stage states.
    pub pixels: Pixels,
    /// Mean and standard deviation of red, green and blue, on a scale of 0 to 1, by which whoever uses the values
    /// still has to normalise them, as bytes cannot hold them normalised. None: they are what they should be.
    pub normalize: Option<([f32; 3], [f32; 3])>,
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
