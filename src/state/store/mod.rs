//! Storage of the state's files: a folder or a bucket behind one interface.
//!
//! Paths are relative to the state and use `/`. Every file appears complete or not at all. A successful `put_new` or
//! `commit_new` is durable. This module does not interpret files.

mod blob;
mod bucket;
mod folder;
#[cfg(test)]
mod in_memory;
mod step;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Timestamp;

pub(super) use blob::Blob;
pub(super) use bucket::{BucketStore, ObjectTag, PROBES};
pub(super) use folder::{FolderStore, TEMPORARY, private};
#[cfg(test)]
pub(super) use in_memory::{Crash, MemoryLock};
#[cfg(test)]
pub(crate) use in_memory::{MemoryStore, StoreFaults};
pub use step::{StepFailure, fail_at};

/// An I/O error of the folder or the bucket.
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

    /// The error of a name that is already taken.
    pub(super) fn exists(path: &Path) -> Self {
        Self::new("create", path, io::ErrorKind::AlreadyExists.into())
    }

    /// Whether it concerns a bucket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.to_string_lossy().contains("://")
    }

    /// The kind of I/O error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// The location of a state.
#[derive(Clone, Debug)]
pub enum Location {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    Bucket(Address),
    /// A folder in memory.
    #[cfg(test)]
    Memory(MemoryStore),
    /// A simulated bucket, and how long its lease is valid without renewal.
    #[cfg(test)]
    SimulatedBucket(crate::object_store::BucketClient, Duration),
}

/// A bucket and its client settings.
#[derive(Clone)]
pub struct Address {
    /// `s3://bucket/prefix`, `gs://…` or `az://…`.
    pub url: String,
    /// Client settings including credentials, by the vendors' names of environment variables.
    pub options: Vec<(String, String)>,
    /// How long the lease is valid without renewal.
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
            #[cfg(test)]
            Self::Memory(_) | Self::SimulatedBucket(..) => f.write_str("memory"),
        }
    }
}

/// A file in a listing.
#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    /// Its name within its folder.
    pub(super) name: String,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// When it was last written.
    pub(super) written: Timestamp,
}

/// The storage of a state.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Folder(FolderStore),
    Bucket(BucketStore),
    #[cfg(test)]
    Memory(MemoryStore),
}

impl Store {
    pub(super) fn open(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Folder(path) => Ok(Self::Folder(FolderStore::new(path))),
            Location::Bucket(address) => BucketStore::open(address).map(Self::Bucket),
            #[cfg(test)]
            Location::Memory(memory) => Ok(Self::Memory(memory.clone())),
            #[cfg(test)]
            Location::SimulatedBucket(client, _) => Ok(Self::Bucket(BucketStore::of(client.clone()))),
        }
    }

    pub(super) fn in_folder(path: &Path) -> Self {
        Self::Folder(FolderStore::new(path))
    }

    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        Self::Memory(MemoryStore::default())
    }

    /// The full path, for messages.
    pub(super) fn at(&self, relative: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.at(relative),
            Self::Bucket(bucket) => bucket.at(relative),
            #[cfg(test)]
            Self::Memory(_) => MemoryStore::at(relative),
        }
    }

    /// Reads a file. `None`: it does not exist.
    pub(super) fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let result = match self {
            Self::Folder(folder) => folder.read(relative),
            Self::Bucket(bucket) => bucket.read(relative).map(|found| found.map(|(bytes, _)| bytes)),
            #[cfg(test)]
            Self::Memory(memory) => memory.read(relative),
        };
        logged("read", &self.at(relative), result)
    }

    /// Opens a file for random access.
    pub(super) fn open_blob(&self, relative: &str) -> Result<Blob, StoreError> {
        let result = match self {
            Self::Folder(folder) => folder.open_blob(relative),
            Self::Bucket(bucket) => Blob::of_object(bucket.clone(), relative),
            #[cfg(test)]
            Self::Memory(memory) => memory.open_blob(relative),
        };
        logged("open", &self.at(relative), result)
    }

    /// Returns the names of files and folders in a folder, sorted, without temporary files. A missing folder has none.
    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        let result = match self {
            Self::Folder(folder) => folder.list(relative),
            Self::Bucket(bucket) => bucket.list(relative),
            #[cfg(test)]
            Self::Memory(memory) => memory.list(relative),
        };
        logged("list", &self.at(relative), result)
    }

    /// Returns the files in a folder, including temporary ones.
    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        let result = match self {
            Self::Folder(folder) => folder.files(relative),
            Self::Bucket(bucket) => bucket.files(relative),
            #[cfg(test)]
            Self::Memory(memory) => memory.files(relative),
        };
        logged("list", &self.at(relative), result)
    }

    /// Writes a file that must not exist. Returns `false`, and changes nothing, if it does.
    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let result = match self {
            Self::Folder(folder) => folder.put_new(relative, bytes),
            Self::Bucket(bucket) => bucket.put_new(relative, bytes),
            #[cfg(test)]
            Self::Memory(memory) => memory.put_new(relative, bytes),
        };
        logged("put", &self.at(relative), result)
    }

    /// Writes a file under a new name.
    pub(super) fn create(&self, relative: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match self.put_new(relative, bytes)? {
            true => Ok(()),
            false => Err(StoreError::exists(&self.at(relative))),
        }
    }

    /// Creates a file that appears as `relative`, a unique name, when it is committed.
    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        match self {
            Self::Folder(folder) => folder.pending(relative),
            Self::Bucket(bucket) => bucket.pending(relative),
            #[cfg(test)]
            Self::Memory(memory) => memory.pending(relative),
        }
    }

    /// Creates an append-only file.
    pub(super) fn growing(&self, relative: &str) -> Result<GrowingFile, StoreError> {
        match self {
            Self::Folder(folder) => folder.growing(relative),
            Self::Bucket(bucket) => Ok(bucket.growing(relative)),
            #[cfg(test)]
            Self::Memory(memory) => memory.growing(relative),
        }
    }

    /// Removes an empty folder. Failures are ignored; a bucket has no folders.
    pub(super) fn remove_empty(&self, relative: &str) {
        if let Self::Folder(folder) = self {
            let _ = std::fs::remove_dir(folder.at(relative));
        }
    }

    /// Removes a file. A missing file is not an error.
    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        step::step().map_err(|e| StoreError::new("remove", &self.at(relative), e))?;
        let result = match self {
            Self::Folder(folder) => folder.remove(relative),
            Self::Bucket(bucket) => bucket.remove(relative),
            #[cfg(test)]
            Self::Memory(memory) => memory.remove(relative),
        };
        logged("remove", &self.at(relative), result)
    }
}

