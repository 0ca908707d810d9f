//! Writes frames to an mp4 file; the same frames give the same bytes.
//!
//! `appsrc ! videoconvert ! capsfilter ! ENCODER ! PARSER ! mp4mux ! filesink`, one encoder thread. The file
//! has a temporary name until it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use reelflow_api::error::StageError;

use crate::edge::files;

/// Encoders in the order of preference, each with its parser, the property that bounds the distance of key
/// frames, and the settings that make it repeatable: one thread, a constant quantizer, no B-frames.
/// A quantizer of 20 keeps grain of a standard deviation of 2 and more than 40 dB. A property that an
/// older or newer version lacks is left out.
const ENCODERS: [(&str, &str, &str, &[(&str, &str)]); 3] = [
    (
        "x264enc",
        "h264parse",
        "key-int-max",
        &[
            ("threads", "1"),
            ("speed-preset", "veryfast"),
            ("pass", "quant"),
            ("quantizer", "20"),
            ("bframes", "0"),
            // Key frames where they are asked for, and nowhere else.
            ("option-string", "scenecut=0"),
        ],
    ),
    (
        "openh264enc",
        "h264parse",
        "gop-size",
        &[("multi-thread", "1"), ("rate-control", "off"), ("qp-min", "20"), ("qp-max", "20")],
    ),
    (
        "avenc_mpeg4",
        "mpeg4videoparse",
        "gop-size",
        &[("max-threads", "1"), ("pass", "quant"), ("quantizer", "3"), ("max-bframes", "0")],
    ),
];

/// Frames that wait for the encoder.
const WAITING: u64 = 4;

/// Longest wait for the encoder to write what it still holds, seconds.
const FINISH_SECS: u64 = 60;

/// A file being written. Dropped without [`Encoder::finish`] it leaves nothing behind.
pub struct Encoder {
    pipeline: gst::Pipeline,
    input: AppSrc,
    path: PathBuf,
    temporary: PathBuf,
    frame_len: usize,
    fps: u32,
    frames: u64,
}

impl Encoder {
    /// Starts a file of `width` x `height` pixels, both even, with `fps` frames a second and a key frame at
    /// least every `gop` frames. The folder must exist; a file of that name is replaced at the end.
    ///
    /// # Errors
    /// 78 for sizes or rates that cannot be, 69 if GStreamer lacks an element, 74 if the file cannot be made.
    pub fn create(path: &Path, width: u32, height: u32, fps: u32, gop: u32) -> Result<Self, StageError> {
        let fits = |side: u32| (16..=8192).contains(&side) && side.is_multiple_of(2);
        if !fits(width) || !fits(height) || !(1..=1000).contains(&fps) || !(1..=10_000).contains(&gop) {
            let message = format!(
                "cannot encode {width}x{height} at {fps} frames a second with a key frame every {gop}; sides \
                 are even and 16 to 8192, rates 1 to 1000, key frames every 1 to 10000"
            );
            return Err(StageError::refused("encode", message));
        }
        super::init().map_err(|failure| StageError::unavailable("encode", failure.message))?;
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        fs::File::create(&temporary).map_err(|error| files::storage("create", &temporary, &error))?;
        let input = source(width, height, fps);
        let encoder = Self {
            pipeline: gst::Pipeline::new(),
            input,
            path: path.to_owned(),
            temporary,
            frame_len: width as usize * height as usize * 3,
            fps,
            frames: 0,
        };
        encoder.build(height, gop)?;
        Ok(encoder)
    }

