//! Live sources through the contract: a camera on loopback that is killed, frozen out and started again, and files
//! played as if they were live.
//!
//! The long versions are `tests/faults/rtsp.py`. Nothing here waits for a time: every wait is for an event, with a
//! deadline after which the test has failed.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use reelflow::api::error::{Skip, SkipReason};
use reelflow::api::feed::{FeedCounts, News, Recording, Running};
use reelflow::api::item::{Origin, Picture, Segment};
use reelflow::api::spec::{Kind, Table};
use reelflow::api::stage::{Source, Stage};
use reelflow::decode::{decoder, pictures, probe};
use reelflow::edge::threads;
use reelflow::engine::registry;
use reelflow::source::live::numbers;
use server::Server;
use toml::de::DeTable;

/// Longest wait for anything; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A source of this type with these settings.
#[track_caller]
fn source(kind: &str, settings: &str) -> Box<dyn Source> {
    let entries = DeTable::parse(settings).unwrap().into_inner();
    let table = Table { path: "sources.cam".to_owned(), span: 0..settings.len(), entries };
    match (registry::find(Kind::Source, kind).unwrap().build)(&table) {
        Ok(Stage::Source(source)) => source,
        Ok(_) => panic!("{kind} is no source"),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// A feed at work and what it tells.
struct Followed {
    running: Box<dyn Running>,
    heard: Receiver<News>,
    skips: Vec<Skip>,
    segments: Vec<Arc<Segment>>,
}

/// Starts the feed of a source.
#[track_caller]
fn follow(kind: &str, settings: &str) -> Followed {
    let source = source(kind, settings);
    let (tell, heard) = unbounded();
    let tell = Arc::new(move |news| drop(tell.send(news)));
    let running = source.feed().unwrap().start("cam", tell).unwrap();
    Followed { running, heard, skips: Vec::new(), segments: Vec::new() }
}

impl Followed {
    /// Takes news until `done` holds; looks at the counts now and then too.
    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = crossbeam_channel::after(DEADLINE);
        while !done(self) {
            crossbeam_channel::select! {
                recv(self.heard) -> news => match news.unwrap() {
                    News::Came(segment) => self.segments.push(segment),
                    News::Skipped(skip) => self.skips.push(skip),
                    News::Left(_) | News::Ended => {}
                },
                recv(deadline) -> _ => panic!("{what} did not happen: {:?} {:?}", self.running.counts(), self.skips),
                default(Duration::from_millis(10)) => {}
            }
        }
    }

    /// Takes all news until the feed has ended.
    #[track_caller]
    fn play_out(&mut self) {
        loop {
            match self.heard.recv_timeout(DEADLINE).unwrap() {
                News::Came(segment) => self.segments.push(segment),
                News::Skipped(skip) => self.skips.push(skip),
                News::Left(_) => {}
                News::Ended => return,
            }
        }
    }

    fn counts(&self) -> FeedCounts {
        self.running.counts()
    }

    /// Stops the feed; every frame it received is in one place.
    #[track_caller]
    fn stop(&mut self) -> FeedCounts {
        let counts = self.running.stop();
        assert!(counts.is_reconciled(), "{counts:?}");
        counts
    }

    /// The numbers in the pictures of each segment; every picture has one.
    fn numbers(&self) -> Vec<Vec<u32>> {
        let read = |picture: &Picture| numbers::read(picture).expect("the number can be read");
        self.segments.iter().map(|segment| recorded(segment).pictures().iter().map(read).collect()).collect()
    }
}

fn recorded(segment: &Segment) -> &Recording {
    match &segment.media.origin {
        Origin::Recorded(recording) => recording,
        other => panic!("{other:?} is not recorded"),
    }
}

#[test]
fn a_camera_that_is_killed_comes_back_and_every_frame_is_accounted_for() {
    let Some(server) = Server::start("live::a_camera_that_is_killed", &[]) else { return };
    let port = server.port.to_string();
    let settings = format!("url = \"rtsp://127.0.0.1:{port}/cam\"\nsegment_secs = 0.4\nframes_min = 1");
    let mut cam = follow("rtsp", &settings);
    cam.until("a segment", |cam| cam.segments.len() >= 3);
    drop(server);
    cam.until("the loss", |cam| !cam.counts().last_reason.is_empty());
    // Another size, and numbers that say which life a frame is from.
    let server =
        Server::start("live::back", &["--port", &port, "--first", "1000000", "--size", "128x96"]).unwrap();
    let before = cam.segments.len();
    cam.until("a segment after the loss", |cam| cam.segments.len() >= before + 3);
    drop(server);
    let counts = cam.stop();
    assert!(counts.reconnects >= 1 && counts.breaks >= 1, "{counts:?}");
    assert_eq!(counts.frames_left_out.values().sum::<u64>(), 0, "{counts:?}");

    let segments = cam.numbers();
    for numbers in &segments {
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{numbers:?}: nothing is lost over TCP"
        );
        assert!(
            numbers[0] >= 1_000_000 || *numbers.last().unwrap() < 1_000_000,
            "{numbers:?}: over the break"
        );
    }
    let all: Vec<u32> = segments.concat();
    let distinct: BTreeSet<u32> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "no frame comes twice");
    let times: Vec<u64> = cam.segments.iter().flat_map(|segment| segment.times().to_vec()).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "time is ours: it never goes back");
    let sizes: BTreeSet<(u32, u32)> = cam.segments.iter().map(|s| (s.media.width, s.media.height)).collect();
    assert_eq!(sizes, BTreeSet::from([(160, 120), (128, 96)]));
    let ids: BTreeSet<u64> = cam.segments.iter().map(|segment| segment.id.0).collect();
    assert_eq!(ids.len(), cam.segments.len());
    assert!(cam.segments.iter().all(|segment| segment.media.codec == "h264"));
}

