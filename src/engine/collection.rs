//! What can be sampled now: segments come and go, and each version is a list in a fixed order.
//!
//! The seam behind which a catalogue is kept. Who publishes versions knows no more of it than this trait.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use reelflow_api::item::{Catalogue, Origin, Segment, SegmentId};
use xxhash_rust::xxh3::xxh3_64;

use crate::source::catalogue;

/// A version and how it came about.
#[derive(Debug, Default)]
pub struct Closed {
    /// What can be sampled.
    pub catalogue: Catalogue,
    /// Segments whose ids were not there in the version before.
    pub added: Vec<Arc<Segment>>,
    /// Segments that stay and have another label.
    pub relabelled: Vec<Arc<Segment>>,
}

/// Segments by source that come and go.
pub trait Collection {
    /// Takes segments of `source` out, then takes others in; one under an id that is there replaces it. Ids that are
    /// not there are passed over. Nothing shows before [`Collection::close`].
    fn update(&mut self, source: &str, added: Vec<Arc<Segment>>, removed: Vec<SegmentId>);

    /// Makes a version of all updates since the last one.
    fn close(&mut self) -> Closed;
}

/// The collection that runs use; made on the thread that uses it.
#[must_use]
pub fn collection() -> Box<dyn Collection> {
    Box::new(Plain::default())
}

/// A map in the catalogue's order. A version costs as much as the catalogue is long.
#[derive(Default)]
struct Plain {
    /// With a hash of each, so that a version does not look at every frame again.
    now: BTreeMap<Place, (Arc<Segment>, u64)>,
    places: BTreeMap<SegmentId, Place>,
    /// As the last version had them.
    before: BTreeMap<SegmentId, Option<Arc<str>>>,
}

/// Source, kind of origin, path or name, time of a recording, position, id.
type Place = (Arc<str>, u8, PathBuf, u64, u32, u32, SegmentId);

fn place(source: &Arc<str>, segment: &Segment) -> Place {
    let (kind, path, number) = match &segment.media.origin {
        Origin::File(path) => (0, path.clone(), 0),
        Origin::Pattern { number } => (1, PathBuf::new(), u64::from(*number)),
        Origin::Recorded(_) => (2, PathBuf::new(), segment.times().first().copied().unwrap_or_default()),
    };
    (Arc::clone(source), kind, path, number, segment.first, segment.count, segment.id)
}

impl Collection for Plain {
    fn update(&mut self, source: &str, added: Vec<Arc<Segment>>, removed: Vec<SegmentId>) {
        let source: Arc<str> = source.into();
        for id in removed.into_iter().chain(added.iter().map(|segment| segment.id)) {
            if self.places.get(&id).is_some_and(|place| place.0 == source) {
                let place = self.places.remove(&id).expect("found above");
                self.now.remove(&place);
            }
        }
        for segment in added {
            let place = place(&source, &segment);
            self.places.insert(segment.id, place.clone());
            let hash = catalogue::version(std::slice::from_ref(&segment));
            self.now.insert(place, (segment, hash));
        }
    }

    fn close(&mut self) -> Closed {
        let segments: Vec<Arc<Segment>> = self.now.values().map(|(segment, _)| Arc::clone(segment)).collect();
        let mut closed = Closed::default();
        for segment in &segments {
            match self.before.get(&segment.id) {
                None => closed.added.push(Arc::clone(segment)),
                Some(label) if *label != segment.label => closed.relabelled.push(Arc::clone(segment)),
                Some(_) => {}
            }
        }
        self.before = segments.iter().map(|segment| (segment.id, segment.label.clone())).collect();
        let hashes: Vec<u8> = self.now.values().flat_map(|(_, hash)| hash.to_le_bytes()).collect();
        closed.catalogue = Catalogue { version: xxh3_64(&hashes), segments };
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::fixture::{segment, steady};

    #[test]
    fn versions_are_in_a_fixed_order_and_say_how_they_came_about() {
        let mut all = collection();
        let one = |id: u64| segment(id, steady(20));
        all.update("b", vec![one(5), one(4)], Vec::new());
        all.update("a", vec![one(9)], Vec::new());
        let ids = |closed: &Closed| -> Vec<u64> {
            closed.catalogue.segments.iter().map(|segment| segment.id.0).collect()
        };
        let first = all.close();
        assert_eq!((ids(&first), first.added.len()), (vec![9, 4, 5], 3));
        let labelled = Arc::new(Segment { label: Some("x".into()), ..(*one(5)).clone() });
        all.update("b", vec![one(1), labelled], vec![SegmentId(4), SegmentId(77), SegmentId(9)]);
        let second = all.close();
        assert_eq!(ids(&second), [9, 1, 5], "number 9 belongs to another source");
        assert_eq!((second.added[0].id.0, second.relabelled[0].id.0), (1, 5));
        assert_ne!(first.catalogue.version, second.catalogue.version);
        all.update("b", vec![one(4), one(5)], vec![SegmentId(1)]);
        assert_eq!(all.close().catalogue.version, first.catalogue.version, "equal content, equal version");
    }
}
