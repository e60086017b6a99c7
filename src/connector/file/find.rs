//! A path or glob → the files that it names, sorted, each inside the folders that may be read from.

use std::io;
use std::path::{Path, PathBuf};

use super::open::Stamp;
use super::{FileError, From, remote};
use crate::config::{FileSource, is_special};
use crate::objects::Object;

/// A file that was found.
#[derive(Clone, Debug)]
pub(in crate::connector) enum Found {
    /// On this machine.
    Here(PathBuf),
    /// In a bucket or on a web server, under the address that messages name.
    There(PathBuf, Object),
}

impl Found {
    /// Its path or address.
    pub(in crate::connector) fn path(&self) -> &Path {
        match self {
            Self::Here(path) | Self::There(path, _) => path,
        }
    }

    /// What tells it from any other: of what is here, as it is now; of an object, as it was found.
    pub(super) fn stamp(&self) -> Result<Stamp, FileError> {
        match self {
            Self::Here(path) => Stamp::of(path),
            Self::There(_, object) => Ok(Stamp::of_object(object)),
        }
    }
}

/// The files of a source. Never none: a source that names no file could not be read, and is not empty.
pub(super) fn files(source: &FileSource, from: From<'_>) -> Result<Vec<Found>, FileError> {
    let pattern = &source.pattern;
    if source.is_remote() {
        return remote::files(source, from.stores);
    }
    let path = from.folder.join(pattern);
    let found = if is_glob(pattern) { matches(&path, pattern)? } else { vec![path] };
    if found.is_empty() {
        return Err(FileError::NoMatch { pattern: pattern.clone() });
    }
    let roots: Vec<PathBuf> = from.roots.iter().filter_map(|root| real(root).ok()).collect();
    for file in &found {
        let real = real(file).map_err(|source| FileError::Io { path: file.clone(), source })?;
        if is_special(&real) || !roots.iter().any(|root| real.starts_with(root)) {
            return Err(FileError::Outside { path: real });
        }
    }
    Ok(found.into_iter().map(Found::Here).collect())
}

pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Where a path leads once all symbolic links are followed.
pub(in crate::connector) fn real(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().is_empty() { Path::new(".").canonicalize() } else { path.canonicalize() }
}

fn matches(path: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let no_match = || FileError::NoMatch { pattern: pattern.to_owned() };
    let entries = glob::glob(path.to_str().ok_or_else(no_match)?).map_err(|_| no_match())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| FileError::Io { path: e.path().to_owned(), source: e.into() })?;
        // A link that leads nowhere, or a file that cannot be looked at, is one that was to be read.
        let meta = std::fs::metadata(&path).map_err(|source| FileError::Io { path: path.clone(), source })?;
        if !meta.is_dir() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}
