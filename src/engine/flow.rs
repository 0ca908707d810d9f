//! A running dataflow: workers in the background, complete steps in order at this end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use reelflow_api::error::StageError;
use timely::communication::WorkerGuards;
use timely::dataflow::operators::core::concat::Concatenate as _;
use timely::dataflow::operators::probe::{self, Probe as _};
use timely::dataflow::{Scope, Stream};
use timely::scheduling::activate::Activator;
use timely::worker::Worker;

use super::blame;
use super::clips::clips;
use super::crew::Crew;
use super::deliver::{Delivery, Waker, address, deliver};
use super::gather::gather;
use super::layout::{Layout, OperatorKind};
use super::parcel::Parcels;
use super::pixels::{augment, views};
use super::shared::Shared;
use super::tally::Warmup;
use super::timeline::Timeline;

/// How long an idle worker sleeps before it looks whether the run ends or has failed elsewhere.
const IDLE: Duration = Duration::from_millis(50);

/// What [`Flow::next`] found.
pub enum Next {
    /// A complete step.
    Step(Delivery),
    /// Nothing yet.
    Idle,
    /// No further step will come.
    End,
}

/// A running dataflow.
pub struct Flow {
    /// What all its threads share.
    pub shared: Arc<Shared>,
    timeline: Option<Arc<Timeline>>,
    queue: Receiver<Delivery>,
    waker: Waker,
    workers: Option<WorkerGuards<()>>,
    crew: Arc<Crew>,
}

impl Flow {
    /// Starts `workers` worker threads on `layout`.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn start(layout: Layout, workers: usize) -> Result<Self, StageError> {
        Self::start_with(layout, workers, Warmup::default())
    }

    /// [`Flow::start`] with steps that are used up before any other is handed out.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn start_with(layout: Layout, workers: usize, warmup: Warmup) -> Result<Self, StageError> {
        let layout = Arc::new(layout);
        let timeline = layout.timeline.clone();
        let shared = Arc::new(Shared::new(warmup));
        shared.set_consumed(layout.first_step);
        let crew = Arc::new(Crew::start(&layout, workers.max(1), &shared)?);
        let waker = Waker::default();
        let (sender, queue) = bounded(layout.ahead as usize + 1);
        let sender = Mutex::new(Some(sender));
        let mut config = timely::Config::process(workers.max(1));
        // An idle worker parks at once: its core has pictures to decode.
        config.worker = config.worker.idle_spin(Duration::ZERO);
        let guards = timely::execute(config, {
            let (layout, shared, waker, crew) =
                (layout, Arc::clone(&shared), waker.clone(), Arc::clone(&crew));
            move |worker| {
                // Only the first worker delivers; the others must not keep the queue open.
                let sender = sender.lock().expect("no holder panics").take_if(|_| worker.index() == 0);
                work(worker, (&layout, &crew), &shared, sender, &waker);
            }
        })
        .map_err(|error| StageError::unavailable("engine", format!("workers did not start: {error}")))?;
        Ok(Self { shared, timeline, queue, waker, workers: Some(guards), crew })
    }

    /// The next complete step; waits at most `patience`.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Next {
        if self.shared.has_failed() {
            return Next::End;
        }
        match self.queue.recv_timeout(patience) {
            Ok(delivery) => {
                self.shared.depths.steps.note(self.queue.len());
                Next::Step(delivery)
            }
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Says that `step` has been used; its place in memory becomes a credit for the sources.
    pub fn consumed(&self, step: u64) {
        self.shared.set_consumed(step + 1);
        if let Some(timeline) = &self.timeline {
            timeline.consumed(step + 1);
        }
        self.waker.wake();
    }

    /// Lets the flow drain and waits for its threads.
    ///
    /// # Errors
    /// The first failure of any of them.
    pub fn finish(mut self) -> Result<Arc<Shared>, StageError> {
        self.shared.stop();
        self.waker.wake();
        let mut panicked = None;
        if let Some(guards) = self.workers.take() {
            for joined in guards.join() {
                if let Err(message) = joined {
                    panicked = Some(message);
                }
            }
        }
        self.crew.join();
        match (self.shared.take_failure(), panicked) {
            (Some(error), _) => Err(error),
            (None, Some(message)) => Err(StageError {
                stage: "engine".to_owned(),
                message: format!("a worker panicked: {message}"),
                code: 101,
            }),
            (None, None) => Ok(Arc::clone(&self.shared)),
        }
    }
}

