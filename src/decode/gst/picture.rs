//! A GStreamer buffer as a [`Frame`]: its planes where they lie, and what their values mean.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use reelflow_api::error::SkipReason;
use reelflow_api::item::{Colour, Frame, Matrix, Media, PixelFormat, Plane};

use super::chain::broken;
use crate::decode::Failure;

/// Shows `look` the picture of `time` in `buffer`, where it lies.
///
/// # Errors
/// `corrupt` if the buffer does not hold the picture that `info` describes.
pub(super) fn show<T>(
    buffer: &gst::BufferRef,
    (info, colour): &(gst_video::VideoInfo, Colour),
    time: u64,
    look: impl FnOnce(&Frame<'_>) -> T,
) -> Result<T, Failure> {
    let picture = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(broken)?;
    let format = match info.format() {
        gst_video::VideoFormat::I420 => PixelFormat::I420,
        gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
        gst_video::VideoFormat::I42010le => PixelFormat::I420P10,
        other => return Err(broken(format!("pictures of the form {other}"))),
    };
    let mut planes = [Plane::default(); 3];
    for (index, plane) in planes.iter_mut().enumerate().take(info.n_planes() as usize) {
        let stride = usize::try_from(picture.plane_stride()[index]).map_err(broken)?;
        *plane = Plane { bytes: picture.plane_data(index as u32).map_err(broken)?, stride };
    }
    let frame = Frame { time, width: info.width(), height: info.height(), colour: *colour, format, planes };
    if !frame.is_whole() {
        return Err(broken("a short plane"));
    }
    Ok(look(&frame))
}

/// What the caps of decoded pictures say: layout, and meaning of the values.
///
/// # Errors
/// `corrupt` if they describe no picture.
pub(super) fn meaning(caps: &gst::CapsRef) -> Result<(gst_video::VideoInfo, Colour), Failure> {
    let info = gst_video::VideoInfo::from_caps(caps).map_err(broken)?;
    let colour = colour(caps, &info);
    Ok((info, colour))
}

/// Refuses a picture of another size than the medium's.
///
/// # Errors
/// `corrupt`
pub(super) fn check_size(info: &gst_video::VideoInfo, media: &Media, time: u64) -> Result<(), Failure> {
    if (info.width(), info.height()) == (media.width, media.height) {
        return Ok(());
    }
    let message = format!(
        "the picture changes from {}x{} to {}x{}; split the file there",
        media.width,
        media.height,
        info.width(),
        info.height()
    );
    Err(Failure::new(SkipReason::Corrupt, message).at(time))
}

/// Caps of the forms that [`show`] understands; everything else is converted to the first of them.
pub(super) fn accepted() -> gst::Caps {
    gst::Caps::builder("video/x-raw").field("format", gst::List::new(["I420", "NV12", "I420_10LE"])).build()
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
    fn padded_rows_are_seen_through() {
        gst::init().unwrap();
        // 6x3 in GStreamer's layout: rows of 8 and 4 bytes.
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", 6)
            .field("height", 3)
            .field("framerate", gst::Fraction::new(25, 1))
            .build();
        let meaning = meaning(&caps).unwrap();
        let bytes: Vec<u8> = (0..meaning.0.size() as u8).collect();
        let buffer = gst::Buffer::from_slice(bytes);
        let picture = show(&buffer, &meaning, 5, |frame| frame.to_picture()).unwrap();
        assert_eq!(picture.y(), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21]);
        assert_eq!((picture.chroma_width(), picture.chroma_height()), (3, 2));
        assert_eq!((picture.u().len() + picture.v().len(), picture.time), (12, 5));
    }
}
