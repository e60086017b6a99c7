//! Where the files of a state lie: a folder or a bucket, behind one set of verbs.
//!
//! Paths are relative to the state and use `/`. A file appears whole or not at all, whichever it is; what
//! `put_new` and `commit_new` have said yes to lasts. Nothing here knows what a cohort is.

mod blob;
mod bucket;
mod folder;
mod step;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Timestamp;

pub(super) use blob::Blob;
pub(super) use bucket::{BucketStore, PROBES, Tag};
pub(super) use folder::{FolderStore, TEMPORARY, private};
pub use step::{Failure, fail_at};

/// What the disk or the bucket refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// A name that was to be new is taken.
    pub(super) fn exists(path: &Path) -> Self {
        Self::new("create", path, io::ErrorKind::AlreadyExists.into())
    }

    /// Whether it is about a bucket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.to_string_lossy().contains("://")
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Where a state is.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Address),
}

/// A bucket and how it is reached.
#[derive(Clone)]
pub struct Address {
    /// `s3://bucket/prefix`, `gs://…` or `az://…`.
    pub url: String,
    /// Settings of the client, credentials among them, by the names of the vendors' environment variables.
    pub options: Vec<(String, String)>,
    /// How long a holder that is not heard of keeps the state.
    pub lease: Duration,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(address) => f.write_str(&address.url),
        }
    }
}

/// A file that is there.
#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    /// Its name within its folder.
    pub(super) name: String,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// When it was last written.
    pub(super) written: Timestamp,
}

/// The files of a state.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Folder(FolderStore),
    Bucket(BucketStore),
}

impl Store {
    pub(super) fn open(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Folder(path) => Ok(Self::Folder(FolderStore::new(path))),
            Location::Bucket(address) => BucketStore::open(address).map(Self::Bucket),
        }
    }

    pub(super) fn in_folder(path: &Path) -> Self {
        Self::Folder(FolderStore::new(path))
    }

    /// A path as messages name it.
    pub(super) fn at(&self, relative: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.at(relative),
            Self::Bucket(bucket) => bucket.at(relative),
        }
    }

    /// The file's bytes; none if there is no such file.
    pub(super) fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Folder(folder) => folder.read(relative),
            Self::Bucket(bucket) => bucket.read(relative).map(|found| found.map(|(bytes, _)| bytes)),
        }
    }

    /// A file to read from anywhere in it.
    pub(super) fn open_blob(&self, relative: &str) -> Result<Blob, StoreError> {
        match self {
            Self::Folder(folder) => folder.open_blob(relative),
            Self::Bucket(bucket) => bucket.open_blob(relative),
        }
    }

    /// Names of files and folders in a folder, sorted, without temporary files. A folder that is not there
    /// has none.
    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Folder(folder) => folder.list(relative),
            Self::Bucket(bucket) => bucket.list(relative),
        }
    }

    /// The files in a folder, temporary ones too.
    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        match self {
            Self::Folder(folder) => folder.files(relative),
            Self::Bucket(bucket) => bucket.files(relative),
        }
    }

    /// Writes a file that must not exist. `false` if it does: then nothing is changed.
    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        match self {
            Self::Folder(folder) => folder.put_new(relative, bytes),
            Self::Bucket(bucket) => bucket.put_new(relative, bytes),
        }
    }

    /// Writes a file under a name that is not used yet.
    pub(super) fn create(&self, relative: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match self.put_new(relative, bytes)? {
            true => Ok(()),
            false => Err(StoreError::exists(&self.at(relative))),
        }
    }

    /// Starts a file that will appear under `relative`, a name that nobody else uses, when it is committed.
    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        match self {
            Self::Folder(folder) => folder.pending(relative),
            Self::Bucket(bucket) => bucket.pending(relative),
        }
    }

    /// Starts a file that is appended to.
    pub(super) fn growing(&self, relative: &str) -> Result<Growing, StoreError> {
        match self {
            Self::Folder(folder) => folder.growing(relative),
            Self::Bucket(bucket) => Ok(bucket.growing(relative)),
        }
    }

    /// Removes a folder that has nothing in it. Where there are no folders, and where it cannot be, nothing happens.
    pub(super) fn remove_empty(&self, relative: &str) {
        if let Self::Folder(folder) = self {
            let _ = std::fs::remove_dir(folder.at(relative));
        }
    }

    /// Removes a file. One that is gone already is as good as removed.
    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        step::step().map_err(|e| StoreError::new("remove", &self.at(relative), e))?;
        match self {
            Self::Folder(folder) => folder.remove(relative),
            Self::Bucket(bucket) => bucket.remove(relative),
        }
    }
}

