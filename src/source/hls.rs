//! A live stream over HLS: a playlist that is read again and again, and the pieces it names.

use std::path::PathBuf;

use reelflow_api::error::StageError;
use reelflow_api::feed::{Feed, Running, Tell};
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::Stage;

use super::live::address::Written;
use super::live::line::{self, Tags};
use super::live::login::Asked;
use super::live::settings::{Nature, live_settings};
use crate::decode::gst::live::Place;

/// How `hls` describes itself.
pub const SPEC: Spec = Spec {
    name: "hls",
    kind: Kind::Source,
    summary: "A live stream over HLS.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "url = \"https://camera.example/live.m3u8\"",
    schema: schema_of::<HlsSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<HlsSettings>(table)?))),
};

/// Schemes an address may have.
const SCHEMES: [&str; 2] = ["http", "https"];

live_settings! {
    struct HlsSettings {
        /// `https://HOST/PATH.m3u8`, of one quality or of several (the first is taken). Redirects, and pieces on
        /// another host than this, are not followed (`unsafe_reference`). What stands behind `?`, and a user and
        /// password in it, are masked in all that is written.
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
    }
}

impl HlsSettings {
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

impl Settings for HlsSettings {
    fn check(&self) -> Vec<Invalid> {
        [self.asked().check(), self.keep().check(Nature::Camera)].concat()
    }
}

impl Feed for HlsSettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let (address, login) = self.asked().read(id)?;
        let tags = Tags { id: id.to_owned(), label: self.label.clone(), shown: address.shown() };
        let location = address.location().to_owned();
        let place = Place::Hls { location, login, patience_secs: self.stall_secs };
        line::start(tags, place, self.keep().manner(Nature::Camera), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}
