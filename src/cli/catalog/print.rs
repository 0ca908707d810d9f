//! The catalogue as lines for people or as JSON.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use reelflow_api::error::Skip;
use reelflow_api::item::{Segment, SegmentId};
use serde_json::{Value, json};

use super::inventory::Inventory;
use super::{Args, Filter, Format};
use crate::cli::say;
use crate::observe::quarantine::escaped;

/// Files that a person is told of one by one, of each kind of change.
const NAMED_MAX: usize = 10;

/// Prints what `args` ask for.
pub fn print(inventory: &Inventory, args: &Args) {
    match (args.format, args.filter.lists()) {
        (Format::Text, false) => summary(inventory),
        (Format::Json, false) => say(&to_json(inventory).to_string()),
        (format, true) => list(inventory, &args.filter, format),
    }
}

fn summary(inventory: &Inventory) {
    let version = &inventory.version;
    let segments = &version.catalogue.segments;
    let secs: f64 = segments.iter().map(|segment| secs(segment)).sum();
    let seen: u64 = inventory.inputs.values().sum();
    say(&format!(
        "{} segments of {} media, {}; {} of {seen} inputs left out; catalogue {:016x}",
        segments.len(),
        inventory.media(),
        hours(secs),
        inventory.skipped.len(),
        version.catalogue.version
    ));
    let counted = |what: &str, counts: Vec<(String, u64)>| {
        if !counts.is_empty() {
            let counts: Vec<_> =
                counts.iter().map(|(name, count)| format!("{} {count}", escaped(name))).collect();
            say(&format!("{what}: {}", counts.join(", ")));
        }
    };
    counted("sources", version.per_source.iter().map(|(id, count)| (id.to_string(), *count)).collect());
    let or_none = |name: &str| if name.is_empty() { "(none)".to_owned() } else { name.to_owned() };
    let labels = version.per_label.iter();
    counted(
        "labels",
        labels.map(|(label, count)| (or_none(label.as_deref().unwrap_or_default()), *count)).collect(),
    );
    counted(
        "splits",
        inventory.by_split().into_iter().map(|(split, count)| (or_none(split), count)).collect(),
    );
    counted(
        "left out",
        inventory
            .by_reason()
            .into_iter()
            .map(|(reason, count)| (reason.as_str().to_owned(), count))
            .collect(),
    );
    if !version.duplicates.is_empty() {
        let all: usize = version.duplicates.iter().map(Vec::len).sum();
        say(&format!(
            "duplicates: {all} segments show {} contents (--duplicates lists them)",
            version.duplicates.len()
        ));
    }
    changes(inventory);
    let (known, probed) = inventory.counts;
    eprintln!("{probed} files probed, {known} known from earlier looks");
}

