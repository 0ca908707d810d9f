//! Probes what the sources listed and cuts it into segments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::{Catalogue, Media, Origin, Segment, SegmentId};
use reelflow_api::stage::{Candidate, OnError, Source};
use xxhash_rust::xxh3::Xxh3;

use super::content;
use super::kept::Kept;
use super::kept::record::Probed;
use super::order::Place;
use crate::decode::{self, Failure};
use crate::edge::files;
use crate::edge::signal::Stop;

/// What a scan of all sources gave.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Everything that can be sampled.
    pub catalogue: Catalogue,
    /// Every input that was left out, with its reason.
    pub skipped: Vec<Skip>,
    /// Inputs listed or skipped, before probing.
    pub inputs_seen: u64,
    /// Inputs with at least one segment in the catalogue.
    pub inputs_ok: u64,
    /// What is missing of inputs that are in the catalogue all the same.
    pub partial: Vec<Skip>,
    /// Skips by reason.
    pub by_reason: BTreeMap<SkipReason, u64>,
    /// Of each segment of the catalogue, in its order, where it comes from.
    pub marks: Vec<Mark>,
}

/// Where a segment comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Id of its source.
    pub source: Arc<str>,
    /// Hash of its medium's content ([`super::content`]); only where the scan had a [`Kept`] and there is a file.
    pub content: Option<u64>,
}

/// Lists and probes all `sources` (id and source) on all cores; segments with fewer than `frames_min`
/// frames are left out.
///
/// Segments come in the order of (source, path, position), whatever the order of `sources` ([`Place`]).
/// `inputs_seen == inputs_ok + skipped.len()` holds.
///
/// # Errors
/// If a source cannot be listed, or has `on_error = "fail"` and an input is bad.
pub fn build(sources: &[(&str, &dyn Source)], frames_min: u32) -> Result<Scanned, StageError> {
    build_guided(sources, frames_min, Guide::default())
}

/// What a scan goes by beside its sources.
#[derive(Clone, Copy, Default)]
pub struct Guide<'a> {
    /// Asked before a file is probed, and told what was found; gives the contents in [`Scanned::marks`]. The caller
    /// saves.
    pub kept: Option<&'a Kept>,
    /// The wish to stop: looked at every [`PROBED_AT_ONCE`] media.
    pub stop: Option<&'a Stop>,
}

impl Guide<'_> {
    fn is_stopped(self) -> bool {
        self.stop.is_some_and(Stop::is_asked)
    }
}

/// [`build`] that goes by a guide. Gives the same catalogue.
///
/// # Errors
/// As [`build`], and if it was stopped.
pub fn build_guided(
    sources: &[(&str, &dyn Source)],
    frames_min: u32,
    guide: Guide<'_>,
) -> Result<Scanned, StageError> {
    let mut scanned = Scanned::default();
    let mut found = Vec::new();
    let mut sources = sources.to_vec();
    sources.sort_by_key(|(id, _)| *id);
    for (id, source) in sources {
        found.extend(scan(id, source, frames_min, guide, &mut scanned)?);
    }
    found.sort_by_cached_key(|(segment, mark)| Place::of(&mark.source, segment));
    (scanned.catalogue.segments, scanned.marks) = found.into_iter().unzip();
    scanned.catalogue.version = version(&scanned.catalogue.segments);
    Ok(scanned)
}

