//! Sockets between the processes of one run, on this machine.
//!
//! Process `i` listens and connects to all lower ones, so there is a socket between each two. Each side says who it is
//! before anything else; a stranger is turned away and does no harm. Nothing here proves who speaks, so only loopback
//! addresses are taken.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use reelflow_api::error::StageError;
use xxhash_rust::xxh3::xxh3_64;

use super::clock;

/// First bytes of a greeting.
const MAGIC: [u8; 8] = *b"reelflow";
/// Magic, program, run, process, processes; eight bytes each.
const GREETING: usize = 40;
/// How long a connected socket may take for its greeting: a stranger must not hold the others up.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks for a process that has not come yet.
const LOOK: Duration = Duration::from_millis(5);

/// Who this process is among those of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The same number in all processes of a run, another in another run.
    pub run: u64,
    /// From 0.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
}

/// Listens on a free port of this machine.
///
/// # Errors
/// If there is none.
pub fn listen() -> Result<(TcpListener, SocketAddr), StageError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| broken("listen", &error))?;
    let address = listener.local_addr().map_err(|error| broken("listen", &error))?;
    Ok((listener, address))
}

/// A socket to each other process, by its number, `None` at our own. `lower` are the addresses of the processes before
/// this one; those behind it come to `listener`. Waits at most `patience` for all of them.
///
/// # Errors
/// If an address is not loopback, there are too few, or one is not there in time: a restart may help (75).
pub fn meet(
    peer: Peer,
    listener: Option<&TcpListener>,
    lower: &[SocketAddr],
    patience: Duration,
) -> Result<Vec<Option<TcpStream>>, StageError> {
    if let Some(address) = lower.iter().find(|address| !address.ip().is_loopback()) {
        let message = format!(
            "{address} is another machine; processes meet on loopback only, as nothing proves who speaks"
        );
        return Err(StageError::refused("peers", message));
    }
    let comes_behind = peer.process + 1 < peer.processes;
    if lower.len() != peer.process || (comes_behind && listener.is_none()) {
        let message =
            format!("process {} of {} needs the addresses of all before it", peer.process, peer.processes);
        return Err(StageError::refused("peers", message));
    }
    let deadline = clock::now() + patience;
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    for (number, address) in lower.iter().enumerate() {
        let found = until(deadline, || call(peer, *address, number));
        sockets.push(Some(found.ok_or_else(|| absent(number, patience))?));
    }
    sockets.extend((peer.process..peer.processes).map(|_| None));
    if let Some(listener) = listener.filter(|_| comes_behind) {
        listener.set_nonblocking(true).map_err(|error| broken("listen", &error))?;
        while let Some(number) = (peer.process + 1..peer.processes).find(|number| sockets[*number].is_none())
        {
            let (other, socket) =
                until(deadline, || answer(peer, listener)).ok_or_else(|| absent(number, patience))?;
            sockets[other] = Some(socket);
        }
    }
    Ok(sockets)
}

/// Tries again until there is something or the time is over.
fn until<T>(deadline: std::time::Instant, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if clock::now() >= deadline {
            return None;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Connects to process `number`; `None` if it is not there yet or is another.
fn call(peer: Peer, address: SocketAddr, number: usize) -> Option<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&address, GREETING_PATIENCE).ok()?;
    ready(&socket).and_then(|()| socket.write_all(&greeting(peer))).ok()?;
    let other = heard(&mut socket)?;
    (other == Peer { process: number, ..peer }).then_some(())?;
    socket.set_read_timeout(None).ok()?;
    Some(socket)
}

/// Takes the next one who comes; `None` if nobody does or it is a stranger.
fn answer(peer: Peer, listener: &TcpListener) -> Option<(usize, TcpStream)> {
    let (mut socket, from) = listener.accept().ok()?;
    // Bound to loopback; looked at again because nothing else guards it.
    from.ip().is_loopback().then_some(())?;
    socket.set_nonblocking(false).and_then(|()| ready(&socket)).ok()?;
    let other = heard(&mut socket)?;
    let is_ours = other.run == peer.run && other.processes == peer.processes;
    (is_ours && (peer.process + 1..peer.processes).contains(&other.process)).then_some(())?;
    socket.write_all(&greeting(peer)).and_then(|()| socket.set_read_timeout(None)).ok()?;
    Some((other.process, socket))
}