/// What changed since the last look, a line a file.
fn changes(inventory: &Inventory) {
    let Some(before) = &inventory.before else {
        say("first look: nothing to compare with");
        return;
    };
    let change = &inventory.version.change;
    if change.is_empty() {
        say("since the last look: nothing changed");
        return;
    }
    let path = |id: &SegmentId| before.get(id).map_or_else(String::new, |segment| segment.media.name.clone());
    let now = names(inventory);
    let new = |id: &SegmentId| now.get(id).map_or_else(String::new, |segment| segment.media.name.clone());
    let moved: HashSet<SegmentId> = change.renamed.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let is_renamed = |id: &SegmentId| moved.contains(id);
    let label = |label: &Option<Arc<str>>| label.as_deref().unwrap_or("(none)").to_owned();
    let parts: [(&str, Vec<String>); 6] = [
        ("added", change.added.iter().filter(|s| !is_renamed(&s.id)).map(|s| s.media.name.clone()).collect()),
        ("removed", change.removed.iter().filter(|id| !is_renamed(id)).map(path).collect()),
        (
            "renamed",
            change.renamed.iter().map(|(from, to)| format!("{} -> {}", path(from), new(to))).collect(),
        ),
        ("changed", change.changed.iter().map(new).collect()),
        (
            "relabelled",
            change
                .relabelled
                .iter()
                .map(|(id, from, to)| format!("{}: {} -> {}", new(id), label(from), label(to)))
                .collect(),
        ),
        ("regrouped", change.regrouped.iter().map(new).collect()),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{} segments {what}", names.len()))
        .collect();
    say(&format!("since the last look: {}", told.join(", ")));
    for (what, mut names) in parts {
        names.dedup();
        for name in names.iter().take(NAMED_MAX) {
            say(&format!("  {what} {}", escaped(name)));
        }
        if names.len() > NAMED_MAX {
            say(&format!("  and {} more {what} (--format json has all)", names.len() - NAMED_MAX));
        }
    }
}

fn names(inventory: &Inventory) -> BTreeMap<SegmentId, &Arc<Segment>> {
    inventory.version.catalogue.segments.iter().map(|segment| (segment.id, segment)).collect()
}

fn to_json(inventory: &Inventory) -> Value {
    let version = &inventory.version;
    let segments = &version.catalogue.segments;
    let labels: BTreeMap<&str, u64> =
        version.per_label.iter().filter_map(|(label, count)| Some((label.as_deref()?, *count))).collect();
    let splits: BTreeMap<&str, u64> =
        inventory.by_split().into_iter().filter(|(split, _)| !split.is_empty()).collect();
    let by_reason: BTreeMap<&str, u64> =
        inventory.by_reason().into_iter().map(|(reason, count)| (reason.as_str(), count)).collect();
    let sources: BTreeMap<&str, Value> = inventory
        .inputs
        .iter()
        .map(|(id, inputs)| {
            let segments = version.per_source.get(id).copied().unwrap_or(0);
            (&**id, json!({ "inputs": inputs, "segments": segments }))
        })
        .collect();
    json!({
        "catalogue": format!("{:016x}", version.catalogue.version),
        "inputs": inventory.inputs.values().sum::<u64>(),
        "media": inventory.media(),
        "segments": segments.len(),
        "frames": segments.iter().map(|segment| u64::from(segment.count)).sum::<u64>(),
        "secs": segments.iter().map(|segment| secs(segment)).sum::<f64>(),
        "sources": sources,
        "labels": labels,
        "unlabelled": version.per_label.get(&None).copied().unwrap_or(0),
        "splits": splits,
        "left_out": by_reason,
        "duplicates": version.duplicates,
        "since_last_look": inventory.before.as_ref().map(|before| change_to_json(inventory, before)),
        "probed": inventory.counts.1,
        "known": inventory.counts.0,
    })
}

fn change_to_json(inventory: &Inventory, before: &HashMap<SegmentId, Arc<Segment>>) -> Value {
    let change = &inventory.version.change;
    let now = names(inventory);
    let old = |id: &SegmentId| json!({ "id": id, "path": before.get(id).map(|segment| &segment.media.name) });
    let new = |id: &SegmentId| json!({ "id": id, "path": now.get(id).map(|segment| &segment.media.name) });
    json!({
        "added": change.added.iter().map(|segment| new(&segment.id)).collect::<Vec<_>>(),
        "removed": change.removed.iter().map(old).collect::<Vec<_>>(),
        "renamed": change.renamed.iter().map(|(from, to)| json!({ "from": old(from), "to": new(to) })).collect::<Vec<_>>(),
        "changed": change.changed.iter().map(new).collect::<Vec<_>>(),
        "relabelled": change.relabelled.iter()
            .map(|(id, from, to)| json!({ "segment": new(id), "from": from, "to": to })).collect::<Vec<_>>(),
        "regrouped": change.regrouped.iter().map(new).collect::<Vec<_>>(),
    })
}

/// A line a segment or left-out input that passes the filter.
fn list(inventory: &Inventory, filter: &Filter, format: Format) {
    let is_source = |source: &str| filter.source.as_deref().is_none_or(|wanted| wanted == source);
    let fits = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        filter.path.as_ref().is_none_or(|glob| glob.is_match(path) || glob.is_match(name))
    };
    if filter.reason.is_none() {
        if format == Format::Text {
            say("id\tsource\tlabel\tsplit\tframes\tstart_secs\tend_secs\tpath");
        }
        for (segment, source, twins) in ordered(inventory, filter.duplicates) {
            let is_label = filter.label.is_none() || filter.label.as_deref() == segment.label.as_deref();
            let is_split = filter.split.is_none() || filter.split.as_deref() == segment.split.as_deref();
            if is_label && is_split && is_source(source) && fits(segment.media.name.as_ref()) {
                say(&segment_line(segment, source, twins, format));
            }
        }
    }
    let lists_skips =
        filter.reason.is_some() || filter.path.is_some() && filter.label.is_none() && filter.split.is_none();
    if !lists_skips || filter.duplicates {
        return;
    }
    let wanted = filter.reason.and_then(|reason| reason.0);
    for (source, skip) in &inventory.skipped {
        if wanted.is_none_or(|reason| reason == skip.reason) && is_source(source) && fits(&skip.file) {
            say(&skip_line(source, skip, format));
        }
    }
}

