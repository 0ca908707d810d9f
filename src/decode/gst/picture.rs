//! A GStreamer buffer into a [`Frame`]: tight planes, and what its values mean.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use reelflow_api::item::{Colour, Frame, Matrix};

use super::chain::broken;
use crate::decode::Failure;

/// Copies an I420 picture out of `sample`; its time is set to `time`.
///
/// # Errors
/// `corrupt` if the buffer does not hold the picture its caps describe.
pub(super) fn frame(sample: &gst::Sample, time: u64) -> Result<Frame, Failure> {
    let caps = sample.caps().ok_or_else(|| broken("a picture without a format"))?;
    let buffer = sample.buffer().ok_or_else(|| broken("a sample without a picture"))?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(broken)?;
    let picture = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(broken)?;
    let (width, height) = (info.width(), info.height());
    let (w, h) = (width as usize, height as usize);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    let mut planes = Vec::with_capacity(w * h + 2 * cw * ch);
    for (plane, columns, rows) in [(0u32, w, h), (1, cw, ch), (2, cw, ch)] {
        let data = picture.plane_data(plane).map_err(broken)?;
        let stride = picture.plane_stride()[plane as usize] as usize;
        if stride == columns {
            planes.extend_from_slice(data.get(..columns * rows).ok_or_else(|| broken("a short plane"))?);
            continue;
        }
        for row in 0..rows {
            let line = data.get(row * stride..row * stride + columns);
            planes.extend_from_slice(line.ok_or_else(|| broken("a short plane"))?);
        }
    }
    Ok(Frame { time, width, height, colour: colour(caps, &info), planes })
}

/// Matrix and range as the decoder negotiated them; where it did not, the habit by size.
fn colour(caps: &gst::CapsRef, info: &gst_video::VideoInfo) -> Colour {
    let stated = caps.structure(0).is_some_and(|structure| structure.has_field("colorimetry"));
    let by_size = if info.height() >= 720 { Matrix::Bt709 } else { Matrix::Bt601 };
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 if stated => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt601 | gst_video::VideoColorMatrix::Fcc if stated => Matrix::Bt601,
        _ => by_size,
    };
    let full_range = colorimetry.range() == gst_video::VideoColorRange::Range0_255;
    Colour { matrix, full_range }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour_of(text: &str, width: i32, height: i32) -> Colour {
        gst::init().unwrap();
        let mut builder = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(25, 1));
        if !text.is_empty() {
            builder = builder.field("colorimetry", text);
        }
        let caps = builder.build();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        colour(&caps, &info)
    }

    #[test]
    fn colours_are_as_stated_and_by_size_otherwise() {
        let limited = |matrix| Colour { matrix, full_range: false };
        assert_eq!(colour_of("", 320, 240), limited(Matrix::Bt601));
        assert_eq!(colour_of("", 1280, 700), limited(Matrix::Bt601));
        assert_eq!(colour_of("", 1280, 720), limited(Matrix::Bt709));
        assert_eq!(colour_of("bt709", 320, 240), limited(Matrix::Bt709));
        assert_eq!(colour_of("bt601", 1920, 1080), limited(Matrix::Bt601));
        // Range 1 is 0 to 255, matrix 4 is BT.601.
        assert_eq!(colour_of("1:4:0:0", 320, 240), Colour { matrix: Matrix::Bt601, full_range: true });
    }

    #[test]
    fn padded_rows_become_tight_planes() {
        gst::init().unwrap();
        // 6x3 in GStreamer's layout: rows of 8 and 4 bytes.
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", 6)
            .field("height", 3)
            .field("framerate", gst::Fraction::new(25, 1))
            .build();
        let size = gst_video::VideoInfo::from_caps(&caps).unwrap().size();
        let bytes: Vec<u8> = (0..size as u8).collect();
        let sample = gst::Sample::builder().buffer(&gst::Buffer::from_slice(bytes)).caps(&caps).build();
        let frame = frame(&sample, 5).unwrap();
        assert_eq!(frame.y(), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21]);
        assert_eq!((frame.chroma_width(), frame.chroma_height()), (3, 2));
        assert_eq!(frame.u().len() + frame.v().len(), 12);
    }
}
