//! Channels whose both ends dawdle as a seed says, so that threads meet in other orders each time.

use std::cell::RefCell;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use reelflow_api::error::StageError;
use reelflow_api::rng::{Key, Rng};

use crate::bank::{Threads, Wire};

/// As [`Threads`], but before each use of a channel it turns on the spot or gives its time away, or neither.
pub struct Delayed;

thread_local! {
    static PACE: RefCell<Rng> = RefCell::new(Key::new(0).rng());
}

/// Sets the pace of this thread and of those it starts from now on.
pub fn pace(seed: u64) {
    PACE.with(|pace| *pace.borrow_mut() = Key::new(seed).rng());
}

fn dawdle() {
    let (turns, gives_way) = PACE.with(|pace| {
        let mut pace = pace.borrow_mut();
        (if pace.chance(0.5) { pace.below(3000) } else { 0 }, pace.chance(0.1))
    });
    for _ in 0..turns {
        std::hint::spin_loop();
    }
    if gives_way {
        std::thread::yield_now();
    }
}

impl Wire for Delayed {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Thread = JoinHandle<()>;

    fn channel<T: Send + 'static>(room: usize) -> (Sender<T>, Receiver<T>) {
        // A short queue fills, so that both ends come to wait.
        Threads::channel(room.min(2))
    }

    fn send<T: Send + 'static>(to: &Sender<T>, thing: T) -> bool {
        dawdle();
        Threads::send(to, thing)
    }

    fn try_send<T: Send + 'static>(to: &Sender<T>, thing: T) -> bool {
        Threads::try_send(to, thing)
    }

    fn receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        dawdle();
        Threads::receive(from)
    }

    fn try_receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        Threads::try_receive(from)
    }

    fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StageError> {
        let seed = PACE.with(|pace| pace.borrow_mut().next_u64());
        Threads::spawn(name, move || {
            pace(seed);
            work();
        })
    }

    fn join(thread: JoinHandle<()>) {
        Threads::join(thread);
    }
}
