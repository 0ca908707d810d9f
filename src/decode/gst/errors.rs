//! What GStreamer says, in our words: a reason from the closed list and one line with a remedy.

use gstreamer as gst;
use reelflow_api::error::SkipReason;

use super::status::Found;
use super::tables;
use crate::decode::Failure;

/// An error from the bus.
pub(super) fn translate(error: &gst::glib::Error, debug: Option<&str>) -> Failure {
    let text = one_line(error.message());
    if let Some(kind) = error.kind::<gst::StreamError>() {
        return match kind {
            gst::StreamError::TypeNotFound | gst::StreamError::WrongType => {
                Failure::new(SkipReason::NotMedia, "its bytes are no media format that GStreamer knows")
            }
            gst::StreamError::CodecNotFound => {
                Failure::new(SkipReason::NoDecoder, format!("{text}; install {}", tables::LIBAV))
            }
            gst::StreamError::Decrypt | gst::StreamError::DecryptNokey => {
                Failure::new(SkipReason::Encrypted, format!("{text}; decrypt the file first"))
            }
            _ => Failure::new(
                SkipReason::Corrupt,
                format!("{text}{}; try to repair or convert the file", detail(debug)),
            ),
        };
    }
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotFound) => Failure::new(SkipReason::Vanished, text),
        Some(gst::ResourceError::OpenRead | gst::ResourceError::NotAuthorized) => {
            Failure::new(SkipReason::Unreadable, text)
        }
        Some(gst::ResourceError::NoSpaceLeft) => Failure::new(SkipReason::Limit, text),
        Some(_) => Failure::new(SkipReason::Unreadable, format!("{text}{}", detail(debug))),
        None => Failure::new(SkipReason::Corrupt, format!("{text}{}", detail(debug))),
    }
}

/// What a server answered over HTTP or RTSP, where the error tells. Nobody is sent elsewhere by an answer.
pub(super) fn of_server(details: Option<&gst::StructureRef>) -> Option<Failure> {
    let code = |name| details.and_then(|details| details.get::<u32>(name).ok());
    let status = code("http-status-code").or_else(|| code("rtsp-status-code"))?;
    let (reason, message) = match status {
        300..=399 => return Some(elsewhere()),
        401 | 403 | 407 => {
            (SkipReason::Unreadable, "user or password is wrong; see `user` and `password_env`")
        }
        404 | 410 => (SkipReason::Vanished, "there is nothing at this address"),
        400..=599 => (SkipReason::Unreadable, "the server refuses or fails"),
        _ => return None,
    };
    Some(Failure::new(reason, format!("the server answers {status}: {message}")))
}

/// The same failure in the words of a stream, which nobody can repair.
pub(super) fn of_stream(failure: Failure) -> Failure {
    let Failure { reason, message, at_secs } = failure;
    if message.starts_with("Internal data stream error") {
        let message = "the connection cannot be made, or broke".to_owned();
        return Failure { reason: SkipReason::Vanished, message, at_secs };
    }
    Failure { reason, message: message.replace("; try to repair or convert the file", ""), at_secs }
}

/// A server points to another place.
pub(super) fn elsewhere() -> Failure {
    let message = "the server points to another place, which is not followed; give that address";
    Failure::new(SkipReason::UnsafeReference, message)
}

/// A stream that should not end has done so.
pub(super) fn ended() -> Failure {
    Failure::new(SkipReason::Vanished, "the stream ended: the other side closed it or is gone")
}

/// The same failure with what else is known: a file whose only tracks are audio fails with a wrong link
/// before it says that there is no video.
pub(super) fn in_context(failure: &Failure, found: &Found) -> Failure {
    if found.video.is_none() && !found.others.is_empty() && failure.reason == SkipReason::Corrupt {
        return tables::no_video(&found.others.join(", "));
    }
    failure.clone()
}

/// The last line of the debug text says what the element saw; its source path is left out.
fn detail(debug: Option<&str>) -> String {
    let last = debug.and_then(|text| text.lines().last()).map(str::trim).unwrap_or_default();
    if last.is_empty() || last.contains(".c(") { String::new() } else { format!(" ({})", one_line(last)) }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim_end_matches('.')
        .to_owned()
}
