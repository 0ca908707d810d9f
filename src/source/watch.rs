//! Looks at a source's list again and again, and tells what was added, changed and removed since the last look.
//!
//! A medium is changed when its device, inode, length or time of writing is another. What is new or changed is taken
//! when two looks in a row find it alike, so that a file that is still being written is not read in the middle. What
//! was changed leaves at once: its old content is gone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::{Segment, SegmentId};
use reelflow_api::stage::{Candidate, Listing, OnError, Source};
use xxhash_rust::xxh3::xxh3_64;

use super::catalogue::{Guide, Scanned, missing, name_of, probe_all, segments_of};
use crate::edge::files;

/// What is the same as long as a medium is: see [`files::identity`]; zeros for what is no file.
type Mark = [u64; 5];
/// Of a medium that could not be looked at.
const NO_MARK: Mark = [u64::MAX; 5];

/// Path and part of a medium, as listed.
type Name = (PathBuf, Option<(u64, u64)>);

/// A source that is looked at again and again.
pub struct Watched {
    id: String,
    source: Arc<dyn Source>,
    frames_min: u32,
    known: BTreeMap<Name, Known>,
    /// New or changed at the last look.
    unsettled: BTreeMap<Name, Mark>,
    /// Entries of the list that could not be used, and whether that was told.
    complaints: BTreeMap<(PathBuf, SkipReason), bool>,
    /// Nothing at all was there at the last look.
    is_away: bool,
}

/// A medium that was probed.
struct Known {
    mark: Mark,
    candidate: Candidate,
    /// None if it cannot be used.
    segments: Vec<Arc<Segment>>,
    /// It could not be reached at the last look, so its segments are not sampled.
    is_away: bool,
}

/// What differs from the look before.
#[derive(Debug, Default)]
pub struct Look {
    /// Segments that can be sampled from now on, or that have another label; with a mark of their content.
    pub added: Vec<(Arc<Segment>, u64)>,
    /// Segments of media that were taken away or have other content. May be in `added` again under the same id.
    pub removed: Vec<SegmentId>,
    /// Segments of media that cannot be reached now.
    pub left: Vec<SegmentId>,
    /// Inputs that were added and cannot be used.
    pub skipped: Vec<Skip>,
    /// What is missing of inputs that were added all the same.
    pub partial: Vec<Skip>,
    /// Inputs that were added or changed and can be used.
    pub inputs_added: u64,
    /// Inputs that were in use and have been taken away or changed.
    pub inputs_removed: u64,
    /// That the place as a whole cannot be used now.
    pub complaint: Option<Skip>,
}

impl Look {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // What is partial is added too.
        let Self { added, removed, left, skipped, inputs_removed, complaint, .. } = self;
        added.is_empty()
            && removed.is_empty()
            && left.is_empty()
            && skipped.is_empty()
            && *inputs_removed == 0
            && complaint.is_none()
    }
}

impl Watched {
    /// The first look at the source called `id`: everything is used as it is found, and what `guide.kept` knows is not
    /// probed.
    ///
    /// # Errors
    /// If the source cannot be listed, the scan was stopped, or the source has `on_error = "fail"` and an input is bad.
    pub fn open(
        id: &str,
        source: Arc<dyn Source>,
        frames_min: u32,
        guide: Guide<'_>,
    ) -> Result<(Self, Scanned), StageError> {
        let mut watched = Self {
            id: id.to_owned(),
            source,
            frames_min,
            known: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            complaints: BTreeMap::new(),
            is_away: false,
        };
        let listing = watched.source.list().map_err(|error| watched.own(error))?;
        let found = listing.candidates.into_iter().map(|candidate| (mark_of(&candidate), candidate));
        let mut look = Look::default();
        watched.take(found.collect(), guide, &mut look)?;
        watched.complaints =
            listing.skipped.iter().map(|skip| ((skip.file.clone(), skip.reason), true)).collect();
        let mut scanned =
            Scanned { inputs_ok: look.inputs_added, partial: look.partial, ..Scanned::default() };
        scanned.catalogue.segments = watched.segments().map(|(segment, _)| segment).collect();
        scanned.skipped = listing.skipped.into_iter().chain(look.skipped).collect();
        scanned.inputs_seen = scanned.inputs_ok + scanned.skipped.len() as u64;
        for skip in &scanned.skipped {
            *scanned.by_reason.entry(skip.reason).or_default() += 1;
        }
        watched.check(scanned.skipped.iter().chain(&scanned.partial))?;
        Ok((watched, scanned))
    }

