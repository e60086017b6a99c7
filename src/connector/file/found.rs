//! Files that a path, glob or address names.

use std::path::{Path, PathBuf};

use super::FileError;
use super::stamp::FileStamp;
use crate::object_store::RemoteObject;

/// A file of a source.
#[derive(Clone, Debug)]
pub(in crate::connector) enum FoundFile {
    /// On this machine.
    Local(PathBuf),
    /// In a bucket or on a web server, under the address that messages name.
    Remote(PathBuf, RemoteObject),
}

impl FoundFile {
    /// Its path or address.
    pub(in crate::connector) fn path(&self) -> &Path {
        match self {
            Self::Local(path) | Self::Remote(path, _) => path,
        }
    }

    /// The file's current stamp, or the object's stamp from when it was found.
    pub(super) fn stamp(&self) -> Result<FileStamp, FileError> {
        match self {
            Self::Local(path) => FileStamp::of(path),
            Self::Remote(_, object) => Ok(FileStamp::of_object(object)),
        }
    }
}

/// The files of a source, and the number of hidden or temporary files that were skipped.
#[derive(Debug)]
pub(super) struct FoundFiles {
    pub(super) files: Vec<FoundFile>,
    pub(super) skipped: u64,
}
