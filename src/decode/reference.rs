//! Refuses what is no medium but a reference to one elsewhere: playlists, manifests, drawings.
//!
//! They are text, so a few bytes tell them; no library that would follow them ever sees them.

use reelflow_api::error::SkipReason;

use super::Failure;
use super::bytes::{Bytes, unreadable};

/// Bytes at the start in which such text shows itself.
const HEAD: usize = 4096;

/// First words, in lower case, and what they are the first words of.
const FIRST: [(&str, &str); 9] = [
    ("#extm3u", "an HLS or M3U playlist"),
    ("[playlist]", "a PLS playlist"),
    ("[reference]", "a list of references"),
    ("<asx", "an ASX playlist"),
    ("<smil", "a SMIL presentation"),
    ("<mpd", "a DASH manifest"),
    ("<smoothstreamingmedia", "a Smooth Streaming manifest"),
    ("<svg", "an SVG drawing"),
    ("rtsptext", "a reference to a stream"),
];

/// Elements of XML that say the same behind a declaration or a document type.
const INSIDE: [&str; 5] = ["<mpd", "<smoothstreamingmedia", "<svg", "<smil", "<asx"];

/// Refuses bytes that refer to media elsewhere.
///
/// # Errors
/// `unsafe_reference`, or `unreadable`.
pub fn refuse(bytes: &Bytes) -> Result<(), Failure> {
    let mut head = vec![0; HEAD];
    let got = bytes.read_at(&mut head, 0).map_err(|error| unreadable(&error))?;
    match named(&head[..got]) {
        None => Ok(()),
        Some(what) => {
            let message = format!("{what}, which is not followed; list the media themselves");
            Err(Failure::new(SkipReason::UnsafeReference, message))
        }
    }
}

/// What kind of reference these first bytes are.
fn named(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let text = String::from_utf8_lossy(head).to_lowercase();
    let text = text.trim_start();
    if let Some((_, what)) = FIRST.iter().find(|(word, _)| text.starts_with(word)) {
        return Some(what);
    }
    if text.starts_with("<?xml") || text.starts_with("<!doctype") || text.starts_with("<!--") {
        return match INSIDE.iter().find(|word| text.contains(**word)) {
            Some(word) => FIRST.iter().find(|(first, _)| first == word).map(|(_, what)| *what),
            None => Some("an XML document"),
        };
    }
    // Session descriptions begin with their version and their origin (RFC 8866).
    let mut lines = text.lines();
    let is_session = lines.next() == Some("v=0") && lines.next().is_some_and(|line| line.starts_with("o="));
    if is_session {
        return Some("an SDP session description");
    }
    let schemes = ["http://", "https://", "rtsp://", "rtmp://", "file://", "udp://", "mms://", "ftp://"];
    schemes.iter().any(|scheme| text.starts_with(scheme)).then_some("a list of addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_by_their_first_words() {
        for (text, what) in [
            ("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n", "HLS"),
            ("\u{feff}\r\n#EXTM3U\n", "HLS"),
            ("<?xml version=\"1.0\"?><!DOCTYPE MPD [<!ENTITY a \"b\">]><MPD>&a;</MPD>", "DASH"),
            ("<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
            ("[playlist]\nFile1=http://a/b\n", "PLS"),
            ("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "SDP"),
            ("http://127.0.0.1/a.mp4\n", "addresses"),
        ] {
            assert!(named(text.as_bytes()).is_some_and(|found| found.contains(what)), "{text}");
        }
        for bytes in
            [&b"\0\0\0\x20ftypisom"[..], b"RIFF....AVI ", b"", b"1\n00:00:00,000 --> ", b"\x1a\x45\xdf\xa3"]
        {
            assert_eq!(named(bytes), None, "{bytes:?}");
        }
    }
}