fn scan(
    id: &str,
    source: &dyn Source,
    frames_min: u32,
    guide: Guide<'_>,
    scanned: &mut Scanned,
) -> Result<Vec<(Arc<Segment>, Mark)>, StageError> {
    let stage = format!("sources.{id}");
    let listing = source.list().map_err(|error| StageError { stage: stage.clone(), ..error })?;
    let probed = probe_all(source, &listing.candidates, guide)
        .map_err(|error| StageError { stage: stage.clone(), ..error })?;
    scanned.inputs_seen += (listing.skipped.len() + probed.len()) as u64;
    let mut skipped = listing.skipped;
    let (mut found, mut partial) = (Vec::new(), Vec::new());
    let of: Arc<str> = id.into();
    for (candidate, Probed { media, content }) in listing.candidates.iter().zip(probed) {
        match segments_of(id, source, candidate, media, frames_min) {
            Ok(segments) => {
                scanned.inputs_ok += 1;
                partial.extend(segments.first().and_then(|segment| missing(&segment.media)));
                let mark = |segment| (Arc::new(segment), Mark { source: Arc::clone(&of), content });
                found.extend(segments.into_iter().map(mark));
            }
            Err(skip) => skipped.push(skip),
        }
    }
    if let (OnError::Fail, Some(bad)) = (source.on_error(), skipped.iter().chain(&partial).next()) {
        let (file, reason) = (bad.file.display(), bad.reason.as_str());
        return Err(StageError::failed(
            stage,
            format!(
                "{file}: {reason}: {} (of {} bad inputs the first; on_error = \"fail\")",
                bad.message,
                skipped.len() + partial.len()
            ),
        ));
    }
    for skip in &skipped {
        *scanned.by_reason.entry(skip.reason).or_default() += 1;
    }
    scanned.skipped.extend(skipped);
    scanned.partial.extend(partial);
    Ok(found)
}

/// Probes the media of all candidates on all cores; a file with several names, or listed in several parts, is
/// read once. One result a candidate, in order.
///
/// # Errors
/// If it was stopped.
pub(super) fn probe_all(
    source: &dyn Source,
    candidates: &[Candidate],
    guide: Guide<'_>,
) -> Result<Vec<Probed>, StageError> {
    let identities: Vec<Option<[u64; 5]>> = candidates.par_iter().map(identity).collect();
    // Of each candidate the first one that is the same file.
    let mut first_with = HashMap::new();
    let first: Vec<usize> = identities
        .iter()
        .enumerate()
        .map(|(index, identity)| identity.map_or(index, |same| *first_with.entry(same).or_insert(index)))
        .collect();
    let distinct: Vec<usize> = (0..candidates.len()).filter(|&index| first[index] == index).collect();
    let mut probed: HashMap<usize, Probed> = HashMap::with_capacity(distinct.len());
    for part in distinct.chunks(PROBED_AT_ONCE) {
        if guide.is_stopped() {
            let message = "the scan was stopped; the next one goes on from what was kept";
            return Err(StageError::failed("", message));
        }
        let probe =
            |&index: &usize| (index, probe(source, &candidates[index].origin, identities[index], guide.kept));
        probed.extend(part.par_iter().map(probe).collect::<Vec<_>>());
        guide.kept.into_iter().for_each(Kept::save_if_due);
    }
    share_times(probed.values_mut().filter_map(|probed| probed.media.as_mut().ok()));
    let named = |(candidate, first): (&Candidate, &usize)| {
        let mut probed = probed[first].clone();
        if let Ok(media) = &mut probed.media
            && media.origin != candidate.origin
        {
            let (origin, name) = (candidate.origin.clone(), name_of(&candidate.origin));
            *media = Arc::new(Media { origin, name, ..(**media).clone() });
        }
        probed
    };
    Ok(candidates.iter().zip(&first).map(named).collect())
}

/// Media between two looks at whether a long scan should save or stop: about a second of work.
pub const PROBED_AT_ONCE: usize = 256;

fn identity(candidate: &Candidate) -> Option<[u64; 5]> {
    match &candidate.origin {
        Origin::File(path) => files::identity(path),
        Origin::Member(_) | Origin::Pattern { .. } | Origin::Recorded(_) => None,
    }
}

/// What there is to know of one medium, from the cheapest place that knows it.
fn probe(source: &dyn Source, origin: &Origin, identity: Option<[u64; 5]>, kept: Option<&Kept>) -> Probed {
    if let Some(media) = source.describe(origin) {
        return Probed { media: Ok(Arc::new(media)), content: None };
    }
    let (Origin::File(path), Some(identity), Some(kept)) = (origin, identity, kept) else {
        return Probed { media: decode::probe_within(origin, &source.limits()).map(Arc::new), content: None };
    };
    // What could be read once may be forbidden now; then probing says so.
    if let Some(probed) = files::may_read(path).then(|| kept.find(path, &identity)).flatten()
        && is_within(&probed, source)
    {
        return probed;
    }
    let media = decode::probe_within(origin, &source.limits()).map(Arc::new);
    let content = media.as_ref().ok().and_then(|_| content::of_file(path).ok());
    let probed = Probed { media, content };
    kept.note(path, &identity, &probed);
    probed
}

