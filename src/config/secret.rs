//! Secrets: their locations, and a type that contains a secret and never shows it.
//!
//! A [`Secret`] has no `Display` and no `Serialize`, and its `Debug` is empty, so it cannot reach any output. Text of
//! servers and drivers may repeat it, so every secret is registered with [`crate::foreign`] when it is created. Secrets
//! are resolved after the config is parsed, so the config can be checked without them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::foreign::keep_secret;
use crate::model::ConnectionName;

const LEN_MAX: u64 = 64 << 10;

/// The location of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In this environment variable.
    Env(String),
    /// In this file.
    File(PathBuf),
}

/// The value of a secret.
#[derive(Clone)]
pub struct Secret(SecretString);

/// The secrets of one connection, by their names.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    /// Wraps a secret, and removes it from foreign text from now on.
    #[must_use]
    pub fn new(text: String) -> Self {
        keep_secret(&text);
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

/// Credentials to read the sources of cohorts.
#[derive(Clone, Default)]
pub struct SourceAccess {
    /// The secrets of databases.
    pub databases: BTreeMap<ConnectionName, Secrets>,
    /// Settings and credentials of object stores from the environment, by the vendors' names.
    pub stores: Vec<(String, String)>,
}

impl fmt::Debug for SourceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceAccess").field("databases", &self.databases).finish_non_exhaustive()
    }
}

/// Why a secret could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is unset or empty.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file is empty, or not text.
    #[error("{} contains no key", .0.display())]
    Empty(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Other users can read or write the file.
    #[error("{} can be {} (mode {mode:04o})", .path.display(), .by.words())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Which users.
        by: UnsafeFileAccess,
    },
}

/// The users who can read or write a secret's file and should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsafeFileAccess {
    /// All users of the machine.
    Others,
    /// A group that is not the process's own: its number, and the number of the process's own.
    OtherGroup(u32, u32),
    /// A group that can write it.
    GroupWrites,
}

impl UnsafeFileAccess {
    fn words(self) -> String {
        match self {
            Self::Others => "read or written by all users".to_owned(),
            Self::OtherGroup(group, own) => {
                format!("read by group {group}, and this process is in group {own}")
            }
            Self::GroupWrites => "written by its group".to_owned(),
        }
    }
}

impl SecretRef {
    /// Reads the secret. `environment` looks up a variable.
    ///
    /// # Errors
    /// [`SecretError`] with the location and the reason, never the value.
    pub fn resolve(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        self.find(environment).map(Secret::new)
    }

    /// Reads a value that is not a secret, such as an id, from the location of a secret.
    ///
    /// # Errors
    /// As [`SecretRef::resolve`].
    pub fn find(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, SecretError> {
        match self {
            Self::Env(name) => environment(name)
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .ok_or_else(|| SecretError::Unset(name.clone())),
            Self::File(path) => read(path),
        }
    }
}

impl Secret {
    /// The likely mistake in the value: it was pasted or saved with extra characters.
    #[must_use]
    pub fn oddity(&self) -> Option<&'static str> {
        let text = self.expose();
        let is_quoted = |quote: char| text.len() > 2 && text.starts_with(quote) && text.ends_with(quote);
        if text.starts_with('\u{feff}') {
            Some(
                "begins with a byte order mark, which is sent as a part of it: save the file as UTF-8 without BOM",
            )
        } else if is_quoted('"') || is_quoted('\'') {
            Some("is in quotes, which are sent as a part of it: write the value without quotes")
        } else {
            None
        }
    }
}

fn read(path: &PathBuf) -> Result<String, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    check_mode(path, &file.metadata().map_err(unreadable)?)?;
    let mut text = String::new();
    file.take(LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    let key = text.trim();
    if key.is_empty() { Err(SecretError::Empty(path.clone())) } else { Ok(key.to_owned()) }
}

/// A file is acceptable if only its owner and the process's own group can read it, and only its owner can write it.
/// Kubernetes mounts secrets as root's, mode 0440, with the pod's `fsGroup` as their group.
#[cfg(unix)]
fn check_mode(path: &std::path::Path, meta: &std::fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::getegid().as_raw();
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw();
    // Of a file of our own we can change the group; of another's, any group that lets us read it will do.
    let is_own_group = |group: u32| group == own || (!is_ours && groups().contains(&group));
    let mode = meta.mode() & 0o7777;
    let by = match mode {
        mode if mode & 0o007 != 0 => UnsafeFileAccess::Others,
        mode if mode & 0o020 != 0 => UnsafeFileAccess::GroupWrites,
        mode if mode & 0o040 != 0 && !is_own_group(meta.gid()) => {
            UnsafeFileAccess::OtherGroup(meta.gid(), own)
        }
        _ => return Ok(()),
    };
    Err(SecretError::TooOpen { path: path.to_owned(), mode, by })
}

/// The supplementary groups of the process.
#[cfg(unix)]
fn groups() -> Vec<u32> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().map(rustix::process::Gid::as_raw).collect()
}

#[cfg(not(unix))]
fn check_mode(_: &std::path::Path, _: &std::fs::Metadata) -> Result<(), SecretError> {
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

    #[test]
    fn quotes_and_a_byte_order_mark_are_noticed() {
        let odd = |text: &str| Secret::new(text.to_owned()).oddity().is_some();
        assert!(odd("\"abc\"") && odd("'abc'") && odd("\u{feff}abc"));
        assert!(!odd("abc") && !odd("a\"b") && !odd("\"abc") && !odd("\""));
    }
}
