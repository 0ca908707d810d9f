//! Figures of evaluations whose answer is known.

use reelflow_api::item::{Media, Orientation, Origin, Part, SegmentId};
use reelflow_api::rng::Key;

use super::*;

/// Segments from text, one a word: `label/group/split:x,y`; a part may be left out. Clips of one segment
/// are joined by `|`.
pub(crate) fn items(text: &str) -> Vec<Embedded> {
    let words = text.split_whitespace().enumerate();
    words
        .flat_map(|(number, word)| {
            let (who, vectors) = word.split_once(':').unwrap();
            let mut parts = who.split('/').map(|part| (!part.is_empty()).then(|| Arc::from(part)));
            let mut next = || parts.next().flatten();
            let (label, group, split) = (next(), next(), next());
            let segment = segment(number as u64, label, group, split);
            let clips = vectors.split('|').map(move |vector| Embedded {
                segment: Arc::clone(&segment),
                span_secs: (0.0, 1.0),
                vector: vector.split(',').map(|value| value.parse().unwrap()).collect(),
                scores: None,
            });
            clips.collect::<Vec<_>>()
        })
        .collect()
}

type Name = Option<Arc<str>>;

fn segment(number: u64, label: Name, group: Name, split: Name) -> Arc<Segment> {
    let media = Media {
        origin: Origin::Pattern { number: number as u32 },
        name: format!("{number}.mp4"),
        width: 16,
        height: 16,
        orientation: Orientation::default(),
        times: [0].into(),
        keys: [0].into(),
        codec: "none".into(),
        bytes: 0,
        track: None,
        part: Part::default(),
    };
    Arc::new(Segment {
        id: SegmentId(number),
        media: Arc::new(media),
        first: 0,
        count: 1,
        label,
        group,
        split,
    })
}

/// Segment `number` of a file of its own with `frames` frames, one a second.
pub(crate) fn segment_of(number: u64, frames: u32) -> Arc<Segment> {
    let mut segment = (*segment(number, None, None, None)).clone();
    let times = (0..u64::from(frames)).map(|frame| frame * 1_000_000_000).collect();
    segment.media = Arc::new(Media { times, ..(*segment.media).clone() });
    segment.count = frames;
    Arc::new(segment)
}

fn plain(k: usize) -> EvalOptions {
    EvalOptions { voting: Voting::Plain { k }, ranks: vec![1, 2, 3], probe: false, ..EvalOptions::default() }
}

/// Accuracy and hit@1, 2, 3 in percent, k = 1.
#[track_caller]
fn check(text: &str, expected: [f64; 4]) {
    let report = evaluate(&items(text), &plain(1)).unwrap();
    let hits: Vec<f64> = report.hits.iter().map(|hit| hit.share * 100.0).collect();
    assert_eq!([report.knn.accuracy * 100.0, hits[0], hits[1], hits[2]], expected, "{report:?}");
}

