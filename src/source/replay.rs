//! Video files played as if they came from a camera, as fast as time or as fast as they are used.

use std::sync::Arc;

use reelflow_api::error::{Skip, StageError};
use reelflow_api::feed::{Feed, Running, Tell};
use reelflow_api::item::Media;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::{Candidate, Listing, Stage};

use super::live::inlet::{Door, Format, Inlet};
use super::live::settings::{Nature, live_settings};
use super::live::{self, tape};
use super::{catalogue, files};
use crate::decode::{self, Decoder, Failure};

/// How `replay` describes itself.
pub const SPEC: Spec = Spec {
    name: "replay",
    kind: Kind::Source,
    summary: "Video files played as if they were live.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "paths = [\"videos\"]\nspeed = 1.0",
    schema: schema_of::<ReplaySettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<ReplaySettings>(table)?))),
};

/// Frames that are decoded in one go: a pass over a file is one group of pictures after the other either way.
const IN_ONE_GO: usize = 32;

live_settings! {
    #[derive(Clone)]
    struct ReplaySettings {
        /// Files, folders, globs and lists, as `files` takes them; played in that order, once.
        paths: Vec<String>,
        /// Seconds of media a second; 0 plays as fast as segments are used.
        #[serde(default = "speed")]
        #[schemars(range(min = 0.0, max = 1000.0))]
        speed: f64,
    }
}

fn speed() -> f64 {
    1.0
}

impl ReplaySettings {
    fn nature(&self) -> Nature {
        Nature::Tape { waits: self.speed == 0.0 }
    }
}

impl Settings for ReplaySettings {
    fn check(&self) -> Vec<Invalid> {
        let mut found = self.keep().check(self.nature());
        if self.paths.is_empty() {
            found.push(Invalid::new("paths", "names no file").help("paths = [\"videos\"]"));
        }
        found
    }
}

impl Feed for ReplaySettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let listing =
            files::find(&self.paths).map_err(|error| StageError { stage: id.to_owned(), ..error })?;
        let door =
            ReplayDoor { shown: self.paths.join(", "), settings: self.clone(), listing: Arc::new(listing) };
        live::start(id, self.keep().manner(self.nature()), Box::new(door), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}

struct ReplayDoor {
    shown: String,
    settings: ReplaySettings,
    listing: Arc<Listing>,
}

impl Door for ReplayDoor {
    fn open(&mut self, _connection: u64, inlet: Inlet) -> Box<dyn Send> {
        let (listing, label) = (Arc::clone(&self.listing), self.settings.label.as_deref().map(Arc::from));
        tape::start("live-replay", self.settings.speed, inlet, move |inlet, pace| {
            let mut player = Player { inlet, pace, decoder: decode::decoder(), label, before: 0 };
            let heard = listing.skipped.iter().all(|skip| inlet.skip(skip.clone()))
                && listing.candidates.iter().all(|candidate| player.play(candidate));
            if heard {
                inlet.finish();
            }
        })
    }

    fn shown(&self) -> String {
        self.shown.clone()
    }
}

/// Plays one file after the other.
struct Player<'p> {
    inlet: &'p Inlet,
    pace: &'p mut tape::Pace,
    decoder: Box<dyn Decoder>,
    label: Option<Arc<str>>,
    /// Nanoseconds of media played before this file.
    before: u64,
}

impl Player<'_> {
    /// Plays the frames of a candidate; whether anybody still listens.
    fn play(&mut self, candidate: &Candidate) -> bool {
        let media = match decode::probe(&candidate.origin) {
            Ok(media) => media,
            Err(failure) => return self.inlet.skip(skip(candidate, "probe", failure)),
        };
        let span = catalogue::in_span(&media.times, candidate.span_secs);
        if span.is_empty() {
            return true;
        }
        let first = media.times[span.start];
        let last = media.times[span.end - 1];
        let format = Format {
            name: media.name.clone(),
            codec: media.codec.clone(),
            orientation: media.orientation,
            label: candidate.label.clone().or_else(|| self.label.clone()),
            group: candidate.group.clone(),
            split: candidate.split.clone(),
            // Played again by another run it is the same again.
            salt: format!("{}@{first}", media.name),
        };
        let mut heard = self.inlet.format(format);
        let wanted: Vec<u32> = (span.start as u32..span.end as u32).collect();
        for some in wanted.chunks(IN_ONE_GO) {
            if !heard {
                return false;
            }
            match self.some(&media, some, first) {
                Ok(still) => heard = still,
                Err(failure) => {
                    heard = self.inlet.skip(skip(candidate, "decode", failure));
                    break;
                }
            }
        }
        self.before += last - first + (last - first) / span.len() as u64;
        heard
    }

    /// Plays the frames at these positions.
    fn some(&mut self, media: &Media, wanted: &[u32], first: u64) -> Result<bool, Failure> {
        let pictures = decode::pictures(self.decoder.as_mut(), media, wanted)?;
        for picture in pictures {
            let time = picture.time;
            if !self.pace.wait(self.before + time - first) || !self.inlet.frame(picture, Some(time)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn skip(candidate: &Candidate, stage: &str, failure: Failure) -> Skip {
    let Failure { reason, message, at_secs } = failure;
    let file = candidate.origin.path().expect("only files and members of archives are listed");
    Skip { file, stage: stage.to_owned(), reason, message, at_secs }
}
