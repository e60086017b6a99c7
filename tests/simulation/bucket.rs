//! A simulated bucket with conditional puts, as one process uses it.
//!
//! Puts and removals are strongly consistent, as S3, Google Cloud Storage and Azure promise. A request may fail before or
//! after it was done, or be done up to a minute later, when its process has given up or ended.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::clock;
use super::faults::FaultKind;
use super::schedule::Party;
use super::world::Process;

#[derive(Clone, Debug)]
struct StoredObject {
    bytes: Bytes,
    tag: u64,
    written: Duration,
}

/// The objects of a bucket.
#[derive(Debug, Default)]
pub(super) struct BucketObjects {
    objects: BTreeMap<String, StoredObject>,
    tags: u64,
}

/// A put that is done, or may be done later.
#[derive(Clone, Debug)]
pub(super) struct BucketPut {
    /// The process that sends it.
    pub(super) by: Party,
    path: String,
    bytes: Bytes,
    mode: PutMode,
}

impl BucketPut {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it takes, keeps or releases the lease on the state, and whether its process then holds it.
    pub(super) fn of_lease(&self) -> Option<bool> {
        let is_released = |text: &[u8]| memchr::memmem::find(text, b"\"released\":true").is_some();
        (self.path == "lease.json").then(|| !is_released(&self.bytes))
    }
}

impl BucketObjects {
    /// Does a put.
    pub(super) fn put(&mut self, put: BucketPut, now: Duration) -> Result<PutResult> {
        let BucketPut { path, bytes, mode, .. } = put;
        let current = self.objects.get(&path);
        match mode {
            PutMode::Create if current.is_some() => {
                return Err(Error::AlreadyExists { path, source: "it exists".into() });
            }
            PutMode::Update(version) => {
                let tag = current.map(|object| object.tag.to_string());
                if tag.is_none() || tag != version.e_tag {
                    return Err(Error::Precondition { path, source: "it has changed".into() });
                }
            }
            PutMode::Create | PutMode::Overwrite => {}
        }
        self.tags += 1;
        self.objects.insert(path, StoredObject { bytes, tag: self.tags, written: now });
        Ok(PutResult { e_tag: Some(self.tags.to_string()), version: None, extensions: Default::default() })
    }

    /// Creates or replaces an object. `None`: deletes it.
    pub(super) fn replace(&mut self, path: &str, bytes: Option<&[u8]>, now: Duration) {
        self.tags += 1;
        match bytes {
            None => drop(self.objects.remove(path)),
            Some(bytes) => {
                let bytes = Bytes::copy_from_slice(bytes);
                let written = self.objects.get(path).map_or(now, |object| object.written);
                self.objects.insert(path.to_owned(), StoredObject { bytes, tag: self.tags, written });
            }
        }
    }

    pub(super) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.iter().map(|(path, object)| (path.clone(), object.bytes.to_vec())).collect()
    }
}

/// The bucket, as one process uses it.
pub(super) struct ProcessBucket {
    pub(super) process: Arc<Process>,
    pub(super) objects: Arc<Mutex<BucketObjects>>,
}

impl fmt::Debug for ProcessBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessBucket")
    }
}

impl fmt::Display for ProcessBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated bucket")
    }
}

fn failed(source: &'static str) -> Error {
    Error::Generic { store: "simulated", source: source.into() }
}

