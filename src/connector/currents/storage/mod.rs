//! Storage of Currents files: a folder or a bucket, with one interface to list and to read.
//!
//! Source: Braze, "Event delivery semantics": `…/event_type=<type>/date=<YYYY-MM-DD-HH>/<schema>/<zone>/*.avro`,
//! below any prefix, at any depth. The hours are those of queueing, in UTC.
//!
//! # Caveats
//! Calls block. A listing returns what exists; it does not know which files were read.

mod bucket;
mod folder;
mod known;

pub use known::KnownFolders;

use std::io::{self, Read};
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::{StorageLocation, is_special};
use crate::foreign::{shown_path, without_addresses};
use crate::model::{Day, Timestamp};
use crate::object_store::BucketClient;

/// The day of a partition such as `date=2026-11-20-13`.
fn day_of_partition(name: &str) -> Option<Day> {
    name.strip_prefix("date=").and_then(Day::parse)
}

/// The day of the partition in a path.
#[must_use]
pub fn day_in(path: &str) -> Option<Day> {
    path.split('/').filter_map(day_of_partition).next_back()
}

/// A file of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFile {
    /// Its path below the source.
    pub path: Box<str>,
    /// Its length in bytes.
    pub len: u64,
    /// The time of its arrival, if the store reports it.
    pub arrived: Timestamp,
    /// The day of its partition, or of its arrival without a partition.
    pub day: Day,
    /// A fingerprint of path and content.
    pub print: u64,
    /// The store's entity tag of the content.
    tag: Option<String>,
}

impl EventFile {
    fn new(path: &str, len: u64, arrived: Timestamp, mark: &[u8], tag: Option<String>) -> Self {
        let day = day_in(path);
        let print = xxh3_64(&[path.as_bytes(), &[0], &len.to_le_bytes(), mark].concat());
        Self { path: path.into(), len, arrived, day: day.unwrap_or(Day::of(arrived)), print, tag }
    }
}

/// Why files cannot be listed or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {}", shown_path(.path), without_addresses(&.source.to_string()))]
pub struct StorageError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StorageError {
    /// The kind of the I/O error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the storage is a bucket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.to_string_lossy().contains("://")
    }
}

/// The access to files of events.
#[derive(Clone, Debug, Default)]
pub struct StorageAccess {
    /// Settings of the bucket's client.
    pub options: Vec<(String, String)>,
    /// The cache of earlier listings of the folder.
    pub known: KnownFolders,
}

/// The storage of an export.
#[derive(Clone, Debug)]
pub enum Storage {
    /// A folder, with its cache of earlier listings.
    Folder(PathBuf, KnownFolders),
    /// A bucket.
    Bucket(BucketClient),
}

impl Storage {
    /// A folder without a cache.
    #[must_use]
    pub fn folder(path: PathBuf) -> Self {
        Self::Folder(path, KnownFolders::default())
    }

    /// Opens the storage. Reads nothing yet.
    ///
    /// # Errors
    /// When the client cannot be created.
    pub fn open(location: &StorageLocation, access: &StorageAccess) -> Result<Self, StorageError> {
        match location {
            StorageLocation::Folder { path, roots, .. } => {
                let roots = roots.iter().filter_map(|root| crate::connector::file::real(root).ok());
                // The listing reports a missing folder.
                match path.canonicalize() {
                    Ok(real)
                        if is_special(&real) || !roots.into_iter().any(|root| real.starts_with(root)) =>
                    {
                        let what = "it is outside the folders that sources may be read from";
                        let source = io::Error::new(io::ErrorKind::PermissionDenied, what);
                        Err(StorageError { action: "use", path: path.clone(), source })
                    }
                    _ => Ok(Self::Folder(path.clone(), access.known.clone())),
                }
            }
            StorageLocation::Bucket { url, .. } => match BucketClient::open(url, &access.options) {
                Ok(objects) => Ok(Self::Bucket(objects)),
                Err(source) => Err(StorageError { action: "use", path: url.into(), source }),
            },
        }
    }

    /// Lists the Avro files, in any order, and returns the number of other files. Folders unchanged since the last listing
    /// are not read. With `from`, partitions of earlier days are skipped.
    ///
    /// # Errors
    /// When a part cannot be listed; the files found so far are not complete.
    pub fn list(
        &self,
        from: Option<Day>,
        now: Timestamp,
        found: &mut dyn FnMut(EventFile),
    ) -> Result<u64, StorageError> {
        match self {
            Self::Folder(root, known) => folder::list(root, known, from, now, found),
            Self::Bucket(objects) => bucket::list(objects, from, found),
        }
    }

    /// Makes the next listing examine these files, by their paths below the source, even if their folders are unchanged.
    pub fn look_at(&self, paths: impl IntoIterator<Item = String>) {
        if let Self::Folder(_, known) = self {
            known.changed(paths);
        }
    }

    /// Opens a file from a byte on.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn read(&self, object: &EventFile, from: u64) -> Result<Box<dyn Read + Send>, StorageError> {
        match self {
            Self::Folder(root, _) => folder::read(root, object, from),
            Self::Bucket(objects) => Ok(Box::new(bucket::read(objects, object, from)?)),
        }
    }

    /// Lists the top level. Returns the number of files and folders.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn look(&self) -> Result<usize, StorageError> {
        match self {
            Self::Folder(root, _) => match std::fs::read_dir(root) {
                Ok(entries) => Ok(entries.count()),
                Err(source) => Err(StorageError { action: "list", path: root.clone(), source }),
            },
            Self::Bucket(objects) => bucket::look(objects),
        }
    }

    /// Whether a complete listing is cheap.
    #[must_use]
    pub fn is_near(&self) -> bool {
        matches!(self, Self::Folder(..))
    }

    /// The path of a file for messages.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        match self {
            Self::Folder(root, _) => root.join(path),
            Self::Bucket(objects) => std::path::Path::join(&objects.url, path),
        }
    }
}

fn is_avro(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".avro")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_comes_from_the_partition_or_the_arrival() {
        let arrived: Timestamp = "2026-11-20T13:00:00Z".parse().unwrap();
        let day = |path: &str| EventFile::new(path, 1, arrived, &[], None).day;
        assert_eq!(day("event_type=a.B/date=2026-11-18-23/7/x.avro"), Day(20_261_118));
        assert_eq!(day("event_type=a.B/x.avro"), Day(20_261_120));
        assert_eq!(day("date=soon/x.avro"), Day(20_261_120));
        assert_eq!(Day(20_260_102).to_string(), "2026-01-02");
    }
}
