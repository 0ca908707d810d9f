//! A stream over SRT, which is fetched from its sender.

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

/// How `srt` describes itself.
pub const SPEC: Spec = Spec {
    name: "srt",
    kind: Kind::Source,
    summary: "A stream over SRT.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "url = \"srt://sender.example:9000\"",
    schema: schema_of::<SrtSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<SrtSettings>(table)?))),
};

/// Schemes an address may have.
const SCHEMES: [&str; 1] = ["srt"];

/// Lengths that SRT allows for a passphrase.
const PASSPHRASE: std::ops::RangeInclusive<usize> = 10..=79;

live_settings! {
    struct SrtSettings {
        /// `srt://HOST:PORT`, of a sender that listens.
        url: Written,
        /// Environment variable that holds the passphrase.
        #[serde(default)]
        password_env: Option<String>,
        /// File whose first line is the passphrase.
        #[serde(default)]
        password_file: Option<PathBuf>,
        /// What is asked for, where the sender has several streams.
        #[serde(default)]
        #[schemars(length(max = 512))]
        stream_id: Option<String>,
        /// Milliseconds for which packets are kept so that lost ones can be sent again.
        #[serde(default = "latency_ms")]
        #[schemars(range(min = 0, max = 60_000))]
        latency_ms: u32,
    }
}

fn latency_ms() -> u32 {
    200
}

impl SrtSettings {
    fn asked(&self) -> Asked<'_> {
        Asked {
            url: &self.url,
            schemes: &SCHEMES,
            user: None,
            password_env: self.password_env.as_ref(),
            password_file: self.password_file.as_ref(),
        }
    }
}

impl Settings for SrtSettings {
    fn check(&self) -> Vec<Invalid> {
        let mut found = [self.asked().check(), self.keep().check(Nature::Camera)].concat();
        if let Ok(address) = self.url.parse(&SCHEMES) {
            let help = "srt://HOST:PORT; give `stream_id` and `password_env` beside it";
            if address.query().is_some() {
                found.push(Invalid::new("url", "has options behind a `?`").help(help));
            } else if address.user().is_some() || address.password().is_some() {
                found.push(Invalid::new("url", "has a user, which SRT does not know").help(help));
            } else if address.host().rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                found.push(Invalid::new("url", "has no port").help(help));
            }
        }
        found
    }
}

impl Feed for SrtSettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let (address, login) = self.asked().read(id)?;
        if login.password.as_ref().is_some_and(|password| !PASSPHRASE.contains(&password.reveal().len())) {
            return Err(StageError::refused(id, "a passphrase of SRT has 10 to 79 bytes"));
        }
        let tags = Tags { id: id.to_owned(), label: self.label.clone(), shown: address.shown() };
        let place = Place::Srt {
            location: address.location().to_owned(),
            password: login.password,
            stream_id: self.stream_id.clone(),
            latency_ms: self.latency_ms,
        };
        line::start(tags, place, self.keep().manner(Nature::Camera), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}
