//! Archives made byte by byte: honest ones give what is in them, all others are refused or told.

use reelflow_api::item::MemberPlace;

use super::store::Store;
use super::*;
use crate::testing::archives::{ZIPPED, Zipped, gzipped, member, sized, tar, zip, zstandard};

fn of_name(name: &Path) -> Wish {
    match name.extension().and_then(|end| end.to_str()) {
        Some("mp4") => Wish::Media,
        Some("cls") => Wish::Text,
        _ => Wish::Pass,
    }
}

/// An archive on the disk.
struct OnDisk {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn on_disk(bytes: &[u8]) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    OnDisk { _folder: folder, path }
}

fn content(member: &Arc<Member>, store: &Store) -> Result<Vec<u8>, (SkipReason, String)> {
    match member.place {
        MemberPlace::Stored { offset, .. } => {
            let bytes = std::fs::read(&member.archive).unwrap();
            Ok(bytes[offset as usize..(offset + member.size) as usize].to_vec())
        }
        _ => store.unpacked(member).map(|bytes| bytes.to_vec()),
    }
}

fn names(listed: &Listed) -> Vec<String> {
    listed.media.iter().map(|member| member.name.display().to_string()).collect()
}

#[track_caller]
fn refused(bytes: &[u8], what: &str) {
    match list(&on_disk(bytes).path, &of_name) {
        Err(Trouble::Hostile(message)) => assert!(message.contains(what), "{message}"),
        other => panic!("{other:?}, and not refused for `{what}`"),
    }
}

#[test]
fn every_form_gives_the_same_members() {
    let (one, two): (Vec<u8>, Vec<u8>) = ((0..3000u32).map(|i| (i * i) as u8).collect(), vec![7; 513]);
    let long = format!("{}/b.mp4", "d".repeat(120));
    let plain = tar(&[
        member("run/", b'5', "", b""),
        member("run/a.mp4", b'0', "", &one),
        member("run/a.cls", b'0', "", b"3\n"),
        member("notes.md", b'0', "", b"nothing"),
        member("", b'L', "", format!("{long}\0").as_bytes()),
        member("cut short", b'0', "", &two),
        member("run/a.mp4", b'0', "", &two),
    ]);
    let two_frames =
        [zstandard(&plain[..1000]), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstandard(&plain[1000..])];
    let zipped = zip(&[
        Zipped { name: "run/a.mp4", body: &one, ..ZIPPED },
        Zipped { name: "run/a.cls", body: b"3\n", ..ZIPPED },
        Zipped { name: &long, body: &two, deflate: false, ..ZIPPED },
        Zipped { name: "run/a.mp4", body: &two, ..ZIPPED },
    ]);
    let forms =
        [("tar", plain.clone()), ("gz", gzipped(&plain)), ("zst", two_frames.concat()), ("zip", zipped)];
    for (form, bytes) in forms {
        let archive = on_disk(&bytes);
        let listed = list(&archive.path, &of_name).unwrap();
        assert_eq!(names(&listed), ["run/a.mp4", &long, "run/a.mp4"], "{form}");
        assert_eq!(listed.media.iter().map(|member| member.copy).collect::<Vec<_>>(), [0, 0, 1], "{form}");
        assert_eq!(listed.texts[Path::new("run/a.cls")], b"3\n", "{form}");
        assert!(listed.damage.is_none() && listed.left_out.is_empty(), "{form}: {listed:?}");
        let store = Store::new();
        store.allow(4000);
        // Backwards, and again: what is thrown out on the way comes back.
        for member in listed.media.iter().rev().chain(&listed.media) {
            let wanted = if member.size == 3000 { &one } else { &two };
            assert_eq!(&content(member, &store).unwrap(), wanted, "{form} {member:?}");
        }
        assert!(store.used() <= 4000, "{form}");
    }
}

