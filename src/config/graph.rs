//! Checks how stages are connected: names, cycles, what each edge carries, what leads nowhere.

use std::collections::BTreeMap;

use reelflow_api::spec::{Kind, Output, Port, Problem, Spec, nearest};

use super::meaning;
use super::stages::{Draft, StageDraft, with_article};

/// In the order of the flow.
const PORTS: [Port; 4] = [Port::Segments, Port::Clips, Port::Views, Port::Batches];

/// The checked graph, by position in [`Draft::stages`].
pub struct Wiring {
    /// Topological order; of equals, in the order of the file.
    pub order: Vec<usize>,
    /// What each stage hands on.
    pub outputs: Vec<Option<Port>>,
    /// Stages each stage reads, as far as they exist.
    pub producers: Vec<Vec<usize>>,
    /// Stages that read each stage.
    pub consumers: Vec<Vec<usize>>,
}

/// Checks everything about edges, and what stages ask of their neighbours.
pub fn check(draft: &Draft<'_>, registry: &[&'static Spec], problems: &mut Vec<Problem>) -> Wiring {
    let stages = &draft.stages;
    let ids = unique_ids(stages, problems);
    let mut suspects = Vec::new();
    let mut producers = Vec::new();
    for stage in stages {
        count_inputs(stage, problems);
        producers.push(find_inputs(stage, &ids, problems, &mut suspects));
    }
    let mut consumers = vec![Vec::new(); stages.len()];
    for (index, list) in producers.iter().enumerate() {
        list.iter().for_each(|producer| consumers[*producer].push(index));
    }
    let order = sort(stages, &producers, problems);
    let mut wiring = Wiring { order, outputs: vec![None; stages.len()], producers, consumers };
    check_ports(stages, &ids, registry, &mut wiring, problems);
    // What only an evaluation reads is not unused.
    let evaluated = draft.evals.iter().filter_map(|eval| eval.settings.as_ref());
    suspects.extend(evaluated.map(|eval| eval.source.clone()));
    check_ends(stages, &wiring, &suspects, problems);
    meaning::check(stages, &wiring, problems);
    meaning::check_evals(&draft.evals, stages, problems);
    wiring
}

type Ids<'s> = BTreeMap<&'s str, usize>;

