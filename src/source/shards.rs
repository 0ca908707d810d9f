//! Media in tar and zip archives, with the labels that lie beside them as WebDataset names them.
//!
//! `walk/0001.mp4` and `walk/0001.cls` are one sample: what stands before the first dot of the last name is the
//! key. A label is the text of `.cls` or `.txt`, or `label`, `cls` or `class` of `.json`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reelflow_api::error::{Skip, SkipReason, StageError};
use reelflow_api::item::{Member, Origin};
use reelflow_api::stage::{Candidate, Listing};
use serde_json::Value;

use crate::archive::{self, Listed, Trouble, Wish};

/// Files that carry labels, the first that is there counts.
const LABELS: [&str; 3] = ["cls", "json", "txt"];
/// Longest label, in characters: a caption is no class, and this keeps logs readable.
const LABEL_MAX: usize = 200;

/// What a path says of a medium.
type LabelAndSplit = (Option<Arc<str>>, Option<Arc<str>>);

/// What there is to use in the archive at `path`: members that `is_media` says are media. `by_path` gives label and
/// split of a path where none lies beside the medium.
///
/// # Errors
/// If the archive is hostile: it is refused, and the run with it.
pub fn list(
    path: &Path,
    is_media: &dyn Fn(&Path) -> bool,
    by_path: &dyn Fn(&Path) -> LabelAndSplit,
) -> Result<Listing, StageError> {
    let wish = |name: &Path| {
        let is_text = name.extension().is_some_and(|end| LABELS.iter().any(|text| end == *text));
        match () {
            () if is_media(name) || archive::is_named(name) => Wish::Media,
            () if is_text => Wish::Text,
            () => Wish::Pass,
        }
    };
    let skip = |file: PathBuf, reason, message| Skip {
        file,
        stage: "scan".to_owned(),
        reason,
        message,
        at_secs: None,
    };
    let mut listing = Listing::default();
    let Listed { media, texts, left_out, damage } = match archive::list(path, &wish) {
        Ok(listed) => listed,
        Err(Trouble::Hostile(message)) => {
            let path = path.display();
            let message =
                format!("{path} is refused: {message}. Nothing of it was used; take it off the list");
            return Err(StageError::refused("files", message));
        }
        Err(Trouble::NotArchive(message)) => {
            listing.skipped.push(skip(path.to_owned(), SkipReason::NotMedia, message));
            return Ok(listing);
        }
        Err(Trouble::Unreadable(error)) => {
            listing.skipped.push(skip(path.to_owned(), SkipReason::Unreadable, error.to_string()));
            return Ok(listing);
        }
    };
    let labels = labels(&texts);
    for member in media {
        let refused = refused(&member);
        if let Some((reason, message)) = refused {
            listing.skipped.push(skip(member.path(), reason, message.to_owned()));
            continue;
        }
        let (label, split) = by_path(&member.path());
        let beside = labels.get(&key(&member.name)).cloned();
        let origin = Origin::Member(member);
        listing.candidates.push(Candidate {
            origin,
            label: beside.or(label),
            group: None,
            split,
            span_secs: None,
        });
    }
    let of_members =
        left_out.into_iter().map(|(name, reason, message)| skip(path.join(name), reason, message));
    listing.skipped.extend(of_members);
    if let Some(message) = damage {
        listing.skipped.push(skip(path.to_owned(), SkipReason::Corrupt, message));
    }
    if listing.candidates.is_empty() && listing.skipped.is_empty() {
        let message = "an archive without a video; members are told by their names, as files in folders are";
        listing.skipped.push(skip(path.to_owned(), SkipReason::NoVideo, message.to_owned()));
    }
    Ok(listing)
}

/// Why a member is no candidate.
fn refused(member: &Member) -> Option<(SkipReason, &'static str)> {
    if archive::is_named(&member.name) {
        return Some((
            SkipReason::Limit,
            "an archive in an archive is not opened; take it out of the outer one",
        ));
    }
    (member.size == 0).then_some((SkipReason::Empty, "has 0 bytes"))
}

/// What stands before the first dot of the last name, with the folders before it.
fn key(name: &Path) -> PathBuf {
    let last = name.file_name().unwrap_or_default().to_string_lossy();
    // A name that begins with a dot has its key behind it.
    let dot = last.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(last.len(), |(at, _)| at);
    name.with_file_name(&last[..dot])
}

/// Labels by key.
fn labels(texts: &HashMap<PathBuf, Vec<u8>>) -> HashMap<PathBuf, Arc<str>> {
    let mut best: HashMap<PathBuf, (usize, Arc<str>)> = HashMap::new();
    for (name, text) in texts {
        let Some(rank) = LABELS.iter().position(|end| name.extension().is_some_and(|other| other == *end))
        else {
            continue;
        };
        let Some(label) = label(LABELS[rank], text) else { continue };
        let entry = best.entry(key(name)).or_insert_with(|| (rank, label.clone()));
        if rank < entry.0 {
            *entry = (rank, label);
        }
    }
    best.into_iter().map(|(key, (_, label))| (key, label)).collect()
}

fn label(kind: &str, text: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let label = if kind == "json" {
        let value: Value = serde_json::from_str(text).ok()?;
        match ["label", "cls", "class"].iter().find_map(|name| value.get(name))? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        }
    } else {
        text.lines().next()?.trim().to_owned()
    };
    (!label.is_empty() && label.chars().count() <= LABEL_MAX).then(|| label.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_what_stands_before_the_first_dot() {
        for (name, wanted) in [("a.mp4", "a"), ("x.y/a.seg.mp4", "x.y/a"), (".b.cls", ".b"), ("n", "n")] {
            assert_eq!(key(Path::new(name)), Path::new(wanted), "{name}");
        }
    }

    #[test]
    fn labels_lie_beside_media_and_the_class_counts_before_the_caption() {
        let texts = [
            ("a.cls", "3\n"),
            ("a.txt", "a man walks"),
            ("b.txt", " jump \nmore"),
            ("c.json", "{\"label\": \"run\", \"x\": 1}"),
            ("d.json", "{\"cls\": 7}"),
            ("e.json", "not json"),
            ("f.txt", ""),
        ];
        let texts = texts.map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec())).into();
        let found = labels(&texts);
        let of = |name: &str| found.get(Path::new(name)).map(|label| &**label);
        assert_eq!([of("a"), of("b"), of("c"), of("d")], [Some("3"), Some("jump"), Some("run"), Some("7")]);
        assert_eq!([of("e"), of("f")], [None, None]);
    }
}
