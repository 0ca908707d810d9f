//! Tests of the cutter: frames in, segments out, nothing lost between them.

use reelflow_api::item::Colour;
use reelflow_api::rng::Key;

use super::*;

const MS: u64 = 1_000_000;

fn rules() -> Rules {
    Rules { segment: 400 * MS, frames_min: 2, bytes_max: 1 << 20, max_fps: None, timing: Timing::Media }
}

/// A frame that carries its number in its first byte.
fn frame(number: u8, time: Option<u64>, arrival: u64) -> Incoming {
    let mut planes = vec![0; 4 * 2 + 2 * 2];
    planes[0] = number;
    let picture = Picture { time: 0, width: 4, height: 2, colour: Colour::default(), planes };
    Incoming { picture, time, arrival, after_gap: false }
}

fn shown(piece: &Piece) -> Vec<u8> {
    piece.pictures.iter().map(|picture| picture.planes[0]).collect()
}

/// Cuts `frames` and interrupts at the end; the pieces as frame numbers.
fn cut(rules: Rules, frames: Vec<Incoming>) -> (Vec<Vec<u8>>, Cutter) {
    let mut cutter = Cutter::new(rules);
    let mut pieces: Vec<Piece> = frames.into_iter().filter_map(|frame| cutter.frame(frame)).collect();
    pieces.extend(cutter.interrupt());
    for piece in &pieces {
        let times: Vec<u64> = piece.pictures.iter().map(|picture| picture.time).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    }
    (pieces.iter().map(shown).collect(), cutter)
}

/// Frames 0, 1, … at these milliseconds.
fn at(millis: &[u64]) -> Vec<Incoming> {
    let numbered = millis.iter().enumerate();
    numbered.map(|(number, &time)| frame(number as u8, Some(time * MS), time * MS)).collect()
}

#[test]
fn a_segment_ends_after_its_length_counted_from_the_break() {
    let (pieces, cutter) = cut(rules(), at(&[100, 200, 300, 400, 500, 600, 700]));
    assert_eq!(pieces, [vec![0, 1, 2, 3], vec![4, 5, 6]]);
    assert_eq!((cutter.breaks(), cutter.left_out().len()), (1, 0), "the end is the only break");
}

#[test]
fn time_that_goes_back_stands_still_or_jumps_begins_a_segment() {
    let (pieces, cutter) = cut(rules(), at(&[0, 40, 80, 40, 80, 120, 120, 160, 200, 1000, 1040]));
    assert_eq!(pieces, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9, 10]]);
    assert_eq!(cutter.breaks(), 4);
    // One missing frame is no jump, four are.
    let (pieces, _) = cut(rules(), at(&[0, 40, 120, 160, 340, 380]));
    assert_eq!(pieces, [vec![0, 1, 2, 3], vec![4, 5]]);
    // A slow stream is not one jump after the other.
    let (pieces, _) = cut(Rules { segment: 9000 * MS, ..rules() }, at(&[0, 1000, 2000, 3000]));
    assert_eq!(pieces, [vec![0, 1, 2, 3]]);
}

#[test]
fn other_sizes_missing_frames_and_formats_begin_a_segment() {
    let mut frames = at(&[0, 40, 80, 120, 160, 200]);
    for wide in &mut frames[2..] {
        wide.picture = Picture { width: 2, height: 4, ..wide.picture.clone() };
    }
    frames[4].after_gap = true;
    let (pieces, _) = cut(rules(), frames);
    assert_eq!(pieces, [vec![0, 1], vec![2, 3], vec![4, 5]]);

    let mut cutter = Cutter::new(rules());
    let named = |name: &str| Arc::new(Format { name: name.to_owned(), ..Format::default() });
    assert!(cutter.format(named("a")).is_none());
    for frame in at(&[0, 40]) {
        assert!(cutter.frame(frame).is_none());
    }
    let ended = cutter.format(named("b")).unwrap();
    assert_eq!((&*ended.format.name, ended.number, shown(&ended)), ("a", 0, vec![0, 1]));
    for frame in at(&[80, 120]) {
        assert!(cutter.frame(frame).is_none());
    }
    let ended = cutter.interrupt().unwrap();
    assert_eq!((&*ended.format.name, ended.number), ("b", 0));
}