impl ProcessBucket {
    fn objects(&self) -> std::sync::MutexGuard<'_, BucketObjects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    fn begin(&self, action: &'static str, path: &str) -> Result<()> {
        let step = self.process.bucket_step(action, path);
        step.map_err(|error| Error::Generic { store: "simulated", source: error.into() })
    }

    /// What happens to a request that changes something.
    fn fate(&self) -> Option<FaultKind> {
        let kinds = [FaultKind::LostPut, FaultKind::LostPutResponse, FaultKind::LatePut];
        let mut world = self.process.world.lock();
        let fate = kinds.into_iter().find(|kind| self.process.is_exposed() && world.strikes(*kind));
        if let Some(fate) = fate {
            world.note(self.process.id, || format!("{fate:?}"));
        }
        fate
    }

    fn meta(&self, path: &str, object: &StoredObject) -> ObjectMeta {
        let written = SystemTime::UNIX_EPOCH + clock::since_epoch(object.written);
        ObjectMeta {
            location: Path::from(path),
            last_modified: written.into(),
            size: object.bytes.len() as u64,
            e_tag: Some(object.tag.to_string()),
            version: None,
        }
    }

    fn remove(&self, location: &Path) -> Result<()> {
        self.begin("remove", location.as_ref())?;
        match self.fate() {
            Some(FaultKind::LostPutResponse) => {
                self.objects().objects.remove(location.as_ref());
                Err(failed("the response was lost"))
            }
            Some(_) => Err(failed("the request was lost")),
            None => {
                self.objects().objects.remove(location.as_ref());
                Ok(())
            }
        }
    }

    fn list_folder(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.map(ToString::to_string).filter(|prefix| !prefix.is_empty());
        let folder = folder.map_or_else(String::new, |prefix| prefix + "/");
        self.begin("list", &folder)?;
        let all = self.objects();
        let below = all.objects.iter().filter_map(|(path, object)| {
            let rest = path.strip_prefix(&folder)?;
            Some((path, rest, object))
        });
        let mut list =
            ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() };
        for (path, rest, object) in below {
            match rest.split_once('/') {
                Some((name, _)) => {
                    let prefix = Path::from(format!("{folder}{name}"));
                    if list.common_prefixes.last() != Some(&prefix) {
                        list.common_prefixes.push(prefix);
                    }
                }
                None => list.objects.push(self.meta(path, object)),
            }
        }
        Ok(list)
    }
}

#[async_trait::async_trait]
impl ObjectStore for ProcessBucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.begin("put", location.as_ref())?;
        let by = self.process.id;
        let put = BucketPut { by, path: location.to_string(), bytes: payload.into(), mode: options.mode };
        let (world, now) = (&self.process.world, clock::elapsed());
        match self.fate() {
            Some(FaultKind::LostPut) => Err(failed("the request was lost")),
            Some(FaultKind::LatePut) => {
                world.put_later(put, now);
                Err(failed("no response in time"))
            }
            Some(_) => {
                let _ = world.put(put, now);
                Err(failed("the response was lost"))
            }
            None => world.put(put, now),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(failed("the simulation has no objects that large"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.as_ref();
        self.begin(if options.head { "head" } else { "get" }, path)?;
        let object = self.objects().objects.get(path).cloned();
        let not_found = || Error::NotFound { path: path.to_owned(), source: "there is none".into() };
        let object = object.ok_or_else(not_found)?;
        let all = 0..object.bytes.len() as u64;
        let range: Range<u64> = match options.range {
            Some(GetRange::Bounded(range)) => range.start..range.end.min(all.end),
            Some(GetRange::Offset(start)) => start..all.end,
            Some(GetRange::Suffix(len)) => all.end.saturating_sub(len)..all.end,
            None => all,
        };
        let within = |position: u64| usize::try_from(position).unwrap();
        let bytes = object.bytes.slice(within(range.start)..within(range.end));
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
            meta: self.meta(path, &object),
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let paths = locations.collect::<Vec<_>>().now_or_never().unwrap_or_default();
        let removed = paths.into_iter().map(|path| path.and_then(|path| self.remove(&path).map(|()| path)));
        stream::iter(removed.collect::<Vec<_>>()).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(failed("the state lists folders only"))]).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.list_folder(prefix)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(failed("the state copies nothing"))
    }
}

#[async_trait::async_trait]
impl PaginatedListStore for ProcessBucket {
    async fn list_paginated(&self, _: Option<&str>, _: PaginatedListOptions) -> Result<PaginatedListResult> {
        Err(failed("the state lists folders only"))
    }
}