    fn build(&self, height: u32, gop: u32) -> Result<(), StageError> {
        let convert = element("videoconvert", "gstreamer1.0-plugins-base")?;
        let format = element("capsfilter", "gstreamer1.0-plugins-base")?;
        // Stated, so that the stream says how its colours are meant.
        let colorimetry = if height >= 720 { "bt709" } else { "bt601" };
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("colorimetry", colorimetry)
            .build();
        format.set_property("caps", &caps);
        let [encoder, parser] = encoder(gop)?;
        let mux = element("mp4mux", "gstreamer1.0-plugins-good")?;
        let sink = element("filesink", "gstreamer1.0-plugins-base")?;
        sink.set_property("location", &self.temporary);
        let line = [self.input.upcast_ref(), &convert, &format, &encoder, &parser, &mux, &sink];
        let broken = |error: &dyn std::fmt::Display| {
            StageError::unavailable("encode", format!("GStreamer's elements do not fit together: {error}"))
        };
        self.pipeline.add_many(line).map_err(|error| broken(&error))?;
        gst::Element::link_many(line).map_err(|error| broken(&error))?;
        self.pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| self.reason().unwrap_or(broken(&error)))?;
        Ok(())
    }

    /// Adds a frame: rows of red, green, blue, one byte each. Waits while the encoder is behind.
    ///
    /// # Errors
    /// If `rgb` has not `width * height * 3` bytes, or the encoder has failed.
    pub fn push(&mut self, rgb: &[u8]) -> Result<(), StageError> {
        if rgb.len() != self.frame_len {
            let message = format!("a frame of {} bytes, the file's have {}", rgb.len(), self.frame_len);
            return Err(StageError::failed("encode", message));
        }
        let time = |frame: u64| gst::ClockTime::from_nseconds(frame * 1_000_000_000 / u64::from(self.fps));
        let mut buffer = gst::Buffer::from_mut_slice(rgb.to_vec());
        let own = buffer.get_mut().expect("a new buffer has one owner");
        own.set_pts(time(self.frames));
        own.set_duration(time(self.frames + 1) - time(self.frames));
        self.frames += 1;
        self.input.push_buffer(buffer).map(drop).map_err(|error| {
            self.reason().unwrap_or_else(|| {
                StageError::failed("encode", format!("{}: the encoder stopped: {error}", self.path.display()))
            })
        })
    }

    /// Writes what is left and gives the file its name; returns its size in bytes.
    ///
    /// # Errors
    /// If there was no frame, the encoder failed, or the file cannot be written.
    pub fn finish(self) -> Result<u64, StageError> {
        let failed = |what: &str| StageError::failed("encode", format!("{}: {what}", self.path.display()));
        if self.frames == 0 {
            return Err(failed("no frame was given"));
        }
        self.input.end_of_stream().map_err(|error| failed(&format!("the encoder stopped: {error}")))?;
        let bus = self.pipeline.bus().expect("a pipeline has a bus until it is dropped");
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(FINISH_SECS), &kinds);
        match end.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => {}
            Some(gst::MessageView::Error(error)) => return Err(self.translate(error)),
            _ => return Err(failed(&format!("the encoder did not end within {FINISH_SECS} s"))),
        }
        self.pipeline
            .set_state(gst::State::Null)
            .map_err(|error| failed(&format!("the file could not be closed: {error}")))?;
        let mut bytes = files::read(&self.temporary)?;
        forget_times(&mut bytes);
        fs::write(&self.temporary, &bytes)
            .map_err(|error| files::storage("write", &self.temporary, &error))?;
        fs::rename(&self.temporary, &self.path)
            .map_err(|error| files::storage("rename to", &self.path, &error))?;
        Ok(bytes.len() as u64)
    }

    /// Why the pipeline stopped, if it says so.
    fn reason(&self) -> Option<StageError> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(self.translate(error)),
            _ => None,
        }
    }

    fn translate(&self, error: &gst::message::Error) -> StageError {
        let message = format!("{}: {}", self.path.display(), error.error());
        if error.error().is::<gst::ResourceError>() {
            return StageError::storage("encode", format!("{message}; is the disk full?"));
        }
        StageError::failed("encode", message)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Neither has a way to fail that anyone could act on; after `finish` both are done.
        let _ = self.pipeline.set_state(gst::State::Null);
        let _ = fs::remove_file(&self.temporary);
    }
}

fn source(width: u32, height: u32, fps: u32) -> AppSrc {
    let int = |value: u32| i32::try_from(value).expect("checked against small limits");
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .field("width", int(width))
        .field("height", int(height))
        .field("framerate", gst::Fraction::new(int(fps), 1))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("interlace-mode", "progressive")
        .field("colorimetry", "sRGB")
        .build();
    AppSrc::builder()
        .caps(&caps)
        .format(gst::Format::Time)
        .block(true)
        .max_buffers(WAITING)
        .max_bytes(0)
        .build()
}

/// The first encoder that is installed, with its parser.
fn encoder(gop: u32) -> Result<[gst::Element; 2], StageError> {
    for (name, parser, distance, settings) in ENCODERS {
        let Ok(encoder) = gst::ElementFactory::make(name).build() else { continue };
        let gop = gop.to_string();
        for (property, value) in settings.iter().chain([&(distance, gop.as_str())]) {
            if encoder.has_property(property) {
                encoder.set_property_from_str(property, value);
            }
        }
        return Ok([encoder, element(parser, "gstreamer1.0-plugins-bad")?]);
    }
    let message = "GStreamer has no encoder (x264enc, openh264enc or avenc_mpeg4); install \
                   gstreamer1.0-plugins-ugly";
    Err(StageError::unavailable("encode", message))
}

fn element(name: &str, package: &str) -> Result<gst::Element, StageError> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        StageError::unavailable("encode", format!("GStreamer has no `{name}` here; install {package}"))
    })
}