#[test]
fn names_and_links_that_leave_an_archive_refuse_it() {
    let good = member("good.mp4", b'0', "", b"x");
    for (bytes, what) in [
        (member("/tmp/a.mp4", b'0', "", b"x"), "is absolute"),
        (member("a/../../b.mp4", b'0', "", b"x"), "by `..`"),
        (member("out", b'2', "..", b""), "symbolic link that leaves"),
        (member("d/out", b'2', "../../x", b""), "symbolic link that leaves"),
        (member("a.mp4", b'1', "/etc/hostname", b""), "hard link that leaves"),
        (member("a.mp4", b'6', "", b""), "device or a pipe"),
        (member("null", b'3', "", b""), "device or a pipe"),
        (sized("a.mp4", b'0', "", 3 << 30, b""), "2 GiB"),
        (sized("long", b'L', "", 2 << 20, b""), "a header of 2097152 bytes"),
        ([member("p", b'x', "", b"15 size=000512\n"), member("a.mp4", b'0', "", b"x")].concat(), "two sizes"),
        (
            [member("p", b'x', "", b"18 path=../b.mp4\n\n"), member("a.mp4", b'0', "", b"x")].concat(),
            "by `..`",
        ),
        (
            [member("p", b'x', "", b"99 path=a\n"), member("a.mp4", b'0', "", b"x")].concat(),
            "does not add up",
        ),
        (member("g", b'g', "", b"15 size=000512\n"), "pax header names or measures"),
    ] {
        let plain = tar(&[good.clone(), bytes]);
        refused(&plain, what);
        refused(&gzipped(&plain), what);
    }
    let link = Zipped { name: "out", mode: 0o120_777, body: b"..", ..ZIPPED };
    refused(&zip(&[link]), "symbolic link that leaves");
    refused(&zip(&[Zipped { name: "../a.mp4", body: b"x", ..ZIPPED }]), "by `..`");
    refused(&zip(&[Zipped { mode: 0o010_644, ..ZIPPED }]), "device or a pipe");
}

#[test]
fn a_link_inside_is_left_out_and_told() {
    let listed = on_disk(&tar(&[member("a.mp4", b'0', "", b"x"), member("d/b.mp4", b'2', "../a.mp4", b"")]));
    let listed = list(&listed.path, &of_name).unwrap();
    assert_eq!(names(&listed), ["a.mp4"]);
    assert_eq!((listed.left_out.len(), listed.left_out[0].1), (1, SkipReason::NotRegular));
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0u8; 40 << 20];
    refused(&gzipped(&tar(&[member("a.mp4", b'0', "", &zeros)])), "more than 200 times");
    refused(&zip(&[Zipped { body: &zeros, ..ZIPPED }]), "more than 200 times");
    // One that lies about its size is found out when it is unpacked.
    let liar = on_disk(&zip(&[Zipped { body: &zeros, claimed: Some(16), ..ZIPPED }]));
    let listed = list(&liar.path, &of_name).unwrap();
    let store = Store::new();
    store.allow(1 << 20);
    let (reason, message) = content(&listed.media[0], &store).unwrap_err();
    assert_eq!(reason, SkipReason::Corrupt, "{message}");
    // Two members in one place.
    let mut twice =
        zip(&[Zipped { body: b"hello", ..ZIPPED }, Zipped { name: "b.mp4", body: b"hello", ..ZIPPED }]);
    let second = twice.windows(4).rposition(|word| word == b"PK\x01\x02").unwrap();
    twice[second + 42..second + 46].fill(0);
    refused(&twice, "lie over each other");
}