/// Whether what was kept is within the limits that the source has now; if not, probing says so.
fn is_within(probed: &Probed, source: &dyn Source) -> bool {
    let limits = source.limits();
    let is_small = |media: &Arc<Media>| media.bytes <= limits.bytes && media.pixels() <= limits.pixels;
    probed.media.as_ref().map_or(true, |media| parts(media).all(|media| is_small(&media)))
}

/// The segments of one candidate, at least one.
pub(super) fn segments_of(
    id: &str,
    source: &dyn Source,
    candidate: &Candidate,
    media: Result<Arc<Media>, Failure>,
    frames_min: u32,
) -> Result<Vec<Segment>, Skip> {
    let media = media.map_err(|failure| skip(candidate, failure.reason, failure.message, failure.at_secs))?;
    let frames_min = frames_min.max(1);
    let mut segments = Vec::new();
    for (part, media) in parts(&media).enumerate() {
        let pieces = cut(&media.times, candidate.span_secs, source.segment_secs(), frames_min);
        segments.extend(pieces.into_iter().map(|piece| Segment {
            id: segment_id(id, candidate, part as u64, &piece),
            media: Arc::clone(&media),
            first: piece.first,
            count: piece.count,
            label: candidate.label.clone(),
            group: candidate.group.clone(),
            split: candidate.split.clone(),
        }));
    }
    if segments.is_empty() {
        if let Some(missing) = missing(&media) {
            return Err(skip(candidate, missing.reason, missing.message, missing.at_secs));
        }
        let found: usize = parts(&media).map(|media| in_span(&media.times, candidate.span_secs).len()).sum();
        let part = if candidate.span_secs.is_some() { " in the listed span" } else { "" };
        let message = format!("{found} frames{part}, a window needs {frames_min}");
        return Err(skip(candidate, SkipReason::TooShort, message, None));
    }
    Ok(segments)
}

/// A medium and the parts behind it, where pictures have another size or time begins anew.
fn parts(media: &Arc<Media>) -> impl Iterator<Item = Arc<Media>> {
    std::iter::successors(Some(Arc::clone(media)), |media| media.part.next.clone())
}

/// What is missing of a medium that can be used all the same.
pub(super) fn missing(media: &Media) -> Option<Skip> {
    let damage = media.part.damage.as_ref()?;
    Some(Skip {
        file: media.origin.path().unwrap_or_else(|| (&media.name).into()),
        stage: "probe".to_owned(),
        reason: damage.reason,
        message: format!("{}; what is there is used", damage.message),
        at_secs: damage.at_secs,
    })
}

/// Makes media whose frames have the same times share them: most files of an archive have one frame rate.
fn share_times<'m>(media: impl Iterator<Item = &'m mut Arc<Media>>) {
    let mut known: HashSet<Arc<[u64]>> = HashSet::new();
    for media in media {
        let media = Arc::get_mut(media).expect("nobody else has it yet");
        match known.get(&media.times) {
            Some(times) => media.times = Arc::clone(times),
            None => {
                known.insert(Arc::clone(&media.times));
            }
        }
    }
}

pub(super) fn name_of(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Member(member) => member.path().display().to_string(),
        Origin::Pattern { number } => format!("pattern:{number}"),
        Origin::Recorded(_) => "recording".to_owned(),
    }
}

fn skip(candidate: &Candidate, reason: SkipReason, message: String, at_secs: Option<f64>) -> Skip {
    let file = candidate.origin.path().unwrap_or_else(|| name_of(&candidate.origin).into());
    Skip { file, stage: "probe".to_owned(), reason, message, at_secs }
}

/// A piece of a medium: `run` counts the jumps of time before it, `number` whole lengths of time, so that they stay
/// when others go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Piece {
    run: u64,
    number: u64,
    first: u32,
    count: u32,
}

/// Positions of the frames whose time lies in `[start, end)` seconds.
pub(super) fn in_span(times: &[u64], span_secs: Option<(f64, f64)>) -> std::ops::Range<usize> {
    let Some((start, end)) = span_secs else { return 0..times.len() };
    let nanos = |secs: f64| (secs * 1e9).round() as u64;
    let first = times.partition_point(|&time| time < nanos(start));
    let past = times.partition_point(|&time| time < nanos(end));
    first..past.max(first)
}

