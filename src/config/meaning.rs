//! Checks what built stages ask of each other: batch sizes, banks, views.

use std::ops::Range;

use reelflow_api::item::Catalogue;
use reelflow_api::spec::{Kind, Port, Problem, nearest};
use reelflow_api::stage::{Sampler, Stage, ViewMap};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::graph::Wiring;
use super::stages::{EvalDraft, StageDraft};

/// Checks every stage that could be built.
pub fn check(stages: &[StageDraft<'_>], wiring: &Wiring, problems: &mut Vec<Problem>) {
    for (index, stage) in stages.iter().enumerate() {
        match &stage.stage {
            Some(Stage::Sampler(sampler)) => {
                one_batch_size(stages, wiring, index, problems);
                problems.extend(has_an_end(stages, wiring, index, sampler.as_ref()));
            }
            Some(Stage::Views(map)) => {
                let from = wiring.producers[index].first().copied();
                let is_single = |from: &usize| wiring.outputs[*from] == Some(Port::Views);
                if let Some(from) = from.filter(|from| map.needs_batch() && is_single(from)) {
                    problems.push(before_batch(stage, &stages[from]));
                }
                problems.extend(readable(stages, wiring, index, map.as_ref()));
            }
            Some(Stage::Sink(_)) => {
                banks_exist(stages, stage, problems);
                views_exist(stages, wiring, index, problems);
            }
            _ => {}
        }
    }
    banks_used(stages, problems);
}

/// Checks what evaluations ask for: a source each, and one encoder.
pub fn check_evals(evals: &[EvalDraft<'_>], stages: &[StageDraft<'_>], problems: &mut Vec<Problem>) {
    let sources: Vec<&str> =
        stages.iter().filter(|stage| stage.kind == Kind::Source).map(|stage| stage.id.as_str()).collect();
    let mut seen: Vec<(&str, Range<usize>)> = Vec::new();
    for eval in evals {
        let Some(settings) = &eval.settings else { continue };
        let (path, source, span) = (&eval.table.path, settings.source.as_str(), eval.table.span_of("source"));
        if !sources.contains(&source) {
            let message = format!("`{path}` reads `{source}`, which is no source");
            let problem = Problem::new("P021", span, message).label("no such source");
            problems.push(match nearest(source, &sources) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("sources: {}", sources.join(", "))),
            });
        } else if let Some((_, first)) = seen.iter().find(|(other, _)| *other == source) {
            let message = format!("two `[[eval]]` read `{source}`, so their figures would have one name");
            let problem = Problem::new("P022", span, message).label("read again here");
            let problem = problem.other(first.clone(), "first read here".to_owned());
            problems.push(problem.help("declare the source a second time under another id"));
        } else {
            seen.push((source, span));
        }
    }
    // A sink whose type is unknown may be the trainer.
    let all_known = stages.iter().all(|stage| stage.kind != Kind::Sink || stage.spec.is_some());
    let trainers = stages.iter().filter(|stage| stage.spec.is_some_and(|spec| spec.name == "train")).count();
    if let (Some(eval), true, true) = (evals.first(), all_known, trainers != 1) {
        let message = format!(
            "`{}` measures an encoder, and there are {trainers} sinks of type `train`",
            eval.table.path
        );
        let problem = Problem::new("P035", eval.table.span.clone(), message).label("needs one trainer");
        problems.push(problem.help("have one sink of type `train`, or remove `[[eval]]`"));
    }
}

