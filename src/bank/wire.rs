//! How a bank's handle and its owners reach each other: channels and threads, which tests replace.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use reelflow_api::error::StageError;

use crate::edge::threads;

/// Channels with a limit, and threads. A test puts in channels that delay, or a scheduler that tries orders.
pub trait Wire: Sized + 'static {
    /// The end that things go in.
    type Sender<T: Send + 'static>: Clone + Send + 'static;
    /// The end that they come out of, in order.
    type Receiver<T: Send + 'static>: Send + 'static;
    /// A thread that was started.
    type Thread;

    /// A channel with room for `room` things.
    fn channel<T: Send + 'static>(room: usize) -> (Self::Sender<T>, Self::Receiver<T>);

    /// Waits for room; false if the other end is gone.
    fn send<T: Send + 'static>(to: &Self::Sender<T>, thing: T) -> bool;

    /// False if there is no room or the other end is gone.
    fn try_send<T: Send + 'static>(to: &Self::Sender<T>, thing: T) -> bool;

    /// Waits for the next thing; `None` if the other end is gone.
    fn receive<T: Send + 'static>(from: &Self::Receiver<T>) -> Option<T>;

    /// `None` if nothing is there.
    fn try_receive<T: Send + 'static>(from: &Self::Receiver<T>) -> Option<T>;

    /// Starts a thread.
    ///
    /// # Errors
    /// If the system refuses.
    fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Self::Thread, StageError>;

    /// Waits for the end of a thread.
    fn join(thread: Self::Thread);
}

/// Threads of this process and crossbeam's channels.
pub struct Threads;

impl Wire for Threads {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Thread = JoinHandle<()>;

    fn channel<T: Send + 'static>(room: usize) -> (Sender<T>, Receiver<T>) {
        bounded(room)
    }

    fn send<T: Send + 'static>(to: &Sender<T>, thing: T) -> bool {
        to.send(thing).is_ok()
    }

    fn try_send<T: Send + 'static>(to: &Sender<T>, thing: T) -> bool {
        to.try_send(thing).is_ok()
    }

    fn receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.recv().ok()
    }

    fn try_receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.try_recv().ok()
    }

    fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StageError> {
        threads::spawn(name, work)
    }

    fn join(thread: JoinHandle<()>) {
        // A panic of an owner was reported by the call that met it.
        drop(thread.join());
    }
}
