//! Who asks a server: user and password from the pipeline file, the environment, a file, or the address.

use std::path::PathBuf;

use reelflow_api::error::StageError;
use reelflow_api::spec::Invalid;

use super::address::{Address, Written};
use crate::decode::gst::live::Login;
use crate::edge::secrets::Secret;

/// What the settings say.
#[derive(Clone, Copy)]
pub struct Asked<'s> {
    /// The address.
    pub url: &'s Written,
    /// Schemes it may have.
    pub schemes: &'s [&'s str],
    /// `user`
    pub user: Option<&'s String>,
    /// `password_env`
    pub password_env: Option<&'s String>,
    /// `password_file`
    pub password_file: Option<&'s PathBuf>,
}

impl Asked<'_> {
    /// Mistakes that can be seen without reading a password.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let address = match self.url.parse(self.schemes) {
            Ok(address) => address,
            Err(message) => {
                let help =
                    format!("{}://HOST/PATH, with `user` and `password_env` beside it", self.schemes[0]);
                return vec![Invalid::new("url", message).help(help)];
            }
        };
        let mut found = Vec::new();
        let given = [self.password_env.is_some(), self.password_file.is_some(), address.password().is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let at = if self.password_env.is_some() { "password_env" } else { "password_file" };
            let message = "the password is given twice";
            found.push(
                Invalid::new(at, message)
                    .help("give one of `password_env`, `password_file`, and the address"),
            );
        }
        if self.user.is_some() && address.user().is_some() {
            found.push(
                Invalid::new("user", "the address names a user too").help("take it out of the address"),
            );
        }
        found
    }

    /// The address, and who asks there; reads the password.
    ///
    /// # Errors
    /// If the password cannot be had.
    pub fn read(&self, stage: &str) -> Result<(Address, Login), StageError> {
        let refused = |message| StageError::refused(stage, message);
        let address = self.url.parse(self.schemes).map_err(|message| refused(format!("`url` {message}")))?;
        let password = match (self.password_env, self.password_file) {
            (Some(name), _) => Some(Secret::from_env(name)),
            (None, Some(path)) => Some(Secret::from_file(path)),
            (None, None) => None,
        };
        let password = password.transpose().map_err(refused)?.or_else(|| address.password().cloned());
        let user = self.user.cloned().or_else(|| address.user().map(str::to_owned));
        Ok((address, Login { user, password }))
    }
}
