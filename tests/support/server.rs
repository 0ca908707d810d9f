//! The camera of `tests/faults/rtsp_server.py`: an RTSP server on loopback with a number in every picture.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reelflow::edge::threads;

/// The camera of `tests/faults/`; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens, on loopback.
    pub port: u16,
}

impl Server {
    /// Starts it; `None`, and a line that says why, where it is not installed.
    #[track_caller]
    pub fn start(test: &str, args: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/rtsp_server.py");
        let started = Command::new("python3").arg(script).args(args).stdout(Stdio::piped()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                println!("SKIPPED: {test}: python3 does not start: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let Some(port) = first.strip_prefix("port ") else {
            let code = child.wait().unwrap().code();
            assert_eq!(code, Some(3), "the server failed: {first}");
            println!("SKIPPED: {test}: {first}; install python3-gi and gir1.2-gst-rtsp-server-1.0");
            return None;
        };
        let port = port.parse().unwrap();
        // It must not stop because nobody reads what it says.
        threads::spawn("server-lines", move || lines.for_each(drop)).unwrap();
        Some(Self { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
