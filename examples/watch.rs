//! Follows the live sources of a pipeline file and prints what comes of them, a JSON object a line.
//!
//! ```sh
//! cargo run --release --example watch -- cameras.toml
//! ```
//!
//! Only the `[sources.*]` tables are read. Numbers that the frames carry (the source `test`, and the camera in
//! `tests/faults/`) are read back. Ends with a signal, or when all sources have ended.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, unbounded};
use reelflow::api::feed::{FeedCounts, News, Running};
use reelflow::api::item::{Origin, Segment};
use reelflow::api::spec::{Kind, Table};
use reelflow::api::stage::{Source, Stage};
use reelflow::edge::signal::Stop;
use reelflow::engine::registry;
use reelflow::source::live::numbers;
use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

/// How often counts are looked at.
const LOOK: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: watch: {message}");
            ExitCode::from(1)
        }
    }
}

fn watch() -> Result<(), String> {
    let path = std::env::args().nth(1).ok_or("name a pipeline file")?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let stop = Stop::on_signals().map_err(|error| error.to_string())?;
    let (tell, heard) = unbounded();
    let sources = sources(&text)?;
    let mut feeds: BTreeMap<String, (Box<dyn Running>, FeedCounts)> = BTreeMap::new();
    for (id, source) in &sources {
        let feed = source.feed().ok_or_else(|| format!("`{id}` is no live source"))?;
        let (tell, from) = (tell.clone(), id.clone());
        // Whoever listens has gone: then nobody misses the news.
        let tell = Arc::new(move |news| drop(tell.send((from.clone(), news))));
        let running = feed.start(id, tell).map_err(|error| error.to_string())?;
        feeds.insert(id.clone(), (running, FeedCounts::default()));
    }
    let mut going = feeds.len();
    while going > 0 && !stop.is_asked() {
        match heard.recv_timeout(LOOK) {
            Ok((id, news)) => {
                going -= usize::from(matches!(news, News::Ended));
                say(&id, tidings(&news));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for (id, (feed, last)) in &mut feeds {
            let counts = feed.counts();
            if counts != *last {
                say(id, json!({ "counts": counts }));
                *last = counts;
            }
        }
    }
    drop(feeds);
    Ok(())
}

fn say(id: &str, mut what: Value) {
    what["source"] = id.into();
    println!("{what}");
}

fn sources(text: &str) -> Result<Vec<(String, Box<dyn Source>)>, String> {
    let mut root = DeTable::parse(text).map_err(|error| error.to_string())?.into_inner();
    let tables = root.remove("sources").ok_or("the file has no sources")?.into_inner();
    let DeValue::Table(tables) = tables else { return Err("`sources` is no table".to_owned()) };
    let mut sources = Vec::new();
    for (id, value) in tables {
        let (id, span) = (id.get_ref().to_string(), value.span());
        let DeValue::Table(entries) = value.into_inner() else { return Err(format!("`{id}` is no table")) };
        let mut table = Table { path: format!("sources.{id}"), span, entries };
        let (kind, _) = table.take_string("type").ok_or_else(|| format!("`{id}` has no type"))?;
        let spec =
            registry::find(Kind::Source, &kind).ok_or_else(|| format!("no source is called `{kind}`"))?;
        match (spec.build)(&table) {
            Ok(Stage::Source(source)) => sources.push((id, source)),
            Ok(_) => return Err(format!("`{kind}` is no source")),
            Err(problems) => {
                return Err(problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "));
            }
        }
    }
    Ok(sources)
}

fn tidings(news: &News) -> Value {
    match news {
        News::Came(segment) => came(segment),
        News::Left(id) => json!({ "left": id.0 }),
        News::Skipped(skip) => json!({ "skipped": skip }),
        News::Ended => json!({ "ended": true }),
    }
}

fn came(segment: &Segment) -> Value {
    let Origin::Recorded(recording) = &segment.media.origin else {
        return json!({ "came": segment.id.0 });
    };
    let numbers: Vec<Option<u32>> = recording.pictures().iter().map(numbers::read).collect();
    json!({
        "came": segment.id.0,
        "name": segment.media.name,
        "codec": segment.media.codec,
        "size": format!("{}x{}", segment.media.width, segment.media.height),
        "frames": segment.count,
        "numbers": numbers,
    })
}
