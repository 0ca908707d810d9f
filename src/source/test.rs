//! A live source that is computed: a travelling texture with the frame's number in it. Needs no camera.

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::feed::{Feed, Running, Tell};
use reelflow_api::item::Picture;
use reelflow_api::spec::{Invalid, Kind, Output, Port, Settings, Spec, read, schema_of};
use reelflow_api::stage::Stage;

use super::live::inlet::{Door, Format, Inlet};
use super::live::settings::{Nature, live_settings};
use super::live::{self, numbers, tape};
use crate::decode::pattern::{self, PatternDecoder};
use crate::decode::pictures;

/// How `test` describes itself.
pub const SPEC: Spec = Spec {
    name: "test",
    kind: Kind::Source,
    summary: "A computed live stream of numbered frames.",
    accepts: &[],
    output: Output::Carries(Port::Segments),
    example: "fps = 25.0\nspeed = 1.0\nsegment_secs = 2.0",
    schema: schema_of::<TestSettings>,
    build: |table| Ok(Stage::Source(Box::new(read::<TestSettings>(table)?))),
};

live_settings! {
    #[derive(Clone)]
    struct TestSettings {
        /// Which texture, and by its last three bits which way it travels.
        #[serde(default)]
        pattern: u32,
        /// Width in pixels.
        #[serde(default = "width")]
        #[schemars(range(min = 64, max = 4096))]
        width: u32,
        /// Height in pixels.
        #[serde(default = "height")]
        #[schemars(range(min = 40, max = 4096))]
        height: u32,
        /// Frames per second of stream time.
        #[serde(default = "fps")]
        #[schemars(range(min = 0.1, max = 1000.0))]
        fps: f64,
        /// Seconds of stream time a second; 0 gives frames as fast as they are used.
        #[serde(default = "speed")]
        #[schemars(range(min = 0.0, max = 1000.0))]
        speed: f64,
        /// The stream ends after so many; never if not given.
        #[serde(default)]
        #[schemars(range(min = 1))]
        frames: Option<u32>,
    }
}

fn width() -> u32 {
    160
}

fn height() -> u32 {
    120
}

fn fps() -> f64 {
    25.0
}

fn speed() -> f64 {
    1.0
}

impl TestSettings {
    fn nature(&self) -> Nature {
        Nature::Tape { waits: self.speed == 0.0 }
    }

    /// The frame with this number, as a pure function of the settings.
    fn picture(&self, decoder: &mut PatternDecoder, number: u32) -> Picture {
        let time = (f64::from(number) * 1e9 / self.fps).round() as u64;
        let media = pattern::media(self.pattern, self.width, self.height, vec![time]);
        let mut made =
            pictures(decoder, &media, &[0]).expect("a pattern has the one frame that it was given");
        let mut picture = made.remove(0);
        numbers::draw(&mut picture, number);
        picture
    }

    fn play(&self, name: String, inlet: &Inlet, pace: &mut tape::Pace) {
        let (label, group) = (self.label.as_deref().map(Arc::from), Some(Arc::from(&*name)));
        let codec = "pattern".to_owned();
        if !inlet.format(Format { name, codec, label, group, ..Format::default() }) {
            return;
        }
        let mut decoder = PatternDecoder::default();
        for number in 0..self.frames.unwrap_or(u32::MAX) {
            let picture = self.picture(&mut decoder, number);
            let time = picture.time;
            if !pace.wait(time) || !inlet.frame(picture, Some(time)) {
                return;
            }
        }
        inlet.finish();
    }
}

impl Settings for TestSettings {
    fn check(&self) -> Vec<Invalid> {
        self.keep().check(self.nature())
    }
}

impl Feed for TestSettings {
    fn start(&self, id: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        let door = TestDoor { id: id.to_owned(), settings: self.clone() };
        live::start(id, self.keep().manner(self.nature()), Box::new(door), tell)
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}

struct TestDoor {
    id: String,
    settings: TestSettings,
}

impl Door for TestDoor {
    fn open(&mut self, _connection: u64, inlet: Inlet) -> Box<dyn Send> {
        let (settings, name) = (self.settings.clone(), self.shown());
        let speed = settings.speed;
        tape::start("live-test", speed, inlet, move |inlet, pace| settings.play(name, inlet, pace))
    }

