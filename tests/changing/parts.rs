//! A camera, a list and a sink that tests hold in their hands, and runs over them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reelflow::api::error::StageError;
use reelflow::api::feed::{CatalogueChange, Feed, FeedCounts, News, Recording, Running, Tell};
use reelflow::api::item::{Batch, Media, Origin, Segment, SegmentId};
use reelflow::api::stage::{
    Candidate, Listing, OnError, Parts, Scalars, Sink, SinkContext, SinkPlan, Source, Stage,
};
use reelflow::config::{self, Plan};
use reelflow::decode::pattern::{media, picture};
use reelflow::edge::clock;
use reelflow::edge::signal::Stop;
use reelflow::engine::run::{Options, Outcome};
use reelflow::engine::run_dir::Start;
use reelflow::source::catalogue;

/// Frames of every segment.
const FRAMES: u64 = 8;
/// A medium of the list that is shorter than a window.
pub const SHORT: u32 = 77;

/// A pipeline over sources of these ids, whose types only stand in for what tests put in their place.
pub fn text(steps: u64, sources: &[&str]) -> String {
    let tables: String =
        sources.iter().map(|id| format!("[sources.{id}]\ntype = \"pattern\"\nmedia = 1\n")).collect();
    let inputs: Vec<String> = sources.iter().map(|id| format!("{id:?}")).collect();
    format!(
        r#"
        version = 1
        [run]
        seed = 3
        steps = {steps}
        workers = 2
        {tables}
        [operators.windows]
        type = "uniform"
        inputs = [{}]
        frames = 4
        stride = 1
        frames_min = 4
        [operators.views]
        type = "augment"
        inputs = ["windows"]
        steps = [{{ op = "resize", width = 8, height = 8 }}]
        [operators.batch]
        type = "batch"
        inputs = ["views"]
        size = 2
        [sinks.sink]
        type = "digest"
        inputs = ["batch"]
        "#,
        inputs.join(", ")
    )
}

#[track_caller]
pub fn plan(text: &str) -> Plan {
    config::load(text, Path::new("changing.toml"), &[]).unwrap_or_else(|report| panic!("{report}"))
}

/// Runs a pipeline with these sources and this sink in the folder `run` below `folder`.
pub fn run(
    text: &str,
    sources: &[(&str, Arc<dyn Source>)],
    sink: SeenPlan,
    folder: &Path,
    start: Start,
) -> Result<Outcome, StageError> {
    let mut plan = plan(text);
    plan.run.out = Some(folder.join("run"));
    let stop = sink.stop.clone();
    let mut sink = Some(sink);
    for node in &mut plan.nodes {
        if let Some((_, source)) = sources.iter().find(|(id, _)| *id == node.id) {
            node.stage = Stage::Source(Box::new(Shared(Arc::clone(source))));
        } else if node.id == "sink" {
            node.stage = Stage::Sink(Box::new(sink.take().expect("there is one sink")));
        }
    }
    reelflow::engine::run::run(plan, Options { start, quiet: true, stop, ..Options::default() })
}

/// Waits for something that another thread does; a minute is for ever.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = clock::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::yield_now();
    }
}

fn times() -> Vec<u64> {
    (0..FRAMES).map(|frame| frame * 40_000_000).collect()
}

fn segment(id: u64, media: Media) -> Arc<Segment> {
    let count = media.times.len() as u32;
    let media = Arc::new(media);
    Arc::new(Segment { id: SegmentId(id), media, first: 0, count, label: None, group: None, split: None })
}

/// Computed segments with these ids.
pub fn segments(ids: &[u64]) -> Vec<Arc<Segment>> {
    ids.iter().map(|id| segment(*id, media(*id as u32, 16, 8, times()))).collect()
}

/// A segment of a file that is not there.
pub fn gone(id: u64) -> Arc<Segment> {
    let origin = Origin::File(format!("/nonexistent/{id}.mp4").into());
    segment(id, Media { origin, name: format!("/nonexistent/{id}.mp4"), ..media(0, 16, 8, times()) })
}

/// A recorded segment of the pictures of a pattern.
pub fn recording(id: u64, pattern: u64) -> Arc<Segment> {
    let pictures = times().into_iter().map(|time| picture(pattern as u32, time, 16, 8)).collect();
    let origin = Origin::Recorded(Arc::new(Recording::new(pictures)));
    segment(id, Media { origin, name: "cam".to_owned(), keys: [].into(), ..media(0, 16, 8, times()) })
}

/// A source that several hold.
struct Shared(Arc<dyn Source>);

