//! Tests of the feed's thread, on a clock that jumps to whatever is waited for.

use std::collections::{BTreeMap, VecDeque};

use crossbeam_channel::bounded;
use reelflow_api::item::Colour;

use super::super::cutter::Timing;
use super::*;

const MS: u64 = 1_000_000;

/// What happens next.
enum Next {
    /// So many frames, 40 ms apart, of 12 bytes each.
    Frames(u64),
    Fault(SkipReason, bool),
    Finished,
    /// Nothing, until the thread looks at the time.
    Silence,
}

/// Shared by door, timer and test.
#[derive(Default)]
struct Play {
    now: Duration,
    coming: VecDeque<Arrival>,
    scripts: VecDeque<Vec<Next>>,
    /// When connections were made.
    opened: Vec<Duration>,
    /// How often a source that waits has looked for a used segment.
    looks: u32,
    /// What happens at each look.
    at_look: Option<Box<dyn FnMut(u32) + Send>>,
    silences: u32,
    media_time: u64,
}

struct FakeTimer(Arc<Mutex<Play>>);

impl Timer for FakeTimer {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn wait(&mut self, _: &Receiver<Arrival>, stop: &Receiver<()>, until: Option<Duration>) -> Woken {
        let mut play = self.0.lock().unwrap();
        if stop.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
            return Woken::Stopped;
        }
        let is_look = until == Some(play.now + LOOK);
        if is_look {
            play.now += LOOK;
            play.looks += 1;
            let looks = play.looks;
            let mut at_look = play.at_look.take().expect("nobody ever uses what is waited for");
            at_look(looks);
            play.at_look = Some(at_look);
            return Woken::Time;
        }
        if let Some(arrival) = play.coming.pop_front() {
            return Woken::Arrival(arrival);
        }
        if play.scripts.is_empty() && play.silences == 0 {
            return Woken::Stopped;
        }
        play.silences = play.silences.saturating_sub(1);
        play.now = until.expect("it would wait for ever");
        Woken::Time
    }
}

struct FakeDoor(Arc<Mutex<Play>>);

impl Door for FakeDoor {
    fn open(&mut self, connection: u64, _: Inlet) -> Box<dyn Send> {
        let mut play = self.0.lock().unwrap();
        let now = play.now;
        play.opened.push(now);
        let salt = format!("c{connection}");
        play.coming.push_back(Arrival::Format(Arc::new(Format { salt, ..Format::default() })));
        for next in play.scripts.pop_front().unwrap_or_default() {
            match next {
                Next::Frames(count) => {
                    for _ in 0..count {
                        play.media_time += 40 * MS;
                        let frame = frame(play.media_time);
                        play.coming.push_back(Arrival::Frame(frame));
                    }
                }
                Next::Fault(reason, is_lasting) => {
                    let fault = Fault { is_lasting, ..fault(reason, "for a test") };
                    play.coming.push_back(Arrival::Fault(fault));
                }
                Next::Finished => play.coming.push_back(Arrival::Finished),
                Next::Silence => play.silences += 1,
            }
        }
        Box::new(())
    }

    fn shown(&self) -> String {
        "fake://".to_owned()
    }
}

fn frame(time: u64) -> Incoming {
    let picture = Picture { time: 0, width: 4, height: 2, colour: Colour::default(), planes: vec![0; 12] };
    Incoming { picture, time: Some(time), arrival: time, after_gap: false }
}

/// Ten frames a segment, room for ten segments.
fn manner() -> Manner {
    Manner {
        rules: Rules {
            segment: 400 * MS,
            frames_min: 4,
            bytes_max: 600,
            max_fps: None,
            timing: Timing::Media,
        },
        bytes_max: 1200,
        overload: Overload::DropOldest,
        start_after: 1,
        stall: Some(Duration::from_secs(10)),
        give_up: None,
        can_wait: false,
    }
}

/// What a run told and counted.
struct Told {
    news: Vec<News>,
    counts: FeedCounts,
    opened: Vec<Duration>,
    looks: u32,
}

impl Told {
    fn came(&self) -> Vec<&Arc<Segment>> {
        self.news
            .iter()
            .filter_map(|news| if let News::Came(came) = news { Some(came) } else { None })
            .collect()
    }