#[test]
fn a_wrong_password_is_tried_rarely_and_named_nowhere() {
    let Some(server) = Server::start("live::a_wrong_password", &["--password", "right"]) else { return };
    let address = format!("127.0.0.1:{}/cam", server.port);
    let mut cam = follow("rtsp", &format!("url = \"rtsp://viewer:hunter2@{address}\""));
    cam.until("the refusal", |cam| !cam.counts().last_reason.is_empty() && !cam.skips.is_empty());
    let counts = cam.counts();
    assert!(counts.last_reason.contains("401") && counts.state == "waiting", "{counts:?}");
    let said = format!("{counts:?} {:?}", cam.skips);
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!((cam.skips[0].reason, counts.reconnects), (SkipReason::Unreadable, 0));

    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(b"right\n").unwrap();
    let path = file.path().display();
    let right = format!(
        "url = \"rtsp://{address}\"\nuser = \"viewer\"\npassword_file = \"{path}\"\nsegment_secs = 0.4"
    );
    let mut cam = follow("rtsp", &format!("{right}\nframes_min = 1"));
    cam.until("a segment", |cam| !cam.segments.is_empty());
}

#[test]
fn a_camera_that_is_not_there_is_waited_for_until_that_is_limited() {
    // A port that nobody listens at: it was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("url = \"rtsp://127.0.0.1:{port}/cam\"\nstall_secs = 1.0\ngive_up_secs = 1.0");
    let mut cam = follow("rtsp", &settings);
    cam.play_out();
    assert_eq!(cam.stop().state, "given_up");
    let last = cam.skips.last().unwrap();
    assert_eq!(last.reason, SkipReason::Vanished);
    assert!(last.message.starts_with("away for 1 s (`give_up_secs`); last seen: "), "{}", last.message);
}

/// Answers every request at a port with `answer`; what was asked for comes through the receiver.
fn web_server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (u16, Receiver<String>) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let (tell, asked) = unbounded();
    let serve = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut some = [0; 4096];
        while !request.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut some)?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&some[..count]);
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let _ = tell.send(path.clone());
        stream.write_all(&answer(&path))
    };
    // It ends with the test's process.
    let work = move || door.incoming().flatten().for_each(|stream| drop(serve(stream)));
    threads::spawn("web-server", work).unwrap();
    (port, asked)
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[test]
fn a_redirect_is_not_followed() {
    let (elsewhere, asked_elsewhere) = web_server(|_| ok(b""));
    let (port, _) = web_server(move |_| {
        let place = format!("http://127.0.0.1:{elsewhere}/secret");
        format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes()
    });
    for kind in ["http", "hls"] {
        let mut cam = follow(kind, &format!("url = \"http://127.0.0.1:{port}/a?token=hunter2\""));
        cam.until("the refusal", |cam| !cam.skips.is_empty());
        let skip = &cam.skips[0];
        assert_eq!(skip.reason, SkipReason::UnsafeReference, "{kind}: {skip:?}");
        assert!(!format!("{skip:?} {:?}", cam.counts()).contains("hunter2"));
    }
    assert!(asked_elsewhere.is_empty());
}

