//! A slow trainer stops the decoders: memory is bounded by `run.ahead` steps, and nothing is dropped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reelflow::api::error::StageError;
use reelflow::api::stage::Source;
use reelflow::config;
use reelflow::engine::flow::{Flow, Next};
use reelflow::engine::layout::Parts;
use reelflow::source::catalogue;

const BATCH: u64 = 2;
const AHEAD: u64 = 3;

fn start(steps: u64, workers: usize) -> Flow {
    let text = format!(
        r#"
        version = 1
        [run]
        steps = {steps}
        ahead = {AHEAD}
        [sources.patterns]
        type = "pattern"
        media = 3
        [operators.windows]
        type = "uniform"
        inputs = ["patterns"]
        frames = 4
        [operators.views]
        type = "augment"
        inputs = ["windows"]
        steps = [{{ op = "resize", width = 8, height = 8 }}]
        [operators.batch]
        type = "batch"
        inputs = ["views"]
        size = {BATCH}
        [sinks.null]
        type = "null"
        inputs = ["batch"]
        "#
    );
    let plan = match config::load(&text, Path::new("flow.toml"), &[]) {
        Ok(plan) => plan,
        Err(report) => panic!("{report}"),
    };
    let parts = Parts::of(plan);
    let (sampler, inputs) = parts.samplers[0].clone();
    let sources: Vec<(&str, &dyn Source)> =
        inputs.iter().map(|id| (id.as_str(), parts.sources[id].as_ref())).collect();
    let scanned = catalogue::build(&sources, parts.frames_min(&sampler)).unwrap();
    let (layout, _) = parts.layout(HashMap::from([(sampler, scanned.catalogue)]), 0).unwrap();
    Flow::start(layout, workers).unwrap()
}

/// Everything that comes without anything being consumed.
fn all_that_comes(flow: &Flow) -> Vec<u64> {
    let mut steps = Vec::new();
    loop {
        match flow.next(Duration::from_millis(300)) {
            Next::Step(delivery) => steps.push(delivery.step),
            // A slow machine may pause before the first step, so an early pause proves nothing.
            Next::Idle if (steps.len() as u64) < AHEAD => {}
            Next::Idle | Next::End => return steps,
        }
    }
}

#[test]
fn no_more_than_the_credit_is_ever_in_memory() {
    for workers in [1, 2, 3] {
        let flow = start(50, workers);
        assert_eq!(all_that_comes(&flow), (0..AHEAD).collect::<Vec<_>>(), "{workers} workers");
        assert_eq!(flow.shared.counts.clips.load(Ordering::Relaxed), AHEAD * BATCH);
        // Each step used is one step of credit.
        flow.consumed(0);
        assert!(matches!(flow.next(Duration::from_secs(60)), Next::Step(step) if step.step == AHEAD));
        flow.finish().unwrap();
    }
}

#[test]
fn every_step_comes_once_in_order_and_full() {
    let flow = start(40, 3);
    let mut steps = Vec::new();
    loop {
        match flow.next(Duration::from_secs(1)) {
            Next::Step(delivery) => {
                let slots: Vec<u32> = delivery.batches[0].1.slots.iter().map(|slot| slot.slot).collect();
                assert_eq!(slots, (0..BATCH as u32).collect::<Vec<_>>());
                steps.push(delivery.step);
                flow.consumed(delivery.step);
            }
            Next::Idle => {}
            Next::End => break,
        }
    }
    assert_eq!(steps, (0..40).collect::<Vec<_>>());
    flow.finish().unwrap();
}

#[test]
fn a_failure_anywhere_ends_the_flow_with_its_own_words() {
    let flow = start(1_000_000, 2);
    flow.shared.fail(StageError::failed("augment", "no such luck"));
    while !matches!(flow.next(Duration::from_secs(1)), Next::End) {}
    let error = flow.finish().unwrap_err();
    assert_eq!(error.to_string(), "augment: no such luck");
}

#[test]
fn a_flow_that_is_left_early_ends() {
    let flow = start(1_000_000, 2);
    assert!(matches!(flow.next(Duration::from_secs(60)), Next::Step(_)));
    flow.finish().unwrap();
}
