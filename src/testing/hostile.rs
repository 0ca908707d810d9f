//! Every reader of bytes from outside as a function of those bytes alone: for fuzzers, and for what they found.
//!
//! Each must come back, whatever the bytes are: no panic, no endless loop, no memory by a claimed length. What is
//! accepted must survive being written and read again. `tests/fuzz/` has a target for each, and
//! `tests/fuzz/seeds/` what they begin with; a test here reads all of that.

use std::path::Path;

use reelflow_api::bank::BankSettings;
use reelflow_api::rng::Key;
use reelflow_api::stage::Parts;
use reelflow_api::track::{Track, Unit};

use crate::bank::sealed;
use crate::bank::snapshot::Snapshot;
use crate::bank::{Bank, NO_SEGMENT};
use crate::config;
use crate::decode::bytes::Bytes;
use crate::decode::{feed, promise};
use crate::engine::checkpoint::{Manifest, seal_of};
use crate::sample::plan_file;

/// A reader by its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; the names are those of the fuzz targets and of the folders of seeds.
pub const ALL: &[Reader] = &[
    ("pipeline", pipeline),
    ("manifest", manifest),
    ("bank", bank),
    ("list", list),
    ("index", index),
    #[cfg(feature = "gst")]
    ("probe", probe),
];

/// The text of a pipeline. What is accepted resolves to a text that is accepted and resolves to itself.
pub fn pipeline(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: &str| config::load(text, Path::new("fuzz.toml"), &[]);
    match load(text) {
        Ok(plan) => {
            let again = load(&plan.resolved).map(|again| again.resolved);
            let again = again.unwrap_or_else(|report| panic!("resolved to what is refused: {report}"));
            assert_eq!(plan.resolved, again, "resolved twice");
        }
        Err(report) => {
            assert!(!report.problems().is_empty(), "refused without a reason");
            assert!(
                !report.human(true).is_empty() && !report.short().is_empty() && !report.json().is_empty()
            );
        }
    }
}

/// The manifest of a checkpoint, as it is and with a checksum that fits.
pub fn manifest(bytes: &[u8]) {
    let path = Path::new("manifest.json");
    for text in [bytes.to_vec(), [bytes, seal_of(bytes).as_bytes()].concat()] {
        if let Ok(manifest) = Manifest::parse(path, &text) {
            let manifest = Manifest { format: 2, ..manifest };
            let again = Manifest::parse(path, &manifest.to_text()).expect("what was written is read");
            assert_eq!(again, manifest);
        }
    }
}

/// The files of a bank: the first byte says which one the rest is put in place of, with checksums that fit.
pub fn bank(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let _ = sealed::from_safetensors("fuzz", rest);
    let settings = BankSettings { shards: 2, ..BankSettings::queue(6, 2) };
    let mut bank = Bank::open("keys", &settings, Key::new(1)).expect("threads start");
    bank.push(3, &[7, 8], &[1.0, 0.0, 0.0, 1.0]).expect("the first keys fit");
    let mut parts = bank.save().expect("the owners live");
    let names: Vec<String> = parts.keys().cloned().collect();
    let name = &names[usize::from(which) % names.len()];
    if name.ends_with(".json") {
        let Ok(about) = serde_json::from_slice::<serde_json::Value>(rest) else { return };
        parts.remove(name);
        parts = sealed::seal(name, 2, &about, parts).expect("JSON is representable as JSON");
    } else {
        parts.insert(name.clone(), rest.to_vec());
        sealed::reseal("bank.keys.json", &mut parts).expect("its manifest is whole");
    }
    // Refused or not, the bank must still be there afterwards.
    let restored = bank.restore(&parts);
    if let Ok(mut snapshot) = Snapshot::read("keys", &parts) {
        let _ = (snapshot.problems(), snapshot.ages().to_text(), snapshot.rows());
        let written = snapshot.to_parts().expect("what was read can be written");
        let again = Snapshot::read("keys", &written).expect("what was written can be read");
        assert_eq!(again.to_parts().expect("and written again"), written);
        snapshot.forget(&[7, NO_SEGMENT].into());
    }
    if restored.is_ok() {
        let _ = bank.read(1 << 40).map(|changes| changes.rows.len());
        let _ = bank.forget(&[8]);
    }
    let _: Parts = bank.save().expect("the owners live");
}

/// Lists of media in every form, and the lines of a plan.
pub fn list(bytes: &[u8]) {
    #[cfg(feature = "gst")]
    for name in ["list.txt", "list.csv", "list.tsv", "trainlist01.txt", "wave_test_split1.txt"] {
        let _ = crate::source::list::parse(Path::new(name), bytes.to_vec(), None);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = plan_file::read(text, Path::new(""));
    }
}