#[test]
fn pieces_with_too_few_frames_are_counted_and_keep_their_number() {
    let mut cutter = Cutter::new(Rules { frames_min: 3, ..rules() });
    let pieces: Vec<Piece> =
        at(&[0, 40, 1000, 1040, 1080, 1120, 9]).into_iter().filter_map(|frame| cutter.frame(frame)).collect();
    assert_eq!(
        pieces.iter().map(|piece| (piece.number, shown(piece))).collect::<Vec<_>>(),
        [(1, vec![2, 3, 4, 5])]
    );
    assert_eq!(*cutter.left_out(), BTreeMap::from([(TOO_SHORT, 2)]));
    assert_eq!(cutter.open().0, 1);
    assert!(cutter.interrupt().is_none());
    assert_eq!(*cutter.left_out(), BTreeMap::from([(TOO_SHORT, 3)]));
    assert_eq!(cutter.open(), (0, 0));
}

#[test]
fn a_stream_that_stops_telling_times_is_timed_by_arrival() {
    // As raw MJPEG: the first frame has a time, then one in fifty.
    let mut frames = at(&[7000, 40, 80, 120, 160]);
    for (number, timeless) in frames.iter_mut().enumerate().skip(1).filter(|(number, _)| *number != 3) {
        timeless.time = None;
        timeless.arrival = number as u64 * 40 * MS;
    }
    let (pieces, cutter) = cut(rules(), frames);
    assert_eq!(pieces, [vec![1, 2, 3, 4]]);
    assert_eq!((cutter.breaks(), cutter.left_out()[TOO_SHORT]), (2, 1));
}

#[test]
fn by_arrival_time_never_goes_back_over_the_whole_feed() {
    let mut cutter = Cutter::new(Rules { timing: Timing::Arrival, ..rules() });
    let mut pieces = Vec::new();
    // The second stretch begins at time 0 again, and arrives in a burst before the first would have ended.
    for (time, arrival) in [(500, 1000), (540, 1001), (580, 1002), (0, 1003), (40, 1004), (80, 1300)] {
        pieces.extend(cutter.frame(frame(0, Some(time * MS), arrival * MS)));
    }
    pieces.extend(cutter.interrupt());
    let times: Vec<Vec<u64>> =
        pieces.iter().map(|piece| piece.pictures.iter().map(|picture| picture.time / MS).collect()).collect();
    assert_eq!(times, [[1000, 1040, 1080], [1080, 1120, 1160]]);
    let all: Vec<u64> = pieces.iter().flat_map(|piece| piece.pictures.iter().map(|p| p.time)).collect();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
}

#[test]
fn a_rate_limit_leaves_frames_out_evenly() {
    let frames = at(&(0..25).map(|number| number * 40).collect::<Vec<_>>());
    let (pieces, cutter) = cut(Rules { max_fps: Some(10.0), segment: 5000 * MS, ..rules() }, frames);
    assert_eq!(pieces, [vec![0, 3, 5, 8, 10, 13, 15, 18, 20, 23]]);
    assert_eq!(cutter.left_out()[OVER_MAX_FPS], 15);
}

#[test]
fn a_segment_ends_before_it_gets_too_large() {
    let (pieces, _) = cut(Rules { bytes_max: 3 * 12, ..rules() }, at(&[0, 40, 80, 120, 160, 200]));
    assert_eq!(pieces, [vec![0, 1, 2], vec![3, 4, 5]]);
}

#[test]
fn whatever_comes_every_frame_is_in_one_place() {
    for seed in 0..200 {
        let mut rng = Key::new(seed).rng();
        let timing = if seed % 2 == 0 { Timing::Media } else { Timing::Arrival };
        let max_fps = (seed % 3 == 0).then_some(12.0);
        let mut cutter = Cutter::new(Rules { frames_min: 3, timing, max_fps, bytes_max: 12 * 9, ..rules() });
        let (mut clock, mut arrival, mut given) = (1000 * MS, 0, 0);
        for count in 1..=300u64 {
            arrival += rng.below(50) * MS;
            clock = match rng.below(40) {
                0 => rng.below(3000) * MS,
                1 => clock,
                2 => clock + 5000 * MS,
                _ => clock + (30 + rng.below(20)) * MS,
            };
            let mut next = frame(0, (rng.below(100) > 0).then_some(clock), arrival);
            next.after_gap = rng.below(60) == 0;
            let mut pieces: Vec<Piece> = Vec::new();
            if rng.below(80) == 0 {
                pieces.extend(cutter.format(Arc::default()));
            }
            pieces.extend(cutter.frame(next));
            for piece in pieces {
                assert!(piece.pictures.windows(2).all(|pair| pair[0].time < pair[1].time), "seed {seed}");
                assert!(piece.pictures.len() <= 9, "seed {seed}");
                given += piece.pictures.len() as u64;
            }
            let left_out: u64 = cutter.left_out().values().sum();
            assert_eq!(given + left_out + cutter.open().0, count, "seed {seed}");
        }
    }
}
