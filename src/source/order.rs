//! The fixed order of a catalogue: by source, then path, then position.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use reelflow_api::item::{Origin, Segment};
use serde::{Deserialize, Serialize};

/// Where a segment stands in a catalogue; no two segments have the same place.
///
/// Bytes that compare as the parts they are written from: the source's id, the kind of origin, the path, the time of
/// the first frame if it was recorded live, the first frame, the number of frames, the segment's id.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place(Arc<[u8]>);

/// Ends a part: below every byte that a part holds, so that the shorter of two equal beginnings comes first.
const END: u8 = 0;
/// Parts a path, in place of `/`: a folder comes before its neighbours whose names go on where its own ends.
const STEP: u8 = 1;

impl Place {
    /// The place of `segment` of the source `source`.
    #[must_use]
    pub fn of(source: &str, segment: &Segment) -> Self {
        let mut bytes = source.as_bytes().to_vec();
        bytes.push(END);
        match &segment.media.origin {
            Origin::File(path) => {
                bytes.push(0);
                write_path(path, &mut bytes);
            }
            Origin::Member(member) => {
                bytes.push(0);
                write_path(&member.path(), &mut bytes);
            }
            Origin::Pattern { number } => {
                bytes.push(1);
                bytes.extend(number.to_be_bytes());
            }
            Origin::Recorded(_) => {
                // A replay's recordings have their files' names and stand as these do; a camera's have one name.
                bytes.push(2);
                write_path(Path::new(&segment.media.name), &mut bytes);
                bytes.push(END);
                bytes.extend(segment.times().first().copied().unwrap_or_default().to_be_bytes());
            }
        }
        bytes.push(END);
        bytes.extend(segment.media.part.before.to_be_bytes());
        bytes.extend(segment.first.to_be_bytes());
        bytes.extend(segment.count.to_be_bytes());
        bytes.extend(segment.id.0.to_be_bytes());
        Self(bytes.into())
    }
}

/// Component by component, so that `a//b` and `a/./b` stand where `a/b` does.
fn write_path(path: &Path, bytes: &mut Vec<u8>) {
    for (index, component) in path.components().enumerate() {
        if index > 0 {
            bytes.push(STEP);
        }
        if component != Component::RootDir {
            bytes.extend(component.as_os_str().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use reelflow_api::feed::Recording;
    use reelflow_api::item::{Media, SegmentId};

    use super::*;
    use crate::decode::pattern;

    fn place(source: &str, path: &str, first: u32, count: u32) -> Place {
        let media = Media { origin: Origin::File(PathBuf::from(path)), ..pattern::plain(1) };
        let segment = Segment {
            id: SegmentId(7),
            media: media.into(),
            first,
            count,
            label: None,
            group: None,
            split: None,
        };
        Place::of(source, &segment)
    }

    fn recorded(name: &str, time: u64) -> Place {
        let origin = Origin::Recorded(Arc::new(Recording::new(vec![pattern::picture(1, time, 4, 2)])));
        let media =
            Media { origin, name: name.to_owned(), times: Arc::from([time]), ..pattern::plain(1) }.into();
        let segment =
            Segment { id: SegmentId(7), media, first: 0, count: 1, label: None, group: None, split: None };
        Place::of("cam", &segment)
    }

    #[test]
    fn recordings_stand_as_their_files_do_and_then_by_time() {
        let in_order = [
            recorded("v/1.mp4", 3),
            recorded("v/1.mp4", 4),
            recorded("v/1.mp4", 1 << 40),
            recorded("v/10.mp4", 0),
            recorded("w", 1),
        ];
        assert!(in_order.windows(2).all(|pair| pair[0] < pair[1]), "{in_order:?}");
    }

    #[test]
    fn places_compare_as_source_path_and_position() {
        let in_order = [
            place("a", "x", 0, 1),
            place("a-b", "/v/1.mp4", 0, 1),
            place("a-b", "v/1", 0, 1),
            place("a-b", "v/1/2.mp4", 0, 1),
            place("a-b", "v/1.mp4", 0, 5),
            place("a-b", "v/1.mp4", 0, 256),
            place("a-b", "v/1.mp4", 2, 1),
            place("a-b", "v/1.mp4", 256, 1),
            place("a-b", "v/10.mp4", 0, 1),
            place("b", "a", 0, 1),
        ];
        assert!(in_order.windows(2).all(|pair| pair[0] < pair[1]), "{in_order:?}");
        assert_eq!(place("a", "v//1", 0, 1), place("a", "v/./1", 0, 1));
    }
}
