//! A catalogue that changes while a run goes on: the same batches for any number of workers, and what is taken back is
//! neither sampled nor remembered. Pictures are computed; nothing needs a camera, a file or a library.

#[path = "changing/parts.rs"]
mod parts;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parts::{Cam, Listed, Seen, recording, segments, text};
use reelflow::api::error::SkipReason;
use reelflow::api::feed::News;
use reelflow::api::item::{Catalogue, Segment, SegmentId};
use reelflow::api::stage::Source;
use reelflow::engine::changes::{self, Prepared};
use reelflow::engine::flow::{Flow, Next};
use reelflow::engine::layout::{Layout, Parts};
use reelflow::engine::publisher::QUEUED;
use reelflow::engine::run_dir::Start;
use reelflow::engine::scan::scan;
use reelflow::engine::timeline::{Change, Timeline};
use reelflow::source::catalogue::Guide;

const AHEAD: u64 = 4;

/// The pipeline with these sources in place of its own.
fn with_sources(steps: u64, sources: &[(&str, Arc<dyn Source>)]) -> Parts {
    let ids: Vec<&str> = sources.iter().map(|(id, _)| *id).collect();
    let mut parts = Parts::of(parts::plan(&text(steps, &ids)));
    for (id, source) in sources {
        parts.sources.insert((*id).to_owned(), Arc::clone(source));
    }
    parts
}

/// Segments of every step, by slot, and a hash of the pixels; takes at most `steps` steps.
fn take(flow: &Flow, steps: usize) -> Vec<(Vec<u64>, u128)> {
    let mut taken = Vec::new();
    while taken.len() < steps {
        match flow.next(Duration::from_secs(60)) {
            Next::Step(mut delivery) => {
                let (_, batch) = delivery.batches.remove(0);
                let ids = batch.slots.iter().map(|slot| slot.segment.0).collect();
                let mut hash = xxhash_rust::xxh3::Xxh3::new();
                batch.views.iter().for_each(|view| hash.update(view.pixels.bytes()));
                taken.push((ids, hash.digest128()));
                flow.consumed(delivery.step);
            }
            Next::Idle => panic!("no step within a minute, after {}", taken.len()),
            Next::End => break,
        }
    }
    taken
}

#[test]
fn the_same_versions_at_the_same_steps_give_the_same_batches() {
    let version = |ids: &[u64]| {
        let segments = segments(ids);
        vec![Arc::new(Catalogue { version: segments.len() as u64, segments })]
    };
    let run = |workers: usize| {
        let timeline = Arc::new(Timeline::new(0, Duration::ZERO));
        timeline.publish(0, version(&[1, 2, 3]), true, Change::default());
        assert_eq!(timeline.publish(5, version(&[1, 3, 4, 5]), true, Change::default()), 5);
        assert_eq!(timeline.publish(9, version(&[6]), true, Change::default()), 9);
        let parts = with_sources(14, &[("cam", Arc::new(Cam::new(1)))]);
        let numbers = HashMap::from([("windows".to_owned(), 0)]);
        let (layout, _) = parts.layout_on(&timeline, &numbers, &HashMap::new(), 0).unwrap();
        let flow = Flow::start(layout, workers).unwrap();
        let taken = take(&flow, 20);
        flow.finish().unwrap();
        taken
    };
    let one = run(1);
    assert_eq!(one.len(), 14);
    for (step, (ids, _)) in one.iter().enumerate() {
        let allowed: &[u64] = match step {
            0..5 => &[1, 2, 3],
            5..9 => &[1, 3, 4, 5],
            _ => &[6],
        };
        assert!(ids.iter().all(|id| allowed.contains(id)), "step {step}: {ids:?}");
    }
    assert!(one[..5].iter().any(|(ids, _)| ids.contains(&2)), "number 2 was sampled before it went");
    for workers in [2, 3] {
        assert_eq!(run(workers), one, "{workers} workers");
    }
}