    fn left(&self) -> Vec<SegmentId> {
        self.news.iter().filter_map(|news| if let News::Left(id) = news { Some(*id) } else { None }).collect()
    }

    fn skips(&self) -> Vec<(SkipReason, &str)> {
        let skips = self.news.iter().filter_map(|news| match news {
            News::Skipped(skip) => Some((skip.reason, &*skip.message)),
            _ => None,
        });
        skips.collect()
    }

    fn has_ended(&self) -> bool {
        matches!(self.news.last(), Some(News::Ended))
    }
}

/// Runs a feed through a script a connection; stops it when nothing is left to happen.
fn run(manner: Manner, scripts: Vec<Vec<Next>>) -> Told {
    run_with(manner, scripts, |_| None)
}

type AtLook = Box<dyn FnMut(u32) + Send>;

/// [`run`], with what happens while a source waits; it is made from the list of what is told.
fn run_with(
    manner: Manner,
    scripts: Vec<Vec<Next>>,
    at_look: impl FnOnce(&Arc<Mutex<Vec<News>>>) -> Option<AtLook>,
) -> Told {
    let news = Arc::new(Mutex::new(Vec::new()));
    let play = Play { scripts: scripts.into(), at_look: at_look(&news), ..Play::default() };
    let play = Arc::new(Mutex::new(play));
    let counts = Arc::new(Mutex::new(FeedCounts::default()));
    let (_stop, stopped) = bounded(0);
    let heard = Arc::clone(&news);
    let tell: Tell = Arc::new(move |news| heard.lock().unwrap().push(news));
    let timer = (FakeTimer(Arc::clone(&play)), clock::now());
    let door = Box::new(FakeDoor(Arc::clone(&play)));
    Drive::new("cam", manner, door, timer, (stopped, tell), Arc::clone(&counts)).run();
    let counts = counts.lock().unwrap().clone();
    let FeedCounts { frames_received, frames_used, frames_dropped, frames_kept, .. } = counts;
    let left_out: u64 = counts.frames_left_out.values().sum();
    assert_eq!(frames_received, frames_used + frames_dropped + left_out + frames_kept, "{counts:?}");
    let play = play.lock().unwrap();
    let news = news.lock().unwrap().clone();
    Told { news, counts, opened: play.opened.clone(), looks: play.looks }
}

