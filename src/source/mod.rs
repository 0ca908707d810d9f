//! Finds media and keeps the catalogue of segments.
//!
//! A source only lists; [`catalogue::build`] probes what was listed and cuts it into segments. The order
//! of the catalogue is that of the source ids and paths, never that of the file system. A live source lists nothing:
//! it has a feed, below [`live`], which tells what comes while the run goes on.

#[cfg(feature = "gst")]
pub mod camera;
pub mod catalogue;
pub mod content;
#[cfg(feature = "gst")]
pub mod files;
#[cfg(feature = "gst")]
pub mod hls;
#[cfg(feature = "gst")]
pub mod http;
pub mod kept;
#[cfg(feature = "gst")]
pub mod list;
pub mod live;
pub mod order;
pub mod pattern;
#[cfg(feature = "gst")]
pub mod replay;
#[cfg(feature = "gst")]
pub mod rtsp;
#[cfg(feature = "gst")]
mod shards;
#[cfg(feature = "gst")]
pub mod srt;
pub mod test;
pub mod watch;

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[
    #[cfg(feature = "gst")]
    &files::SPEC,
    &pattern::SPEC,
    #[cfg(feature = "gst")]
    &rtsp::SPEC,
    #[cfg(feature = "gst")]
    &camera::SPEC,
    #[cfg(feature = "gst")]
    &http::SPEC,
    #[cfg(feature = "gst")]
    &hls::SPEC,
    #[cfg(feature = "gst")]
    &srt::SPEC,
    #[cfg(feature = "gst")]
    &replay::SPEC,
    &test::SPEC,
];