/// What a file says about its length, and the index of its access units, ten bytes each.
pub fn index(bytes: &[u8]) {
    let _ = promise::read(&Bytes::of(bytes.to_vec()));
    let unit = |b: &[u8]| Unit {
        offset: u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])) << (b[4] % 24),
        size: u32::from(u16::from_le_bytes([b[5], b[6]])),
        shows: u32::from(u16::from_le_bytes([b[7], b[8]])) << (b[9] >> 4),
        is_key: b[9] & 1 == 1,
        is_disposable: b[9] & 2 == 2,
    };
    let units: Vec<Unit> = bytes.chunks_exact(10).map(unit).collect();
    if let Some(track) = Track::new("".into(), true, &units) {
        let mut back = Vec::new();
        track.read(0..track.groups(), &mut back);
        assert_eq!(back, units);
        let mut wanted: Vec<u32> = units.iter().step_by(3).map(|unit| unit.shows).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let _ = feed::stretches(&track, &wanted);
    }
    #[cfg(feature = "gst")]
    crate::decode::gst::heads(bytes);
}

/// A whole file through GStreamer: looked at, and its first frames decoded.
#[cfg(feature = "gst")]
pub fn probe(bytes: &[u8]) {
    use reelflow_api::item::Origin;

    let path = std::env::temp_dir().join(format!("reelflow-hostile-{}", std::process::id()));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    if let Ok(media) = crate::decode::probe(&Origin::File(path.clone())) {
        assert!(media.times.windows(2).all(|pair| pair[0] < pair[1]), "times go back");
        let wanted: Vec<u32> = (0..media.times.len().min(3) as u32).collect();
        let _ = crate::decode::pictures(&mut *crate::decode::decoder(), &media, &wanted);
    }
    let _ = std::fs::remove_file(&path);
}

#[cfg(test)]
mod tests {
    use reelflow_api::rng::Rng;

    use super::*;
    use crate::edge::files;

    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
        let seeds: Vec<_> =
            files::list_dir(&folder).unwrap().iter().map(|path| files::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "no seeds for `{name}`");
        seeds
    }

    /// Runs a reader; a panic is told with the bytes, for a seed.
    fn survives(reader: Reader, bytes: &[u8], what: &str) {
        let (name, read) = reader;
        if let Err(panic) = std::panic::catch_unwind(|| read(bytes)) {
            eprintln!("`{name}` panicked at {what}: {:?}", String::from_utf8_lossy(bytes));
            std::panic::resume_unwind(panic);
        }
    }

    /// Up to eight changes of bytes, numbers and pieces.
    fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "0",
            "-1",
            "1e308",
            "nan",
            "4294967295",
            "18446744073709551615",
            "\"",
            "[",
            "{",
            "\n",
            "\t",
            "null",
        ];
        let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=rng.below(8) {
            let length = bytes.len() as u64;
            let from = rng.below(length + 1) as usize;
            let most = 1 << rng.below(8);
            let to = (from + rng.below(most) as usize).min(bytes.len());
            let word = WORDS[rng.below(WORDS.len() as u64) as usize].as_bytes();
            let other = &seeds[rng.below(seeds.len() as u64) as usize];
            let piece = rng.below(other.len() as u64 + 1) as usize;
            match rng.below(7) {
                0 if from < bytes.len() => bytes[from] ^= 1 << rng.below(8),
                1 if from < bytes.len() => bytes[from] = [0, 1, 0x7F, 0x80, 0xFF][rng.below(5) as usize],
                2 => drop(bytes.drain(from..to)),
                3 => drop(bytes.splice(from..to, word.iter().copied())),
                4 => bytes.extend_from_within(from..to),
                5 => drop(bytes.splice(from..to, other[piece..].iter().take(40).copied())),
                _ => bytes.truncate(to),
            }
        }
        bytes
    }

    #[test]
    fn every_seed_is_survived() {
        for reader in ALL {
            seeds(reader.0).iter().for_each(|bytes| survives(*reader, bytes, "a seed"));
        }
    }

    /// A fuzzer that needs nothing: 300 changes of the seeds for each reader, always the same ones. With
    /// `REELFLOW_MUTATIONS` it makes so many, and others each time.
    #[test]
    fn mutated_seeds_are_survived() {
        let asked = std::env::var("REELFLOW_MUTATIONS").ok().and_then(|count| count.parse::<u64>().ok());
        let first = if asked.is_some() { u64::from(std::process::id()) << 32 } else { 0 };
        for reader in ALL.iter().filter(|(name, _)| *name != "probe") {
            let seeds = seeds(reader.0);
            for number in first..first + asked.unwrap_or(300) {
                let mut rng = Key::new(1).part(reader.0).number(number).rng();
                survives(*reader, &mutated(&seeds, &mut rng), &format!("change {number}"));
            }
        }
    }
}