#[test]
fn a_lost_connection_is_made_again_and_no_segment_goes_over_it() {
    let lost = || Next::Fault(SkipReason::Vanished, false);
    let told =
        run(manner(), vec![vec![Next::Frames(25), lost()], vec![lost()], vec![Next::Frames(13), lost()]]);
    let millis: Vec<u128> = told.opened.iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [0, 500, 1250], "each pause is longer than the one before");
    let frames: Vec<u32> = told.came().iter().map(|segment| segment.count).collect();
    assert_eq!(frames, [10, 10, 5, 10]);
    assert_eq!(told.counts.frames_left_out, BTreeMap::from([("too_short", 3)]));
    assert_eq!((told.counts.reconnects, told.counts.breaks, told.counts.segments), (2, 2, 4));
    assert_eq!(told.skips(), [(SkipReason::Vanished, "for a test")], "the same reason is told once");
    assert_eq!(told.counts.last_reason, "vanished: for a test");
    let mut ids: Vec<SegmentId> = told.came().iter().map(|segment| segment.id).collect();
    assert!(ids.iter().all(|id| id.0 >> 63 == 0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(!told.has_ended() && told.counts.state == "ended");
}

#[test]
fn silence_is_noticed_at_the_limit_and_a_refusal_is_not_tried_again_soon() {
    let told = run(
        manner(),
        vec![
            vec![Next::Frames(10), Next::Silence],
            vec![Next::Silence],
            vec![Next::Fault(SkipReason::Unreadable, true)],
            vec![Next::Frames(10)],
        ],
    );
    let secs: Vec<f64> = told.opened.iter().map(Duration::as_secs_f64).collect();
    // Silent at 0 for 10 s, a pause of 0.5; silent for 10 s, a pause of 0.75; refused, 30 s.
    assert_eq!(secs, [0.0, 10.5, 21.25, 51.25]);
    let expected = [(SkipReason::Stalled, "nothing came for 10 s"), (SkipReason::Unreadable, "for a test")];
    assert_eq!(told.skips(), expected);
}

#[test]
fn a_source_that_stays_away_ends_where_that_was_asked_for() {
    let lost = || vec![Next::Fault(SkipReason::Vanished, false)];
    let limited = Manner { give_up: Some(Duration::from_secs(5)), ..manner() };
    let told = run(limited, (0..20).map(|_| lost()).collect());
    assert!(told.has_ended());
    let last = told.skips().last().copied().unwrap();
    assert_eq!(last.0, SkipReason::Vanished);
    assert_eq!(last.1, "away for 5 s (`give_up_secs`); last seen: vanished: for a test");
    assert!(told.opened.last().unwrap() < &Duration::from_secs(5));
    let forever = run(manner(), (0..20).map(|_| lost()).collect());
    assert!(!forever.has_ended() && forever.opened.len() == 20);
}

#[test]
fn full_memory_drops_the_oldest_and_counts_it() {
    let told = run(manner(), vec![vec![Next::Frames(205)]]);
    let came: Vec<SegmentId> = told.came().iter().map(|segment| segment.id).collect();
    let left = told.left();
    assert_eq!(left[..], came[..left.len()], "in the order in which they came");
    let counts = &told.counts;
    assert_eq!((counts.frames_received, counts.frames_used), (205, 0));
    assert_eq!(counts.frames_dropped, left.len() as u64 * 10);
    assert!(counts.bytes_kept <= 1200 && counts.frames_kept > 90, "{counts:?}");
}

#[test]
fn used_frames_are_told_from_dropped_ones() {
    // Every second segment is used when it comes: the listener is the trainer.
    let told = run_with(manner(), vec![vec![Next::Frames(400)]], |_| None);
    assert_eq!(told.counts.frames_used, 0);
    let waiting = Manner { overload: Overload::Block, can_wait: true, stall: None, ..manner() };
    let use_all = |news: &Arc<Mutex<Vec<News>>>| -> Option<AtLook> {
        let news = Arc::clone(news);
        Some(Box::new(move |looks| {
            // The third look finds that the newest was used.
            let news = news.lock().unwrap();
            let newest =
                news.iter().rev().find_map(|one| if let News::Came(came) = one { Some(came) } else { None });
            let Origin::Recorded(recording) = &newest.unwrap().media.origin else { panic!("it is recorded") };
            if looks % 3 == 0 {
                recording.set_used();
            }
        }))
    };
    let told = run_with(waiting, vec![vec![Next::Frames(405), Next::Finished]], use_all);
    assert!(told.has_ended());
    assert_eq!(told.counts.frames_dropped, 0, "a source that waits drops nothing");
    assert_eq!(told.counts.frames_used, told.left().len() as u64 * 10);
    assert_eq!(told.looks as usize, told.left().len() * 3);
    assert_eq!(told.came().len(), 41);
    assert!(told.counts.bytes_kept <= 1200);
}

#[test]
fn a_source_that_waits_is_not_connected_again() {
    let waiting = Manner { can_wait: true, stall: None, ..manner() };
    let told = run(waiting, vec![vec![Next::Frames(10), Next::Fault(SkipReason::Corrupt, false)]]);
    assert!(told.has_ended() && told.opened.len() == 1);
    assert_eq!(told.came().len(), 1);
}

#[test]
fn memory_that_can_never_be_enough_is_told_at_once() {
    let many = Manner { start_after: 50, ..manner() };
    let told = run(many, vec![vec![Next::Frames(400)]]);
    assert!(told.has_ended());
    let (reason, message) = told.skips()[0];
    assert_eq!(reason, SkipReason::Limit);
    assert!(
        message.starts_with("`keep_mb` has room for 9 segments, and `start_after` waits for 50"),
        "{message}"
    );
    // Four frames of 12 bytes do not fit half of 80.
    let small = Manner { bytes_max: 80, rules: Rules { bytes_max: 40, ..manner().rules }, ..manner() };
    let told = run(small, vec![vec![Next::Frames(3)]]);
    assert_eq!(told.skips()[0].0, SkipReason::Limit);
    assert!(told.skips()[0].1.starts_with("4 pictures of 4x2 do not fit half of `keep_mb`"));
}
