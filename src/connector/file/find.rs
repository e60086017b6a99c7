//! Finds the files of a path or glob: sorted, and inside the folders that may be read.

use std::io;
use std::path::{Path, PathBuf};

use super::found::{FoundFile, FoundFiles};
use super::{FileError, remote};
use crate::config::{FileFormat, FileSource, is_special};
use crate::file_glob::{Glob, WalkError, is_glob};

const FOLDER: &str = "it is a folder; name the files in it, for example `people.csv/part-*.csv`";

/// Folders and settings that files are read with.
#[derive(Clone, Copy)]
pub struct FileAccess<'a> {
    /// The base of relative paths.
    pub folder: &'a Path,
    /// The folders that may be read.
    pub roots: &'a [PathBuf],
    /// Settings of object stores from the environment.
    pub stores: &'a [(String, String)],
}

/// The files of a source. An empty result is an error: a source without files is unreadable, not empty.
pub(super) fn files(source: &FileSource, from: FileAccess<'_>) -> Result<FoundFiles, FileError> {
    let pattern = &source.pattern;
    if source.is_remote() {
        return remote::files(source, from.stores);
    }
    let (paths, skipped) =
        if is_glob(pattern) { matches(from.folder, pattern)? } else { (vec![from.folder.join(pattern)], 0) };
    if paths.is_empty() {
        return Err(FileError::NoMatch { pattern: pattern.clone(), skipped });
    }
    let roots: Vec<PathBuf> = from.roots.iter().filter_map(|root| real(root).ok()).collect();
    for file in &paths {
        let real = real(file).map_err(|source| FileError::Io { path: file.clone(), source })?;
        if is_special(&real) || !roots.iter().any(|root| real.starts_with(root)) {
            return Err(FileError::Outside { path: real });
        }
    }
    Ok(FoundFiles { files: paths.into_iter().map(FoundFile::Local).collect(), skipped })
}

/// The path with all symbolic links resolved.
pub(in crate::connector) fn real(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().is_empty() { Path::new(".").canonicalize() } else { path.canonicalize() }
}

fn matches(folder: &Path, pattern: &str) -> Result<(Vec<PathBuf>, u64), FileError> {
    let glob = Glob::path(pattern).map_err(|source| FileError::BadGlob { source })?;
    let root = folder.join(glob.prefix());
    let matches = match glob.find(folder) {
        Ok(matches) => matches,
        Err(error) if error.path == root && is_missing(error.source.kind()) => return Ok((Vec::new(), 0)),
        Err(WalkError { path, source }) => return Err(FileError::List { path, source }),
    };
    // Spark and Hadoop write a folder of part files under a file name.
    match matches.named_folders.into_iter().find(|path| FileFormat::from_name(path).is_some()) {
        Some(path) => Err(FileError::List { path, source: io::Error::other(FOLDER) }),
        None => Ok((matches.files, matches.skipped)),
    }
}

fn is_missing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
