//! A state in a bucket: S3, Google Cloud Storage or Azure Blob Storage, through conditional puts.
//!
//! The store itself keeps two writers apart: a file is created only if it does not exist, and the lease is replaced only
//! if it is unchanged. A store without this is rejected.
//!
//! # Caveats
//! Callers block; requests run on a separate thread. A lost answer to a put is not a failure: the object is read back,
//! and was written by us if it holds what we sent.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::super::StateError;
use super::{Address, GrowingFile, PendingFile, PendingTarget, StoreError, StoredFile, step};
use crate::model::Timestamp;
use crate::object_store::{BucketClient, io_error};
use crate::random;

/// Length of a part of a large object, and limit of unwritten data of an append-only file.
pub(super) const PART_LEN: usize = 8 << 20;
/// The folder of probe objects, which test conditional puts and read the store's clock.
pub(in super::super) const PROBES: &str = "probes";

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub(in super::super) struct BucketStore(BucketClient);

/// Identifies one revision of an object.
#[derive(Clone, Debug)]
pub(in super::super) struct ObjectTag {
    update: UpdateVersion,
    /// When it was written, by the store's clock, to the second. Known only after a read.
    pub(in super::super) written: Option<Timestamp>,
}

impl BucketStore {
    pub(super) fn open(address: &Address) -> Result<Self, StoreError> {
        let objects = BucketClient::open(&address.url, &address.options);
        objects.map(Self).map_err(|source| StoreError::new("use", FilePath::new(&address.url), source))
    }

    #[cfg(test)]
    pub(super) fn of(client: BucketClient) -> Self {
        Self(client)
    }

    pub(in super::super) fn at(&self, relative: &str) -> PathBuf {
        FilePath::join(&self.0.url, relative)
    }

    fn object(&self, relative: &str) -> Path {
        self.0.object(relative)
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.wait(work)
    }

    fn error(&self, action: &'static str, relative: &str, error: &Error) -> StoreError {
        StoreError::new(action, &self.at(relative), io_error(error))
    }

