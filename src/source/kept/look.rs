//! What a catalogue held when somebody looked at it: rows that name segments, without their frames.

use std::path::PathBuf;
use std::sync::Arc;

use reelflow_api::item::SegmentId;

use super::wire::{In, Out};

/// The segments of one moment, in the order of the catalogue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// A row a segment.
    pub rows: Vec<Row>,
}

/// One segment; its frames are in the record of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Id of its source.
    pub source: Arc<str>,
    /// Its id.
    pub id: SegmentId,
    /// Its file.
    pub path: PathBuf,
    /// Which file that was; see [`crate::edge::files::identity`].
    pub identity: [u64; 5],
    /// Its first frame in the file.
    pub first: u32,
    /// Its number of frames.
    pub count: u32,
    /// Its class.
    pub label: Option<Arc<str>>,
    /// Its group.
    pub group: Option<Arc<str>>,
    /// Its split.
    pub split: Option<Arc<str>>,
}

impl Look {
    /// Appends it to `out`.
    pub(super) fn write(&self, out: &mut Out) {
        out.number(self.rows.len() as u64);
        for row in &self.rows {
            out.bytes(row.source.as_bytes());
            out.fixed(row.id.0);
            out.path(&row.path);
            row.identity.iter().for_each(|number| out.number(*number));
            out.number(u64::from(row.first));
            out.number(u64::from(row.count));
            for text in [&row.label, &row.group, &row.split] {
                out.optional(text.as_deref(), |out, text| out.bytes(text.as_bytes()));
            }
        }
    }

    /// What [`Look::write`] wrote.
    pub(super) fn read(bytes: &mut In<'_>) -> Option<Self> {
        let count = bytes.count(18)?;
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            rows.push(Row {
                source: bytes.shared()?,
                id: SegmentId(bytes.fixed()?),
                path: bytes.path()?,
                identity: {
                    let mut identity = [0; 5];
                    for number in &mut identity {
                        *number = bytes.number()?;
                    }
                    identity
                },
                first: bytes.number32()?,
                count: bytes.number32()?,
                label: bytes.optional(In::shared)?,
                group: bytes.optional(In::shared)?,
                split: bytes.optional(In::shared)?,
            });
        }
        bytes.0.is_empty().then_some(Self { rows })
    }
}
