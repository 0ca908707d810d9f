//! Real files through probe and decode: every frame counted, every window equal to decoding in order.
#![cfg(feature = "gst")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow::api::item::{Frame, Media, Origin};
use reelflow::api::rng::{Key, Rng};
use reelflow::decode::{Decoder, decoder, probe};

/// The folder of the big collection, if this machine has it.
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let place = std::env::var_os("REELFLOW_SHARED").map_or(beside, PathBuf::from);
    place.join("data/video/MANIFEST.tsv").exists().then_some(place)
}

/// Increasing positions of a window: dense, strided or scattered.
fn window(rng: &mut Rng, frames: u32) -> Vec<u32> {
    let stride = 1 + rng.below(4) as u32;
    let start = rng.below(u64::from(frames)) as u32;
    let mut wanted: Vec<u32> = (0..8).map(|i| start + i * stride).filter(|&p| p < frames).collect();
    // A second view far away, as samplers ask for.
    wanted.extend((0..4).map(|_| rng.below(u64::from(frames)) as u32));
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Compares `rounds` windows with the frames that come in order. Returns what differs.
fn differences(media: &Media, rounds: u32, seed: u64) -> Vec<String> {
    let all: Vec<u32> = (0..media.times.len() as u32).collect();
    let whole: Vec<Arc<Frame>> = match decoder().decode(media, &all) {
        Ok(frames) => frames,
        Err(failure) => return vec![format!("in order: {failure:?}")],
    };
    let mut rng = Key::new(seed).rng();
    let mut kept = decoder();
    let mut found = Vec::new();
    for round in 0..rounds {
        let wanted = window(&mut rng, all.len() as u32);
        // Every other time with a fresh decoder; the kept one goes on from where it stands.
        let mut fresh = decoder();
        let used: &mut Box<dyn Decoder> = if round % 2 == 0 { &mut kept } else { &mut fresh };
        match used.decode(media, &wanted) {
            Ok(frames) => {
                for (frame, &position) in frames.iter().zip(&wanted) {
                    if *frame != whole[position as usize] {
                        found.push(format!("frame {position} of window {wanted:?}"));
                    }
                }
            }
            Err(failure) => found.push(format!("window {wanted:?}: {failure:?}")),
        }
    }
    found
}

/// Files whose stated count is of packets: the last one is a B-frame's that no decoder shows.
const LAST_PACKET_EMPTY: [&str; 4] = [
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
];

#[test]
fn the_big_collection_probes_to_its_stated_counts_and_windows_equal_order() {
    let Some(shared) = shared() else {
        eprintln!("SKIPPED: no ../shared/data/video here; set REELFLOW_SHARED to a folder that has it");
        return;
    };
    let folder = shared.join("data/video");
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let (mut files, mut bad) = (0, Vec::new());
    for row in manifest.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (name, frames) = (cells[0], cells[7]);
        files += 1;
        match probe(&Origin::File(folder.join(name))) {
            Err(failure) => bad.push(format!("{name}: {failure:?}")),
            Ok(media) => {
                let stated: usize = frames.parse().unwrap();
                let short = usize::from(LAST_PACKET_EMPTY.iter().any(|part| name.ends_with(part)));
                if media.times.len() + short != stated {
                    bad.push(format!("{name}: {} frames, stated {frames}", media.times.len()));
                }
                bad.extend(differences(&media, 3, files).into_iter().map(|text| format!("{name}: {text}")));
            }
        }
    }
    assert!(bad.is_empty(), "{} of {files} files:\n{}", bad.len(), bad.join("\n"));
}

/// Runs every input of a corpus of odd, broken and hostile files: none may hang or crash, and each ends
/// as frames or as a reason. The counts are printed for comparison with its manifest.
#[test]
fn odd_broken_and_hostile_files_end_as_frames_or_as_a_reason() {
    let Some(folder) = std::env::var_os("REELFLOW_BAD_INPUTS").map(PathBuf::from) else {
        eprintln!("SKIPPED: set REELFLOW_BAD_INPUTS to a folder of bad inputs with a manifest.tsv");
        return;
    };
    let manifest = std::fs::read_to_string(folder.join("manifest.tsv")).unwrap();
    for row in manifest.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let outcome = match probe(&Origin::File(folder.join(cells[0]))) {
            Err(failure) => format!("probe\t{}\t{}", failure.reason.as_str(), failure.message),
            Ok(media) => {
                let all: Vec<u32> = (0..media.times.len() as u32).collect();
                match decoder().decode(&media, &all) {
                    Ok(frames) => format!("frames\t{}\t{}", frames.len(), media.codec),
                    Err(failure) => format!("decode\t{}\t{}", failure.reason.as_str(), failure.message),
                }
            }
        };
        println!("{}\t{}\t{}\t{outcome}", cells[0], cells[2], cells[3]);
    }
}