fn ready(socket: &TcpStream) -> io::Result<()> {
    // A request is small and waits for its answer.
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(GREETING_PATIENCE))
}

fn greeting(peer: Peer) -> [u8; GREETING] {
    // What crosses is not read by another build.
    let program = xxh3_64(env!("CARGO_PKG_VERSION").as_bytes());
    let words = [program, peer.run, peer.process as u64, peer.processes as u64];
    let mut bytes = [0; GREETING];
    bytes[..8].copy_from_slice(&MAGIC);
    for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Who is at the other end; `None` if it is no process of ours, or of another build.
fn heard(socket: &mut TcpStream) -> Option<Peer> {
    let mut bytes = [0; GREETING];
    socket.read_exact(&mut bytes).ok()?;
    let word = |at: usize| {
        let word: [u8; 8] = bytes[at * 8..(at + 1) * 8].try_into().expect("eight bytes are eight bytes");
        u64::from_le_bytes(word)
    };
    let peer = Peer { run: word(2), process: word(3) as usize, processes: word(4) as usize };
    (greeting(peer) == bytes).then_some(peer)
}

fn absent(process: usize, patience: Duration) -> StageError {
    let message = format!(
        "process {process} of the run did not come within {} seconds; is it running, and of the same build?",
        patience.as_secs_f64()
    );
    StageError { stage: "peers".to_owned(), message, code: 75 }
}

fn broken(what: &str, error: &io::Error) -> StageError {
    StageError::unavailable("peers", format!("cannot {what} on loopback: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::threads;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn three_processes_meet_and_a_stranger_is_turned_away() {
        let (first, second) = (listen().unwrap(), listen().unwrap());
        let addresses = [first.1, second.1];
        // A stranger, and one of another run, come first.
        let mut stranger = TcpStream::connect(first.1).unwrap();
        stranger.write_all(&[7; GREETING]).unwrap();
        let mut other = TcpStream::connect(first.1).unwrap();
        other.write_all(&greeting(Peer { run: 8, process: 1, processes: 3 })).unwrap();
        let meet_as = |process: usize, listener: Option<TcpListener>| {
            let peer = Peer { run: 9, process, processes: 3 };
            let lower = addresses[..process].to_vec();
            threads::spawn("peer", move || {
                let mut sockets = meet(peer, listener.as_ref(), &lower, SOON).unwrap();
                // Each tells each its number.
                for socket in sockets.iter_mut().flatten() {
                    socket.write_all(&[process as u8]).unwrap();
                }
                let hear = |socket: &mut TcpStream| {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).unwrap();
                    byte[0]
                };
                sockets.iter_mut().map(|socket| socket.as_mut().map(hear)).collect::<Vec<_>>()
            })
            .unwrap()
        };
        let all = [meet_as(0, Some(first.0)), meet_as(1, Some(second.0)), meet_as(2, None)];
        let heard = all.map(|thread| thread.join().unwrap());
        assert_eq!(
            heard,
            [vec![None, Some(1), Some(2)], vec![Some(0), None, Some(2)], vec![Some(0), Some(1), None]]
        );
    }

    #[test]
    fn who_does_not_come_is_named_and_other_machines_are_refused() {
        let (listener, address) = listen().unwrap();
        let peer = Peer { run: 1, process: 0, processes: 2 };
        let error = meet(peer, Some(&listener), &[], Duration::ZERO).unwrap_err();
        assert_eq!((error.code, error.message.contains("process 1 of the run did not come")), (75, true));
        let peer = Peer { process: 1, ..peer };
        let error = meet(peer, None, &["192.0.2.1:80".parse().unwrap()], SOON).unwrap_err();
        assert_eq!((error.code, error.message.contains("another machine")), (78, true));
        assert_eq!(meet(peer, None, &[address, address], SOON).unwrap_err().code, 78);
    }
}
