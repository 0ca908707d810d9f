//! Hands the bytes of a medium to GStreamer: a pad from which elements pull what they want.
//!
//! In the place of `filesrc`, so that a file and a member of an archive go the same way, a read that fails says why,
//! and reading on counts as progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;

use super::status::Status;
use crate::decode::bytes::{Bytes, unreadable};

/// A pad that gives `bytes` to whoever pulls.
pub(super) fn pad(bytes: Arc<Bytes>, status: &Arc<Status>) -> gst::Pad {
    let status = Arc::clone(status);
    let length = bytes.length();
    // Only bytes that were not read before are progress: a demuxer that goes in circles must stall.
    let furthest = AtomicU64::new(0);
    gst::Pad::builder(gst::PadDirection::Src)
        .name("bytes")
        .activatemode_function(|_, _, mode, active| {
            if active && mode != gst::PadMode::Pull {
                return Err(gst::loggable_error!(gst::CAT_RUST, "bytes are only pulled"));
            }
            Ok(())
        })
        .getrange_function(move |_, _, offset, given, size| {
            let most = u64::from(size).min(length.saturating_sub(offset)) as usize;
            if offset >= length {
                return Err(gst::FlowError::Eos);
            }
            let mut buffer = vec![0; most];
            let got = bytes.read_at(&mut buffer, offset).map_err(|error| {
                status.fail(unreadable(&error));
                gst::FlowError::Error
            })?;
            if got == 0 && most > 0 {
                // It was cut while it was open.
                return Err(gst::FlowError::Eos);
            }
            buffer.truncate(got);
            let end = offset + got as u64;
            if furthest.fetch_max(end, Ordering::Relaxed) < end {
                status.advance();
            }
            if let Some(given) = given {
                given.copy_from_slice(0, &buffer).map_err(|_| gst::FlowError::Error)?;
                given.set_size(got);
                return Ok(gst::PadGetRangeSuccess::FilledBuffer);
            }
            let mut buffer = gst::Buffer::from_mut_slice(buffer);
            let fields = buffer.get_mut().expect("nobody else has it yet");
            fields.set_offset(offset);
            fields.set_offset_end(end);
            Ok(gst::PadGetRangeSuccess::NewBuffer(buffer))
        })
        .query_function(move |pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Scheduling(query) => {
                query.set(gst::SchedulingFlags::SEEKABLE, 1, -1, 0);
                query.add_scheduling_modes([gst::PadMode::Pull]);
                true
            }
            gst::QueryViewMut::Duration(query) if query.format() == gst::Format::Bytes => {
                query.set(gst::format::Bytes::from_u64(length));
                true
            }
            gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Bytes => {
                query.set(true, gst::format::Bytes::from_u64(0), gst::format::Bytes::from_u64(length));
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build()
}
