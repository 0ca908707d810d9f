//! A camera at this machine, through Video4Linux.

use reelflow_api::error::StageError;
use reelflow_api::feed::{Feed, Running, Tell};
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::Stage;

use super::live::line::{self, Tags};
use super::live::settings::{Nature, live_settings};
use crate::decode::gst::live::Place;

/// How `camera` describes itself.
pub const SPEC: Spec = Spec {
    name: "camera",
    kind: Kind::Source,
    summary: "A camera at this machine.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "device = \"/dev/video0\"\nwidth = 640\nheight = 480",
    schema: schema_of::<CameraSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<CameraSettings>(table)?))),
};

live_settings! {
    struct CameraSettings {
        /// The device, below `/dev/`.
        device: String,
        /// Width that is asked for, pixels; together with `height`.
        #[serde(default)]
        #[schemars(range(min = 16, max = 8192))]
        width: Option<u32>,
        /// Height that is asked for, pixels.
        #[serde(default)]
        #[schemars(range(min = 16, max = 8192))]
        height: Option<u32>,
        /// Frames a second that are asked for.
        #[serde(default)]
        #[schemars(range(min = 1, max = 1000))]
        fps: Option<u32>,
    }
}

impl Settings for CameraSettings {
    fn check(&self) -> Vec<Invalid> {
        let mut found = self.keep().check(Nature::Camera);
        let is_device = self.device.strip_prefix("/dev/").is_some_and(|name| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
            !name.is_empty() && name.chars().all(is_plain) && !name.split('/').any(|part| part == "..")
        });
        if !is_device {
            let message = "is no device below `/dev/`";
            found.push(Invalid::new("device", message).help("device = \"/dev/video0\""));
        }
        if self.width.is_some() != self.height.is_some() {
            let at = if self.width.is_some() { "width" } else { "height" };
            found.push(Invalid::new(at, "is half a size").help("give both `width` and `height`, or none"));
        }
        found
    }
}

impl Feed for CameraSettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let tags = Tags { id: id.to_owned(), label: self.label.clone(), shown: self.device.clone() };
        let size = self.width.zip(self.height);
        let place = Place::Camera { device: self.device.clone(), size, fps: self.fps };
        line::start(tags, place, self.keep().manner(Nature::Camera), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}