#[test]
fn a_camera_that_points_elsewhere_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("rtsp://{}/secret", elsewhere.local_addr().unwrap());
    let (tell, asked_elsewhere) = unbounded();
    let listen = move || {
        for mut stream in elsewhere.incoming().flatten() {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).unwrap_or(0);
            let _ = tell.send(count);
        }
    };
    threads::spawn("elsewhere", listen).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let serve = move |stream: TcpStream| -> std::io::Result<()> {
        let mut answers = stream.try_clone()?;
        let (mut method, mut number) = (String::new(), String::new());
        for line in BufReader::new(stream).lines() {
            let line = line?;
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_owned();
            } else if line.to_ascii_lowercase().starts_with("cseq") {
                number = line;
            } else if line.is_empty() {
                let answer = match std::mem::take(&mut method).as_str() {
                    "OPTIONS" => "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY".to_owned(),
                    _ => format!("302 Found\r\nLocation: {place}"),
                };
                answers.write_all(format!("RTSP/1.0 {answer}\r\n{number}\r\n\r\n").as_bytes())?;
            }
        }
        Ok(())
    };
    threads::spawn("camera", move || door.incoming().flatten().for_each(|stream| drop(serve(stream))))
        .unwrap();
    let mut cam = follow("rtsp", &format!("url = \"rtsp://viewer:hunter2@127.0.0.1:{port}/cam\""));
    cam.until("the refusal", |cam| !cam.skips.is_empty());
    assert_eq!(cam.skips[0].reason, SkipReason::UnsafeReference, "{:?}", cam.skips);
    cam.stop();
    assert!(asked_elsewhere.try_iter().all(|count| count == 0), "nothing was sent there");
}

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn a_stream_from_a_web_server_gives_its_pictures_and_its_end_is_a_loss() {
    let bytes = std::fs::read(clip("variable.mkv")).unwrap();
    let (port, _) = web_server(move |_| ok(&bytes));
    let settings = "segment_secs = 10.0\nframes_min = 1";
    let mut cam = follow("http", &format!("url = \"http://127.0.0.1:{port}/live\"\n{settings}"));
    cam.until("the end", |cam| !cam.segments.is_empty() && !cam.skips.is_empty());
    assert_eq!(cam.skips[0].reason, SkipReason::Vanished, "{:?}", cam.skips);
    // The same pictures as from the file.
    let media = probe(&Origin::File(clip("variable.mkv"))).unwrap();
    let all: Vec<u32> = (0..media.times.len() as u32).collect();
    let expected: Vec<Vec<u8>> = pictures(decoder().as_mut(), &media, &all)
        .unwrap()
        .into_iter()
        .map(|picture| picture.planes)
        .collect();
    let found: Vec<Vec<u8>> =
        recorded(&cam.segments[0]).pictures().iter().map(|picture| picture.planes.clone()).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "the pictures are equal byte for byte");
    cam.stop();
}

#[test]
fn replayed_pictures_equal_the_archives_byte_for_byte() {
    let names = ["bframes.mp4", "variable.mkv", "odd_size.webm", "trimmed.mp4", "packed.avi"];
    let paths: Vec<String> = names.iter().map(|name| format!("{:?}", clip(name))).collect();
    let settings = format!("paths = [{}]\nspeed = 0\nsegment_secs = 0.7\nframes_min = 1", paths.join(", "));
    let mut replay = follow("replay", &settings);
    replay.play_out();
    assert!(replay.skips.is_empty(), "{:?}", replay.skips);
    for name in names {
        let media = probe(&Origin::File(clip(name))).unwrap();
        let all: Vec<u32> = (0..media.times.len() as u32).collect();
        let expected = pictures(decoder().as_mut(), &media, &all).unwrap();
        let of_file = replay.segments.iter().filter(|segment| segment.media.name == media.name);
        let found: Vec<Picture> = of_file.clone().flat_map(|s| recorded(s).pictures().to_vec()).collect();
        assert!(of_file.count() > 1, "{name} was cut");
        assert_eq!(found.len(), expected.len(), "{name}");
        assert!(found == expected, "{name}: pictures and times are equal");
    }
    replay.stop();
    // Played again it is the same again, so ids are too.
    let mut again = follow("replay", &settings);
    again.play_out();
    let ids = |cam: &Followed| -> Vec<u64> { cam.segments.iter().map(|segment| segment.id.0).collect() };
    assert_eq!(ids(&replay), ids(&again));
}

