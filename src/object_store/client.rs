//! Client of one bucket, or of a prefix in it: S3, Google Cloud Storage or Azure Blob Storage.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore};

use super::address::split;
use super::connected::ConnectedStore;
use super::error::io_error;
use super::exact_keys::{self, ByteSpan, ObjectListing};
use super::location::ObjectKey;
use super::thread::{PendingRequest, RequestThread};
use super::vendors;

/// A client of a bucket, or of a prefix in it.
#[derive(Clone)]
pub struct BucketClient {
    /// Its address, without a trailing slash.
    pub url: PathBuf,
    /// The prefix.
    pub prefix: Path,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    is_azure: bool,
    thread: RequestThread,
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.url).finish()
    }
}

impl BucketClient {
    /// Creates a client for the store at `url`, with the supported settings among `options`. Sends nothing.
    ///
    /// # Errors
    /// The reason why the client cannot be created.
    pub fn open(url: &str, options: &[(String, String)]) -> io::Result<Self> {
        // Only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (root, key) = split(url);
        let parsed = url::Url::parse(root).map_err(io::Error::other)?;
        let ConnectedStore { store, lists, is_azure } =
            vendors::connect(&parsed, options).map_err(|error| io_error(&error))?;
        let key = key.trim_end_matches('/');
        let prefix = if key.is_empty() { Ok(Path::ROOT.into()) } else { ObjectKey::of(key, false) };
        let prefix = prefix
            .map(|location| location.path)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let url = PathBuf::from(url.trim_end_matches('/'));
        Ok(Self { url, prefix, store, lists, is_azure, thread: RequestThread::start()? })
    }

    /// The client of a simulated bucket.
    #[cfg(test)]
    pub(crate) fn simulated(store: Arc<dyn ObjectStore>, lists: Arc<dyn PaginatedListStore>) -> Self {
        let (url, prefix, thread) = (PathBuf::from("sim://bucket"), Path::ROOT, RequestThread::none());
        Self { url, prefix, store, lists, is_azure: false, thread }
    }

    /// The location of exactly this key, from the bucket's root.
    ///
    /// # Errors
    /// The reason why the key is not supported.
    pub fn exact(&self, key: &str) -> Result<ObjectKey, String> {
        if self.is_azure && key.ends_with('/') {
            return Err("its key ends with a slash, which the client drops".to_owned());
        }
        ObjectKey::of(key, !self.is_azure)
    }

    /// Requests the length and the tag of an object.
    ///
    /// # Errors
    /// Those of the request.
    pub fn head(&self, location: &ObjectKey) -> Result<ObjectMeta, Error> {
        let (store, location) = (Arc::clone(&self.store), location.clone());
        self.wait(async move {
            let options = GetOptions { head: true, ..location.options() };
            Ok(store.get_opts(&location.path, options).await?.meta)
        })
    }

    /// The key of a path below the prefix.
    #[must_use]
    pub fn key(&self, relative: &str) -> String {
        if self.prefix.is_root() { relative.to_owned() } else { format!("{}/{relative}", self.prefix) }
    }

    /// Lists the keys that begin with `prefix`, exactly as stored.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn list(&self, prefix: &str, span: ByteSpan) -> Result<ObjectListing, Error> {
        let (lists, prefix) = (Arc::clone(&self.lists), prefix.to_owned());
        self.wait(async move { exact_keys::list(lists, prefix, span).await })
    }

    /// The object of a path below the prefix.
    #[must_use]
    pub fn object(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), Path::join)
    }

    /// Starts a request, to wait for it later.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> PendingRequest<T> {
        self.thread.begin(work)
    }

    /// Runs a request and waits for it.
    ///
    /// # Errors
    /// Those of the request.
    pub fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let dropped = || Error::Generic { store: "bucket", source: "the request was dropped".into() };
        self.thread.begin(work).end().unwrap_or_else(|| Err(dropped()))
    }
}
