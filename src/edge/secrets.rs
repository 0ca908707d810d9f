//! Passwords: where they are read from, and how they are kept out of everything that is written.
//!
//! A [`Secret`] has no `Debug`, `Display` or `Serialize`, so it cannot be written by accident. What people and
//! programs write themselves (addresses with a password inside) goes through [`mask`] before it is shown.

use std::ops::Range;
use std::path::Path;

/// Longest password file, bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Keys whose value in a pipeline file is hidden, whether they exist or not.
const KEYS: [&str; 6] = ["password", "passwd", "passphrase", "pwd", "secret", "token"];

/// Takes the place of what is hidden.
const MASK: &str = "***";

/// A password or passphrase.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What the environment variable `name` holds.
    ///
    /// # Errors
    /// If it is not set, empty or not UTF-8; the value is not named.
    pub fn from_env(name: &str) -> Result<Self, String> {
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Self(text)),
            Ok(_) => Err(format!("the environment variable `{name}` is empty")),
            Err(std::env::VarError::NotPresent) => {
                Err(format!("the environment variable `{name}` is not set"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("the environment variable `{name}` is not UTF-8"))
            }
        }
    }

    /// The first line of the file at `path`.
    ///
    /// # Errors
    /// If it is no regular file of at most 4 KiB, cannot be read, or its first line is empty.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| format!("the file `{shown}` cannot be read: {error}");
        let about = std::fs::metadata(path).map_err(unreadable)?;
        if !about.is_file() || about.len() > FILE_BYTES_MAX {
            return Err(format!("`{shown}` is no file of at most {FILE_BYTES_MAX} bytes"));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        match text.lines().next().filter(|line| !line.is_empty()) {
            Some(line) => Ok(Self(line.to_owned())),
            None => Err(format!("the first line of `{shown}` is empty")),
        }
    }

    /// The text itself, for whoever must hand it on.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// `text` with what is secret in it replaced by `***`: user and password of addresses, what they ask for behind
/// `?`, and values of keys that are called like passwords.
#[must_use]
pub fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in hidden(text) {
        out.push_str(&text[at..range.start]);
        out.push_str(MASK);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// [`mask`], but byte by byte, so that places in the text stay where they are.
#[must_use]
pub fn mask_in_place(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in hidden(text) {
        out.push_str(&text[at..range.start]);
        out.extend(std::iter::repeat_n('*', range.len()));
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Bytes of `text` that must not be shown, in order, none twice.
fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> =
        text.match_indices("://").flat_map(|(at, _)| in_address(text, at + 3)).collect();
    found.extend(KEYS.iter().flat_map(|key| values_of(text, key)));
    found.sort_by_key(|range| (range.start, range.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in found.into_iter().filter(|range| !range.is_empty()) {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// User and password, and the query, of the address whose host or user begins at `start`.
fn in_address(text: &str, start: usize) -> Vec<Range<usize>> {
    let rest = &text[start..];
    let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let rest = &rest[..rest.find(ends).unwrap_or(rest.len())];
    // The last `@`: people do not escape those in passwords, nor the `/` and `?` before it.
    let past_user = rest.rfind('@').map_or(0, |at| at + 1);
    let query = rest[past_user..].find('?').map(|at| start + past_user + at + 1..start + rest.len());
    [Some(start..start + past_user.saturating_sub(1)), query].into_iter().flatten().collect()
}

/// What stands in quotes behind `key =` or `key:`.
fn values_of(text: &str, key: &str) -> Vec<Range<usize>> {
    let value = |at: usize| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let alone = !text[..at].ends_with(is_part);
        let after = text[at + key.len()..].trim_start_matches(['"', '\'', '`']).trim_start();
        let after = after.strip_prefix(['=', ':']).filter(|_| alone)?.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let from = text.len() - after.len() + 1;
        let mut past = from;
        for c in text[from..].chars() {
            if c == '\n' || c == quote && !text[from..past].ends_with('\\') {
                break;
            }
            past += c.len_utf8();
        }
        Some(from..past)
    };
    text.match_indices(key).filter_map(|(at, _)| value(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(mask(text), expected);
        let in_place = mask_in_place(text);
        assert_eq!(in_place.len(), text.len());
        assert_eq!(in_place == text, text == expected);
        assert_eq!(mask(expected), expected, "masking twice changes nothing");
    }

    #[test]
    fn users_and_passwords_of_addresses_are_hidden() {
        check("rtsp://cam.example:8554/a", "rtsp://cam.example:8554/a");
        check("rtsp://admin:hunter2@cam.example/a", "rtsp://***@cam.example/a");
        check("url = \"rtsp://admin:p@ss/w?rd@cam/a\" # x@y", "url = \"rtsp://***@cam/a\" # x@y");
        check("from http://a:b@c/ to 'srt://d:e@f'", "from http://***@c/ to 'srt://***@f'");
        check("http://cam/video.cgi?user=admin&pwd=x", "http://cam/video.cgi?***");
        check("http://u:p@cam/video.cgi?user=admin, more", "http://***@cam/video.cgi?*** more");
        check("://", "://");
        check("rtsp://ü:ß@ö/", "rtsp://***@ö/");
    }

    #[test]
    fn values_that_are_called_like_passwords_are_hidden() {
        check("password = \"hunter2\"", "password = \"***\"");
        check("{ user = \"u\", passphrase='a\\'b' }", "{ user = \"u\", passphrase='***' }");
        check("password_env = \"CAM\"", "password_env = \"CAM\"");
        check("token = \"half", "token = \"***");
        check("a password is needed", "a password is needed");
    }

    #[test]
    fn a_password_comes_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        std::fs::write(&path, "hunter2\nrest\n").unwrap();
        assert_eq!(Secret::from_file(&path).ok().unwrap().reveal(), "hunter2");
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::from_file(&path).err().unwrap().contains("empty"));
        assert!(Secret::from_file(folder.path()).err().unwrap().contains("no file"));
        assert!(Secret::from_file(&folder.path().join("none")).err().unwrap().contains("cannot be read"));
        assert!(!Secret::from_env("PATH").ok().unwrap().reveal().is_empty());
        assert!(Secret::from_env("REELFLOW_NO_SUCH_VARIABLE").err().unwrap().contains("not set"));
    }
}