impl Source for Shared {
    fn list(&self) -> Result<Listing, StageError> {
        self.0.list()
    }

    fn segment_secs(&self) -> Option<f64> {
        self.0.segment_secs()
    }

    fn on_error(&self) -> OnError {
        self.0.on_error()
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        self.0.describe(origin)
    }

    fn watch_secs(&self) -> Option<f64> {
        self.0.watch_secs()
    }

    fn feed(&self) -> Option<&dyn Feed> {
        self.0.feed()
    }
}

/// A camera whose segments the test makes.
pub struct Cam {
    start_after: u64,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    tell: Mutex<Option<Tell>>,
    kept: Mutex<VecDeque<Arc<Segment>>>,
    counts: Mutex<FeedCounts>,
    /// Segments to tell at the start, and then the end.
    at_start: Mutex<Option<u64>>,
}

impl Cam {
    pub fn new(start_after: u64) -> Self {
        Self { start_after, inner: Arc::default() }
    }

    /// Tells so many segments when it is started, and that there is nothing more.
    pub fn at_start(&self, segments: u64) {
        *self.inner.at_start.lock().unwrap() = Some(segments);
    }

    /// What the engine gave it to tell news with.
    pub fn tell(&self) -> Tell {
        self.inner.tell.lock().unwrap().clone().expect("the feed was started")
    }

    /// Tells a segment, and that the oldest has left if there are more than `ring`.
    pub fn push(&self, id: u64, ring: usize) {
        self.inner.push(&self.tell(), id, ring);
    }
}

impl Inner {
    fn push(&self, tell: &Tell, id: u64, ring: usize) {
        let segment = recording(id, id);
        self.counts.lock().unwrap().frames_received += FRAMES;
        self.kept.lock().unwrap().push_back(Arc::clone(&segment));
        tell(News::Came(segment));
        let mut kept = self.kept.lock().unwrap();
        while kept.len() > ring {
            let old = kept.pop_front().expect("there are more than none");
            let Origin::Recorded(recording) = &old.media.origin else { unreachable!("all are recorded") };
            let mut counts = self.counts.lock().unwrap();
            match recording.is_used() {
                true => counts.frames_used += FRAMES,
                false => counts.frames_dropped += FRAMES,
            }
            tell(News::Left(old.id));
        }
    }
}

impl Source for Cam {
    fn list(&self) -> Result<Listing, StageError> {
        Err(StageError::failed("cam", "a camera is not listed"))
    }

    fn segment_secs(&self) -> Option<f64> {
        None
    }

    fn on_error(&self) -> OnError {
        OnError::Quarantine
    }

    fn feed(&self) -> Option<&dyn Feed> {
        Some(self)
    }
}

impl Feed for Cam {
    fn start(&self, _: &str, tell: Tell) -> Result<Box<dyn Running>, StageError> {
        *self.inner.tell.lock().unwrap() = Some(Arc::clone(&tell));
        if let Some(segments) = *self.inner.at_start.lock().unwrap() {
            (0..segments).for_each(|id| self.inner.push(&tell, id, usize::MAX));
            tell(News::Ended);
        }
        Ok(Box::new(At(Arc::clone(&self.inner))))
    }

    fn start_after(&self) -> u64 {
        self.start_after
    }
}

struct At(Arc<Inner>);

impl Running for At {
    fn counts(&self) -> FeedCounts {
        let mut counts = self.0.counts.lock().unwrap().clone();
        counts.frames_kept = self.0.kept.lock().unwrap().len() as u64 * FRAMES;
        counts
    }
}

/// A list of patterns that the test changes.
#[derive(Clone)]
pub struct Listed {
    now: Arc<Mutex<Vec<u32>>>,
    looks: Arc<AtomicU64>,
    is_watched: bool,
}

impl Listed {
    pub fn new(patterns: &[u32]) -> Self {
        let now = Arc::new(Mutex::new(patterns.to_vec()));
        Self { now, looks: Arc::default(), is_watched: true }
    }

    pub fn watched(&self) -> Self {
        self.clone()
    }

    pub fn fixed(&self) -> Self {
        Self { is_watched: false, ..self.clone() }
    }

    pub fn set(&self, patterns: &[u32]) {
        *self.now.lock().unwrap() = patterns.to_vec();
    }

    pub fn has(&self, pattern: u32) -> bool {
        self.now.lock().unwrap().contains(&pattern)
    }