#[test]
fn a_replay_leaves_out_bad_files_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.mp4"), b"no video at all").unwrap();
    std::fs::copy(clip("variable.mkv"), folder.path().join("b.mkv")).unwrap();
    let mut replay = follow("replay", &format!("paths = [{:?}]\nspeed = 0\nframes_min = 1", folder.path()));
    replay.play_out();
    assert_eq!(replay.skips.iter().map(|skip| skip.reason).collect::<Vec<_>>(), [SkipReason::NotMedia]);
    assert_eq!(replay.stop().frames_received, 70);
}

#[test]
fn a_live_playlist_is_followed_piece_by_piece() {
    let bytes = std::fs::read(clip("variable.mkv")).unwrap();
    let (port, asked) = web_server(move |path| {
        match path {
        "/live.m3u8" => ok(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/a.m3u8\n"),
        "/low/a.m3u8" => {
            ok(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:3,\na.bin\n#EXTINF:3,\nb.bin\n#EXT-X-ENDLIST\n")
        }
        "/low/a.bin" => ok(&bytes[..20_000.min(bytes.len())]),
        "/low/b.bin" => ok(&bytes[20_000.min(bytes.len())..]),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    }
    });
    let settings = "segment_secs = 10.0\nframes_min = 1";
    let mut cam = follow("hls", &format!("url = \"http://127.0.0.1:{port}/live.m3u8\"\n{settings}"));
    cam.until("the end", |cam| !cam.segments.is_empty() && !cam.skips.is_empty());
    assert_eq!(cam.segments[0].count, 70);
    let first: Vec<String> = asked.try_iter().take(4).collect();
    assert_eq!(first, ["/live.m3u8", "/low/a.m3u8", "/low/a.bin", "/low/b.bin"]);
}

#[test]
fn passwords_are_masked_wherever_a_pipeline_is_shown() {
    let hello =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/hello.toml")).unwrap();
    let url = "rtsp://viewer:hunter2@camera.example/a?token=hunter2";
    let text = hello.replace("type = \"pattern\"\nmedia = 8", &format!("type = \"rtsp\"\nurl = \"{url}\""));
    let plan = reelflow::config::load(&text, Path::new("p.toml"), &[]).unwrap();
    assert!(plan.resolved.contains("url = \"rtsp://***@camera.example/a?***\""), "{}", plan.resolved);
    assert!(!plan.resolved.contains("hunter2"));
    // What is kept beside a run can be read again.
    assert_eq!(
        reelflow::config::load(&plan.resolved, Path::new("p.toml"), &[]).unwrap().resolved,
        plan.resolved
    );
    for wrong in [
        text.replace("url = ", "overload = \"block\"\nurl = "),
        text.replace("url = ", "url = 3\nurl = "),
        text.replace("camera.example", ""),
        text.replace("url = ", "password = \"hunter2\"\nurl = "),
        text.replace("type = \"rtsp\"", "type = \"http\""),
    ] {
        let report = reelflow::config::load(&wrong, Path::new("p.toml"), &[]).err().unwrap();
        let said = [report.human(false), report.short(), report.json()].concat();
        assert!(said.contains("error[") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_stream_over_srt_gives_pictures() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = format!("uri=srt://127.0.0.1:{port}?mode=listener");
    let sender = "-q videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=25/1 ! \
                  x264enc tune=zerolatency key-int-max=10 ! mpegtsmux ! srtsink wait-for-connection=false";
    let started = Command::new("gst-launch-1.0").args(sender.split_whitespace()).arg(uri).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            return println!("SKIPPED: live::a_stream_over_srt: gst-launch-1.0 does not start: {error}");
        }
    };
    let settings = "segment_secs = 0.4\nframes_min = 2\nstall_secs = 5.0";
    let mut cam = follow("srt", &format!("url = \"srt://127.0.0.1:{port}\"\n{settings}"));
    cam.until("two segments", |cam| cam.segments.len() >= 2);
    child.kill().and_then(|()| child.wait()).unwrap();
    let media = &cam.segments[0].media;
    assert_eq!((media.width, media.height, &*media.codec), (64, 48, "h264"));
    cam.stop();
}

#[test]
fn a_missing_device_is_waited_for_by_name() {
    let mut cam = follow("camera", "device = \"/dev/reelflow-no-such-camera\"");
    cam.until("the failure", |cam| !cam.skips.is_empty());
    assert_eq!(cam.skips[0].file, Path::new("/dev/reelflow-no-such-camera"));
    assert!(
        matches!(cam.skips[0].reason, SkipReason::Vanished | SkipReason::Unreadable),
        "{:?}",
        cam.skips[0]
    );
}
