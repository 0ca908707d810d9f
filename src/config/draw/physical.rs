//! The plan as the engine runs it: decoding threads, exchanges between workers, queues and their bounds.

use reelflow_api::spec::Port;
use reelflow_api::stage::{Source, Stage};

use super::{Drawing, Frame, Look, Parameters, Shape, carried};
use crate::config::plan::Plan;
use crate::edge::threads;
use crate::engine::publisher::QUEUED as NEWS;

/// The pipeline with what the engine puts in between.
#[must_use]
pub fn physical(plan: &Plan) -> Drawing {
    let parameters = Parameters::of(plan);
    let workers = match plan.run.workers {
        0 => threads::cores(),
        count => count as usize,
    };
    let mut sketch = Sketch {
        drawing: Drawing {
            title: format!("{}, as it runs", plan.name),
            shapes: Vec::new(),
            arrows: Vec::new(),
            frames: Vec::new(),
        },
        last: Vec::new(),
    };
    for node in plan.nodes.iter().filter(|node| !matches!(node.stage, Stage::Sink(_))) {
        if matches!(node.stage, Stage::Batch(_)) {
            sketch.exchange(plan, &node.inputs[0], &node.id);
        }
        let mut shape = parameters.shape(node);
        if let Stage::Bank(settings) = &node.stage {
            // The trainer asks, but each shard is owned by a thread of its own.
            shape.lines.push(format!("{} shards, a thread each", settings.shards));
        }
        if let Stage::Source(source) = &node.stage {
            shape.lines.extend(changing(source.as_ref()));
        }
        let at = sketch.add(shape);
        for input in &node.inputs {
            sketch.enter(plan, input, at);
        }
        sketch.leave(&node.id, at);
        if matches!(node.stage, Stage::Sampler(_)) {
            let decode = sketch.add(decoding(&node.id));
            sketch.drawing.connect(at, decode, "places");
            sketch.leave(&node.id, decode);
        }
    }
    let inside = |shape: &Shape| !matches!(shape.look, Look::Source | Look::Bank);
    let in_workers: Vec<usize> =
        (0..sketch.drawing.shapes.len()).filter(|index| inside(&sketch.drawing.shapes[*index])).collect();
    let deliver = sketch.deliver(plan, workers);
    let mut in_trainer = Vec::new();
    for node in plan.nodes.iter().filter(|node| matches!(node.stage, Stage::Sink(_))) {
        let at = sketch.add(parameters.shape(node));
        sketch.drawing.connect(deliver, at, carried(plan, &node.inputs[0]));
        in_trainer.push(at);
    }
    let mut drawing = sketch.drawing;
    drawing.hang_banks(plan);
    let many = if workers == 1 { "" } else { "s" };
    drawing.frames.push(Frame {
        title: format!("{workers} worker thread{many}, at most {} steps ahead of the sinks", plan.run.ahead),
        shapes: in_workers,
    });
    let banks = (0..drawing.shapes.len()).filter(|index| drawing.shapes[*index].hung_on.is_some());
    in_trainer.extend(banks);
    let title = format!("trainer thread, device {}", plan.run.device);
    drawing.frames.push(Frame { title, shapes: in_trainer });
    drawing
}

struct Sketch {
    drawing: Drawing,
    /// The box from which an arrow out of a stage starts, by the stage's id.
    last: Vec<(String, usize)>,
}

impl Sketch {
    fn add(&mut self, shape: Shape) -> usize {
        self.drawing.shapes.push(shape);
        self.drawing.shapes.len() - 1
    }

    fn leave(&mut self, id: &str, at: usize) {
        self.last.push((id.to_owned(), at));
    }

    fn out_of(&self, id: &str) -> Option<usize> {
        self.last.iter().rev().find(|(name, _)| name == id).map(|(_, at)| *at)
    }

    fn enter(&mut self, plan: &Plan, input: &str, at: usize) {
        let id = self.drawing.shapes[at].id.clone();
        let from = self.out_of(&format!("{input}>{id}")).or_else(|| self.out_of(input));
        if let Some(from) = from {
            self.drawing.connect(from, at, carried(plan, input));
        }
    }

    /// Slots of a step meet on one worker before `batch`.
    fn exchange(&mut self, plan: &Plan, input: &str, to: &str) {
        let shape = engine(
            format!("exchange {to}"),
            "exchange",
            "between workers",
            vec!["to worker step mod N".to_owned()],
        );
        let Some(from) = self.out_of(input) else { return };
        let at = self.add(shape);
        self.drawing.connect(from, at, carried(plan, input));
        self.leave(&format!("{input}>{to}"), at);
    }

    /// Worker 0 puts complete steps in order into the queue before the sinks.
    fn deliver(&mut self, plan: &Plan, workers: usize) -> usize {
        let lines = vec![
            if workers > 1 { "worker 0, in step order" } else { "in step order" }.to_owned(),
            format!("holds {} steps", plan.run.ahead + 1),
            "full: workers wait".to_owned(),
        ];
        let at = self.add(engine("queue".to_owned(), "queue", "bounded", lines));
        let mut feeders: Vec<&str> = plan
            .nodes
            .iter()
            .filter(|node| matches!(node.stage, Stage::Sink(_)))
            .flat_map(|node| node.inputs.iter().map(String::as_str))
            .collect();
        feeders.sort_unstable();
        feeders.dedup();
        for feeder in feeders {
            if let Some(from) = self.out_of(feeder) {
                self.drawing.connect(from, at, Port::Batches.name());
            }
        }
        at
    }
}

/// What a source that changes while the run goes on adds to it.
fn changing(source: &dyn Source) -> Vec<String> {
    let queue = format!("{NEWS} news wait; full: it waits");
    if source.feed().is_some() {
        vec!["threads of its own".to_owned(), queue]
    } else if let Some(secs) = source.watch_secs() {
        vec![format!("a thread looks every {secs} s"), queue]
    } else {
        Vec::new()
    }
}

/// Decoding has threads of its own, so that a slow file does not hold up its worker.
fn decoding(sampler: &str) -> Shape {
    let lines = vec![
        "1 thread a worker,".to_owned(),
        "augments as it decodes".to_owned(),
        "jobs of all workers,".to_owned(),
        "as far as credit goes".to_owned(),
    ];
    engine(format!("decode {sampler}"), "decode", "only wanted frames", lines)
}

fn engine(id: String, title: &str, type_name: &str, lines: Vec<String>) -> Shape {
    let (title, type_name) = (title.to_owned(), type_name.to_owned());
    Shape { id, title, type_name, lines, look: Look::Engine, hung_on: None }
}