fn one_batch_size(stages: &[StageDraft<'_>], wiring: &Wiring, sampler: usize, problems: &mut Vec<Problem>) {
    let mut first: Option<(usize, u32)> = None;
    let mut seen = vec![sampler];
    let mut next = 0;
    while let Some(index) = seen.get(next).copied() {
        next += 1;
        seen.extend(wiring.consumers[index].iter().filter(|to| !seen.contains(to)).collect::<Vec<_>>());
        let Some(Stage::Batch(size)) = &stages[index].stage else { continue };
        match first {
            None => first = Some((index, size.0)),
            Some((other, before)) if before != size.0 => {
                let message = format!(
                    "`{}` makes batches of {}, `{}` of {before}, and both are fed by `{}`",
                    stages[index].id, size.0, stages[other].id, stages[sampler].id
                );
                let span = stages[index].table.span_of("size");
                let problem = Problem::new("P028", span, message).label("another size");
                let problem = problem.other(stages[other].table.span_of("size"), "first size".to_owned());
                problems.push(problem.help("a step has one number of slots: give both the same `size`"));
            }
            Some(_) => {}
        }
    }
}

/// A sampler that goes through its catalogue from end to end cannot read what changes meanwhile.
fn has_an_end(
    stages: &[StageDraft<'_>],
    wiring: &Wiring,
    index: usize,
    sampler: &dyn Sampler,
) -> Option<Problem> {
    sampler.samples(&Catalogue::default())?;
    let changes = |from: &&usize| match &stages[**from].stage {
        Some(Stage::Source(source)) => source.feed().is_some() || source.watch_secs().is_some(),
        _ => false,
    };
    let (stage, source) = (&stages[index], &stages[*wiring.producers[index].iter().find(changes)?]);
    let message = format!(
        "`{}` goes through a list of segments once, and what `{}` gives changes while it does",
        stage.table.path, source.id
    );
    let span =
        stage.inputs.iter().find(|(id, _)| *id == source.id).map_or(stage.id_span.clone(), |it| it.1.clone());
    let problem = Problem::new("P036", span, message).label("changes while the run goes on");
    let problem = problem.other(source.id_span.clone(), "this source".to_owned());
    Some(problem.help("use `triplet` or `uniform`, or files that are not watched"))
}

fn before_batch(stage: &StageDraft<'_>, from: &StageDraft<'_>) -> Problem {
    let span = stage.inputs.first().map_or(stage.id_span.clone(), |input| input.1.clone());
    let message = format!("`{}` looks at all slots of a step, but stands before `batch`", stage.table.path);
    let problem = Problem::new("P029", span, message).label("hands on single slots");
    let problem = problem.other(from.id_span.clone(), "this stage".to_owned());
    problem.help("let it read the `batch` stage")
}

/// Whether the stage, which changes views, can read the values that the `augment` stage before it makes.
fn readable(stages: &[StageDraft<'_>], wiring: &Wiring, index: usize, map: &dyn ViewMap) -> Option<Problem> {
    let from = before(stages, wiring, index, |stage| matches!(stage, Stage::Augment(_)))?;
    let Some(Stage::Augment(augment)) = &stages[from].stage else { return None };
    if map.takes(augment.dtype()) {
        return None;
    }
    let (stage, from, dtype) = (&stages[index], &stages[from], augment.dtype().name());
    let message = format!("`{}` cannot change {dtype} values, which `{}` makes", stage.table.path, from.id);
    let problem = Problem::new("P034", place_of(from, dtype), message).label("another type is needed");
    let problem = problem.other(stage.id_span.clone(), "reads them".to_owned());
    Some(problem.help("leave `dtype` out, or this stage"))
}

fn banks_exist(stages: &[StageDraft<'_>], sink: &StageDraft<'_>, problems: &mut Vec<Problem>) {
    let Some(Stage::Sink(plan)) = &sink.stage else { return };
    let names: Vec<&str> = stages.iter().filter(|s| s.kind == Kind::Bank).map(|s| s.id.as_str()).collect();
    for id in plan.banks().iter().filter(|id| !names.contains(&id.as_str())) {
        let message = format!("`{}` uses the bank `{id}`, which is not declared", sink.table.path);
        let problem = Problem::new("P030", place_of(sink, id), message).label("no such bank");
        problems.push(match nearest(id, &names) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("add a `[banks.{id}]` table")),
        });
    }
}

fn banks_used(stages: &[StageDraft<'_>], problems: &mut Vec<Problem>) {
    let mut used = Vec::new();
    for sink in stages.iter().filter(|stage| stage.kind == Kind::Sink) {
        match &sink.stage {
            Some(Stage::Sink(plan)) => used.extend(plan.banks()),
            // Nobody knows what it would have used.
            _ => return,
        }
    }
    if problems.iter().any(|problem| problem.code == "P030") {
        return;
    }
    for bank in stages.iter().filter(|stage| stage.kind == Kind::Bank && !used.contains(&stage.id)) {
        let problem =
            Problem::new("P031", bank.id_span.clone(), format!("no sink uses the bank `{}`", bank.id));
        problems
            .push(problem.help(format!("name it in a sink's parameters, or remove `[{}]`", bank.table.path)));
    }
}

fn views_exist(stages: &[StageDraft<'_>], wiring: &Wiring, sink: usize, problems: &mut Vec<Problem>) {
    let Some(Stage::Sink(plan)) = &stages[sink].stage else { return };
    let Some(from) = before(stages, wiring, sink, |stage| matches!(stage, Stage::Sampler(_))) else { return };
    let Some(Stage::Sampler(sampler)) = &stages[from].stage else { return };
    let made = sampler.views();
    let names: Vec<&str> = made.iter().map(|(name, _)| &**name).collect();
    for view in plan.views().iter().filter(|view| !names.contains(&view.as_str())) {
        let (stage, sampler) = (&stages[sink], &stages[from]);
        let message =
            format!("`{}` needs the view `{view}`, which `{}` does not make", stage.table.path, sampler.id);
        let problem = Problem::new("P032", place_of(stage, view), message).label("no such view");
        let problem = problem.other(sampler.id_span.clone(), format!("makes {}", names.join(", ")));
        problems.push(match nearest(view, &names) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("views: {}", names.join(", "))),
        });
    }
}

/// The nearest stage of a kind that feeds a stage; every stage in between has one input.
fn before(
    stages: &[StageDraft<'_>],
    wiring: &Wiring,
    mut index: usize,
    is_wanted: impl Fn(&Stage) -> bool,
) -> Option<usize> {
    for _ in 0..stages.len() {
        index = *wiring.producers[index].first()?;
        if stages[index].stage.as_ref().is_some_and(&is_wanted) {
            return Some(index);
        }
    }
    None
}

/// Where the stage's parameters say `word`; the stage's id if they do not.
fn place_of(stage: &StageDraft<'_>, word: &str) -> Range<usize> {
    find_word(&stage.table.entries, word).unwrap_or_else(|| stage.id_span.clone())
}

fn find_word(table: &DeTable<'_>, word: &str) -> Option<Range<usize>> {
    fn within(value: &Spanned<DeValue<'_>>, word: &str) -> Option<Range<usize>> {
        match value.get_ref() {
            DeValue::String(text) => (text == word).then(|| value.span()),
            DeValue::Array(items) => items.iter().find_map(|item| within(item, word)),
            DeValue::Table(entries) => find_word(entries, word),
            _ => None,
        }
    }
    table.values().find_map(|value| within(value, word))
}
