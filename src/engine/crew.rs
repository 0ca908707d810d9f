//! Threads that decode, one a worker and sampler, and one queue of jobs for all of a process.
//!
//! The plan says which worker hands out a job; whichever thread is free does it. So all threads are busy to the last
//! job, though one file is long and another on a slow disk. No worker waits for a file, and no picture waits for a
//! worker.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use reelflow_api::error::StageError;
use reelflow_api::item::SamplePlan;
use timely::scheduling::activate::SyncActivator;

use super::blame;
use super::decode::{Job, Made, Work};
use super::layout::{Layout, OperatorKind};
use super::shared::Shared;
use crate::edge::threads;

/// The threads of a process that decode.
///
/// `run.workers` is the number of cores the data takes: there are as many threads a sampler as workers.
#[derive(Default)]
pub struct Crew {
    /// By position of the sampler; a worker takes one when it starts. No more jobs can come once all are gone.
    queues: Mutex<HashMap<usize, Vec<Sender<Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    /// Starts `workers` threads for every sampler of `layout`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(layout: &Arc<Layout>, workers: usize, shared: &Arc<Shared>) -> Result<Self, StageError> {
        let crew = Self::default();
        for (position, operator) in layout.operators.iter().enumerate() {
            let OperatorKind::Sample(sampling) = &operator.kind else { continue };
            // As many as credit can be out for, so nobody ever waits to hand a job out.
            let (sender, jobs) = bounded::<Job>(layout.ahead as usize * sampling.batch_size as usize);
            for number in 0..workers {
                let work = Work::new(layout, (position, sampling), shared);
                let (jobs, shared) = (jobs.clone(), Arc::clone(shared));
                let body = move || {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.run(&jobs))) {
                        // Without this a worker would wait for ever for what this thread had in hand.
                        shared.fail(blame::failure(&*panic, "decode"));
                    }
                };
                let thread = threads::spawn(&format!("decode-{number}"), body)?;
                crew.threads.lock().expect("no holder panics").push(thread);
            }
            crew.queues.lock().expect("no holder panics").insert(position, vec![sender; workers]);
        }
        Ok(crew)
    }

    /// The end of one worker for the sampler at `position`; views for it wake it through `activator`.
    #[must_use]
    pub fn hand(&self, position: usize, activator: SyncActivator) -> Hand {
        let mut queues = self.queues.lock().expect("no holder panics");
        let jobs = queues.get_mut(&position).and_then(Vec::pop).expect("one for each worker");
        let (made_tx, made) = bounded(jobs.capacity().expect("bounded"));
        Hand { jobs, made, reply: Reply { made: made_tx, activator: Arc::new(Mutex::new(activator)) } }
    }

    /// Waits for all threads, after the workers have ended.
    pub fn join(&self) {
        // Of workers that never started.
        self.queues.lock().expect("no holder panics").clear();
        for thread in self.threads.lock().expect("no holder panics").drain(..) {
            // A panic in it was already reported by the hook, and noted.
            let _ = thread.join();
        }
    }
}

/// Where what became of a job goes.
#[derive(Clone)]
pub struct Reply {
    made: Sender<Made>,
    activator: Arc<Mutex<SyncActivator>>,
}

impl Reply {
    /// Hands `made` over, waiting for room, and wakes the worker. One that is gone needs neither.
    pub fn send(&self, made: Made, shared: &Shared) {
        if self.made.send(made).is_ok() {
            shared.depths.made.note(self.made.len());
            let _ = self.activator.lock().expect("no holder panics").activate();
        }
    }
}

/// One worker's end: jobs in, views out.
pub struct Hand {
    jobs: Sender<Job>,
    made: Receiver<Made>,
    reply: Reply,
}

impl Hand {
    /// Queues a job whose result comes back here.
    pub fn submit(&self, step: u64, plans: Vec<SamplePlan>) {
        let job = Job { step, plans, reply: self.reply.clone() };
        let sent = self.jobs.try_send(job);
        // Threads are gone only after one has failed, and then the run ends.
        debug_assert!(!sent.is_err_and(|error| error.is_full()), "credit is room in the queue");
    }

    /// The next finished job, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Made> {
        self.made.try_recv().ok()
    }
}
