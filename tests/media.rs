//! Real files through probe and decode: every frame counted, every window equal to decoding in order.
#![cfg(feature = "gst")]

use std::path::{Path, PathBuf};

use reelflow::api::error::SkipReason;
use reelflow::api::item::{Colour, Matrix, Media, Origin, Part, Picture};
use reelflow::api::rng::{Key, Rng};
use reelflow::decode::{Decoder, decoder, pictures, probe};

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

/// Compares `rounds` windows with the frames that come in order through the container's own demuxer, without
/// a seek. Returns what differs.
fn differences(media: &Media, rounds: u32, seed: u64) -> Vec<String> {
    let all: Vec<u32> = (0..media.times.len() as u32).collect();
    let in_order =
        Media { track: None, keys: media.keys.iter().take(1).map(|_| 0).collect(), ..media.clone() };
    let whole: Vec<Picture> = match pictures(decoder().as_mut(), &in_order, &all) {
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
        match pictures(used.as_mut(), media, &wanted) {
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

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn probed(name: &str) -> Media {
    probe(&Origin::File(clip(name))).unwrap()
}

#[test]
fn clips_probe_to_the_frames_and_times_they_were_made_with() {
    let even = |count: u64| (0..count).map(|i| i * 40_000_000).collect::<Vec<u64>>();
    // How `variable.mkv` was thinned out; see tests/data/README.md.
    let varied: Vec<u64> =
        (0..).filter(|n| n % 2 == 0 || n % 7 < 3).take(70).map(|n| n * 40_000_000).collect();
    for (name, codec, size, times) in [
        ("bframes.mp4", "h264", (320, 240), even(100)),
        ("variable.mkv", "h264", (320, 240), varied),
        ("odd_size.webm", "vp9", (161, 121), even(50)),
        ("packed.avi", "mpeg4", (160, 120), even(40)),
    ] {
        let media = probed(name);
        assert_eq!((&*media.codec, (media.width, media.height)), (codec, size), "{name}");
        assert_eq!(*media.times, *times, "{name}");
        assert_eq!(media.keys.is_empty(), name == "packed.avi", "{name}: {:?}", media.keys);
    }
    // 76 are stored to be shown, but the first 12 lean on frames that were cut away.
    let trimmed = probed("trimmed.mp4");
    assert_eq!(trimmed.times.len(), 64);
    assert!(trimmed.keys.len() > 3, "{:?}", trimmed.keys);
}

#[test]
fn any_window_of_a_clip_equals_decoding_in_order() {
    for (seed, name) in
        ["bframes.mp4", "trimmed.mp4", "variable.mkv", "odd_size.webm", "packed.avi"].iter().enumerate()
    {
        let found = differences(&probed(name), 30, seed as u64);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

/// Pictures that had to be decoded for `wanted`.
fn made(media: &Media, wanted: &[u32]) -> u64 {
    decoder().decode(media, wanted, &mut |_, _| {}).unwrap()
}

#[test]
fn decoders_are_fed_only_what_a_window_needs() {
    for name in ["bframes.mp4", "variable.mkv", "odd_size.webm"] {
        let media = probed(name);
        let track = media.track.as_ref().unwrap_or_else(|| panic!("{name}: its access units were not found"));
        assert_eq!(track.groups(), media.keys.len(), "{name}");
        let all: Vec<u32> = (0..media.times.len() as u32).collect();
        assert_eq!(made(&media, &all), all.len() as u64, "{name}: everything is wanted");
        // A key frame needs nothing but itself.
        assert_eq!(made(&media, &[media.keys[1]]), 1, "{name}: a key frame");
    }
    // Every second frame from a key frame on: not the B-frames between that no other frame needs.
    let media = probed("bframes.mp4");
    let wanted: Vec<u32> = (0..8).map(|i| media.keys[1] + 2 * i).collect();
    let most = u64::from(wanted[7] - wanted[0]) + 1;
    assert!((8..most).contains(&made(&media, &wanted)), "{} of {most}", made(&media, &wanted));
    // What is cut away at the start of a file cannot be told from what is shown: the demuxer decides.
    assert_eq!(probed("trimmed.mp4").track, None);
}

#[test]
fn a_file_that_has_changed_is_not_fed_from_its_old_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    std::fs::copy(clip("bframes.mp4"), &path).unwrap();
    let media = probe(&Origin::File(path.clone())).unwrap();
    let before = pictures(decoder().as_mut(), &media, &[3, 30]).unwrap();
    // Another film under the same name, of the same size and frame rate: its own pictures, or a failure.
    std::fs::copy(clip("full_range.mp4"), &path).unwrap();
    let after = pictures(decoder().as_mut(), &media, &[3, 30]);
    assert!(after.is_err() || after.is_ok_and(|pictures| pictures != before));
    std::fs::copy(clip("bframes.mp4"), &path).unwrap();
    assert_eq!(pictures(decoder().as_mut(), &media, &[3, 30]).unwrap(), before);
}

#[test]
fn colour_comes_from_the_stream() {
    let of = |name: &str| pictures(decoder().as_mut(), &probed(name), &[0]).unwrap()[0].colour;
    assert_eq!(of("full_range.mp4"), Colour { matrix: Matrix::Bt709, full_range: true });
    assert_eq!(of("bframes.mp4"), Colour { matrix: Matrix::Bt601, full_range: false });
}

/// One second of silence, 8 kHz, as a RIFF file.
fn sound() -> Vec<u8> {
    let mut bytes =
        b"RIFF\x64\x1f\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data".to_vec();
    bytes.extend(8000u32.to_le_bytes());
    bytes.extend([128; 8000]);
    bytes
}

#[test]
fn bad_inputs_end_with_the_right_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(clip("bframes.mp4")).unwrap();
    for (name, bytes, reason) in [
        ("empty.mp4", Vec::new(), SkipReason::Empty),
        ("text.mp4", b"just a text that calls itself a video\n".repeat(40), SkipReason::NotMedia),
        (
            "list.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n".to_vec(),
            SkipReason::UnsafeReference,
        ),
        ("sound.mp4", sound(), SkipReason::NoVideo),
        ("head.mp4", good[..good.len() / 100].to_vec(), SkipReason::Corrupt),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let failure = probe(&Origin::File(path)).unwrap_err();
        assert_eq!(failure.reason, reason, "{name}: {failure:?}");
    }
    let pipe = folder.path().join("pipe.mp4");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(probe(&Origin::File(pipe)).unwrap_err().reason, SkipReason::NotRegular);
}

/// An mp4 with its index in front of the data, so that the index survives a cut (ISO 14496-12: `stco` has places in
/// the file).
fn index_first(bytes: &[u8]) -> Vec<u8> {
    let at = |name: &[u8]| bytes.windows(4).position(|word| word == name).unwrap() - 4;
    let (data, index) = (at(b"mdat"), at(b"moov"));
    let mut moov = bytes[index..].to_vec();
    let shift = moov.len() as u32;
    let table = moov.windows(4).position(|word| word == b"stco").unwrap() + 8;
    let number = |moov: &[u8], at: usize| u32::from_be_bytes(moov[at..at + 4].try_into().unwrap());
    for entry in 1..=number(&moov, table) as usize {
        let place = table + 4 * entry;
        let moved = number(&moov, place) + shift;
        moov[place..place + 4].copy_from_slice(&moved.to_be_bytes());
    }
    [&bytes[..data], &moov, &bytes[data..index]].concat()
}

#[test]
fn of_a_file_that_is_cut_off_the_rest_is_used_and_the_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, share) in
        [("bframes.mp4", 60), ("variable.mkv", 50), ("odd_size.webm", 60), ("packed.avi", 60)]
    {
        let bytes = std::fs::read(clip(name)).unwrap();
        let bytes = if name.ends_with(".mp4") { index_first(&bytes) } else { bytes };
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes[..bytes.len() * share / 100]).unwrap();
        let (whole, cut) = (probed(name), probe(&Origin::File(path)).unwrap());
        let damage = cut.part.damage.as_ref().unwrap_or_else(|| panic!("{name}: the loss is not told"));
        assert_eq!(damage.reason, SkipReason::Corrupt, "{name}");
        let (there, all) = (cut.times.len(), whole.times.len());
        assert!(there < all && there >= all / 4, "{name}: {there} of {all}");
        assert_eq!(whole.part, Part::default(), "{name}");
        let wanted: Vec<u32> = (0..there as u32 - 3).step_by(3).collect();
        let same = pictures(decoder().as_mut(), &cut, &wanted).unwrap();
        // An AVI without its index, at its end, tells no places of pictures: what can be decoded is counted anew.
        if name != "packed.avi" {
            // All but the last few, whose data may be cut off, are the pictures they were.
            assert!(same == pictures(decoder().as_mut(), &whole, &wanted).unwrap(), "{name}");
        }
    }
}