/// A file that nobody sees yet. Dropped, it is gone.
pub(super) struct PendingFile {
    file: File,
    target: PendingTarget,
}

enum PendingTarget {
    /// What the file is called until then, and from then on.
    Path(tempfile::TempPath, PathBuf),
    /// An object that the file, which has no name, is uploaded to.
    Object(BucketStore, String),
}

impl PendingFile {
    /// Where it will be.
    pub(super) fn path(&self) -> PathBuf {
        match &self.target {
            PendingTarget::Path(_, path) => path.clone(),
            PendingTarget::Object(bucket, relative) => bucket.at(relative),
        }
    }

    /// What is to be written, to be written to.
    pub(super) fn writer(&self) -> io::Result<Stepping> {
        self.file.try_clone().map(Stepping)
    }

    /// Puts the file where it lasts and gives it its name, which must not be taken.
    pub(super) fn commit_new(self) -> Result<(), StoreError> {
        let path = self.path();
        if self.commit_if_new()? { Ok(()) } else { Err(StoreError::exists(&path)) }
    }

    /// The same. `false` if the name is taken: then nothing is changed.
    fn commit_if_new(self) -> Result<bool, StoreError> {
        match self.target {
            PendingTarget::Path(temporary, path) => folder::commit_new(&self.file, temporary, &path),
            PendingTarget::Object(bucket, relative) => bucket.upload(self.file, &relative).map(|()| true),
        }
    }
}

/// A file each of whose writes can be made to fail by a test.
#[derive(Debug)]
pub(super) struct Stepping(File);

impl Write for Stepping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step::step()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file that is appended to. In a bucket, where nothing can be, each sync writes a further part.
#[derive(Debug)]
pub(super) enum Growing {
    File { file: Stepping, path: PathBuf, torn: bool },
    Parts { bucket: BucketStore, relative: String, part: u32, buffer: Vec<u8> },
}

impl Growing {
    /// Appends. What is appended lasts after the next [`Growing::sync`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::File { file, path, torn } => {
                // Half of an earlier line must not spoil this one.
                let line_break: &[u8] = if *torn { b"\n" } else { b"" };
                let written = file.write_all(line_break).and_then(|()| file.write_all(bytes));
                *torn = written.is_err();
                written.map_err(|e| StoreError::new("append to", path, e))
            }
            Self::Parts { buffer, .. } => {
                buffer.extend_from_slice(bytes);
                if buffer.len() >= bucket::PART_LEN { self.sync() } else { Ok(()) }
            }
        }
    }

    /// Lets others see what was appended, even if it need not last.
    pub(super) fn publish(&mut self) -> Result<(), StoreError> {
        match self {
            Self::File { .. } => Ok(()),
            Self::Parts { .. } => self.sync(),
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        match self {
            Self::File { file, path, .. } => {
                let synced = step::step().and_then(|()| file.0.sync_data());
                synced.map_err(|e| StoreError::new("sync", path, e))
            }
            Self::Parts { buffer, .. } if buffer.is_empty() => Ok(()),
            Self::Parts { bucket, relative, part, buffer } => {
                let name = part_name(relative, *part);
                if !bucket.put_new(&name, buffer)? {
                    return Err(StoreError::exists(&bucket.at(&name)));
                }
                buffer.clear();
                *part += 1;
                Ok(())
            }
        }
    }
}

/// `a/b.ndjson`, `a/b.2.ndjson`, and so on.
fn part_name(relative: &str, part: u32) -> String {
    match relative.rsplit_once('.') {
        Some((stem, suffix)) if part > 1 => format!("{stem}.{part}.{suffix}"),
        _ => relative.to_owned(),
    }
}