    /// How often it was listed.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    /// Id of the segment of a pattern in the source `files`.
    pub fn id(&self, pattern: u32) -> u64 {
        let alone = Self::new(&[pattern]);
        catalogue::build(&[("files", &alone)], 1).unwrap().catalogue.segments[0].id.0
    }
}

impl Source for Listed {
    fn list(&self) -> Result<Listing, StageError> {
        let candidate = |number: &u32| Candidate {
            origin: Origin::Pattern { number: *number },
            label: None,
            group: None,
            split: None,
            span_secs: None,
        };
        let candidates = self.now.lock().unwrap().iter().map(candidate).collect();
        self.looks.fetch_add(1, Ordering::AcqRel);
        Ok(Listing { candidates, skipped: Vec::new() })
    }

    fn segment_secs(&self) -> Option<f64> {
        None
    }

    fn on_error(&self) -> OnError {
        OnError::Quarantine
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        let Origin::Pattern { number } = origin else { return None };
        let frames = if *number == SHORT { 1 } else { FRAMES as usize };
        Some(media(*number, 16, 8, times()[..frames].to_vec()))
    }

    fn watch_secs(&self) -> Option<f64> {
        self.is_watched.then_some(0.01)
    }
}

/// What a sink went through, in order.
#[derive(Clone, Debug)]
enum Event {
    Changed(CatalogueChange),
    /// Step, and segments by slot.
    Batch(u64, Vec<u64>),
    Saved,
}

/// The log of a sink.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Event>>>);

/// What a test does at each step.
type Act = Box<dyn FnMut(u64, &Stop) + Send>;

impl Seen {
    /// A sink that keeps this log and calls `act` with each step, once it has been logged.
    pub fn plan(&self, act: impl FnMut(u64, &Stop) + Send + 'static) -> SeenPlan {
        let act: Act = Box::new(act);
        SeenPlan { seen: self.clone(), stop: Stop::default(), act: Mutex::new(Some(act)) }
    }

    fn log(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// Segments of every batch, by step.
    pub fn batches(&self) -> BTreeMap<u64, Vec<u64>> {
        let batch = |event| match event {
            Event::Batch(step, ids) => Some((step, ids)),
            _ => None,
        };
        self.events().into_iter().filter_map(batch).collect()
    }

    pub fn changes(&self) -> Vec<CatalogueChange> {
        let change = |event| match event {
            Event::Changed(change) => Some(change),
            _ => None,
        };
        self.events().into_iter().filter_map(change).collect()
    }

    /// Whether each change came after the batches of the steps before its own and before that of its own.
    pub fn order_holds(&self) -> bool {
        let events = self.events();
        let step = |event: &Event| match event {
            Event::Batch(step, _) => Some(*step),
            _ => None,
        };
        events.iter().enumerate().all(|(at, event)| match event {
            Event::Changed(change) => {
                events[..at].iter().filter_map(step).all(|step| step < change.step)
                    && events[at..].iter().filter_map(step).all(|step| step >= change.step)
            }
            _ => true,
        })
    }

    pub fn is_saved_last(&self) -> bool {
        matches!(self.events().last(), Some(Event::Saved))
    }
}

/// A sink that keeps a log, before it is opened.
pub struct SeenPlan {
    seen: Seen,
    stop: Stop,
    act: Mutex<Option<Act>>,
}

impl SinkPlan for SeenPlan {
    fn has_state(&self) -> bool {
        true
    }

    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, StageError> {
        let act = self.act.lock().unwrap().take().expect("opened once");
        Ok(Box::new(Log { seen: self.seen.clone(), stop: self.stop.clone(), act }))
    }
}

struct Log {
    seen: Seen,
    stop: Stop,
    act: Act,
}

impl Sink for Log {
    fn consume(&mut self, batch: &Batch) -> Result<Scalars, StageError> {
        self.seen.log(Event::Batch(batch.step, batch.slots.iter().map(|slot| slot.segment.0).collect()));
        (self.act)(batch.step, &self.stop);
        Ok(Scalars::new())
    }

    /// As if each segment had one row.
    fn catalogue_changed(&mut self, change: &CatalogueChange) -> Result<u64, StageError> {
        self.seen.log(Event::Changed(change.clone()));
        Ok(change.removed.len() as u64)
    }

    fn save(&mut self) -> Result<Parts, StageError> {
        self.seen.log(Event::Saved);
        Ok(Parts::from([("log.txt".to_owned(), b"kept by the test".to_vec())]))
    }

    fn restore(&mut self, _: &Parts) -> Result<(), StageError> {
        Ok(())
    }
}