/// An AVI's probe drops its first pipeline while that is still being put together: once a deadlock.
#[test]
fn stopping_right_after_opening_does_not_block() {
    let media = probed("packed.avi");
    for _ in 0..150 {
        assert_eq!(probed("packed.avi"), media);
    }
}

#[test]
fn damage_found_while_decoding_names_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holes.mp4");
    let mut bytes = std::fs::read(clip("bframes.mp4")).unwrap();
    let (from, to) = (bytes.len() / 2, bytes.len() * 6 / 10);
    bytes[from..to].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let media = probe(&Origin::File(path)).unwrap();
    let all: Vec<u32> = (0..media.times.len() as u32).collect();
    let failure = pictures(decoder().as_mut(), &media, &all).unwrap_err();
    assert_eq!(failure.reason, SkipReason::Corrupt, "{failure:?}");
    assert!(failure.at_secs.is_some_and(|secs| secs > 0.5 && secs < 4.0), "{failure:?}");
    // What lies before the damage can still be had.
    assert_eq!(pictures(decoder().as_mut(), &media, &[0, 5, 10]).unwrap().len(), 3);
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

/// A name of the manifest with its `%XX` turned back into bytes.
fn plain(name: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = std::str::from_utf8(tail.get(..2).unwrap_or_default()).unwrap_or_default();
        match u8::from_str_radix(code, 16) {
            Ok(byte) if *first == b'%' => (bytes.push(byte), rest = &tail[2..]).1,
            _ => (bytes.push(*first), rest = tail).1,
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
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
        let outcome = match probe(&Origin::File(folder.join(plain(cells[0])))) {
            Err(failure) => format!("probe\t{}\t{}", failure.reason.as_str(), failure.message),
            Ok(media) => {
                let all: Vec<u32> = (0..media.times.len() as u32).collect();
                match pictures(decoder().as_mut(), &media, &all) {
                    Ok(frames) => format!("frames\t{}\t{}", frames.len(), media.codec),
                    Err(failure) => format!("decode\t{failure:?}"),
                }
            }
        };
        println!("{}\t{}\t{}\t{outcome}", cells[0], cells[2], cells[3]);
    }
}

/// Windows of every file of a folder of one's own; prints the counts.
#[test]
fn own_clips_decode_in_windows_as_in_order() {
    let Some(folder) = std::env::var_os("REELFLOW_CLIPS").map(PathBuf::from) else {
        eprintln!("SKIPPED: set REELFLOW_CLIPS to a folder of videos");
        return;
    };
    let mut paths: Vec<PathBuf> =
        walkdir::WalkDir::new(folder).into_iter().flatten().map(|entry| entry.into_path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    let mut bad = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        match probe(&Origin::File(path)) {
            Err(failure) => bad.push(format!("{name}: {failure:?}")),
            Ok(media) => {
                println!("{name}: {} frames, {} keys, {}", media.times.len(), media.keys.len(), media.codec);
                bad.extend(differences(&media, 8, 1).into_iter().map(|text| format!("{name}: {text}")));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
