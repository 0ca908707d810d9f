//! Reads the text of a plan: one clip a line, each with its window, box, flip and jitter.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use reelflow_api::item::Given;

/// What a line looks like, for people.
pub const FORM: &str = "PATH <tab> START X Y W H FLIP BRIGHTNESS CONTRAST SATURATION";

/// Names of the values behind the path, in order.
const VALUES: [&str; 9] = ["start", "x", "y", "w", "h", "flip", "brightness", "contrast", "saturation"];

/// One clip as its line states it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The medium: a path that can be opened from the current folder, or a name such as `pattern:3`.
    pub path: Arc<Path>,
    /// Number of the first frame in the medium, from 0.
    pub start: u32,
    /// Box, flip and jitter.
    pub given: Given,
}

/// Reads a whole plan; line `n` of the text is entry `n - 1`. A path that is there beside the plan, in
/// `folder`, means that file, any other is as written.
///
/// # Errors
/// The number, from 1, of every wrong line, and what is wrong with it.
pub fn read(text: &str, folder: &Path) -> Result<Vec<Line>, Vec<(usize, String)>> {
    let mut paths: HashMap<&str, Arc<Path>> = HashMap::new();
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match split(line).and_then(|(name, values)| Ok((name, numbers(values)?))) {
            Ok((name, (start, given))) => {
                let path = paths.entry(name).or_insert_with(|| resolve(name, folder).into());
                lines.push(Line { path: Arc::clone(path), start, given });
            }
            Err(what) => wrong.push((index + 1, what)),
        }
    }
    if wrong.is_empty() { Ok(lines) } else { Err(wrong) }
}

/// The path and the values behind the last tab; a path may hold tabs itself.
fn split(line: &str) -> Result<(&str, &str), String> {
    match line.rsplit_once('\t') {
        Some((name, values)) if !name.is_empty() => Ok((name, values)),
        Some(_) => Err(format!("no path before the tab; a line is `{FORM}`")),
        None if line.trim().is_empty() => {
            Err("the line is empty; remove it, every line is a clip".to_owned())
        }
        None => Err(format!("no tab behind the path; a line is `{FORM}`")),
    }
}

fn numbers(text: &str) -> Result<(u32, Given), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let words: [&str; 9] = words.try_into().map_err(|words: Vec<&str>| {
        format!("{} values behind the path, expected 9; a line is `{FORM}`", words.len())
    })?;
    let whole = |at: usize| number::<u32>(&words, at, "a whole number from 0 to 4294967295", |_| true);
    let side = |at: usize| number::<u32>(&words, at, "a whole number of at least 1", |side| *side > 0);
    let factor =
        |at: usize| number::<f32>(&words, at, "a number of at least 0", |it| it.is_finite() && *it >= 0.0);
    let flip = number::<u8>(&words, 5, "0 or 1", |flip| *flip < 2)?;
    let given = Given {
        crop: [whole(1)?, whole(2)?, side(3)?, side(4)?],
        flip: flip == 1,
        brightness: factor(6)?,
        contrast: factor(7)?,
        saturation: factor(8)?,
    };
    Ok((whole(0)?, given))
}

fn number<T: FromStr>(
    words: &[&str; 9],
    at: usize,
    expected: &str,
    is_right: impl Fn(&T) -> bool,
) -> Result<T, String> {
    let number = words[at].parse().ok().filter(is_right);
    number.ok_or_else(|| format!("`{}` is {:?}, expected {expected}", VALUES[at], words[at]))
}

/// Beside the plan if it is there, else as written: the rule of lists of media.
fn resolve(name: &str, folder: &Path) -> PathBuf {
    let beside = folder.join(name);
    if beside.exists() { beside } else { PathBuf::from(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) -> Vec<(usize, String)> {
        read(text, Path::new("")).expect_err("the text has mistakes")
    }

    #[test]
    fn a_line_is_path_window_box_flip_and_jitter() {
        let text = "a b.mp4\t12 3 4 50 60 1 0.900000 1.100000 1\npattern:7\t0 0 0 1 1 0 1 0 1.400000\r\n";
        let lines = read(text, Path::new("")).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(*lines[0].path, *Path::new("a b.mp4"));
        assert_eq!(lines[0].start, 12);
        let (brightness, contrast, saturation) = (0.9, 1.1, 1.0);
        let given = Given { crop: [3, 4, 50, 60], flip: true, brightness, contrast, saturation };
        assert_eq!(lines[0].given, given);
        assert!(!lines[1].given.flip);
    }

    #[test]
    fn every_wrong_line_is_named_with_what_is_wrong() {
        let good = "a.mp4\t0 0 0 9 9 0 1 1 1";
        let cases = [
            ("", "the line is empty; remove it, every line is a clip"),
            ("a.mp4 0 0 0 9 9 0 1 1 1", "no tab behind the path; a line is `PATH"),
            ("\t0 0 0 9 9 0 1 1 1", "no path before the tab"),
            ("a.mp4\t0 0 0 9 9 0 1 1", "8 values behind the path, expected 9"),
            ("a.mp4\t-1 0 0 9 9 0 1 1 1", "`start` is \"-1\", expected a whole number from 0"),
            ("a.mp4\t0 0 0 9 0 0 1 1 1", "`h` is \"0\", expected a whole number of at least 1"),
            ("a.mp4\t0 0 0 9 9 yes 1 1 1", "`flip` is \"yes\", expected 0 or 1"),
            ("a.mp4\t0 0 0 9 9 0 1 nan 1", "`contrast` is \"nan\", expected a number of at least 0"),
        ];
        for (line, expected) in cases {
            let found = refused(&format!("{good}\n{line}\n{good}\n"));
            assert!(matches!(&found[..], [(2, what)] if what.starts_with(expected)), "{line:?}: {found:?}");
        }
        assert_eq!(refused("x\n\ny").iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_path_beside_the_plan_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("here.mp4"), "").unwrap();
        let text = "here.mp4\t0 0 0 9 9 0 1 1 1\nthere.mp4\t0 0 0 9 9 0 1 1 1";
        let lines = read(text, dir.path()).unwrap();
        assert_eq!(*lines[0].path, *dir.path().join("here.mp4"));
        assert_eq!(*lines[1].path, *Path::new("there.mp4"));
    }
}
