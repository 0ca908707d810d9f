//! Carries what banks ask of their shards to the timely processes these live in, and the answers back.
//!
//! ```text
//! links ─▶ queue ─▶ [requests] ─ to the shard's worker ─▶ [shards] ─ back to the asker ─▶ [answers] ─▶ links
//! ```
//!
//! A dataflow of its own, the same on every worker of every process. Time does not advance in it: each shard has one
//! asker, and between two workers records stay in order, which is all that a bank needs. It ends when every process
//! has said that it asks no more.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use reelflow_api::error::StageError;
use serde::{Deserialize, Serialize};
use timely::WorkerConfig;
use timely::communication::allocator::AllocatorBuilder;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{Hooks, WorkerGuards};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::{Operator as _, source};
use timely::dataflow::operators::probe::{self, Probe as _};
use timely::scheduling::activate::SyncActivator;
use timely::worker::Worker;

use crate::bank::{Answer, Hosted, Link, Request};
use crate::edge::peers::{self, Peer};

/// How long an idle worker sleeps before it looks whether another has failed.
const IDLE: Duration = Duration::from_millis(50);

/// Requests that may wait for the worker that sends them. When full, the shard's thread waits.
const REQUESTS_MAX: usize = 64;

/// A request on its way to a shard's worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Question {
    to: u64,
    from: u64,
    bank: String,
    shard: u32,
    request: Request,
}

/// An answer on its way back.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Reply {
    to: u64,
    bank: String,
    shard: u32,
    answer: Answer,
}

/// Where the processes of a run meet.
pub struct Meeting<'a> {
    /// Who this process is.
    pub peer: Peer,
    /// Where those behind it come to; the last process needs none.
    pub listener: Option<&'a TcpListener>,
    /// Where those before it listen. Loopback only.
    pub lower: &'a [SocketAddr],
    /// How long to wait for all of them.
    pub patience: Duration,
}

/// This process's end of the way between banks and shards. All processes start theirs, with the same number of workers.
pub struct Bridge {
    ends: Arc<Ends>,
    questions: Sender<Question>,
    first: usize,
    workers: usize,
    peers: usize,
    guards: Option<WorkerGuards<()>>,
}

/// What links and workers of a process share.
#[derive(Default)]
struct Ends {
    /// Where the answers for a shard go; empty when no further answer will come.
    answers: Mutex<Answers>,
    /// Wakes the worker that sends requests.
    waker: Mutex<Option<SyncActivator>>,
    /// Whether nothing more will be asked here.
    done: AtomicBool,
}

#[derive(Default)]
struct Answers {
    open: HashMap<(String, u32), Sender<Answer>>,
    closed: bool,
}

impl Ends {
    fn wake(&self) {
        if let Some(waker) = self.waker.lock().expect("no holder panics").as_ref() {
            // A worker that is gone sends nothing more, and its queue says so.
            let _ = waker.activate();
        }
    }

    /// Nobody waits for an answer from now on.
    fn close(&self) {
        let mut answers = self.answers.lock().expect("no holder panics");
        answers.open.clear();
        answers.closed = true;
    }
}

impl Bridge {
    /// Meets the other processes and starts `workers` workers here.
    ///
    /// # Errors
    /// If the others do not come, or threads cannot be started.
    pub fn start(meeting: &Meeting<'_>, workers: usize) -> Result<Self, StageError> {
        let Peer { process, processes, .. } = meeting.peer;
        let failed =
            |error: String| StageError::unavailable("peers", format!("workers did not start: {error}"));
        let sockets = peers::meet(meeting.peer, meeting.listener, meeting.lower, meeting.patience)?;
        let hooks = Hooks::default();
        let inside = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) = initialize_networking_from_sockets(inside, sockets, process, workers, hooks)
            .map_err(|e| failed(e.to_string()))?;
        let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
        let (questions, queue) = bounded(REQUESTS_MAX);
        let queue = Mutex::new(Some(queue));
        let ends = Arc::new(Ends::default());
        let first = process * workers;
        let shared = Arc::clone(&ends);
        let config = WorkerConfig::default().idle_spin(Duration::ZERO);
        let guards = timely::execute::execute_from(builders, Box::new(guard), config, move |worker| {
            // The first worker of the process asks for all of it.
            let queue = queue.lock().expect("no holder panics").take_if(|_| worker.index() == first);
            work(worker, queue, &shared);
        });
        Ok(Self {
            ends,
            questions,
            first,
            workers,
            peers: processes * workers,
            guards: Some(guards.map_err(failed)?),
        })
    }

    /// The way to a shard of a bank; `None` if it lives in this process. Shards go round the workers of all processes.
    #[must_use]
    pub fn link(&self, bank: &str, shard: usize) -> Option<Box<dyn Link>> {
        let to = shard % self.peers;
        if (self.first..self.first + self.workers).contains(&to) {
            return None;
        }
        let (sender, answers) = bounded(1);
        let mut open = self.ends.answers.lock().expect("no holder panics");
        if !open.closed {
            open.open.insert((bank.to_owned(), shard as u32), sender);
        }
        Some(Box::new(Way {
            ends: Arc::clone(&self.ends),
            questions: self.questions.clone(),
            answers,
            to: to as u64,
            from: self.first as u64,
            bank: bank.to_owned(),
            shard: shard as u32,
        }))
    }

    /// Asks no more, serves the others until they do not either, and waits for the end.
    ///
    /// # Errors
    /// If another process went away before: a restart from a checkpoint may help (75).
    pub fn finish(mut self) -> Result<(), StageError> {
        if self.end() {
            return Ok(());
        }
        let message = "another process of the run is gone; start all of them again from the last checkpoint";
        Err(StageError { stage: "peers".to_owned(), message: message.to_owned(), code: 75 })
    }

    /// Whether all went well.
    fn end(&mut self) -> bool {
        self.ends.done.store(true, Ordering::Release);
        self.ends.wake();
        let Some(guards) = self.guards.take() else { return true };
        // Timely's threads panic when a socket closes too early, and so does whoever joins them.
        let joined = catch_unwind(AssertUnwindSafe(|| guards.join().iter().all(Result::is_ok)));
        joined.unwrap_or(false)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end();
    }
}

