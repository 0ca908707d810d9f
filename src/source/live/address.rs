//! Addresses of streams: which schemes may be used, and what of them may be shown.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};

use crate::edge::secrets::{Secret, mask};

/// Longest address, bytes.
const BYTES_MAX: usize = 2048;

/// An address as it was written, possibly with a password: shown masked only.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Written(String);

impl Written {
    /// Reads it; see [`Address::parse`].
    ///
    /// # Errors
    /// What is wrong, without what is secret.
    pub fn parse(&self, schemes: &[&str]) -> Result<Address, String> {
        Address::parse(&self.0, schemes)
    }
}

#[cfg(test)]
impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask(&self.0))
    }
}

impl JsonSchema for Written {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// An address taken apart.
#[derive(Clone)]
pub struct Address {
    /// Without user and password; may still hold secrets behind `?`.
    location: String,
    /// Host and port, lower case.
    host: String,
    user: Option<String>,
    password: Option<Secret>,
}

impl Address {
    /// Reads `text`, which must have one of `schemes`, a host, and nothing that ends up as something else.
    ///
    /// # Errors
    /// What is wrong, without what is secret.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let wanted = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        if text.len() > BYTES_MAX {
            return Err(format!("is longer than {BYTES_MAX} bytes"));
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c)) {
            return Err(format!("holds {odd:?}, which no address has; write it as %XX"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("is no address; it begins with {}", wanted()));
        };
        let scheme = scheme.to_ascii_lowercase();
        if !schemes.contains(&scheme.as_str()) {
            return Err(format!("begins with `{}://`, expected {}", mask(&scheme), wanted()));
        }
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        if path.contains('@') && !authority.contains('@') && path.contains(':') {
            // Most likely a password with a slash in it; it would otherwise be asked for as a path.
            return Err("has an `@` behind a `/`; write special letters of a password as %XX".to_owned());
        }
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        check_host(host)?;
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(unescape(user)?), Some(unescape(password)?)),
            None => (None, None),
        };
        let path = path.split('#').next().unwrap_or_default();
        Ok(Self {
            location: format!("{scheme}://{host}{path}"),
            host: host.to_ascii_lowercase(),
            user: user.filter(|user| !user.is_empty()),
            password: password.filter(|password| !password.is_empty()).map(Secret::new),
        })
    }

    /// For whoever opens it: no user or password, but all else.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// For people: without what is secret.
    #[must_use]
    pub fn shown(&self) -> String {
        mask(&self.location)
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user that is written in it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password that is written in it.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// What is asked for behind `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.location.split_once('?').map(|(_, query)| query)
    }
}

fn check_host(host: &str) -> Result<(), String> {
    // An address of IP version 6 stands in brackets and has colons of its own.
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("554"))),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("554")),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("has no host".to_owned());
    }
    match port.map(str::parse::<u16>) {
        Some(Ok(1..)) => Ok(()),
        _ => Err("has a port that is no number from 1 to 65535".to_owned()),
    }
}

/// `%41` as `A`.
fn unescape(text: &str) -> Result<String, String> {
    let wrong = || "has a `%` without two hexadecimal digits in user or password".to_owned();
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let digits = text.get(at + 1..at + 3).ok_or_else(wrong)?;
        out.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        at += 3;
    }
    String::from_utf8(out).map_err(|_| "has a user or password that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [&str; 2] = ["rtsp", "rtsps"];

    #[test]
    fn user_and_password_are_taken_out() {
        let address = Address::parse("RTSP://ad%6Din:hunter%402@Cam:8554/a?b=c#d", &SCHEMES).ok().unwrap();
        assert_eq!(address.location(), "rtsp://Cam:8554/a?b=c");
        assert_eq!(address.shown(), "rtsp://Cam:8554/a?***");
        assert_eq!((address.host(), address.user()), ("cam:8554", Some("admin")));
        assert_eq!(address.password().unwrap().reveal(), "hunter@2");
        assert_eq!(address.query(), Some("b=c"));
        let plain = Address::parse("rtsp://[::1]/a", &SCHEMES).ok().unwrap();
        assert!(plain.user().is_none() && plain.password().is_none());
    }

    #[test]
    fn what_is_no_such_address_is_refused_without_naming_secrets() {
        for (text, expected) in [
            ("file:///etc/passwd", "begins with `file://`, expected rtsp:// or rtsps://"),
            ("/etc/passwd", "is no address; it begins with rtsp:// or rtsps://"),
            ("rtsp:///a", "has no host"),
            ("rtsp://u:secret@/a", "has no host"),
            ("rtsp://cam:0/a", "has a port that is no number from 1 to 65535"),
            ("rtsp://cam:99999", "has a port that is no number from 1 to 65535"),
            ("rtsp://u:%zz@cam", "has a `%` without two hexadecimal digits in user or password"),
            ("rtsp://u:se/cret@cam/a", "has a port that is no number from 1 to 65535"),
            (
                "rtsp://us/er:secret@cam/a",
                "has an `@` behind a `/`; write special letters of a password as %XX",
            ),
            ("rtsp://cam/a b", "holds ' ', which no address has; write it as %XX"),
            ("rtsp://cam/\" ! filesink", "holds '\"', which no address has; write it as %XX"),
        ] {
            let message = Address::parse(text, &SCHEMES).err().unwrap();
            assert_eq!(message, expected, "{text}");
            assert!(!message.contains("secret"));
        }
        assert!(Address::parse(&format!("rtsp://cam/{}", "a".repeat(3000)), &SCHEMES).is_err());
    }

    #[test]
    fn it_is_written_masked() {
        let written = Written::from("rtsp://u:hunter2@cam/a");
        assert_eq!(serde_json::to_string(&written).unwrap(), "\"rtsp://***@cam/a\"");
    }
}
