//! The container in which batches cross between workers and processes.
//!
//! Inside a process it moves without a copy. On a wire it is a small header, written with the bincode
//! that timely itself uses there, and the pixels as they are; all processes run on one kind of machine.

use std::io::Write;
use std::sync::Arc;

use reelflow_api::item::{Batch, SegmentId, SlotInfo, View};
use reelflow_api::pixels::{Dtype, Pixels};
use serde::{Deserialize, Serialize};
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::container::{DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

/// A batch on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Whom it is for: the position of the augment stage behind a sampler, the number of the sink behind
    /// a batch, 0 between.
    pub to: u32,
    /// What is in it.
    pub batch: Batch,
}

/// Parcels of one time.
#[derive(Clone, Debug, Default)]
pub struct Parcels(Vec<Parcel>);

impl Accountable for Parcels {
    fn record_count(&self) -> i64 {
        self.0.record_count()
    }
}

impl DrainContainer for Parcels {
    type Item<'a> = Parcel;
    type DrainIter<'a> = std::vec::Drain<'a, Parcel>;

    fn drain(&mut self) -> Self::DrainIter<'_> {
        self.0.drain(..)
    }
}

impl SizableContainer for Parcels {
    /// A parcel is megabytes; waiting for a second one would only delay the first.
    fn at_capacity(&self) -> bool {
        !self.0.is_empty()
    }

    fn ensure_capacity(&mut self, _: &mut Option<Self>) {}
}

impl PushInto<Parcel> for Parcels {
    fn push_into(&mut self, parcel: Parcel) {
        self.0.push(parcel);
    }
}

#[derive(Deserialize, Serialize)]
struct Header {
    to: u32,
    step: u64,
    slots: Vec<(u32, u32, u64, Vec<Vec<u32>>)>,
    views: Vec<ViewHeader>,
}

/// A view but its values.
#[derive(Deserialize, Serialize)]
struct ViewHeader {
    name: String,
    shape: [u64; 4],
    dtype: Dtype,
    /// How many values follow.
    values: u64,
    normalize: Option<([f32; 3], [f32; 3])>,
}

impl Header {
    fn of(parcel: &Parcel) -> Self {
        let batch = &parcel.batch;
        Self {
            to: parcel.to,
            step: batch.step,
            slots: batch
                .slots
                .iter()
                .map(|slot| (slot.slot, slot.attempt, slot.segment.0, slot.frames.clone()))
                .collect(),
            views: batch
                .views
                .iter()
                .map(|view| ViewHeader {
                    name: view.name.to_string(),
                    shape: view.shape.map(|n| n as u64),
                    dtype: view.pixels.dtype(),
                    values: view.pixels.len() as u64,
                    normalize: view.normalize,
                })
                .collect(),
        }
    }
}

impl ContainerBytes for Parcels {
    fn from_bytes(bytes: Bytes) -> Self {
        let mut rest: &[u8] = &bytes;
        let count = take_u64(&mut rest);
        Self((0..count).map(|_| read_parcel(&mut rest)).collect())
    }

    fn length_in_bytes(&self) -> usize {
        let parcels = self.0.iter().map(|parcel| {
            let header = bincode::serialized_size(&Header::of(parcel)).expect("plain data has a size");
            let pixels: usize = parcel.batch.views.iter().map(|view| view.pixels.bytes().len()).sum();
            8 + header as usize + pixels
        });
        // timely wants whole words.
        (8 + parcels.sum::<usize>()).next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let mut bytes = Vec::with_capacity(self.length_in_bytes());
        bytes.extend_from_slice(&(self.0.len() as u64).to_le_bytes());
        for parcel in &self.0 {
            let header = bincode::serialize(&Header::of(parcel)).expect("plain data serialises");
            bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&header);
            for view in &parcel.batch.views {
                bytes.extend_from_slice(view.pixels.bytes());
            }
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        writer.write_all(&bytes).expect("timely's buffer is as long as it was told");
    }
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> &'b [u8] {
    let (head, tail) = rest.split_at(length);
    *rest = tail;
    head
}

fn take_u64(rest: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take(rest, 8).try_into().expect("eight bytes were taken"))
}

fn read_parcel(rest: &mut &[u8]) -> Parcel {
    let length = take_u64(rest) as usize;
    let header: Header = bincode::deserialize(take(rest, length)).expect("a peer of the same build wrote it");
    let views = header
        .views
        .into_iter()
        .map(|view| {
            let mut pixels = Pixels::zeroed(view.dtype, view.values as usize);
            let bytes = pixels.bytes_mut();
            bytes.copy_from_slice(take(rest, bytes.len()));
            let shape = view.shape.map(|n| n as usize);
            View { name: Arc::from(view.name), shape, pixels, normalize: view.normalize }
        })
        .collect();
    let slots = header
        .slots
        .into_iter()
        .map(|(slot, attempt, id, frames)| SlotInfo { slot, attempt, segment: SegmentId(id), frames })
        .collect();
    Parcel { to: header.to, batch: Batch { step: header.step, slots, views } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let batch = Batch {
            step: 9,
            slots: vec![SlotInfo {
                slot: 3,
                attempt: 1,
                segment: SegmentId(u64::MAX >> 1),
                frames: vec![vec![1, 5, 9], vec![]],
            }],
            views: vec![View {
                name: "anchor".into(),
                shape: [1, 1, 1, 3],
                pixels: vec![0.5, -1.0, f32::MIN].into(),
                normalize: Some(([0.1, 0.2, 0.3], [0.5; 3])),
            }],
        };
        let parcels = Parcels(vec![Parcel { to: 2, batch: batch.clone() }, Parcel { to: 0, batch }]);
        let mut bytes = Vec::new();
        parcels.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), parcels.length_in_bytes());
        let length = bytes.len();
        let mut pages = timely::bytes::arc::BytesMut::from(bytes);
        let back = Parcels::from_bytes(pages.extract_to(length));
        assert_eq!(format!("{back:?}"), format!("{parcels:?}"));
    }
}
