//! A state in a bucket: S3, Google Cloud Storage or Azure Blob Storage, through their conditional puts.
//!
//! Two writers are told apart by the store itself: a file is created only if it is not there, and the lease is
//! changed only if it is what it was. A store that cannot do that is refused.
//!
//! # Caveats
//! Callers block: requests run on a thread of their own. An answer to a put that was lost is not a refusal:
//! the object is read back, and is ours if it holds what we sent.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use tokio::runtime::Runtime;

use super::super::StateError;
use super::{Address, Blob, Found, Growing, PendingFile, StoreError, Target, step};
use crate::model::Timestamp;

/// Bytes of a part of a large object, and of a growing file that is not written yet.
pub(super) const PART_LEN: usize = 8 << 20;
/// Where the store is tried out and asked for the time.
pub(in super::super) const PROBES: &str = "probes";
/// Longest message of a store that is repeated.
const MESSAGE_LEN_MAX: usize = 300;

/// A prefix of a bucket.
#[derive(Clone)]
pub(in super::super) struct Bucket {
    url: PathBuf,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    thread: Arc<Thread>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.url).finish()
    }
}

/// Which writing of an object it was.
#[derive(Clone, Debug)]
pub(in super::super) struct Tag {
    update: UpdateVersion,
    /// When, by the store's clock and to the second; known of what was read.
    pub(in super::super) written: Option<Timestamp>,
}

/// The runtime that requests run on. It must not end by waiting, wherever the last of its users is dropped.
struct Thread(Option<Runtime>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    pub(super) fn open(address: &Address) -> Result<Self, StoreError> {
        let url = PathBuf::from(address.url.trim_end_matches('/'));
        let failed = |what: String| StoreError::new("use", &url, io::Error::other(what));
        // Whoever is first installs it for the process; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = url::Url::parse(&address.url).map_err(|e| failed(e.to_string()))?;
        let (objects, prefix) = connect(&parsed, &address.options).map_err(|e| failed(plain(&e)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let thread = Arc::new(Thread(Some(runtime.map_err(|e| failed(e.to_string()))?)));
        Ok(Self { url, prefix, objects, thread })
    }

    pub(in super::super) fn at(&self, relative: &str) -> PathBuf {
        FilePath::join(&self.url, relative)
    }

    fn object(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), Path::join)
    }

    /// Runs a request and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        if let Some(runtime) = &self.thread.0 {
            runtime.spawn(async move { tell.send(work.await) });
        }
        told.recv().unwrap_or_else(|e| Err(Error::Generic { store: "state", source: e.into() }))
    }

    fn error(&self, action: &'static str, relative: &str, error: &Error) -> StoreError {
        StoreError::new(action, &self.at(relative), io_error(error))
    }

    /// An object's bytes and which writing of it they are; none if there is no such object.
    pub(in super::super) fn read(&self, relative: &str) -> Result<Option<(Vec<u8>, Tag)>, StoreError> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let found = self.wait(async move {
            let found = objects.get(&path).await?;
            let update =
                UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            let written = Timestamp::try_from(SystemTime::from(found.meta.last_modified)).ok();
            Ok((found.bytes().await?.to_vec(), Tag { update, written }))
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("read", relative, &e)),
        }
    }

    pub(super) fn range(&self, relative: &str, range: Range<u64>) -> io::Result<Bytes> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        self.wait(async move { objects.get_range(&path, range).await }).map_err(|e| io_error(&e))
    }

    pub(super) fn open_blob(&self, relative: &str) -> Result<Blob, StoreError> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let meta = self.wait(async move { objects.head(&path).await });
        let meta = meta.map_err(|e| self.error("open", relative, &e))?;
        Ok(Blob::of_object(self.clone(), relative, meta.size))
    }

    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let found = self.wait(async move { objects.list_with_delimiter(Some(&path)).await });
        let found = found.map_err(|e| self.error("list", relative, &e))?;
        let paths = found.common_prefixes.iter().chain(found.objects.iter().map(|object| &object.location));
        let mut names: Vec<String> = paths.filter_map(|path| Some(path.filename()?.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    pub(super) fn files(&self, relative: &str) -> Result<Vec<Found>, StoreError> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let found = self.wait(async move { objects.list_with_delimiter(Some(&path)).await });
        let found = found.map_err(|e| self.error("list", relative, &e))?;
        let file = |meta: &ObjectMeta| {
            let written = Timestamp::try_from(SystemTime::from(meta.last_modified)).unwrap_or(Timestamp::MAX);
            Some(Found { name: meta.location.filename()?.to_owned(), bytes: meta.size, written })
        };
        let mut files: Vec<Found> = found.objects.iter().filter_map(file).collect();
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(in super::super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        match self.put(relative, bytes, PutMode::Create) {
            Ok(_) => Ok(true),
            // Also when an earlier attempt of the client has put it and its answer was lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(self.read(relative)?.is_some_and(|(found, _)| found == bytes))
            }
            Err(e) => match self.read(relative) {
                Ok(Some((found, _))) if found == bytes => Ok(true),
                _ => Err(self.error("write", relative, &e)),
            },
        }
    }

    /// Replaces an object that is still the writing that `tag` names. None if it is not.
    pub(in super::super) fn replace(
        &self,
        relative: &str,
        bytes: &[u8],
        tag: &Tag,
    ) -> Result<Option<Tag>, StoreError> {
        match self.put(relative, bytes, PutMode::Update(tag.update.clone())) {
            Ok(tag) => Ok(Some(tag)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(self.read(relative)?.filter(|(found, _)| found == bytes).map(|(_, tag)| tag))
            }
            Err(e) => Err(self.error("write", relative, &e)),
        }
    }

    /// As [`Bucket::replace`], but given up on after `limit`: then nobody knows whether it was done.
    pub(in super::super) fn replace_within(
        &self,
        limit: Duration,
        relative: &str,
        bytes: &[u8],
        tag: &Tag,
    ) -> Result<Option<Tag>, StoreError> {
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let options = PutOptions::from(PutMode::Update(tag.update.clone()));
        let put = self.wait(async move {
            let put = tokio::time::timeout(limit, objects.put_opts(&path, payload, options)).await;
            put.unwrap_or_else(|late| Err(Error::Generic { store: "state", source: late.into() }))
        });
        match put {
            Ok(put) => Ok(Some(Tag { update: put.into(), written: None })),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(None)
            }
            Err(e) => Err(self.error("write", relative, &e)),
        }
    }

    /// The time by the store's clock, to the second.
    pub(in super::super) fn time(&self) -> Result<Timestamp, StoreError> {
        let probe = format!("{PROBES}/{:016x}", uuid::Uuid::new_v4().as_u64_pair().0);
        self.put_new(&probe, b"what time is it?")?;
        let found = self.read(&probe)?;
        self.remove(&probe)?;
        let gone = || StoreError::new("read", &self.at(&probe), io::ErrorKind::NotFound.into());
        found.and_then(|(_, tag)| tag.written).ok_or_else(gone)
    }

    fn put(&self, relative: &str, bytes: &[u8], mode: PutMode) -> Result<Tag, Error> {
        step::step().map_err(|source| Error::Generic { store: "state", source: source.into() })?;
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let put = self.wait(async move { objects.put_opts(&path, payload, PutOptions::from(mode)).await });
        put.map(|put| Tag { update: put.into(), written: None })
    }

    /// Tries whether the store keeps two writers apart: what exists must not be created, and what has changed
    /// must not be replaced.
    pub(in super::super) fn check_conditions(&self, random: u64) -> Result<(), StateError> {
        if self.read("format.json")?.is_some() {
            return Ok(()); // it was tried when the state was made
        }
        let probe = format!("{PROBES}/{random:016x}");
        let lacks =
            |what: &str| StateError::NoConditionalPut { path: self.url.clone(), what: what.to_owned() };
        let refused = |e: StoreError| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => StateError::Store(e),
            _ => lacks(&e.to_string()),
        };
        self.put_new(&probe, b"1").map_err(refused)?;
        let created = self.put_new(&probe, b"2").map_err(refused)?;
        let (_, first) = self.read(&probe)?.ok_or_else(|| lacks("an object that was put is not there"))?;
        let replaced = self.replace(&probe, b"3", &first).map_err(refused)?;
        let again = self.replace(&probe, b"4", &first).map_err(refused)?;
        self.remove(&probe)?;
        match (created, replaced, again) {
            (true, ..) => Err(lacks("an object that exists was created again")),
            (_, None, _) => Err(lacks("an object cannot be replaced by its tag")),
            (_, _, Some(_)) => Err(lacks("an object that had changed was replaced")),
            _ => Ok(()),
        }
    }

    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        // Without a name: nobody finds it, and it is gone with the process.
        let file = tempfile::tempfile();
        let file = file.map_err(|e| StoreError::new("create a file for", &self.at(relative), e))?;
        Ok(PendingFile { file, target: Target::Object(self.clone(), relative.to_owned()) })
    }

    pub(super) fn growing(&self, relative: &str) -> Growing {
        Growing::Parts { bucket: self.clone(), relative: relative.to_owned(), part: 1, buffer: Vec::new() }
    }

    /// Uploads a file under a name that nobody else uses.
    pub(super) fn upload(&self, mut file: File, relative: &str) -> Result<(), StoreError> {
        let failed = |e| StoreError::new("upload", &self.at(relative), e);
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        step::step().map_err(failed)?;
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
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
        let (objects, path) = (Arc::clone(&self.objects), self.object(relative));
        match self.wait(async move { objects.delete(&path).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("remove", relative, &e)),
        }
    }
}