    /// The source's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Time between two looks.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_secs_f64(self.source.watch_secs().unwrap_or(3.0))
    }

    /// Segments in use in the order of the list, with marks of their content.
    pub fn segments(&self) -> impl Iterator<Item = (Arc<Segment>, u64)> {
        let known = self.known.values().filter(|known| !known.is_away);
        known
            .flat_map(|known| known.segments.iter().map(|segment| (Arc::clone(segment), content(known.mark))))
    }

    /// What differs from the look before. If nothing at all is there any more, or the source cannot be listed, its
    /// segments only leave, as if a disk was unplugged; they are back when they are found again unchanged.
    ///
    /// # Errors
    /// If the source has `on_error = "fail"` and an input is bad.
    pub fn look(&mut self) -> Result<Look, StageError> {
        let mut look = Look::default();
        let had_some = self.known.values().any(|known| !known.segments.is_empty());
        let listing = match self.source.list() {
            Ok(listing) if listing.candidates.is_empty() && had_some => {
                self.go_away("nothing is there any more", &mut look);
                return Ok(look);
            }
            Ok(listing) => listing,
            Err(error) => {
                self.go_away(&error.message, &mut look);
                return Ok(look);
            }
        };
        self.is_away = false;
        let Listing { candidates, skipped } = listing;
        let now: BTreeMap<Name, (Mark, Candidate)> =
            candidates.into_iter().map(|one| (name(&one), (mark_of(&one), one))).collect();
        self.let_go(&now, &mut look);
        let mut settled = Vec::new();
        let mut unsettled = BTreeMap::new();
        for (name, (mark, candidate)) in now {
            if let Some(known) = self.known.get_mut(&name) {
                known.meet(candidate, &mut look);
            } else if mark != NO_MARK && self.unsettled.get(&name) == Some(&mark) {
                settled.push((mark, candidate));
            } else {
                unsettled.insert(name, mark);
            }
        }
        self.unsettled = unsettled;
        // Nobody waits for these; the next start probes them again, as what is kept was saved after the first look.
        self.take(settled, Guide::default(), &mut look)?;
        self.complain(skipped, &mut look);
        self.check(look.skipped.iter().chain(&look.partial))?;
        Ok(look)
    }

    /// Lets go of media that are gone, changed or out of reach.
    fn let_go(&mut self, now: &BTreeMap<Name, (Mark, Candidate)>, look: &mut Look) {
        self.known.retain(|name, known| {
            let ids = || known.segments.iter().map(|segment| segment.id);
            match now.get(name) {
                Some((mark, _)) if *mark == known.mark => return true,
                None if is_out_of_reach(&known.candidate) => {
                    if !known.is_away {
                        look.left.extend(ids());
                    }
                    known.is_away = true;
                    return true;
                }
                _ => {}
            }
            look.removed.extend(ids());
            look.inputs_removed += u64::from(!known.segments.is_empty());
            false
        });
    }

    /// Probes what was found and keeps it.
    fn take(
        &mut self,
        found: Vec<(Mark, Candidate)>,
        guide: Guide<'_>,
        look: &mut Look,
    ) -> Result<(), StageError> {
        let (marks, candidates): (Vec<Mark>, Vec<Candidate>) = found.into_iter().unzip();
        let probed = probe_all(self.source.as_ref(), &candidates, guide).map_err(|error| self.own(error))?;
        for ((mark, candidate), probed) in marks.into_iter().zip(candidates).zip(probed) {
            let made = segments_of(&self.id, self.source.as_ref(), &candidate, probed.media, self.frames_min);
            let segments: Vec<Arc<Segment>> = match made {
                Ok(segments) => {
                    look.inputs_added += 1;
                    look.partial.extend(segments.first().and_then(|segment| missing(&segment.media)));
                    segments.into_iter().map(Arc::new).collect()
                }
                Err(skip) => {
                    look.skipped.push(skip);
                    Vec::new()
                }
            };
            look.added.extend(segments.iter().map(|segment| (Arc::clone(segment), content(mark))));
            self.known.insert(name(&candidate), Known { mark, candidate, segments, is_away: false });
        }
        Ok(())
    }

    /// Tells of entries that could not be used at two looks in a row, once.
    fn complain(&mut self, skipped: Vec<Skip>, look: &mut Look) {
        let mut complaints = BTreeMap::new();
        for skip in skipped {
            let key = (skip.file.clone(), skip.reason);
            let told = self.complaints.get(&key).copied();
            if told == Some(false) {
                look.skipped.push(skip);
            }
            complaints.insert(key, told.is_some());
        }
        self.complaints = complaints;
    }

    fn go_away(&mut self, why: &str, look: &mut Look) {
        for known in self.known.values_mut().filter(|known| !known.is_away) {
            known.is_away = true;
            look.left.extend(known.segments.iter().map(|segment| segment.id));
        }
        if !std::mem::replace(&mut self.is_away, true) {
            let (place, count) = (format!("sources.{}", self.id), look.left.len());
            let message = format!("{why}; {count} segments are not sampled until they are there again");
            let (file, stage, reason) = (place.into(), "watch".to_owned(), SkipReason::Unreadable);
            look.complaint = Some(Skip { file, stage, reason, message, at_secs: None });
        }
    }

    fn check<'s>(&self, mut bad: impl Iterator<Item = &'s Skip>) -> Result<(), StageError> {
        let (OnError::Fail, Some(bad)) = (self.source.on_error(), bad.next()) else { return Ok(()) };
        let (file, reason) = (bad.file.display(), bad.reason.as_str());
        let message = format!("{file}: {reason}: {} (on_error = \"fail\")", bad.message);
        Err(self.own(StageError::failed("", message)))
    }

    fn own(&self, error: StageError) -> StageError {
        StageError { stage: format!("sources.{}", self.id), ..error }
    }
}