#[track_caller]
fn check_refused(text: &str, protocol: Option<Protocol>, message: &str) {
    let error = evaluate(&items(text), &EvalOptions { protocol, ..plain(1) }).unwrap_err();
    assert_eq!(error.code, 78);
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn by_hand_a_split_of_three_and_four() {
    // Queries along x, along y, x again; the last one is of class b although a is nearer.
    check(
        "a//train:1,0 a//train:1,0.1 b//train:0,1 a//test:1,0.01 a//test:1,0 b//test:0,1 b//test:1,0.2",
        [75.0, 75.0, 75.0, 100.0],
    );
}

#[test]
fn a_query_never_finds_its_own_group() {
    // Every nearest neighbour is of the own group and class; across groups the classes are swapped.
    let text = "a/g:1,0 a/g:1,0.1 b/h:1,0 b/h:1,0.1";
    check(text, [0.0, 0.0, 0.0, 0.0]);
    // Without groups only the file itself is out of bounds.
    let alone = EvalOptions { protocol: Some(Protocol::LeaveOneOut), ..plain(1) };
    assert_eq!(evaluate(&items("a:1,0 a:1,0.1 b:0,1 b:0.1,1"), &alone).unwrap().knn.accuracy, 1.0);
    assert_eq!(evaluate(&items("a:1,0 b:1,0.1 a:0,1 b:0.1,1"), &alone).unwrap().knn.accuracy, 0.0);
}

#[test]
fn identical_gallery_and_queries_hit_at_once() {
    let vectors = random_vectors(40, 12);
    let items: Vec<_> = ["train", "test"]
        .iter()
        .enumerate()
        .flat_map(|(side, split)| {
            vectors.iter().enumerate().map(move |(index, vector)| {
                let label = Some(format!("c{}", index % 8).into());
                let segment = segment((side * 40 + index) as u64, label, None, Some((*split).into()));
                Embedded { segment, span_secs: (0.0, 1.0), vector: vector.clone(), scores: None }
            })
        })
        .collect();
    let report = evaluate(&items, &EvalOptions::default()).unwrap();
    assert_eq!(report.hits[0].share, 1.0);
    assert_eq!(evaluate(&items, &plain(1)).unwrap().knn.accuracy, 1.0);
}

fn random_vectors(count: usize, dim: usize) -> Vec<Vec<f32>> {
    let mut rng = Key::new(11).rng();
    (0..count).map(|_| (0..dim).map(|_| rng.normal() as f32).collect()).collect()
}

#[test]
fn random_features_reach_chance_and_hits_never_fall() {
    // 1200 of 4 classes: one standard error of a share is at most 1.5 %.
    let items: Vec<_> = random_vectors(1200, 16)
        .into_iter()
        .enumerate()
        .map(|(index, vector)| {
            let label = Some(format!("c{}", index % 4).into());
            Embedded {
                segment: segment(index as u64, label, None, None),
                span_secs: (0.0, 1.0),
                vector,
                scores: None,
            }
        })
        .collect();
    let report = evaluate(&items, &EvalOptions::default()).unwrap();
    assert!((report.knn.accuracy - 0.25).abs() < 0.05, "{}", report.knn.accuracy);
    for hit in &report.hits {
        let formula = 1.0 - 0.75_f64.powi(hit.k as i32);
        assert!((hit.share - formula).abs() < 0.05, "{hit:?}, formula {formula}");
        assert!((hit.chance - formula).abs() < 0.005, "{hit:?}, formula {formula}");
    }
    assert!(report.hits.is_sorted_by(|a, b| a.share <= b.share), "{:?}", report.hits);
}

#[test]
fn clips_of_a_segment_are_averaged_before_the_length_is_taken() {
    // The mean of the second segment's clips is along y, although its longer clip is along x.
    check("a//train:1,0 b//train:0,1 b//test:-3,1|3,1", [100.0, 100.0, 100.0, 100.0]);
}

#[test]
fn subtracting_the_mean_takes_away_what_all_share() {
    // Everything points along x; only the small rest tells the classes apart.
    let text = "a//train:9,1 b//train:10,-1 a//test:9.9,0.9 b//test:8,-0.8";
    let centred = EvalOptions { centre: true, ..plain(1) };
    assert_eq!(evaluate(&items(text), &centred).unwrap().knn.accuracy, 1.0);
    // A test set shifted as a whole is found only if each set has its own mean.
    let shifted = "a//train:1,1 b//train:1,-1 a//test:5,9 b//test:5,7";
    assert_eq!(evaluate(&items(shifted), &plain(1)).unwrap().knn.accuracy, 0.5);
    assert_eq!(evaluate(&items(shifted), &centred).unwrap().knn.accuracy, 1.0);
}

#[test]
fn the_protocol_follows_from_the_labels() {
    let chosen = |text: &str| evaluate(&items(text), &plain(1)).unwrap().protocol;
    assert_eq!(chosen("a//train:1 b//test:1"), Protocol::Split);
    assert_eq!(chosen("a/g:1 b/h:1"), Protocol::LeaveGroupOut);
    assert_eq!(chosen("a:1 b:1"), Protocol::LeaveOneOut);
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_remedy() {
    check_refused("/g:1 /h:1", None, "none of 2 segments has a label; put the clips");
    check_refused("", None, "none of 0 segments has a label");
    check_refused("a:1 a:1", None, "all 2 labelled segments are of the class `a`");
    check_refused("a/g:1 b/g:1", None, "all 2 segments are of one group");
    check_refused("a//train:1 b//val:1", Some(Protocol::Split), "needs labelled segments of the splits");
    check_refused("a:1 b:1", Some(Protocol::LeaveGroupOut), "needs groups");
    check_refused("a/g/train:1 b/g/test:1 a/h/test:1", None, "`1.mp4` of split `test` is of the same group");
    check_refused("a:1 b:1,2", None, "`1.mp4`: an embedding of 2 numbers among those of 1");
    check_refused("a:1 b:NaN", None, "`1.mp4`: its embedding is not finite");
}

#[test]
fn guessing_and_balance_count_classes_and_their_sizes() {
    // Three of a, one of b, all alike: the nearest is the first, so all are taken for a.
    let report = evaluate(&items("a:1,0 a:1,0 a:1,0 b:1,0 :1,0"), &plain(1)).unwrap();
    assert_eq!((report.knn.accuracy, report.majority), (0.75, 0.75));
    assert_eq!((report.knn.balanced_accuracy, report.chance), (0.5, 0.5));
    assert_eq!((report.queries, report.candidates, report.left_out), (4, 3.0, 1));
    // hit@1 by chance: two of the other three for an a, none for the b.
    assert!((report.hits[0].chance - 0.5).abs() < 1e-12, "{:?}", report.hits);
}

/// Class `c` of 4 lies along axis `c`, drowned in noise along the other 12 axes; groups of 4, one of each class.
fn noisy(count: usize, split: &dyn Fn(usize) -> Option<&'static str>) -> Vec<Embedded> {
    let mut rng = Key::new(21).rng();
    let item = |index: usize| {
        let mut vector: Vec<f32> = (0..16).map(|_| 3.0 * rng.normal() as f32).collect();
        (0..4).for_each(|axis| vector[axis] = 0.5 * rng.normal() as f32);
        vector[index % 4] += 2.0;
        let label = Some(format!("c{}", index % 4).into());
        let group = Some(format!("g{}", index / 4).into());
        Embedded {
            segment: segment(index as u64, label, group, split(index).map(Arc::from)),
            span_secs: (0.0, 1.0),
            vector,
            scores: None,
        }
    };
    (0..count).map(item).collect()
}

#[test]
fn the_probe_finds_what_neighbours_cannot_see() {
    for split in [true, false] {
        let side = |index: usize| split.then_some(if index < 240 { "train" } else { "test" });
        let report = evaluate(&noisy(320, &side), &EvalOptions::default()).unwrap();
        let probe = report.probe.unwrap();
        assert_eq!(probe.strengths.len(), if split { 1 } else { probe::FOLDS });
        assert!(probe.figures.accuracy > 0.85, "{:?}", probe.figures);
        assert!(probe.figures.accuracy > report.knn.accuracy + 0.2, "{}", report.knn.accuracy);
        let columns: usize = probe.figures.confusion.iter().flatten().sum();
        assert_eq!(columns, report.queries);
        assert_eq!(report.queries, if split { 80 } else { 320 });
    }
}

#[test]
fn the_probe_never_learns_from_the_group_it_is_tried_on() {
    // Each group has an axis of its own and one class: inside a group all is known, across groups nothing.
    let items: Vec<_> = (0..48)
        .map(|index| {
            let group = index / 4;
            let vector = (0..12).map(|axis| f32::from(u8::from(axis == group))).collect();
            let label = Some(format!("c{}", group % 2).into());
            Embedded {
                segment: segment(index as u64, label, Some(format!("g{group}").into()), None),
                span_secs: (0.0, 1.0),
                vector,
                scores: None,
            }
        })
        .collect();
    let report = evaluate(&items, &EvalOptions::default()).unwrap();
    let probe = report.probe.unwrap().figures;
    assert!(probe.accuracy < 0.7, "{probe:?}");
    let alone = EvalOptions { protocol: Some(Protocol::LeaveOneOut), ..EvalOptions::default() };
    let known = evaluate(&items, &alone).unwrap().probe.unwrap().figures;
    assert_eq!(known.accuracy, 1.0, "{known:?}");
}

#[test]
fn the_table_puts_encoders_side_by_side() {
    let options = EvalOptions { probe: true, ranks: vec![1, 2], ..plain(1) };
    let untrained = evaluate(&items("a//train:1,0 b//train:0,1 a//test:0,1 b//test:0,1"), &options).unwrap();
    let trained = evaluate(&items("a//train:1,0 b//train:0,1 a//test:1,0 b//test:0,1"), &options).unwrap();
    let column = |encoder: &str, order: &str, report: &Report| report::Column {
        encoder: encoder.to_owned(),
        order: order.to_owned(),
        report: report.clone(),
    };
    let columns = [column("untrained", "forward", &untrained), column("trained", "forward", &trained)];
    assert_eq!(
        side_by_side(&columns),
        "2 queries among 2 segments of 2 classes, protocol split, kNN with k 1; linear probe fitted to `train`\n\n\
         \u{20}                           guessing    untrained      trained\n\
         kNN accuracy                  50.0 %       50.0 %      100.0 %\n\
         \u{20} 95 % interval                            9-91 %     34-100 %\n\
         kNN balanced                  50.0 %       50.0 %      100.0 %\n\
         \u{20} 95 % interval                           20-80 %     70-100 %\n\
         probe accuracy                50.0 %       50.0 %      100.0 %\n\
         \u{20} 95 % interval                            9-91 %     34-100 %\n\
         probe balanced                50.0 %       50.0 %      100.0 %\n\
         \u{20} 95 % interval                           20-80 %     70-100 %\n\
         hit@1                         50.0 %       50.0 %      100.0 %\n\
         hit@2                        100.0 %      100.0 %      100.0 %\n\
         of each class: kNN / probe\n\
         \u{20} a (1)                                   0 / 0 %  100 / 100 %\n\
         \u{20} b (1)                               100 / 100 %  100 / 100 %"
    );
    let columns = [column("trained", "forward", &trained), column("trained", "shuffled", &untrained)];
    assert_eq!(
        report::controls(&columns).split_once("\n\n").unwrap().1,
        "\u{20}                      kNN      95 %  balanced    probe      95 %  balanced    hit@1\n\
         guessing            50.0 %              50.0 %   50.0 %              50.0 %   50.0 %\n\
         trained, forward   100.0 %  34-100 %   100.0 %  100.0 %  34-100 %   100.0 %  100.0 %\n\
         trained, shuffled   50.0 %    9-91 %    50.0 %   50.0 %    9-91 %    50.0 %   50.0 %"
    );
    let json = report::to_json(&columns);
    assert_eq!(json["trained"]["probe"]["confusion"], serde_json::json!([[1, 0], [0, 1]]));
    assert_eq!(
        (&json["trained"]["hits"][0]["share"], &json["trained"]["accuracy"]),
        (&1.0.into(), &1.0.into())
    );
    assert_eq!(json["trained shuffled"]["order"], "shuffled");
}
