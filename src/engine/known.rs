//! Which segments of watched sources a run's state may know of: what a resumed run has to forget if they are gone.
//!
//! ```text
//! _watched/ID.segments    of the source ID, by id: 8 bytes segment id, 8 bytes mark of its content, little-endian
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::SegmentId;
use reelflow_api::stage::Parts;

use super::timeline::Change;

/// In a checkpoint, in place of a sink's id. No sink can be called so.
pub const PART: &str = "_watched";

/// End of the names of the files.
const SUFFIX: &str = ".segments";

/// Marks of the contents of segments, by source and id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known(BTreeMap<String, BTreeMap<SegmentId, u64>>);

impl Known {
    /// Adds a segment of the source `source`.
    pub fn add(&mut self, source: &str, id: SegmentId, mark: u64) {
        self.0.entry(source.to_owned()).or_default().insert(id, mark);
    }

    /// A source that is watched, whether it has segments or not.
    pub fn add_source(&mut self, source: &str) {
        self.0.entry(source.to_owned()).or_default();
    }

    /// Follows what the sinks are told. What only left is still known.
    pub fn follow(&mut self, change: &Change) {
        for id in &change.told.removed {
            for segments in self.0.values_mut() {
                segments.remove(id);
            }
        }
        for (source, id, mark) in &change.marks {
            self.add(source, *id, *mark);
        }
    }

    /// Files for a checkpoint.
    #[must_use]
    pub fn to_parts(&self) -> Parts {
        let file = |(source, segments): (&String, &BTreeMap<SegmentId, u64>)| {
            let bytes = segments.iter().flat_map(|(id, mark)| [id.0, *mark]).flat_map(u64::to_le_bytes);
            (format!("{source}{SUFFIX}"), bytes.collect())
        };
        self.0.iter().map(file).collect()
    }

    /// From the files of a checkpoint.
    ///
    /// # Errors
    /// If a file is no list of pairs.
    pub fn of_parts(parts: &Parts) -> Result<Self, StageError> {
        let mut known = Self::default();
        for (name, bytes) in parts {
            let source = name.strip_suffix(SUFFIX).filter(|_| bytes.len().is_multiple_of(16));
            let Some(source) = source else {
                let message = format!("`{PART}/{name}` is no list of segments: {} bytes", bytes.len());
                return Err(StageError::storage("checkpoint", message));
            };
            known.add_source(source);
            for pair in bytes.chunks_exact(16) {
                let number = |at: usize| {
                    u64::from_le_bytes(pair[at..at + 8].try_into().expect("eight bytes are eight bytes"))
                };
                known.add(source, SegmentId(number(0)), number(8));
            }
        }
        Ok(known)
    }

    /// Segments that are not in `now` any more, or have other content there.
    ///
    /// # Errors
    /// If nothing at all is left of a source: then a disk is more likely to be missing than everything to be taken
    /// back.
    pub fn gone(&self, now: &Self) -> Result<Vec<SegmentId>, StageError> {
        let mut gone = Vec::new();
        for (source, segments) in &self.0 {
            let Some(left) = now.0.get(source) else { continue };
            if left.is_empty() && !segments.is_empty() {
                let count = segments.len();
                let message = format!(
                    "the checkpoint knows {count} segments of the watched source `{source}`, and nothing of it is \
                     there; make it available, or start a new run with --overwrite or another --out"
                );
                return Err(StageError::refused("resume", message));
            }
            let is_gone = |(id, mark): &(&SegmentId, &u64)| left.get(*id) != Some(*mark);
            gone.extend(segments.iter().filter(is_gone).map(|(id, _)| *id));
        }
        Ok(gone)
    }
}

/// Remembers the source with which a segment is known.
impl FromIterator<(Arc<str>, SegmentId, u64)> for Known {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, SegmentId, u64)>>(all: I) -> Self {
        let mut known = Self::default();
        all.into_iter().for_each(|(source, id, mark)| known.add(&source, id, mark));
        known
    }
}

#[cfg(test)]
mod tests {
    use reelflow_api::feed::CatalogueChange;

    use super::*;

    fn known(all: &[(&str, u64, u64)]) -> Known {
        all.iter().map(|(source, id, mark)| (Arc::from(*source), SegmentId(*id), *mark)).collect()
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_and_what_is_no_list_is_refused() {
        let all = known(&[("a", 1, u64::MAX), ("a", 2, 7), ("b", 3, 0)]);
        let mut parts = all.to_parts();
        assert_eq!(Known::of_parts(&parts).unwrap(), all);
        parts.get_mut("a.segments").unwrap().pop();
        let error = Known::of_parts(&parts).unwrap_err();
        assert_eq!(error.code, 74);
        assert!(error.message.contains("`_watched/a.segments`"), "{error}");
    }

    #[test]
    fn what_was_removed_or_changed_is_gone_and_what_left_is_not() {
        let mut all = known(&[("a", 1, 5), ("a", 2, 5), ("a", 3, 5)]);
        let told = CatalogueChange {
            removed: vec![SegmentId(1), SegmentId(2)],
            left: vec![SegmentId(3)],
            ..CatalogueChange::default()
        };
        let marks = vec![(Arc::from("a"), SegmentId(2), 6)];
        all.follow(&Change { told, marks, ..Change::default() });
        assert_eq!(all, known(&[("a", 2, 6), ("a", 3, 5)]));
        let now = known(&[("a", 2, 7), ("a", 3, 5), ("a", 4, 1)]);
        assert_eq!(all.gone(&now).unwrap(), [SegmentId(2)]);
    }

    #[test]
    fn a_source_of_which_nothing_is_left_is_refused() {
        let mut now = Known::default();
        now.add_source("a");
        let error = known(&[("a", 1, 5)]).gone(&now).unwrap_err();
        assert_eq!(error.code, 78);
        assert!(error.message.contains("1 segments of the watched source `a`"), "{error}");
    }
}
