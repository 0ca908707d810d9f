//! Finds media and keeps the catalogue of segments.
//!
//! A source only lists; [`catalogue::build`] probes what was listed and cuts it into segments. The order
//! of the catalogue is that of the source ids and paths, never that of the file system.

pub mod catalogue;
#[cfg(feature = "gst")]
pub mod files;
#[cfg(feature = "gst")]
pub mod list;
pub mod pattern;
#[cfg(feature = "gst")]
mod shards;

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[
    #[cfg(feature = "gst")]
    &files::SPEC,
    &pattern::SPEC,
];
