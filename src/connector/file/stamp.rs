//! Length, times and inode of a file, or the tag of an object: changes when the content changes.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::FileError;
use crate::object_store::RemoteObject;

/// Identity and version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) len: u64,
    /// Modification time of the content.
    pub(super) modified: Option<SystemTime>,
    /// Change time of the inode, which programs cannot set back.
    pub(super) changed: Option<SystemTime>,
    /// The inode number, or a hash of the object's tag.
    pub(super) inode: u64,
}

impl FileStamp {
    /// The current stamp of the file at a path.
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let meta = std::fs::metadata(path);
        meta.map(|meta| stamp(&meta)).map_err(|source| FileError::Io { path: path.to_owned(), source })
    }

    /// The stamp of an object: from its tag, or from its time if it has no tag.
    pub(super) fn of_object(object: &RemoteObject) -> Self {
        let mark = object.comparable_tag().map(|tag| xxh3_64(tag.as_bytes()));
        let modified = if mark.is_some() { Some(SystemTime::UNIX_EPOCH) } else { object.modified };
        Self { len: object.len, modified, changed: modified, inode: mark.unwrap_or(0) }
    }
}

#[cfg(unix)]
pub(super) fn stamp(meta: &Metadata) -> FileStamp {
    use std::os::unix::fs::MetadataExt as _;
    let since = |seconds: i64, nanoseconds: i64| {
        let (seconds, nanoseconds) = (u64::try_from(seconds).ok()?, u64::try_from(nanoseconds).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    };
    FileStamp {
        len: meta.len(),
        modified: meta.modified().ok(),
        changed: since(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

#[cfg(not(unix))]
pub(super) fn stamp(meta: &Metadata) -> FileStamp {
    let _ = Duration::ZERO;
    FileStamp { len: meta.len(), modified: meta.modified().ok(), changed: meta.created().ok(), inode: 0 }
}
