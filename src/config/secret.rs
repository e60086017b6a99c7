//! Secrets: where they are, and a type that holds one without ever showing it.
//!
//! A [`Secret`] has no `Display` and no `Serialize`, its `Debug` says nothing, and its memory is wiped
//! when it goes. Secrets are resolved after the config is parsed, so a config is checked without any.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::model::ConnectionName;

const LEN_MAX: u64 = 64 << 10;

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In this environment variable.
    Env(String),
    /// In this file.
    File(PathBuf),
}

/// A secret that was found.
#[derive(Clone)]
pub struct Secret(SecretString);

/// The secrets of one connection, by their names.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    /// Wraps a text that must not be shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What it takes to read the sources of cohorts, beside the config.
#[derive(Clone, Default)]
pub struct SourceAccess {
    /// The secrets of databases.
    pub databases: BTreeMap<ConnectionName, Secrets>,
    /// What the environment says of object stores, by the names that the vendors give: credentials, too.
    pub stores: Vec<(String, String)>,
}

impl fmt::Debug for SourceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceAccess").field("databases", &self.databases).finish_non_exhaustive()
    }
}

/// Why a secret was not found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is unset, or holds nothing.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file holds nothing, or no text.
    #[error("{} holds no key", .0.display())]
    Empty(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("{} can be read by others (mode {mode:04o})", .path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl SecretRef {
    /// Finds the secret. `environment` looks up a variable.
    ///
    /// # Errors
    /// [`SecretError`] says where it was looked for and why that failed, never what was found.
    pub fn resolve(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => environment(name)
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .map(Secret::new)
                .ok_or_else(|| SecretError::Unset(name.clone())),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &PathBuf) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    refuse_open_mode(path, &file.metadata().map_err(unreadable)?)?;
    let mut text = String::new();
    file.take(LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    let key = text.trim();
    if key.is_empty() { Err(SecretError::Empty(path.clone())) } else { Ok(Secret::new(key.to_owned())) }
}

#[cfg(unix)]
fn refuse_open_mode(path: &std::path::Path, meta: &std::fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretError::TooOpen { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_open_mode(_: &std::path::Path, _: &std::fs::Metadata) -> Result<(), SecretError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new("canary".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        let found = SecretRef::Env("KEY".to_owned()).resolve(&|_| Some(" \n".to_owned()));
        assert!(matches!(found, Err(SecretError::Unset(name)) if name == "KEY"));
    }
}