impl Known {
    /// Takes over what the list says now; the content is the same.
    fn meet(&mut self, now: Candidate, look: &mut Look) {
        let is_back = std::mem::replace(&mut self.is_away, false);
        let is_other = (&self.candidate.label, &self.candidate.group, &self.candidate.split)
            != (&now.label, &now.group, &now.split);
        if is_other {
            for segment in &mut self.segments {
                let segment = Arc::make_mut(segment);
                (segment.label, segment.group, segment.split) =
                    (now.label.clone(), now.group.clone(), now.split.clone());
            }
            self.candidate = now;
        }
        if is_back || is_other {
            let mark = content(self.mark);
            look.added.extend(self.segments.iter().map(|segment| (Arc::clone(segment), mark)));
        }
    }
}

fn name(candidate: &Candidate) -> Name {
    let span = candidate.span_secs.map(|(start, end)| (start.to_bits(), end.to_bits()));
    let path = candidate.origin.path().unwrap_or_else(|| name_of(&candidate.origin).into());
    (path, span)
}

fn mark_of(candidate: &Candidate) -> Mark {
    candidate.origin.file().map_or([0; 5], |path| files::identity(path).unwrap_or(NO_MARK))
}

/// What stays the same when a file is copied with its times: length and time of writing.
fn content(mark: Mark) -> u64 {
    let bytes: Vec<u8> = mark[2..].iter().flat_map(|part| part.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// Whether a file that is not listed is neither gone nor left out on purpose.
fn is_out_of_reach(candidate: &Candidate) -> bool {
    let Some(path) = candidate.origin.file() else { return false };
    let error = std::fs::metadata(path).err().map(|error| error.kind());
    error
        .is_some_and(|kind| !matches!(kind, std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests;
