//! Reads an object by ranges: sequentially with prefetch, or at any position by blocks.
//!
//! # Guarantees
//! All bytes belong to one version: each request states the tag, and a replaced object is an error of kind
//! `StaleNetworkFileHandle`. An incomplete range is requested again and then becomes an error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::client::BucketClient;
use super::error::io_error;
use super::exact_keys::ListedObject;
use super::location::ObjectKey;
use super::retried::{AttemptError, READ_RETRY, retried};
use super::thread::PendingRequest;
use super::web::{ContentValidators, WebFile, is_weak, replaced, strong_part};

/// Bytes per request of a sequential read.
const RANGE_LEN: u64 = 8 << 20;
/// Bytes of a block.
const BLOCK_LEN: u64 = 2 << 20;
/// Blocks in the cache.
const BLOCKS_MAX: usize = 6;

/// A remote object.
#[derive(Clone, Debug)]
pub struct RemoteObject {
    origin: ObjectOrigin,
    /// Its length in bytes, if known.
    pub len: u64,
    /// The store's tag of the content.
    pub tag: Option<String>,
    /// Modification time, by the store's clock.
    pub modified: Option<SystemTime>,
    /// The first error of a read, kept because parsers may replace it.
    failure: ReadFailure,
}

#[derive(Clone, Debug)]
enum ObjectOrigin {
    Bucket(BucketClient, ObjectKey),
    Web(Box<WebFile>),
}

/// The first error of an object's readers.
pub type ReadFailure = Arc<Mutex<Option<io::Error>>>;

impl RemoteObject {
    /// An object with this metadata.
    #[must_use]
    pub fn new(objects: &BucketClient, location: ObjectKey, len: u64, tag: Option<String>) -> Self {
        let origin = ObjectOrigin::Bucket(objects.clone(), location);
        Self { origin, len, tag, modified: None, failure: ReadFailure::default() }
    }

    /// An object from a metadata request.
    #[must_use]
    pub fn of(objects: &BucketClient, location: ObjectKey, meta: ObjectMeta) -> Self {
        let modified = Some(SystemTime::from(meta.last_modified));
        Self { modified, ..Self::new(objects, location, meta.size, meta.e_tag) }
    }

    /// An object of a listing.
    ///
    /// # Errors
    /// The reason why its key is not supported.
    pub fn listed(objects: &BucketClient, entry: ListedObject) -> Result<Self, String> {
        let location = objects.exact(&entry.key)?;
        Ok(Self { modified: Some(entry.modified), ..Self::new(objects, location, entry.len, entry.tag) })
    }

    /// A file on a web server. Unless `is_allowed`, private addresses are rejected.
    ///
    /// # Errors
    /// When the file does not exist, or the server does not answer.
    pub fn on_web(url: &str, is_allowed: bool) -> io::Result<Self> {
        let file = WebFile::find(url, is_allowed)?;
        let ContentValidators { len, tag, modified } = file.metadata.clone();
        let len = len.unwrap_or_default();
        Ok(Self {
            origin: ObjectOrigin::Web(Box::new(file)),
            len,
            tag,
            modified,
            failure: ReadFailure::default(),
        })
    }

    /// Downloads a file if its server does not support ranges; none if it does.
    ///
    /// # Errors
    /// When the download fails.
    pub fn download(&self) -> Option<io::Result<File>> {
        match &self.origin {
            ObjectOrigin::Web(file) if !file.has_ranges => Some(file.download()),
            _ => None,
        }
    }

    /// The tag for comparisons: weak and strong tags of one content are equal.
    #[must_use]
    pub fn comparable_tag(&self) -> Option<&str> {
        self.tag.as_deref().map(strong_part)
    }

    /// Takes the first error of its readers, if there was one.
    #[must_use]
    pub fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn begin(&self, range: Range<u64>) -> PendingRequest<io::Result<Bytes>> {
        match &self.origin {
            ObjectOrigin::Web(file) => file.begin(range),
            ObjectOrigin::Bucket(objects, location) => {
                let (store, location, tag) = (Arc::clone(&objects.store), location.clone(), self.tag.clone());
                objects.begin(async move {
                    let cause = |_: &Error| "the bucket ends a response early".to_owned();
                    let received = retried(READ_RETRY, "bucket", cause, || {
                        read_range(&*store, &location, tag.as_deref(), range.clone())
                    })
                    .await;
                    received.map_err(|error| match &error {
                        Error::Precondition { .. } | Error::NotFound { .. } => replaced(),
                        error => io_error(error),
                    })
                })
            }
        }
    }