    /// Reads an object and its revision. `None`: it does not exist.
    pub(in super::super) fn read(&self, relative: &str) -> Result<Option<(Vec<u8>, ObjectTag)>, StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let found = self.wait(async move {
            let found = objects.get(&path).await?;
            let update =
                UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            let written = Timestamp::try_from(SystemTime::from(found.meta.last_modified)).ok();
            Ok((found.bytes().await?.to_vec(), ObjectTag { update, written }))
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("read", relative, &e)),
        }
    }

    pub(super) fn range(&self, relative: &str, range: Range<u64>) -> io::Result<Bytes> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        self.wait(async move { objects.get_range(&path, range).await }).map_err(|e| io_error(&e))
    }

    /// Returns the length of an object that is about to be read.
    pub(super) fn len_of(&self, relative: &str) -> Result<u64, StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let meta = self.wait(async move { objects.head(&path).await });
        let meta = meta.map_err(|e| self.error("open", relative, &e))?;
        Ok(meta.size)
    }

    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let found = self.wait(async move { objects.list_with_delimiter(Some(&path)).await });
        let found = found.map_err(|e| self.error("list", relative, &e))?;
        let paths = found.common_prefixes.iter().chain(found.objects.iter().map(|object| &object.location));
        let mut names: Vec<String> = paths.filter_map(|path| Some(path.filename()?.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let found = self.wait(async move { objects.list_with_delimiter(Some(&path)).await });
        let found = found.map_err(|e| self.error("list", relative, &e))?;
        let file = |meta: &ObjectMeta| {
            let written = Timestamp::try_from(SystemTime::from(meta.last_modified)).unwrap_or(Timestamp::MAX);
            Some(StoredFile { name: meta.location.filename()?.to_owned(), bytes: meta.size, written })
        };
        let mut files: Vec<StoredFile> = found.objects.iter().filter_map(file).collect();
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(in super::super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        match self.put(relative, bytes, PutMode::Create) {
            Ok(_) => Ok(true),
            // An earlier attempt of the client may have written it, with its answer lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(self.read(relative)?.is_some_and(|(found, _)| found == bytes))
            }
            Err(e) => match self.read(relative) {
                Ok(Some((found, _))) if found == bytes => Ok(true),
                _ => Err(self.error("write", relative, &e)),
            },
        }
    }

    /// Replaces an object that is still at the revision `tag`. `None`: it is not.
    pub(in super::super) fn replace(
        &self,
        relative: &str,
        bytes: &[u8],
        tag: &ObjectTag,
    ) -> Result<Option<ObjectTag>, StoreError> {
        match self.put(relative, bytes, PutMode::Update(tag.update.clone())) {
            Ok(tag) => Ok(Some(tag)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(self.read(relative)?.filter(|(found, _)| found == bytes).map(|(_, tag)| tag))
            }
            Err(e) => Err(self.error("write", relative, &e)),
        }
    }

    /// As [`Self::replace`], with a time limit. After a timeout the outcome is unknown.
    pub(in super::super) fn replace_within(
        &self,
        limit: Duration,
        relative: &str,
        bytes: &[u8],
        tag: &ObjectTag,
    ) -> Result<Option<ObjectTag>, StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let options = PutOptions::from(PutMode::Update(tag.update.clone()));
        let put = self.wait(async move {
            let put = tokio::time::timeout(limit, objects.put_opts(&path, payload, options)).await;
            put.unwrap_or_else(|late| Err(Error::Generic { store: "state", source: late.into() }))
        });
        match put {
            Ok(put) => Ok(Some(ObjectTag { update: put.into(), written: None })),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(None)
            }
            Err(e) => Err(self.error("write", relative, &e)),
        }
    }

    /// The time by the store's clock, to the second.
    pub(in super::super) fn time(&self) -> Result<Timestamp, StoreError> {
        let probe = format!("{PROBES}/{:016x}", random::unique_number());
        if !self.put_new(&probe, b"what time is it?")? {
            return Err(StoreError::exists(&self.at(&probe)));
        }
        let found = self.read(&probe)?;
        self.remove(&probe)?;
        let missing = || StoreError::new("read", &self.at(&probe), io::ErrorKind::NotFound.into());
        found.and_then(|(_, tag)| tag.written).ok_or_else(missing)
    }

    fn put(&self, relative: &str, bytes: &[u8], mode: PutMode) -> Result<ObjectTag, Error> {
        step::step().map_err(|source| Error::Generic { store: "state", source: source.into() })?;
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let put = self.wait(async move { objects.put_opts(&path, payload, PutOptions::from(mode)).await });
        put.map(|put| ObjectTag { update: put.into(), written: None })
    }

    /// Tests whether the store keeps two writers apart: an existing object must not be created again, and a changed one
    /// must not be replaced.
    pub(in super::super) fn check_conditions(&self, random: u64) -> Result<(), StateError> {
        if self.read("format.json")?.is_some() {
            return Ok(()); // it was tested when the state was created
        }
        let probe = format!("{PROBES}/{random:016x}");
        let lacks = |problem: &str| StateError::NoConditionalPut {
            path: self.0.url.clone(),
            problem: problem.to_owned(),
        };
        let rejected = |e: StoreError| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => StateError::Store(e),
            _ => lacks(&e.to_string()),
        };
        // An unconditional put that fails has another cause.
        let plainly = format!("{probe}-plain");
        self.put(&plainly, b"0", PutMode::Overwrite).map_err(|e| self.error("write", &plainly, &e))?;
        self.remove(&plainly)?;
        if !self.put_new(&probe, b"1").map_err(rejected)? {
            return Err(lacks("an object that does not exist was not created"));
        }
        let created = self.put_new(&probe, b"2").map_err(rejected)?;
        let (_, first) =
            self.read(&probe)?.ok_or_else(|| lacks("an object that was written does not exist"))?;
        let replaced = self.replace(&probe, b"3", &first).map_err(rejected)?;
        let again = self.replace(&probe, b"4", &first).map_err(rejected)?;
        self.remove(&probe)?;
        match (created, replaced, again) {
            (true, ..) => Err(lacks("an existing object was created again")),
            (_, None, _) => Err(lacks("an object cannot be replaced by its tag")),
            (_, _, Some(_)) => Err(lacks("an object that had changed was replaced")),
            _ => Ok(()),
        }
    }

    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        // The file has no name, so the system deletes it with the process.
        let file = tempfile::tempfile();
        let file = file.map_err(|e| StoreError::new("create a file for", &self.at(relative), e))?;
        Ok(PendingFile { file, target: PendingTarget::Object(self.clone(), relative.to_owned()) })
    }

    pub(super) fn growing(&self, relative: &str) -> GrowingFile {
        GrowingFile::Parts {
            bucket: self.clone(),
            relative: relative.to_owned(),
            part: 1,
            buffer: Vec::new(),
        }
    }

    /// Uploads a file under a name that is unique.
    pub(super) fn upload(&self, mut file: File, relative: &str) -> Result<(), StoreError> {
        let failed = |e| StoreError::new("upload", &self.at(relative), e);
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        step::step().map_err(failed)?;
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        let uploaded = self.wait(async move {
            if len <= PART_LEN as u64 {
                let payload = part(&mut file, PART_LEN)?.unwrap_or_default();
                return objects.put(&path, payload).await.map(drop);
            }
            let mut upload = objects.put_multipart(&path).await?;
            while let Some(payload) = part(&mut file, PART_LEN)? {
                if let Err(e) = upload.put_part(payload).await {
                    let _ = upload.abort().await;
                    return Err(e);
                }
            }
            upload.complete().await.map(drop)
        });
        uploaded.map_err(|e| self.error("upload", relative, &e))
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        let (objects, path) = (Arc::clone(&self.0.store), self.object(relative));
        match self.wait(async move { objects.delete(&path).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("remove", relative, &e)),
        }
    }
}

/// Reads the next bytes of a file. `None`: the end.
fn part(file: &mut File, len: usize) -> Result<Option<PutPayload>, Error> {
    let mut bytes = Vec::new();
    let read = file.take(len as u64).read_to_end(&mut bytes);
    read.map_err(|source| Error::Generic { store: "state", source: source.into() })?;
    Ok((!bytes.is_empty()).then(|| PutPayload::from(Bytes::from(bytes))))
}