/// Segments with their sources, and the number of the group of equal content they are in; with `duplicates` only
/// those that are in one, group by group.
fn ordered(inventory: &Inventory, duplicates: bool) -> Vec<(&Segment, &str, Option<usize>)> {
    let segments = inventory.version.catalogue.segments.iter().zip(&inventory.marks);
    let groups = inventory.version.duplicates.iter().enumerate();
    let group_of: BTreeMap<SegmentId, usize> =
        groups.flat_map(|(number, ids)| ids.iter().map(move |id| (*id, number))).collect();
    let mut rows: Vec<_> = segments
        .map(|(segment, mark)| (&**segment, &*mark.source, group_of.get(&segment.id).copied()))
        .filter(|(_, _, group)| group.is_some() || !duplicates)
        .collect();
    if duplicates {
        rows.sort_by_key(|(_, _, group)| *group);
    }
    rows
}

fn segment_line(segment: &Segment, source: &str, twins: Option<usize>, format: Format) -> String {
    let times = segment.times();
    let (start, end) = (times[0] as f64 / 1e9, times[times.len() - 1] as f64 / 1e9);
    match format {
        Format::Text => {
            let text = |text: &Option<Arc<str>>| escaped(text.as_deref().unwrap_or("-"));
            let (label, split, path) =
                (text(&segment.label), text(&segment.split), escaped(&segment.media.name));
            let (id, count) = (segment.id.0, segment.count);
            format!("{id}\t{}\t{label}\t{split}\t{count}\t{start:.3}\t{end:.3}\t{path}", escaped(source))
        }
        Format::Json => json!({
            "id": segment.id,
            "source": source,
            "path": segment.media.name,
            "label": segment.label,
            "group": segment.group,
            "split": segment.split,
            "first_frame": segment.first,
            "frames": segment.count,
            "start_secs": start,
            "end_secs": end,
            "width": segment.media.width,
            "height": segment.media.height,
            "codec": segment.media.codec,
            "duplicates": twins,
        })
        .to_string(),
    }
}

fn skip_line(source: &str, skip: &Skip, format: Format) -> String {
    let (path, reason) = (skip.file.to_string_lossy(), skip.reason.as_str());
    match format {
        Format::Text => {
            format!("left out\t{}\t{reason}\t{}\t{}", escaped(source), escaped(&path), escaped(&skip.message))
        }
        Format::Json => json!({
            "source": source,
            "path": path,
            "reason": reason,
            "stage": skip.stage,
            "message": skip.message,
        })
        .to_string(),
    }
}

/// From the first frame to the end of the last, as far as the frame rate tells.
fn secs(segment: &Segment) -> f64 {
    let times = segment.times();
    let span = (times[times.len() - 1] - times[0]) as f64 / 1e9;
    let rate = segment.media.frame_rate();
    if rate > 0.0 { span + 1.0 / rate } else { span }
}

fn hours(secs: f64) -> String {
    match secs {
        _ if secs < 120.0 => format!("{secs:.1} s"),
        _ if secs < 7200.0 => format!("{:.1} min", secs / 60.0),
        _ => format!("{:.1} h", secs / 3600.0),
    }
}
