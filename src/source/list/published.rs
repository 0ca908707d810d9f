//! Reads the split lists that UCF101 and HMDB51 are published with.

use std::path::Path;
use std::sync::Arc;

use reelflow_api::error::StageError;

use super::{Bad, Entry, Places, refused, said, text};
use crate::edge::files;

/// Which published list a file name stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `trainlist01.txt`, `testlist03.txt`.
    Ucf {
        /// `train` or `test`.
        split: &'static str,
    },
    /// `brush_hair_test_split1.txt`.
    Hmdb {
        /// The class in the name.
        class: String,
    },
}

/// What `name` stands for; `None` for any other list.
pub fn of_name(name: &str) -> Option<Kind> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.strip_suffix(".txt")?;
    for (begin, split) in [("trainlist", "train"), ("testlist", "test")] {
        if stem.strip_prefix(begin).is_some_and(digits) {
            return Some(Kind::Ucf { split });
        }
    }
    let (class, number) = stem.split_once("_test_split")?;
    (digits(number) && !class.is_empty()).then(|| Kind::Hmdb { class: class.to_owned() })
}

/// Classes of UCF101's `classInd.txt`, `1 ApplyEyeMakeup` a line, as number and name.
pub fn classes(index: &Path) -> Result<Vec<(u32, String)>, StageError> {
    let text = text(index, files::read(index)?)?;
    let class = |(line, content): (u64, &str)| {
        let parsed = content.split_once(' ').and_then(|(number, name)| Some((number.parse().ok()?, name)));
        let (number, name) =
            parsed.ok_or_else(|| refused(index, (line, format!("`{content}` is no `NUMBER CLASS`"))))?;
        Ok((number, name.trim().to_owned()))
    };
    said(&text).map(class).collect()
}

/// UCF101: `Class/v_Class_g08_c01.avi 1` a line, or without the number as in the lists for testing.
///
/// The class is the folder; where the number and `classes` are there, they must agree with it. The group is the class
/// with the `g08` of the name: the recording, which UCF101 keeps on one side of a split.
pub fn ucf(
    text: &str,
    split: &str,
    classes: &[(u32, String)],
    places: &Places<'_>,
) -> Result<Vec<Entry>, Bad> {
    let entry = |(line, content): (u64, &str)| {
        let (path, number) = match content.rsplit_once(' ') {
            Some((path, number)) => (path.trim_end(), Some(number)),
            None => (content, None),
        };
        let (class, file) = path
            .split_once('/')
            .ok_or_else(|| (line, format!("`{content}` is no `Class/file.avi [number]`")))?;
        if let Some(number) = number {
            let number: u32 =
                number.parse().map_err(|_| (line, format!("`{number}` is no number of a class")))?;
            let known = classes.iter().find(|(known, _)| *known == number);
            if !classes.is_empty() && known.is_none_or(|(_, name)| name != class) {
                let name = known.map_or("no class", |(_, name)| name);
                return Err((
                    line,
                    format!("class {number} is {name} in classInd.txt, the folder is {class}"),
                ));
            }
        }
        let take = file.rsplit('/').next().unwrap_or(file);
        let group = take.split('_').find(|part| {
            part.strip_prefix('g').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
        Ok(Entry {
            path: places.find(&[path, take]),
            label: Some(Arc::from(class)),
            split: Some(Arc::from(split)),
            group: group.map(|group| format!("{class} {group}").into()),
            span_secs: None,
        })
    };
    said(text).map(entry).collect()
}

/// HMDB51: `name.avi 1` a line, of the class in the list's name; 1 is `train`, 2 is `test`, 0 is neither. Files are
/// looked for in a folder of the class first.
pub fn hmdb(text: &str, class: &str, places: &Places<'_>) -> Result<Vec<Entry>, Bad> {
    let entry = |(line, content): (u64, &str)| {
        let parts = content.rsplit_once(' ').map(|(name, part)| (name.trim_end(), part));
        let (name, split) = match parts {
            Some((name, "0")) => (name, None),
            Some((name, "1")) => (name, Some("train")),
            Some((name, "2")) => (name, Some("test")),
            _ => return Err((line, format!("`{content}` is no `file.avi 0`, `1` or `2`"))),
        };
        Ok(Entry {
            path: places.find(&[format!("{class}/{name}"), name.to_owned()]),
            label: Some(Arc::from(class)),
            split: split.map(Arc::from),
            ..Entry::default()
        })
    };
    said(text).map(entry).collect()
}