/// Sets the times of creation and modification in an mp4 file's headers to 0, "unknown": mp4mux writes the
/// clock's and has no setting for it. Layout from ISO/IEC 14496-12, 8.2.2, 8.3.2, 8.4.2.
fn forget_times(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind: [u8; 4] = [header[4], header[5], header[6], header[7]];
        let (head, length) = match length {
            0 => (8, bytes.len() - at),
            1 => match bytes.get(at + 8..at + 16).and_then(|wide| wide.try_into().ok()) {
                Some(wide) => (16, usize::try_from(u64::from_be_bytes(wide)).unwrap_or(usize::MAX)),
                None => return,
            },
            length => (8, length),
        };
        let Some(inside) = at.checked_add(length).and_then(|end| bytes.get_mut(at + head..end)) else {
            return;
        };
        match &kind {
            b"moov" | b"trak" | b"mdia" => forget_times(inside),
            // Version, three bytes of flags, then both times: 4 bytes each, or 8 in version 1.
            b"mvhd" | b"tkhd" | b"mdhd" => {
                let times = if inside.first() == Some(&1) { 16 } else { 8 };
                if let Some(times) = inside.get_mut(4..4 + times) {
                    times.fill(0);
                }
            }
            _ => {}
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Origin;

    use super::*;
    use crate::decode;

    /// Two grey fields with a border that moves two pixels a frame.
    fn picture(frame: usize) -> Vec<u8> {
        (0..64 * 48).flat_map(|at| [if at % 64 < 10 + 2 * frame { 60 } else { 180 }; 3]).collect()
    }

    fn write(path: &Path) -> u64 {
        let mut encoder = Encoder::create(path, 64, 48, 25, 6).unwrap();
        (0..15).for_each(|frame| encoder.push(&picture(frame)).unwrap());
        encoder.finish().unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_at_its_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        assert_eq!(write(&path), fs::metadata(&path).unwrap().len());
        let media = decode::probe(&Origin::File(path)).unwrap();
        assert_eq!((media.width, media.height, media.times.len()), (64, 48, 15));
        assert!((media.frame_rate() - 25.0).abs() < 0.01, "{}", media.frame_rate());
        assert_eq!(*media.keys, [0, 6, 12]);
        let wanted: Vec<u32> = (0..15).collect();
        for (at, frame) in
            decode::pictures(decode::decoder().as_mut(), &media, &wanted).unwrap().iter().enumerate()
        {
            let edge = frame.y()[64 * 20..64 * 21].iter().position(|&luma| luma > 110);
            assert_eq!(edge, Some(10 + 2 * at), "frame {at}");
        }
    }

    #[test]
    fn the_same_frames_give_the_same_bytes_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a.mp4", "b.mp4"].map(|name| folder.path().join(name));
        write(&a);
        write(&b);
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        drop(Encoder::create(&folder.path().join("c.mp4"), 64, 48, 25, 6).unwrap());
        assert_eq!(files::list_dir(folder.path()).unwrap(), [a, b]);
    }

    #[test]
    fn mistakes_are_refused_with_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let message = |width| Encoder::create(&path, width, 48, 25, 6).err().unwrap().message;
        assert!(message(63).contains("63x48"));
        assert!(message(0).contains("0x48"));
        let mut encoder = Encoder::create(&path, 64, 48, 25, 6).unwrap();
        assert!(encoder.push(&[0; 5]).unwrap_err().message.contains("5 bytes"));
        assert!(encoder.finish().unwrap_err().message.contains("no frame"));
        let gone = folder.path().join("no/a.mp4");
        assert_eq!(Encoder::create(&gone, 64, 48, 25, 6).err().unwrap().code, 74);
    }

    #[test]
    fn times_are_forgotten_in_both_versions_of_a_header() {
        let atom = |kind: &[u8; 4], body: &[u8]| {
            let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
            bytes.extend(kind);
            bytes.extend(body);
            bytes
        };
        let old = atom(b"mvhd", &[[0, 1, 2, 3].as_slice(), &[9; 12]].concat());
        let new = atom(b"trak", &atom(b"tkhd", &[[1, 1, 2, 3].as_slice(), &[9; 20]].concat()));
        let mut bytes = [atom(b"ftyp", &[7; 8]), atom(b"moov", &[old, new].concat())].concat();
        forget_times(&mut bytes);
        let nines = bytes.iter().filter(|&&byte| byte == 9).count();
        assert_eq!(nines, 4 + 4, "the four bytes behind the times stay");
        assert_eq!(bytes[..16], atom(b"ftyp", &[7; 8])[..]);
        // Damage is left alone.
        forget_times(&mut [0, 0, 0, 99, b'm', b'o', b'o', b'v']);
        forget_times(&mut [0, 0, 0, 2, b'm', b'o', b'o', b'v', 0, 0]);
    }
}