/// A link over the bridge.
struct Way {
    ends: Arc<Ends>,
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    to: u64,
    from: u64,
    bank: String,
    shard: u32,
}

impl Link for Way {
    fn tell(&mut self, request: Request) -> bool {
        let Self { to, from, bank, shard, .. } = &*self;
        let question = Question { to: *to, from: *from, bank: bank.clone(), shard: *shard, request };
        let sent = self.questions.send(question).is_ok();
        self.ends.wake();
        sent
    }

    fn ask(&mut self, request: Request) -> Option<Answer> {
        if !self.tell(request) {
            return None;
        }
        self.answers.recv().ok()
    }
}

/// One worker's life.
fn work(worker: &mut Worker, queue: Option<Receiver<Question>>, ends: &Arc<Ends>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let probe = probe::Handle::new();
        worker.dataflow::<u64, _, _>(|scope| build(scope, queue, ends, &probe));
        while !probe.done() {
            worker.step_or_park(Some(IDLE));
        }
    }));
    // Whoever waits for an answer is told that none will come.
    ends.close();
    if let Err(panic) = outcome {
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
        std::panic::resume_unwind(panic);
    }
}

/// Builds the same operators in the same order on every worker.
fn build<'scope>(
    scope: Scope<'scope, u64>,
    queue: Option<Receiver<Question>>,
    ends: &Arc<Ends>,
    probe: &probe::Handle<u64>,
) {
    let asking = Arc::clone(ends);
    let questions =
        source::<_, CapacityContainerBuilder<Vec<Question>>, _, _>(scope, "requests", |capability, info| {
            if queue.is_some() {
                let waker = scope.worker().sync_activator_for(info.address.to_vec());
                *asking.waker.lock().expect("no holder panics") = Some(waker);
            }
            let mut open = queue.map(|queue| (queue, capability));
            move |output| {
                let Some((queue, capability)) = &open else { return };
                // Read first: what was asked before the end is still sent.
                let done = asking.done.load(Ordering::Acquire);
                let ended = loop {
                    match queue.try_recv() {
                        Ok(question) => output.session(capability).give(question),
                        Err(TryRecvError::Empty) => break done,
                        Err(TryRecvError::Disconnected) => break true,
                    }
                };
                if ended {
                    open = None;
                }
            }
        });
    let to_shard = Exchange::new(|question: &Question| question.to);
    let replies =
        questions.unary::<CapacityContainerBuilder<Vec<Reply>>, _, _, _>(to_shard, "shards", |_, _| {
            let mut hosted = Hosted::default();
            move |input, output| {
                // In the order of arrival; grouping by stamp promises none among equals.
                input.for_each(|capability, data| {
                    let mut session = output.session(&capability);
                    for Question { from, bank, shard, request, .. } in data.drain(..) {
                        if let Some(answer) = hosted.serve(from, &bank, shard, request) {
                            session.give(Reply { to: from, bank, shard, answer });
                        }
                    }
                });
            }
        });
    let answering = Arc::clone(ends);
    let back = Exchange::new(|reply: &Reply| reply.to);
    replies
        .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(back, "answers", move |_, _| {
            move |input, _| {
                input.for_each(|_, data| {
                    let answers = answering.answers.lock().expect("no holder panics");
                    for Reply { bank, shard, answer, .. } in data.drain(..) {
                        // Each asker waits for one answer at a time, so there is room; one that is gone needs none.
                        if let Some(sender) = answers.open.get(&(bank, shard)) {
                            let _ = sender.try_send(answer);
                        }
                    }
                });
            }
        })
        .probe_with(probe);
}
