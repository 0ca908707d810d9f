//! A network camera over RTSP, decoded as it comes.

use std::path::PathBuf;

use reelflow_api::error::StageError;
use reelflow_api::feed::{Feed, Running, Tell};
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::live::address::Written;
use super::live::line::{self, Tags};
use super::live::login::Asked;
use super::live::settings::{Nature, live_settings};
use crate::decode::gst::live::Place;

/// How `rtsp` describes itself.
pub const SPEC: Spec = Spec {
    name: "rtsp",
    kind: Kind::Source,
    summary: "A network camera over RTSP.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "url = \"rtsp://camera.example:554/stream\"\nuser = \"viewer\"\npassword_env = \"CAMERA_PASSWORD\"",
    schema: schema_of::<RtspSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<RtspSettings>(table)?))),
};

/// Schemes an address may have.
const SCHEMES: [&str; 2] = ["rtsp", "rtsps"];

/// How packets come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Transport {
    /// Within the connection: none is lost.
    #[default]
    Tcp,
    /// Each by itself: what is lost on the way is missing.
    Udp,
}

live_settings! {
    struct RtspSettings {
        /// `rtsp://HOST:PORT/PATH`. A user and password in it work, but are better given by themselves; they are
        /// masked in all that is written.
        url: Written,
        /// User name.
        #[serde(default)]
        user: Option<String>,
        /// Environment variable that holds the password.
        #[serde(default)]
        password_env: Option<String>,
        /// File whose first line is the password.
        #[serde(default)]
        password_file: Option<PathBuf>,
        /// How packets come; no other way is tried.
        #[serde(default)]
        transport: Transport,
        /// Milliseconds for which packets are kept to be put in order.
        #[serde(default = "latency_ms")]
        #[schemars(range(min = 0, max = 10_000))]
        latency_ms: u32,
    }
}

fn latency_ms() -> u32 {
    200
}

impl RtspSettings {
    fn asked(&self) -> Asked<'_> {
        Asked {
            url: &self.url,
            schemes: &SCHEMES,
            user: self.user.as_ref(),
            password_env: self.password_env.as_ref(),
            password_file: self.password_file.as_ref(),
        }
    }
}

impl Settings for RtspSettings {
    fn check(&self) -> Vec<Invalid> {
        [self.asked().check(), self.keep().check(Nature::Camera)].concat()
    }
}

impl Feed for RtspSettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let (address, login) = self.asked().read(id)?;
        let tags = Tags { id: id.to_owned(), label: self.label.clone(), shown: address.shown() };
        let place = Place::Rtsp {
            location: address.location().to_owned(),
            login,
            udp: self.transport == Transport::Udp,
            latency_ms: self.latency_ms,
            patience_secs: self.stall_secs,
        };
        line::start(tags, place, self.keep().manner(Nature::Camera), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}
