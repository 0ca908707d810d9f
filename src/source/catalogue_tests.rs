//! Tests of the scan: what is cut, what is counted, what ids and versions name.

use reelflow_api::item::Media;
use reelflow_api::stage::Listing;

use super::*;
use crate::decode::pattern::media;

/// Three patterns of 10 frames, 100 ms apart; number 9 does not exist as a file.
struct Fixed {
    segment_secs: Option<f64>,
    span_secs: Option<(f64, f64)>,
    label: &'static str,
    bad: bool,
    on_error: OnError,
}

const PLAIN: Fixed =
    Fixed { segment_secs: None, span_secs: None, label: "a", bad: false, on_error: OnError::Quarantine };

impl Source for Fixed {
    fn list(&self) -> Result<Listing, StageError> {
        let candidate = |origin| Candidate {
            origin,
            label: Some(self.label.into()),
            group: None,
            split: None,
            span_secs: self.span_secs,
        };
        let mut candidates: Vec<_> = (0..3).map(|number| candidate(Origin::Pattern { number })).collect();
        if self.bad {
            candidates.insert(1, candidate(Origin::File("no/such/file.mp4".into())));
        }
        Ok(Listing { candidates, skipped: Vec::new() })
    }

    fn segment_secs(&self) -> Option<f64> {
        self.segment_secs
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }

    fn describe(&self, origin: &Origin) -> Option<Media> {
        let Origin::Pattern { number } = origin else { return None };
        Some(media(*number, 8, 8, (0..10).map(|i| i * 100_000_000).collect()))
    }
}

fn pieces(scanned: &Scanned) -> Vec<(u32, u32)> {
    scanned.catalogue.segments.iter().map(|s| (s.first, s.count)).collect()
}

#[test]
fn a_scan_that_is_asked_to_stop_stops() {
    let stop = Stop::default();
    let guide = Guide { kept: None, stop: Some(&stop) };
    assert_eq!(build_guided(&[("s", &PLAIN)], 1, guide).unwrap().inputs_ok, 3);
    stop.ask();
    let error = build_guided(&[("s", &PLAIN)], 1, guide).unwrap_err();
    assert!(error.message.contains("stopped"), "{error}");
}

#[test]
fn media_are_cut_and_a_short_tail_joins_the_piece_before() {
    let cut_in = |segment_secs, span_secs, frames_min| {
        let source = Fixed { segment_secs, span_secs, ..PLAIN };
        pieces(&build(&[("s", &source)], frames_min).unwrap())[..].to_vec()
    };
    assert_eq!(cut_in(None, None, 1), [(0, 10); 3]);
    assert_eq!(cut_in(Some(0.4), None, 1)[..3], [(0, 4), (4, 4), (8, 2)]);
    assert_eq!(cut_in(Some(0.4), None, 3)[..2], [(0, 4), (4, 6)]);
    assert_eq!(
        cut_in(Some(0.4), None, 5)[..1],
        [(4, 6)],
        "the first piece is too short, the joined one is not"
    );
    assert_eq!(cut_in(Some(0.4), None, 7)[..], []);
    assert_eq!(cut_in(None, Some((0.25, 0.6)), 1), [(3, 3); 3]);
}

#[test]
fn no_piece_crosses_a_jump_of_time() {
    let secs = |list: &[u64]| list.iter().map(|secs| secs * 1_000_000_000).collect::<Vec<u64>>();
    let runs = |times: &[u64], segment_secs| -> Vec<(u64, u32, u32)> {
        cut(times, None, segment_secs, 1).iter().map(|piece| (piece.run, piece.first, piece.count)).collect()
    };
    let jumping = secs(&[0, 1, 2, 3, 5003, 5004, 5005]);
    assert_eq!(runs(&jumping, None), [(0, 0, 4), (1, 4, 3)]);
    assert_eq!(runs(&jumping, Some(10_000.0)), [(0, 0, 4), (1, 4, 3)]);
    // Pictures that come every ten seconds do not jump, and neither does a pause of four.
    assert_eq!(runs(&secs(&[0, 10, 20, 30, 40]), None), [(0, 0, 5)]);
    assert_eq!(runs(&secs(&[0, 1, 2, 6, 7]), None), [(0, 0, 5)]);
}

#[test]
fn every_input_is_accounted_for() {
    let source = Fixed { bad: true, ..PLAIN };
    let scanned = build(&[("s", &source)], 4).unwrap();
    assert_eq!((scanned.inputs_seen, scanned.inputs_ok), (4, 3));
    assert_eq!(scanned.by_reason, BTreeMap::from([(SkipReason::Vanished, 1)]));
    assert_eq!(scanned.skipped[0].file, std::path::PathBuf::from("no/such/file.mp4"));
    let short = build(&[("s", &source)], 11).unwrap();
    assert_eq!((short.inputs_ok, short.by_reason[&SkipReason::TooShort]), (0, 3));
    let fails = Fixed { bad: true, on_error: OnError::Fail, ..PLAIN };
    let error = build(&[("s", &fails)], 4).unwrap_err();
    assert_eq!((error.stage.as_str(), error.code), ("sources.s", 1));
}

#[test]
fn ids_and_version_name_exactly_this_content() {
    let of = |sources: &[(&str, &dyn Source)]| build(sources, 1).unwrap().catalogue;
    let other = Fixed { label: "b", ..PLAIN };
    let one = of(&[("s", &PLAIN), ("t", &other)]);
    let turned = of(&[("t", &other), ("s", &PLAIN)]);
    assert_eq!(one.version, turned.version, "the order of the sources does not matter");
    assert_ne!(one.version, of(&[("s", &PLAIN), ("t", &PLAIN)]).version, "labels matter");
    let mut ids: Vec<_> = one.segments.iter().map(|segment| segment.id).collect();
    assert!(ids.iter().all(|id| id.0 >> 63 == 0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "equal media of two sources are two segments");
}