/// The client of the store that the address names, with the settings that it knows.
fn connect(url: &url::Url, options: &[(String, String)]) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    macro_rules! built {
        ($builder:ty) => {{
            let with =
                |builder: $builder, (name, value): &(String, String)| match name.to_ascii_lowercase().parse()
                {
                    Ok(known) => builder.with_config(known, value),
                    Err(_) => builder,
                };
            let builder = options.iter().fold(<$builder>::new().with_url(url.as_str()), with);
            Arc::new(builder.with_retry(retry()).build()?)
        }};
    }
    let (scheme, path) = ObjectStoreScheme::parse(url)?;
    let objects: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder),
        _ => {
            let operation = format!("a state at {}://", url.scheme());
            return Err(Error::NotImplemented { operation, implementer: "syncline".to_owned() });
        }
    };
    Ok((objects, Path::parse(path)?))
}

/// A store that does not answer is given up on while somebody still waits for the answer.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

/// The next bytes of a file, if there are any.
fn part(file: &mut File, len: usize) -> Result<Option<PutPayload>, Error> {
    let mut bytes = Vec::new();
    let read = file.take(len as u64).read_to_end(&mut bytes);
    read.map_err(|source| Error::Generic { store: "state", source: source.into() })?;
    Ok((!bytes.is_empty()).then(|| PutPayload::from(Bytes::from(bytes))))
}

fn io_error(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, plain(error))
}

/// What the store says, short, and without the query of any address: it may hold a signature.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().map(|word| word.split('?').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ").chars().take(MESSAGE_LEN_MAX).collect()
}