/// Logs an access to the state. Paths consist of ids, versions and dates, and never of identifiers of users.
fn logged<T>(operation: &str, path: &Path, result: Result<T, StoreError>) -> Result<T, StoreError> {
    let path = path.display();
    match &result {
        Ok(_) if operation == "list" => tracing::trace!(operation, %path, "state"),
        Ok(_) => tracing::debug!(operation, %path, "state"),
        Err(error) => tracing::debug!(operation, %path, %error, "state"),
    }
    result
}

/// A file that is invisible until it is committed. Dropping it discards it.
pub(super) struct PendingFile {
    file: File,
    target: PendingTarget,
}

enum PendingTarget {
    /// The temporary name and the final name.
    Path(tempfile::TempPath, PathBuf),
    /// The object to which the unnamed file is uploaded.
    Object(BucketStore, String),
    #[cfg(test)]
    Memory(MemoryStore, String),
}

impl PendingFile {
    /// The final path.
    pub(super) fn path(&self) -> PathBuf {
        match &self.target {
            PendingTarget::Path(_, path) => path.clone(),
            PendingTarget::Object(bucket, relative) => bucket.at(relative),
            #[cfg(test)]
            PendingTarget::Memory(_, relative) => MemoryStore::at(relative),
        }
    }

    /// A writer for the content.
    pub(super) fn writer(&self) -> io::Result<SteppedFile> {
        self.file.try_clone().map(SteppedFile)
    }

    /// Makes the file durable under its final name, which must not be taken.
    pub(super) fn commit_new(self) -> Result<(), StoreError> {
        let path = self.path();
        let is_new = logged("put", &path, self.commit_if_new())?;
        if is_new { Ok(()) } else { Err(StoreError::exists(&path)) }
    }

    /// As [`Self::commit_new`]. Returns `false`, and changes nothing, if the name is taken.
    fn commit_if_new(self) -> Result<bool, StoreError> {
        match self.target {
            PendingTarget::Path(temporary, path) => folder::commit_new(&self.file, temporary, &path),
            PendingTarget::Object(bucket, relative) => bucket.upload(self.file, &relative).map(|()| true),
            #[cfg(test)]
            PendingTarget::Memory(memory, relative) => memory.commit(self.file, &relative),
        }
    }
}

/// A file with writes that a test can make fail.
#[derive(Debug)]
pub(super) struct SteppedFile(File);

impl Write for SteppedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step::step()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An append-only file. In a bucket, which has no append, each sync writes a further object.
#[derive(Debug)]
pub(super) enum GrowingFile {
    File {
        file: SteppedFile,
        path: PathBuf,
        torn: bool,
    },
    Parts {
        bucket: BucketStore,
        relative: String,
        part: u32,
        buffer: Vec<u8>,
    },
    #[cfg(test)]
    Memory {
        store: MemoryStore,
        relative: String,
        torn: bool,
    },
}

impl GrowingFile {
    /// Appends bytes. They are durable after the next [`Self::sync`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::File { file, path, torn } => {
                // A line break keeps an earlier partial line from damaging this one.
                let line_break: &[u8] = if *torn { b"\n" } else { b"" };
                let written = file.write_all(line_break).and_then(|()| file.write_all(bytes));
                *torn = written.is_err();
                written.map_err(|e| StoreError::new("append to", path, e))
            }
            Self::Parts { buffer, .. } => {
                buffer.extend_from_slice(bytes);
                if buffer.len() >= bucket::PART_LEN { self.sync() } else { Ok(()) }
            }
            #[cfg(test)]
            Self::Memory { store, relative, torn } => {
                let line_break: &[u8] = if *torn { b"\n" } else { b"" };
                let written = store.append(relative, &[line_break, bytes].concat());
                *torn = written.is_err();
                written
            }
        }
    }

    /// Makes appended bytes visible to other processes, durable or not.
    pub(super) fn publish(&mut self) -> Result<(), StoreError> {
        match self {
            Self::File { .. } => Ok(()),
            Self::Parts { .. } => self.sync(),
            #[cfg(test)]
            Self::Memory { .. } => Ok(()),
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
            #[cfg(test)]
            Self::Memory { store, relative, .. } => store.sync(relative),
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