#[test]
fn where_all_that_was_planned_has_gone_a_newer_version_is_drawn_from() {
    let version = |segments: Vec<Arc<Segment>>| vec![Arc::new(Catalogue { version: 1, segments })];
    let gone = || version(vec![parts::gone(1), parts::gone(2)]);
    let run = |patience: Duration| {
        let timeline = Arc::new(Timeline::new(0, patience));
        timeline.publish(0, gone(), true, Change::default());
        let parts = with_sources(3, &[("cam", Arc::new(Cam::new(1)))]);
        let numbers = HashMap::from([("windows".to_owned(), 0)]);
        let (layout, _) = parts.layout_on(&timeline, &numbers, &HashMap::new(), 0).unwrap();
        (Flow::start(layout, 2).unwrap(), timeline)
    };
    let (flow, timeline) = run(Duration::from_secs(60));
    parts::until("what has gone is noticed", || !flow.shared.take_skips().is_empty());
    timeline.publish(0, version(segments(&[5, 6])), true, Change::default());
    let taken = take(&flow, 9);
    assert_eq!(taken.len(), 3);
    assert!(taken.iter().all(|(ids, _)| ids.len() == 2 && ids.iter().all(|id| [5, 6].contains(id))));
    flow.finish().unwrap();
    // Without one the run ends with what happened.
    let (flow, _) = run(Duration::ZERO);
    while !matches!(flow.next(Duration::from_secs(1)), Next::End) {}
    let error = flow.finish().unwrap_err();
    assert!(error.message.contains("16 segments in a row could not be decoded"), "{error}");
}

/// A flow with everything that tells of changes, as a run has it.
struct Going {
    flow: Flow,
    changes: changes::Changes,
    timeline: Arc<Timeline>,
}

fn start(parts: Parts, workers: usize) -> Going {
    let scans = scan(&parts, Guide::default()).unwrap();
    let changing = scans.changing.expect("a source changes");
    let timeline = changes::timeline(&changing, 0);
    let (layout, _): (Layout, _) = parts.layout_on(&timeline, &changing.numbers, &HashMap::new(), 0).unwrap();
    let prepared = Prepared::new(changing, Arc::clone(&timeline), Change::default(), &layout);
    let flow = Flow::start(layout, workers).unwrap();
    let changes = prepared.start(&flow.shared).unwrap();
    Going { flow, changes, timeline }
}

#[test]
fn a_live_run_waits_for_as_many_segments_as_it_wants() {
    let cam = Arc::new(Cam::new(3));
    let going = start(with_sources(4, &[("cam", Arc::clone(&cam) as Arc<dyn Source>)]), 2);
    let tell = cam.tell();
    for id in [1, 2] {
        tell(News::Came(recording(id, id)));
    }
    parts::until("both are there", || going.timeline.segments() == 2);
    assert!(going.changes.is_waiting());
    assert!(matches!(going.flow.next(Duration::from_millis(200)), Next::Idle), "two are not enough");
    tell(News::Came(recording(3, 3)));
    let taken = take(&going.flow, 9);
    assert_eq!(taken.len(), 4);
    assert!(taken.iter().flat_map(|(ids, _)| ids).all(|id| (1..=3).contains(id)));
    going.flow.finish().unwrap();
}

#[test]
fn a_feed_that_tells_faster_than_is_used_does_not_grow_in_memory() {
    let cam = Arc::new(Cam::new(1));
    let mut going = start(with_sources(0, &[("cam", Arc::clone(&cam) as Arc<dyn Source>)]), 2);
    let tell = cam.tell();
    let mut told: Vec<Weak<_>> = Vec::new();
    let alive = |told: &[Weak<Segment>]| told.iter().filter(|segment| segment.strong_count() > 0).count();
    let mut most = 0;
    for id in 0..600u64 {
        let segment = recording(id, id % 8);
        told.push(Arc::downgrade(&segment));
        tell(News::Came(segment));
        if let Some(old) = id.checked_sub(4) {
            tell(News::Left(SegmentId(old)));
        }
        most = most.max(alive(&told));
    }
    // Five are kept by the camera and the newest version, others by news that wait, and by steps in flight.
    let in_flight = 5 * (AHEAD as usize + 2);
    assert!(most <= QUEUED + in_flight, "{most} at once");
    going.changes.settle();
    let now = alive(&told);
    assert!(now <= in_flight, "{now} of {} are still there", told.len());
    assert!(take(&going.flow, 30).iter().skip(AHEAD as usize).flat_map(|(ids, _)| ids).all(|id| *id >= 596));
    let told = going.timeline.take_changes(u64::MAX);
    let changed: usize = told.iter().map(|one| one.told.added.len() + one.told.left.len()).sum();
    assert!(changed <= 2 * in_flight, "{changed} entries wait to be told");
    going.flow.finish().unwrap();
}