/// Least gap between two frames, nanoseconds, that is a jump of time: no clip crosses it.
const JUMP: u64 = 5_000_000_000;
/// And in usual gaps of the same medium, so that pictures that come seldom are no jumps.
const JUMP_GAPS: u64 = 10;

/// Gap from which on time jumps in `times`; `u64::MAX` if it never does.
fn jump(times: &[u64]) -> u64 {
    let gaps = || times.windows(2).map(|pair| pair[1] - pair[0]);
    if gaps().all(|gap| gap < JUMP) {
        return u64::MAX;
    }
    let mut gaps: Vec<u64> = gaps().collect();
    let middle = gaps.len() / 2;
    let usual = *gaps.select_nth_unstable(middle).1;
    JUMP.max(usual.saturating_mul(JUMP_GAPS))
}

/// Cuts the frames of a span into pieces of `segment_secs`, counted from the span's first frame, and where time
/// jumps.
///
/// A last piece with fewer than `frames_min` frames joins the one before it, so no footage is lost; other
/// pieces with too few frames (a pause in the recording) are left out.
fn cut(
    times: &[u64],
    span_secs: Option<(f64, f64)>,
    segment_secs: Option<f64>,
    frames_min: u32,
) -> Vec<Piece> {
    let range = in_span(times, span_secs);
    let Some(&start) = times.get(range.start).filter(|_| !range.is_empty()) else { return Vec::new() };
    let length = segment_secs.map_or(u64::MAX, |secs| ((secs * 1e9).round() as u64).max(1));
    let (jump, mut run, mut last) = (jump(&times[range.clone()]), 0, start);
    let mut pieces: Vec<Piece> = Vec::new();
    for position in range {
        run += u64::from(times[position] - last >= jump);
        last = times[position];
        let number = (last - start) / length;
        match pieces.last_mut() {
            Some(piece) if (piece.run, piece.number) == (run, number) => piece.count += 1,
            _ => pieces.push(Piece { run, number, first: position as u32, count: 1 }),
        }
    }
    if let [.., before, last] = &mut pieces[..]
        && last.count < frames_min
        && (last.run, last.number) == (before.run, before.number + 1)
    {
        before.count += last.count;
        pieces.pop();
    }
    pieces.retain(|piece| piece.count >= frames_min);
    pieces
}

/// 63 bits of a hash over the source's id, the origin as listed, the listed span and the piece's number; behind a
/// jump or in a later part of the medium, over those too.
fn segment_id(source: &str, candidate: &Candidate, in_media: u64, piece: &Piece) -> SegmentId {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(source.as_bytes());
    match candidate.origin.path() {
        // A member is named as a file in a folder of the archive's name would be.
        Some(path) => part(path.as_os_str().as_encoded_bytes()),
        None => part(name_of(&candidate.origin).as_bytes()),
    }
    if let Some((start, end)) = candidate.span_secs {
        part(&start.to_le_bytes());
        part(&end.to_le_bytes());
    }
    part(&piece.number.to_le_bytes());
    if (in_media, piece.run) != (0, 0) {
        part(&in_media.to_le_bytes());
        part(&piece.run.to_le_bytes());
    }
    SegmentId(hash.digest() >> 1)
}

/// Hash over ids, frame times and labels, in order.
#[must_use]
pub fn version(segments: &[Arc<Segment>]) -> u64 {
    let mut hash = Xxh3::new();
    let mut block = Vec::new();
    for segment in segments {
        hash.update(&segment.id.0.to_le_bytes());
        hash.update(&u64::from(segment.count).to_le_bytes());
        // One call for all times, not one for each.
        block.clear();
        block.extend(segment.times().iter().flat_map(|time| time.to_le_bytes()));
        hash.update(&block);
        for text in [&segment.label, &segment.group, &segment.split] {
            // Length first, and another length for "none" than for "empty".
            hash.update(&text.as_ref().map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.as_deref().unwrap_or_default().as_bytes());
        }
    }
    hash.digest()
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