    fn end(&self, pending: PendingRequest<io::Result<Bytes>>) -> io::Result<Bytes> {
        let received = pending.end().unwrap_or_else(|| Err(io::Error::other("the request was dropped")));
        received.map_err(|error| {
            let error = match error.kind() {
                // The object existed when it was found.
                io::ErrorKind::NotFound => replaced(),
                _ => error,
            };
            let again = io::Error::new(error.kind(), error.to_string());
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            again
        })
    }
}

/// Requests a whole range, once.
async fn read_range(
    store: &dyn ObjectStore,
    location: &ObjectKey,
    tag: Option<&str>,
    range: Range<u64>,
) -> Result<Bytes, AttemptError<Error>> {
    let options = GetOptions {
        range: Some(GetRange::Bounded(range.clone())),
        // A weak tag never satisfies `If-Match`.
        if_match: tag.filter(|tag| !is_weak(tag)).map(str::to_owned),
        ..location.options()
    };
    // The store has repeated the request already.
    let found = store.get_opts(&location.path, options).await.map_err(AttemptError::lasting)?;
    // If the condition was sent, the store has compared the tags.
    let now = found.meta.e_tag.as_deref().map(strong_part);
    if tag.is_some_and(is_weak) && tag.map(strong_part) != now {
        let (path, source) = (location.path.to_string(), "another tag".into());
        return Err(AttemptError::lasting(Error::Precondition { path, source }));
    }
    let bytes = found.bytes().await.map_err(AttemptError::transient)?;
    if bytes.len() as u64 == range.end - range.start {
        return Ok(bytes);
    }
    let what = format!("received {} of {} bytes", bytes.len(), range.end - range.start);
    Err(AttemptError::transient(Error::Generic { store: "bucket", source: what.into() }))
}

/// Sequential reader with prefetch of the next range.
pub struct RangeReader {
    object: RemoteObject,
    at: u64,
    buffer: Bytes,
    ahead: Option<PendingRequest<io::Result<Bytes>>>,
}

impl RangeReader {
    /// Starts at a byte. Sends no request yet.
    #[must_use]
    pub fn new(object: RemoteObject, from: u64) -> Self {
        Self { object, at: from, buffer: Bytes::new(), ahead: None }
    }

    fn next(&mut self) -> Option<PendingRequest<io::Result<Bytes>>> {
        let end = (self.at + RANGE_LEN).min(self.object.len);
        let range = self.at..end;
        self.at = self.at.max(end);
        (!range.is_empty()).then(|| self.object.begin(range))
    }
}

impl Read for RangeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty()
            && let Some(pending) = self.ahead.take().or_else(|| self.next())
        {
            self.ahead = self.next();
            self.buffer = self.object.end(pending)?;
        }
        let len = self.buffer.len().min(into.len());
        self.buffer.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}

/// Random access by blocks, with a cache of the last blocks.
pub struct CachedBlocks {
    object: RemoteObject,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
}

impl CachedBlocks {
    /// An empty cache.
    #[must_use]
    pub fn new(object: RemoteObject) -> Self {
        Self { object, kept: Mutex::default() }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.object.len
    }

    /// Whether the object is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.object.len == 0
    }

    /// The same object with its own cache.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::new(self.object.clone())
    }

    /// Reads bytes at a position. Returns none at the end.
    ///
    /// # Errors
    /// When the read fails, or the object has another version now.
    pub fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        if position >= self.object.len {
            return Ok(0);
        }
        let block = self.block(position / BLOCK_LEN)?;
        let within = usize::try_from(position % BLOCK_LEN).unwrap_or(usize::MAX);
        let rest = block.get(within..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn block(&self, at: u64) -> io::Result<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept.iter().find(|(block, _)| *block == at) {
            return Ok(bytes.clone());
        }
        let range = at * BLOCK_LEN..((at + 1) * BLOCK_LEN).min(self.object.len);
        let bytes = self.object.end(self.object.begin(range))?;
        kept.truncate(BLOCKS_MAX - 1);
        kept.push_front((at, bytes.clone()));
        Ok(bytes)
    }
}