#[test]
fn a_live_source_and_an_archive_feed_one_run_and_every_frame_is_accounted_for() {
    let cam = Arc::new(Cam::new(1));
    let archive = Listed::new(&[100, 101]);
    let seen = Seen::default();
    let (cam_tells, told) = (Arc::clone(&cam), seen.clone());
    let folder = tempfile::tempdir().unwrap();
    let sink = seen.plan(move |step, stop| {
        if step < 6 {
            cam_tells.push(step, 2);
        }
        if step == 6 {
            cam_tells.tell()(News::Ended);
        }
        // It goes on with what is kept when the camera has ended.
        if step > 6 && told.batches()[&step].iter().any(|id| *id < 100) {
            stop.ask();
        }
    });
    let sources: [(&str, Arc<dyn Source>); 2] =
        [("cam", Arc::clone(&cam) as Arc<dyn Source>), ("files", Arc::new(archive.fixed()))];
    let outcome =
        parts::run(&text(0, &["cam", "files"]), &sources, sink, folder.path(), Start::Fresh).unwrap();
    let all: Vec<u64> = seen.batches().values().flatten().copied().collect();
    assert!(all.contains(&archive.id(100)) && all.contains(&archive.id(101)));
    let counters = &outcome.summary.counters;
    let counts = &counters.feeds["cam"];
    assert_eq!(counts.frames_received, 6 * 8);
    assert_eq!(counters.reconcile(), Ok(()));
    assert_eq!(counts.frames_kept, 2 * 8);
    assert_eq!(counts.frames_used + counts.frames_dropped, 4 * 8);
    assert_eq!(outcome.summary.to_json()["counters"]["feeds"]["cam"]["frames_received"], 48);
    // Live segments only left: nothing that was learnt of them is taken back.
    assert!(seen.changes().iter().all(|change| change.removed.is_empty()));
}

#[test]
fn an_endless_live_run_goes_through_what_is_kept_once_more_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let cam = Arc::new(Cam::new(5));
    cam.at_start(5);
    let seen = Seen::default();
    let sources: [(&str, Arc<dyn Source>); 1] = [("cam", cam)];
    let sink = seen.plan(|_, _| {});
    parts::run(&text(0, &["cam"]), &sources, sink, folder.path(), Start::Fresh).unwrap();
    let batches = seen.batches();
    // Five segments in batches of two; steps may have been planned before the end was told.
    assert!((3..=3 + AHEAD as usize).contains(&batches.len()), "{}", batches.len());
    let mut all: Vec<u64> = batches.values().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, [0, 1, 2, 3, 4]);
    // One with a last step goes on until then.
    let cam = Arc::new(Cam::new(1));
    cam.at_start(3);
    let sources: [(&str, Arc<dyn Source>); 1] = [("cam", cam)];
    let finite = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    parts::run(&text(25, &["cam"]), &sources, seen.plan(|_, _| {}), finite.path(), Start::Fresh).unwrap();
    assert_eq!(seen.batches().len(), 25);
    // One that ends before anything came has nothing to say.
    let cam = Arc::new(Cam::new(5));
    cam.at_start(0);
    let nothing: [(&str, Arc<dyn Source>); 1] = [("cam", cam)];
    let empty = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let error = parts::run(&text(5, &["cam"]), &nothing, seen.plan(|_, _| {}), empty.path(), Start::Fresh)
        .unwrap_err();
    assert!(error.message.contains("nothing to sample from"), "{error}");
}

#[test]
fn what_is_taken_back_is_told_before_the_step_and_never_sampled_again() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::new(&[1, 2, 3]);
    let (gone, new) = (listed.id(2), listed.id(9));
    let seen = Seen::default();
    let (list, told) = (listed.clone(), seen.clone());
    let sink = seen.plan(move |step, stop| {
        let changes = told.changes();
        let removed = changes.iter().any(|change| change.removed.contains(&SegmentId(gone)));
        if step == 2 {
            list.set(&[1, 3]);
        } else if removed && !list.has(9) {
            list.set(&[1, 3, 9]);
        }
        // Until the new one has been seen as well.
        if told.batches().values().any(|ids| ids.contains(&new)) {
            stop.ask();
        }
    });
    let sources: [(&str, Arc<dyn Source>); 1] = [("files", Arc::new(listed.watched()))];
    let outcome = parts::run(&text(0, &["files"]), &sources, sink, folder.path(), Start::Fresh).unwrap();
    let (batches, changes) = (seen.batches(), seen.changes());
    let removal = changes.iter().find(|change| change.removed.contains(&SegmentId(gone))).unwrap();
    let addition = changes.iter().find(|change| change.added.iter().any(|(id, _)| id.0 == new)).unwrap();
    for (step, ids) in &batches {
        assert!(*step < removal.step || !ids.contains(&gone), "step {step}");
        assert!(*step >= addition.step || !ids.contains(&new), "step {step}");
    }
    assert!(batches.values().any(|ids| ids.contains(&gone)), "it was in use before");
    assert!(removal.version < addition.version);
    // Told before the batch: in the order in which the sink heard of it.
    assert!(seen.order_holds());
    let counters = &outcome.summary.counters;
    assert_eq!((counters.inputs_added, counters.inputs_removed), (1, 1));
    assert_eq!(counters.reconcile(), Ok(()));
    assert!(counters.rows_forgotten > 0 && counters.catalogue_versions >= 3);
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(last["rows_forgotten"].as_f64(), Some(counters.rows_forgotten as f64));
    assert_eq!(last["catalogue_segments"].as_f64(), Some(3.0));
}