impl Drop for Flow {
    /// Without this a flow that is dropped on the way out of a panic would wait for workers that wait for
    /// credit.
    fn drop(&mut self) {
        self.shared.stop();
        self.waker.wake();
    }
}

/// One worker's life: build, step until all is done, and leave early if anything fails anywhere.
fn work(
    worker: &mut Worker,
    (layout, crew): (&Arc<Layout>, &Crew),
    shared: &Arc<Shared>,
    queue: Option<Sender<Delivery>>,
    waker: &Waker,
) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let probe = probe::Handle::new();
        let mut sources = Vec::new();
        let ends = Ends { queue, waker, crew, probe: &probe };
        worker.dataflow::<u64, _, _>(|scope| build(scope, layout, shared, ends, &mut sources));
        let mut told = None;
        while !probe.done() && !shared.has_failed() {
            worker.step_or_park(Some(IDLE));
            // A frontier wakes the worker, but no operator that only has it in a probe.
            let frontier = probe.with_frontier(|frontier| frontier.first().copied());
            let version = layout.timeline.as_ref().map(|timeline| timeline.news());
            let news = (frontier, shared.is_stopping(), version);
            if told.as_ref() != Some(&news) {
                sources.iter().for_each(Activator::activate);
                told = Some(news);
            }
        }
    }));
    if let Err(panic) = outcome {
        shared.fail(blame::failure(&*panic, "engine"));
    }
    if shared.has_failed() {
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }
}

/// What leaves an operator.
#[derive(Clone)]
enum Output<'scope> {
    Views(Stream<'scope, u64, Parcels>),
    Nothing,
}

impl<'scope> Output<'scope> {
    fn views(&self) -> Stream<'scope, u64, Parcels> {
        match self {
            Self::Views(stream) => stream.clone(),
            Self::Nothing => unreachable!("the plan's ports were checked"),
        }
    }
}

/// What the dataflow is joined to at its end.
struct Ends<'a> {
    /// Only the first worker has it.
    queue: Option<Sender<Delivery>>,
    waker: &'a Waker,
    crew: &'a Crew,
    probe: &'a probe::Handle<u64>,
}

/// Builds the same operators in the same order on every worker; adds what wakes its sources to `sources`.
fn build<'scope>(
    scope: Scope<'scope, u64>,
    layout: &Arc<Layout>,
    shared: &Arc<Shared>,
    ends: Ends<'_>,
    sources: &mut Vec<Activator>,
) {
    let mut outputs: Vec<Output<'scope>> = Vec::new();
    let mut to_sinks = Vec::new();
    for (position, operator) in layout.operators.iter().enumerate() {
        let output = match &operator.kind {
            OperatorKind::Sample(sampling) => {
                let joints = (ends.crew, ends.probe, &mut *sources);
                Output::Views(clips(scope, position, sampling, layout, shared, joints))
            }
            OperatorKind::Augment(_) => {
                Output::Views(augment(outputs[operator.input].views(), layout, position))
            }
            OperatorKind::Views(_) => {
                Output::Views(views(outputs[operator.input].views(), layout, position, shared))
            }
            OperatorKind::Batch => {
                Output::Views(gather(outputs[operator.input].views(), &operator.id, shared))
            }
            OperatorKind::Sink(number) => {
                to_sinks.push(address(outputs[operator.input].views(), &operator.id, *number));
                Output::Nothing
            }
        };
        outputs.push(output);
    }
    let all = scope.concatenate(to_sinks);
    deliver(all, ends.queue, shared, ends.waker).probe_with(ends.probe);
}
