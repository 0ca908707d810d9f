//! Reads the playlists of HLS (RFC 8216): what to fetch next, and whether it may be fetched.
//!
//! Only what a live picture needs is understood. What would have to be asked of somebody else (a key, another host)
//! is refused.

use reelflow_api::error::SkipReason;

use super::Failure;

/// Most pieces a playlist may name.
const PIECES_MAX: usize = 10_000;

/// A playlist.
#[derive(Clone, Debug, PartialEq)]
pub enum Playlist {
    /// Names playlists of one stream in several qualities; this is the first.
    Several(String),
    /// Names pieces.
    Pieces(Pieces),
}

/// What a playlist names.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces {
    /// In order.
    pub pieces: Vec<Piece>,
    /// Longest duration of a piece, seconds.
    pub target_secs: u64,
    /// Nothing more will be added.
    pub is_over: bool,
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its number, the same in every version of the playlist.
    pub number: u64,
    /// Where it is, relative to the playlist.
    pub place: String,
    /// What has to come before it, once, where pieces do not stand alone.
    pub head: Option<String>,
}

/// Reads a playlist.
///
/// # Errors
/// `not_media` if it is none, `encrypted`, `limit`, or `unsafe_reference`.
pub fn parse(text: &str) -> Result<Playlist, Failure> {
    let refuse = |reason, message: &str| Err(Failure::new(reason, message));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with("#EXTM3U") {
        return refuse(SkipReason::NotMedia, "what the server sends is no HLS playlist");
    }
    let mut found = Pieces { pieces: Vec::new(), target_secs: 6, is_over: false };
    let (mut first, mut head, mut is_several) = (0u64, None, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            first = value.trim().parse().unwrap_or(0);
        } else if let Some(value) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
            found.target_secs = value.trim().parse().unwrap_or(6).clamp(1, 60);
        } else if line.starts_with("#EXT-X-STREAM-INF") {
            is_several = true;
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-KEY:") {
            if !attributes.contains("METHOD=NONE") {
                return refuse(SkipReason::Encrypted, "its pieces are encrypted; give a stream that is not");
            }
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
            head = quoted(attributes, "URI=").map(str::to_owned);
        } else if line.starts_with("#EXT-X-BYTERANGE") || line.contains(",BYTERANGE=") {
            return refuse(SkipReason::NotMedia, "it names parts of files, which is not read");
        } else if line == "#EXT-X-ENDLIST" {
            found.is_over = true;
        } else if !line.starts_with('#') {
            if is_several {
                return Ok(Playlist::Several(line.to_owned()));
            }
            if found.pieces.len() == PIECES_MAX {
                return refuse(SkipReason::Limit, "it names more than 10000 pieces");
            }
            let number = first.saturating_add(found.pieces.len() as u64);
            found.pieces.push(Piece { number, place: line.to_owned(), head: head.clone() });
        }
    }
    Ok(Playlist::Pieces(found))
}

fn quoted<'t>(attributes: &'t str, key: &str) -> Option<&'t str> {
    let rest = attributes.split_once(key)?.1.strip_prefix('"')?;
    Some(rest.split_once('"')?.0)
}

/// The address of `place`, as the playlist at `base` names it.
///
/// # Errors
/// `unsafe_reference` if it is not on the same host, asked for in the same way.
pub fn resolve(base: &str, place: &str) -> Result<String, Failure> {
    let refuse = |message: &str| Err(Failure::new(SkipReason::UnsafeReference, message));
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if place.chars().any(|c| !c.is_ascii_graphic()) {
        return refuse("it names a piece with letters that no address has");
    }
    if let Some((other, place)) = place.split_once("://").filter(|(other, _)| !other.contains(['/', '?'])) {
        let other_host = place.split(['/', '?', '#']).next().unwrap_or_default();
        if other.eq_ignore_ascii_case(scheme) && other_host.eq_ignore_ascii_case(host) {
            return Ok(format!("{scheme}://{place}"));
        }
        return refuse(
            "it names pieces on another host, which are not followed; give the playlist of that host",
        );
    }
    if let Some(place) = place.strip_prefix("//") {
        return resolve(base, &format!("{scheme}://{place}"));
    }
    if place.split('/').next().is_some_and(|part| part.contains(':')) {
        return refuse("it names pieces that are not asked for over HTTP");
    }
    if place.starts_with('/') {
        return Ok(format!("{scheme}://{host}{place}"));
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    Ok(format!("{scheme}://{host}{folder}/{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Pieces {
        match parse(text) {
            Ok(Playlist::Pieces(pieces)) => pieces,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pieces_have_numbers_that_stay() {
        let found = pieces(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:4,\na.ts\n\n#EXTINF:3.9,\nb.ts\n",
        );
        let piece = |number, place: &str| Piece { number, place: place.to_owned(), head: None };
        let expected =
            Pieces { pieces: vec![piece(17, "a.ts"), piece(18, "b.ts")], target_secs: 4, is_over: false };
        assert_eq!(found, expected);
        let found = pieces("#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:4,\na.m4s\n#EXT-X-ENDLIST");
        assert_eq!((found.pieces[0].head.as_deref(), found.is_over), (Some("init.mp4"), true));
    }

    #[test]
    fn of_several_qualities_the_first_is_taken() {
        let text =
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/a.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n";
        assert_eq!(parse(text), Ok(Playlist::Several("low/a.m3u8".to_owned())));
    }

    #[test]
    fn what_would_ask_somebody_else_is_refused() {
        let reason = |text: &str| parse(text).unwrap_err().reason;
        assert_eq!(reason("<html>"), SkipReason::NotMedia);
        assert_eq!(reason("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\na.ts"), SkipReason::Encrypted);
        assert_eq!(reason("#EXTM3U\n#EXT-X-BYTERANGE:5@0\na.ts"), SkipReason::NotMedia);
        let many = format!("#EXTM3U\n{}", "a.ts\n".repeat(PIECES_MAX + 1));
        assert_eq!(reason(&many), SkipReason::Limit);
        assert!(parse("#EXTM3U\n#EXT-X-KEY:METHOD=NONE\na.ts").is_ok());
    }

    #[test]
    fn places_stay_on_the_host_of_the_playlist() {
        let base = "http://cam:81/live/a.m3u8?token=x/y";
        for (place, expected) in [
            ("b.ts", Some("http://cam:81/live/b.ts")),
            ("x/b.ts?c=d", Some("http://cam:81/live/x/b.ts?c=d")),
            ("../b.ts", Some("http://cam:81/live/../b.ts")),
            ("/b.ts", Some("http://cam:81/b.ts")),
            ("http://CAM:81/b.ts", Some("http://CAM:81/b.ts")),
            ("//cam:81/b.ts", Some("http://cam:81/b.ts")),
            ("http://cam/b.ts", None),
            ("http://evil/b.ts", None),
            ("//evil/b.ts", None),
            ("https://cam:81/b.ts", None),
            ("http://cam:81@evil/b.ts", None),
            ("file:///etc/passwd", None),
            ("data:text/plain,x", None),
            ("b c.ts", None),
        ] {
            let found = resolve(base, place);
            assert_eq!(found.as_deref().ok(), expected, "{place}");
            assert!(found.is_ok() || found.unwrap_err().reason == SkipReason::UnsafeReference, "{place}");
        }
        assert_eq!(resolve("http://cam", "b.ts").unwrap(), "http://cam/b.ts");
    }
}