#[test]
fn a_resumed_run_forgets_what_went_meanwhile_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::new(&[1, 2, 3]);
    let gone = SegmentId(listed.id(2));
    let go = |steps: u64, seen: &Seen, start| {
        let sources: [(&str, Arc<dyn Source>); 1] = [("files", Arc::new(listed.watched()))];
        parts::run(&text(steps, &["files"]), &sources, seen.plan(|_, _| {}), folder.path(), start)
    };
    let first = Seen::default();
    go(4, &first, Start::Fresh).unwrap();
    assert!(first.changes().iter().all(|change| change.removed.is_empty()));
    listed.set(&[1, 3, 4]);
    let second = Seen::default();
    let outcome = go(8, &second, Start::Resume).unwrap();
    let changes = second.changes();
    assert_eq!((changes[0].step, &changes[0].removed[..]), (4, &[gone][..]));
    assert!(second.order_holds());
    assert_eq!(second.batches().keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert!(second.batches().values().all(|ids| !ids.contains(&gone.0)));
    assert!(outcome.summary.counters.rows_forgotten > 0);
    // What was forgotten once is not known any more.
    let third = Seen::default();
    go(10, &third, Start::Resume).unwrap();
    assert!(third.changes().iter().all(|change| change.removed.is_empty()));
    // A disk that is not there is another thing.
    listed.set(&[]);
    let error = go(12, &Seen::default(), Start::Resume).unwrap_err();
    assert_eq!(error.code, 78);
    assert!(error.message.contains("nothing of it is there"), "{error}");
}

#[test]
fn a_removal_after_the_last_step_is_still_in_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::new(&[1, 2, 3]);
    let gone = SegmentId(listed.id(2));
    let seen = Seen::default();
    let list = listed.clone();
    // The last step waits until the version without it is there, which no step is sampled from any more.
    let sink = seen.plan(move |step, _| {
        if step == 5 {
            let before = list.looks();
            list.set(&[1, 3]);
            parts::until("the list is looked at", || list.looks() >= before + 3);
        }
    });
    let sources: [(&str, Arc<dyn Source>); 1] = [("files", Arc::new(listed.watched()))];
    parts::run(&text(6, &["files"]), &sources, sink, folder.path(), Start::Fresh).unwrap();
    assert!(seen.changes().iter().any(|change| change.removed.contains(&gone)));
    assert!(seen.is_saved_last(), "the state was saved after that");
}

#[test]
fn a_bad_file_that_comes_later_is_named_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::new(&[1, 2]);
    let seen = Seen::default();
    let list = listed.clone();
    let place = folder.path().join("run/quarantine.jsonl");
    let sink = seen.plan(move |step, stop| {
        if step == 1 {
            // Shorter than a window.
            list.set(&[1, 2, parts::SHORT]);
        }
        if std::fs::read_to_string(&place).is_ok_and(|text| text.contains("too_short")) {
            stop.ask();
        }
    });
    let sources: [(&str, Arc<dyn Source>); 1] = [("files", Arc::new(listed.watched()))];
    let outcome = parts::run(&text(0, &["files"]), &sources, sink, folder.path(), Start::Fresh).unwrap();
    let counters = &outcome.summary.counters;
    assert_eq!(counters.inputs_skipped, BTreeMap::from([(SkipReason::TooShort, 1)]));
    assert_eq!((counters.inputs_seen, counters.inputs_ok), (3, 2));
    assert_eq!(counters.reconcile(), Ok(()));
}

#[test]
fn a_sampler_that_goes_through_a_list_is_refused_over_a_source_that_changes() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = text(0, &["files"]).replace("type = \"uniform\"", "type = \"sweep\"");
    let sources: [(&str, Arc<dyn Source>); 1] = [("files", Arc::new(Listed::new(&[1]).watched()))];
    let seen = Seen::default();
    let error = parts::run(&sweep, &sources, seen.plan(|_, _| {}), folder.path(), Start::Fresh).unwrap_err();
    assert_eq!((error.code, error.stage.as_str()), (78, "windows"));
    assert!(error.message.contains("what files gives changes"), "{error}");
}