#[test]
fn what_is_cut_off_is_told_and_the_rest_is_listed() {
    // Noise, so that it does not get shorter.
    let noise = |i: u64| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()) as u8;
    let body = |from: u64| (from..from + 40_000).map(noise).collect::<Vec<u8>>();
    let whole = tar(&[member("a.mp4", b'0', "", &body(0)), member("b.mp4", b'0', "", &body(1 << 20))]);
    for (form, bytes) in [("tar", whole.clone()), ("gz", gzipped(&whole))] {
        let cut = bytes[..bytes.len() * 6 / 10].to_vec();
        let archive = on_disk(&cut);
        let listed = list(&archive.path, &of_name).unwrap();
        assert_eq!(names(&listed), ["a.mp4"], "{form}");
        assert!(listed.damage.is_some(), "{form}");
    }
    let damaged = [&whole[..40_960], &[9; 512], &whole[40_960 + 512..]].concat();
    let damaged = list(&on_disk(&damaged).path, &of_name).unwrap();
    assert_eq!((names(&damaged), damaged.damage.is_some()), (vec!["a.mp4".to_owned()], true));
    let no_end = list(&on_disk(&whole[..whole.len() - 1024]).path, &of_name).unwrap();
    assert_eq!((names(&no_end).len(), no_end.damage.is_some()), (2, true));
    let zipped = zip(&[Zipped { body: &body(0), ..ZIPPED }]);
    assert!(matches!(list(&on_disk(&zipped[..30_000]).path, &of_name), Err(Trouble::NotArchive(_))));
    for bytes in [&b""[..], b"PK", &[3; 2000]] {
        assert!(matches!(list(&on_disk(bytes).path, &of_name), Err(Trouble::NotArchive(_))));
    }
}

#[test]
fn a_wrong_checksum_is_damage_of_that_member_alone() {
    let mut bytes = zip(&[
        Zipped { body: &[5; 900], deflate: false, ..ZIPPED },
        Zipped { name: "b.mp4", body: b"well", ..ZIPPED },
    ]);
    let name = bytes.windows(5).position(|word| word == b"b.mp4").unwrap();
    bytes[name + 5] ^= 1;
    let archive = on_disk(&bytes);
    let listed = list(&archive.path, &of_name).unwrap();
    let store = Store::new();
    store.allow(1 << 20);
    assert_eq!(content(&listed.media[0], &store).unwrap(), [5; 900]);
    assert_eq!(content(&listed.media[1], &store).unwrap_err().0, SkipReason::Corrupt);
}

#[test]
fn what_does_not_fit_into_memory_is_a_limit() {
    let archive = on_disk(&gzipped(&tar(&[member("a.mp4", b'0', "", &[1; 5000])])));
    let listed = list(&archive.path, &of_name).unwrap();
    let store = Store::new();
    store.allow(4999);
    assert_eq!(store.unpacked(&listed.media[0]).unwrap_err().0, SkipReason::Limit);
}

#[test]
fn archives_are_told_by_their_names() {
    let named = ["a.tar", "b/A.TAR.GZ", "c.tgz", "d.tar.zst", "e.zip"];
    assert!(named.iter().all(|name| is_named(Path::new(name))));
    assert!(["a.mp4", ".tar", "tar", "a.gz", "a.tar.mp4"].iter().all(|name| !is_named(Path::new(name))));
}

/// Random damage never panics and never takes memory that was not allowed.
#[test]
fn damaged_archives_end_in_words() {
    let plain = tar(&[
        member("a.mp4", b'0', "", &[1; 700]),
        member("p", b'x', "", b"16 path=b/c.mp4\n"),
        member("b.mp4", b'0', "", &[2; 70]),
    ]);
    let zipped = zip(&[Zipped { body: &[3; 500], ..ZIPPED }, Zipped { name: "b.cls", body: b"9", ..ZIPPED }]);
    let mut rng = reelflow_api::rng::Key::new(5).rng();
    for round in 0..600 {
        let whole = [&plain, &gzipped(&plain), &zstandard(&plain), &zipped][round % 4].clone();
        let mut bytes = whole;
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        bytes.truncate(bytes.len().saturating_sub(rng.below(4) as usize * 60));
        let archive = on_disk(&bytes);
        if let Ok(listed) = list(&archive.path, &of_name) {
            let store = Store::new();
            store.allow(10_000);
            for member in &listed.media {
                let packed = !matches!(member.place, MemberPlace::Stored { .. });
                if packed && let Ok(bytes) = store.unpacked(member) {
                    assert_eq!(bytes.len() as u64, member.size);
                }
            }
            assert!(store.used() <= 10_000);
        }
    }
}
