//! How long decoding takes: windows of a file and whole files, beside GStreamer's own `demux ! decode ! drop`.
//!
//! `cargo bench --no-default-features --features gst --bench decode`. Reads the first eight files of the folder
//! `REELFLOW_CLIPS`, the clips of the tests without it.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow::decode::{decoder, probe};
use reelflow_api::item::{Media, Origin};
use reelflow_api::rng::Key;

fn files() -> Vec<Media> {
    let folder =
        std::env::var_os("REELFLOW_CLIPS").map_or_else(|| PathBuf::from("tests/data"), PathBuf::from);
    let paths = reelflow::edge::files::list_dir(&folder).expect("the folder of clips can be read");
    paths.into_iter().filter_map(|path| probe(&Origin::File(path)).ok()).take(8).collect()
}

/// Four windows of 16 frames, every second one, anywhere in the file.
fn windows(media: &Media, seed: u64) -> Vec<u32> {
    let mut rng = Key::new(seed).rng();
    let room = (media.times.len() as u64).saturating_sub(31).max(1);
    let starts: Vec<u32> = (0..4).map(|_| rng.below(room) as u32).collect();
    let mut wanted: Vec<u32> = starts.iter().flat_map(|start| (0..16).map(move |i| start + 2 * i)).collect();
    wanted.retain(|&position| (position as usize) < media.times.len());
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Without its access units, so that it goes through the demuxer.
fn plain(media: &Media) -> Media {
    Media { track: None, ..media.clone() }
}

fn decode(c: &mut Criterion) {
    let files = files();
    println!(
        "{} files, {} of them fed by access units",
        files.len(),
        files.iter().filter(|media| media.track.is_some()).count()
    );
    let ways = [("units", files.clone()), ("demuxer", files.iter().map(plain).collect())];
    let mut group = c.benchmark_group("windows");
    group.throughput(Throughput::Elements(4 * files.len() as u64));
    for (name, files) in &ways {
        let mut decoder = decoder();
        group.bench_function(*name, |b| {
            b.iter(|| {
                let mut made = 0;
                for (number, media) in files.iter().enumerate() {
                    let wanted = windows(media, number as u64);
                    made += decoder
                        .decode(media, &wanted, &mut |_, frame| {
                            black_box(frame.planes[0].bytes[0]);
                        })
                        .expect("the files are sound");
                }
                made
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("everything");
    group.throughput(Throughput::Elements(files.iter().map(|media| media.times.len() as u64).sum()));
    for (name, files) in &ways {
        let mut decoder = decoder();
        group.bench_function(*name, |b| {
            b.iter(|| {
                for media in files {
                    let all: Vec<u32> = (0..media.times.len() as u32).collect();
                    decoder.decode(media, &all, &mut |_, _| {}).expect("the files are sound");
                }
            });
        });
    }
    group.bench_function("ceiling_fakesink", |b| b.iter(|| files.iter().for_each(decode_and_drop)));
    group.finish();
}

/// `filesrc ! demuxer ! decoder ! fakesink` with one decoding thread, as `gst-launch-1.0` would run it.
fn decode_and_drop(media: &Media) {
    let Origin::File(path) = &media.origin else { return };
    let is_mp4 = Path::new(path).extension().is_some_and(|extension| extension == "mp4");
    let line = format!(
        "filesrc name=source ! {} ! {} ! fakesink sync=false",
        if is_mp4 { "qtdemux" } else { "matroskademux" },
        match media.codec.as_str() {
            "h264" => "avdec_h264 max-threads=1",
            "h265" => "avdec_h265 max-threads=1",
            "vp9" => "avdec_vp9 max-threads=1",
            _ => return,
        }
    );
    let pipeline = gst::parse::launch(&line).expect("the elements are installed");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a line of elements is a pipeline");
    pipeline.by_name("source").expect("named above").set_property("location", path);
    pipeline.set_state(gst::State::Playing).expect("the files are sound");
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds).expect("a file ends within a minute");
    pipeline.set_state(gst::State::Null).expect("a pipeline can be stopped");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = decode
}
criterion_main!(benches);