fn unique_ids<'s>(stages: &'s [StageDraft<'_>], problems: &mut Vec<Problem>) -> Ids<'s> {
    let mut ids = Ids::new();
    for (index, stage) in stages.iter().enumerate() {
        let Some(first) = ids.get(stage.id.as_str()) else {
            ids.insert(&stage.id, index);
            continue;
        };
        let message = format!("the id `{}` is used twice", stage.id);
        let problem = Problem::new("P022", stage.id_span.clone(), message).label("used again here");
        let problem = problem.other(stages[*first].id_span.clone(), "first used here".to_owned());
        problems.push(problem.help("give one of them another id"));
    }
    ids
}

fn is_sampler(stage: &StageDraft<'_>) -> bool {
    stage.spec.is_some_and(|spec| spec.accepts.contains(&Port::Segments))
}

fn count_inputs(stage: &StageDraft<'_>, problems: &mut Vec<Problem>) {
    if matches!(stage.kind, Kind::Source | Kind::Bank) {
        return;
    }
    let path = &stage.table.path;
    if !stage.has_inputs {
        let problem = Problem::new("P024", stage.table.span.clone(), format!("`{path}` has no `inputs`"));
        problems.push(
            problem
                .label("`inputs` must be given here")
                .help("add `inputs = [\"ID\"]` with the stage it reads"),
        );
    } else if stage.inputs.is_empty()
        && !problems.iter().any(|p| p.message.contains(&format!("`{path}.inputs`")))
    {
        let problem = Problem::new("P024", stage.table.span.clone(), format!("`{path}`: `inputs` is empty"));
        problems.push(problem.help("name the stage it reads"));
    }
    // A type that is not known may be a sampler.
    if stage.inputs.len() > 1 && stage.spec.is_some() && !is_sampler(stage) {
        let message = format!("`{path}` reads one stage, {} are given", stage.inputs.len());
        let help = "only a sampler joins inputs: let it read all the sources";
        problems
            .push(Problem::new("P024", stage.inputs[1].1.clone(), message).label("one too many").help(help));
    }
    for (position, (id, span)) in stage.inputs.iter().enumerate() {
        if stage.inputs[..position].iter().any(|(before, _)| before == id) {
            let problem = Problem::new("P024", span.clone(), format!("`{path}` reads `{id}` twice"));
            problems.push(problem.help("remove one of them"));
        }
    }
}

fn find_inputs(
    stage: &StageDraft<'_>,
    ids: &Ids<'_>,
    problems: &mut Vec<Problem>,
    suspects: &mut Vec<String>,
) -> Vec<usize> {
    let mut found = Vec::new();
    for (id, span) in &stage.inputs {
        if let Some(index) = ids.get(id.as_str()) {
            if !found.contains(index) {
                found.push(*index);
            }
            continue;
        }
        let names: Vec<&str> = ids.keys().copied().filter(|name| *name != stage.id).collect();
        let message = format!("`{}` reads `{id}`, which is no stage of this pipeline", stage.table.path);
        let problem = Problem::new("P021", span.clone(), message).label("no such stage");
        let problem = problem.other(stage.id_span.clone(), "read by this stage".to_owned());
        problems.push(match nearest(id, &names) {
            Some(near) => {
                suspects.push(near.to_owned());
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help(format!("stages: {}", names.join(", "))),
        });
    }
    found
}

/// Kahn's algorithm, always taking the first of the file; what is left is in a cycle or behind one.
fn sort(stages: &[StageDraft<'_>], producers: &[Vec<usize>], problems: &mut Vec<Problem>) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let ready = |order: &[usize], index: usize| {
        !order.contains(&index) && producers[index].iter().all(|producer| order.contains(producer))
    };
    while let Some(next) = (0..stages.len()).find(|index| ready(&order, *index)) {
        order.push(next);
    }
    let mut left: Vec<usize> = (0..stages.len()).filter(|index| !order.contains(index)).collect();
    order.extend(&left);
    while let Some(start) = left.first().copied() {
        // Going back from a stage that never became ready must come round.
        let mut path = vec![start];
        let round = loop {
            let last = path[path.len() - 1];
            let Some(back) = producers[last].iter().copied().find(|producer| left.contains(producer)) else {
                break None;
            };
            if let Some(at) = path.iter().position(|seen| *seen == back) {
                break Some(path.split_off(at));
            }
            path.push(back);
        };
        if let Some(round) = &round {
            problems.push(cycle(stages, round));
        }
        left.retain(|index| {
            !path.contains(index) && round.as_ref().is_none_or(|round| !round.contains(index))
        });
    }
    order
}

/// `round` goes against the flow.
fn cycle(stages: &[StageDraft<'_>], round: &[usize]) -> Problem {
    // Told from the stage that comes first in the file; it is the one to be mended.
    let mut round: Vec<usize> = round.iter().rev().copied().collect();
    let first = round.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(at, _)| at);
    round.rotate_left(first);
    let mut names: Vec<String> = round.iter().map(|index| format!("`{}`", stages[*index].id)).collect();
    names.push(names[0].clone());
    let (reader, read) = (&stages[round[0]], &stages[round[round.len() - 1]]);
    let span =
        reader.inputs.iter().find(|(id, _)| *id == read.id).map_or(reader.id_span.clone(), |i| i.1.clone());
    let message = format!("the stages {} form a cycle", names.join(" → "));
    let problem = Problem::new("P023", span, message).label("closes the cycle");
    let problem = problem.other(read.id_span.clone(), "which reads it in turn".to_owned());
    problem.help("let one of them read an earlier stage; data flows from sources to sinks")
}

fn check_ports(
    stages: &[StageDraft<'_>],
    ids: &Ids<'_>,
    registry: &[&'static Spec],
    wiring: &mut Wiring,
    problems: &mut Vec<Problem>,
) {
    for index in wiring.order.clone() {
        let stage = &stages[index];
        let Some(spec) = stage.spec else { continue };
        let mut fits = true;
        for (id, span) in &stage.inputs {
            let Some(from) = ids.get(id.as_str()).copied() else { continue };
            let Some(from_spec) = stages[from].spec else { continue };
            let (message, help) = match wiring.outputs[from] {
                Some(port) if spec.accepts.contains(&port) => continue,
                Some(port) => mismatch(stage, spec, &stages[from], port, registry),
                None if from_spec.output == Output::Nothing => {
                    let (path, what) = (&stage.table.path, with_article(stages[from].kind));
                    let message = format!("`{path}` reads `{id}`, {what}, which hands nothing on");
                    (message, "read the stage before it".to_owned())
                }
                // Something before it is wrong already.
                None => continue,
            };
            fits = false;
            let carried = wiring.outputs[from].map_or("nothing", Port::name);
            let problem = Problem::new("P025", span.clone(), message).label(format!("hands on {carried}"));
            let from = stages[from].id_span.clone();
            problems.push(problem.help(help).other(from, "handed on by this stage"));
        }
        wiring.outputs[index] = match spec.output {
            Output::Nothing => None,
            Output::Carries(port) => Some(port),
            Output::SameAsInput if !fits => None,
            Output::SameAsInput => wiring.producers[index].first().and_then(|from| wiring.outputs[*from]),
        };
    }
}

/// Message and remedy for an edge that carries the wrong thing.
fn mismatch(
    stage: &StageDraft<'_>,
    spec: &Spec,
    from: &StageDraft<'_>,
    port: Port,
    registry: &[&'static Spec],
) -> (String, String) {
    let accepted = spec.accepts.iter().map(|port| port.name()).collect::<Vec<_>>().join(" or ");
    let message =
        format!("`{}` accepts {accepted}, but `{}` hands on {}", stage.table.path, from.id, port.name());
    let place = |port: Port| PORTS.iter().position(|other| *other == port).unwrap_or(0);
    let Some(want) = spec.accepts.iter().map(|port| place(*port)).filter(|want| *want > place(port)).min()
    else {
        return (message, format!("`{}` comes too late for it: read a stage before it", from.id));
    };
    let missing: Vec<String> =
        PORTS[place(port)..=want].windows(2).map(|pair| step(pair, registry)).collect();
    (message, format!("put in between: {}", missing.join(", then ")))
}

/// The stages that make the second of two ports out of the first.
fn step(pair: &[Port], registry: &[&'static Spec]) -> String {
    let makes = |spec: &&&Spec| spec.accepts.contains(&pair[0]) && spec.output == Output::Carries(pair[1]);
    let names: Vec<String> = registry.iter().filter(makes).map(|spec| format!("`{}`", spec.name)).collect();
    if names.is_empty() {
        return format!("a stage that turns {} into {}", pair[0].name(), pair[1].name());
    }
    names.join(" or ")
}

fn check_ends(stages: &[StageDraft<'_>], wiring: &Wiring, suspects: &[String], problems: &mut Vec<Problem>) {
    let has = |kind: Kind| stages.iter().any(|stage| stage.kind == kind);
    if !has(Kind::Source) {
        let help = "add a `[sources.ID]` table with a `type`";
        problems.push(Problem::new("P027", 0..0, "the pipeline has no source").help(help));
    }
    if !has(Kind::Sink) {
        let help = "add a `[sinks.ID]` table with a `type` and `inputs`";
        problems.push(Problem::new("P027", 0..0, "the pipeline has no sink").help(help));
        return;
    }
    // A stage that says nothing of its inputs may well be the missing reader.
    let reads = |stage: &StageDraft<'_>| matches!(stage.kind, Kind::Operator | Kind::Sink);
    if stages.iter().any(|stage| reads(stage) && stage.inputs.is_empty()) {
        return;
    }
    for (index, stage) in stages.iter().enumerate() {
        let hands_on = matches!(stage.kind, Kind::Source | Kind::Operator);
        // An id that a misspelt input probably means is not unused.
        if !hands_on || !wiring.consumers[index].is_empty() || suspects.contains(&stage.id) {
            continue;
        }
        let message = format!("nothing reads `{}`, so it never reaches a sink", stage.id);
        let help = format!("name it in the `inputs` of another stage, or remove `[{}]`", stage.table.path);
        problems.push(Problem::new("P026", stage.id_span.clone(), message).label("leads nowhere").help(help));
    }
}
