//! The door to GStreamer: the only folder that decodes files.
//!
//! Elements are made by name from closed lists (`tables`), their properties set one by one; no text is ever
//! parsed into a pipeline. A file's way: `chain` opens it, `index` learns its times and where its access units
//! lie (`locate`). Then `files` has `feeder` decode just those that are needed, or `reader` go through the
//! demuxer and `gate`. `live` opens cameras and other streams that do not end. `picture` shows frames where they lie, `errors` says what went wrong.

mod chain;
mod doctor;
mod encode;
mod errors;
mod feeder;
mod files;
mod gate;
mod hls;
mod index;
pub mod live;
mod locate;
mod picture;
mod reader;
mod source;
mod status;
mod tables;
mod timing;

use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::prelude::*;
use reelflow_api::error::SkipReason;

use super::Failure;

pub use doctor::{doctor, maker};
pub use encode::Encoder;
pub use files::FileDecoder;
pub use index::probe;
pub use locate::heads;

/// Starts GStreamer once, and ranks away everything that reaches for the network.
fn init() -> Result<(), Failure> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        gst::init().map_err(|error| error.to_string())?;
        for name in tables::NETWORK {
            if let Some(factory) = gst::ElementFactory::find(name) {
                factory.set_rank(gst::Rank::NONE);
            }
        }
        Ok(())
    });
    started
        .clone()
        .map_err(|error| Failure::new(SkipReason::NoDecoder, format!("GStreamer does not start: {error}")))
}