    fn shown(&self) -> String {
        format!("test:{}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;
    use reelflow_api::feed::{FeedCounts, News};
    use reelflow_api::item::{Origin, Segment};

    use super::*;

    fn settings(text: &str) -> TestSettings {
        toml::from_str(text).unwrap()
    }

    /// Runs a stream to its end; what came, and what was counted. `look` sees all news.
    fn run(
        settings: &TestSettings,
        look: impl Fn(&News) + Send + Sync + 'static,
    ) -> (Vec<Arc<Segment>>, FeedCounts) {
        let (tell, heard) = unbounded();
        let tell: Tell = Arc::new(move |news| {
            look(&news);
            tell.send(news).unwrap();
        });
        let mut running = settings.start("s", tell).unwrap();
        let mut came = Vec::new();
        loop {
            match heard.recv_timeout(std::time::Duration::from_secs(60)).unwrap() {
                News::Came(segment) => came.push(segment),
                News::Ended => break,
                News::Left(_) => {}
                News::Skipped(skip) => panic!("{skip:?}"),
            }
        }
        let counts = running.stop();
        assert!(counts.is_reconciled(), "{counts:?}");
        (came, counts)
    }

    fn numbers(segment: &Segment) -> Vec<u32> {
        let Origin::Recorded(recording) = &segment.media.origin else { panic!("it is recorded") };
        recording.pictures().iter().map(|picture| numbers::read(picture).unwrap()).collect()
    }

    #[test]
    fn numbered_frames_come_in_segments_and_again_the_same() {
        let settings = settings("frames = 110\nspeed = 0\nsegment_secs = 2.0\nlabel = \"a\"");
        let (came, counts) = run(&settings, |_| {});
        let all: Vec<Vec<u32>> = came.iter().map(|segment| numbers(segment)).collect();
        assert_eq!(all, [(0..50).collect::<Vec<u32>>(), (50..100).collect()]);
        assert_eq!(
            (counts.frames_received, counts.frames_kept, counts.frames_left_out["too_short"]),
            (110, 100, 10)
        );
        assert_eq!((came[0].label.as_deref(), came[0].group.as_deref()), (Some("a"), Some("test:s")));
        let (again, _) = run(&settings, |_| {});
        assert!(
            came == again || came.iter().zip(&again).all(|(a, b)| a.id == b.id && numbers(a) == numbers(b))
        );
    }

    #[test]
    fn as_fast_as_used_means_that_nothing_is_dropped() {
        // 1 MiB holds 36 frames; every segment is used as soon as it comes.
        let settings = settings("frames = 300\nspeed = 0\nsegment_secs = 0.4\nframes_min = 10\nkeep_mb = 1");
        let (came, counts) = run(&settings, |news| {
            if let News::Came(segment) = news
                && let Origin::Recorded(recording) = &segment.media.origin
            {
                recording.set_used();
            }
        });
        assert_eq!((came.len(), counts.frames_dropped, counts.segments), (30, 0, 30));
        assert!(counts.frames_used > 200 && counts.bytes_kept <= 1 << 20, "{counts:?}");
        assert_eq!(counts.frames_used + counts.frames_kept, 300);
    }

    #[test]
    fn a_feed_that_waits_stops_when_it_is_dropped() {
        let settings = settings("speed = 0\nsegment_secs = 0.4\nframes_min = 10\nkeep_mb = 1");
        let (tell, heard) = unbounded();
        let running = settings.start("s", Arc::new(move |news| drop(tell.send(news)))).unwrap();
        for _ in 0..3 {
            assert!(matches!(heard.recv().unwrap(), News::Came(_)));
        }
        // Nobody uses a segment, so it waits for ever; so does this if it does not stop.
        drop(running);
        assert!(heard.iter().all(|news| matches!(news, News::Came(_))));
    }
}
