//! A bucket's client: S3, Google Cloud Storage or Azure Blob Storage, or a web server; for whoever blocks.
//!
//! Requests run on a thread of their own, so that callers on any thread can wait for them. What is stored, and
//! what an error means, is not known here; errors are words without the query of any address, which may hold a
//! signature.

mod exact_keys;
mod location;
mod public;
mod ranges;
mod web;

pub use exact_keys::{Entry, Listing, Span};
pub use location::Location;
pub use ranges::{CachedBlocks, RangeReader, ReadFailure, RemoteObject};

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreScheme, RetryConfig};
use tokio::runtime::Runtime;

use crate::foreign::{escaped, without_secrets};
use location::Signing;

/// Longest message of a store that is repeated.
const MESSAGE_LEN_MAX: usize = 300;

/// A prefix of a bucket, to talk to.
#[derive(Clone)]
pub struct BucketClient {
    /// Its address, without a slash at its end.
    pub url: PathBuf,
    /// The prefix.
    pub prefix: Path,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    is_azure: bool,
    thread: Thread,
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.url).finish()
    }
}

/// A thread that requests run on.
#[derive(Clone)]
struct Thread(Arc<Owned>);

/// The runtime of it. It must not end by waiting, wherever the last of its users is dropped.
struct Owned(Option<Runtime>);

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self(Arc::new(Owned(Some(runtime)))))
    }

    /// Begins a request, to wait for it later.
    fn begin<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        let (result, pending) = std::sync::mpsc::sync_channel(1);
        if let Some(runtime) = &self.0.0 {
            runtime.spawn(async move { result.send(work.await) });
        }
        Pending(pending)
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(work).end().unwrap_or_else(|| Err(io::Error::other("the request was dropped")))
    }
}

impl BucketClient {
    /// A client of the store at `url`, with the settings among `options` that it knows. Nothing is sent yet.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn open(url: &str, options: &[(String, String)]) -> io::Result<Self> {
        // A second installation for this process changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (root, key) = split(url);
        let parsed = url::Url::parse(root).map_err(io::Error::other)?;
        let Connected { store, lists, is_azure } =
            connect(&parsed, options).map_err(|error| io_error(&error))?;
        let key = key.trim_end_matches('/');
        let prefix = if key.is_empty() { Ok(Path::ROOT.into()) } else { Location::of(key, false) };
        let prefix = prefix
            .map(|location| location.path)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let url = PathBuf::from(url.trim_end_matches('/'));
        Ok(Self { url, prefix, store, lists, is_azure, thread: Thread::start()? })
    }

    /// The location of exactly this key, from the bucket's root on.
    ///
    /// # Errors
    /// Why the key cannot be asked for.
    pub fn exact(&self, key: &str) -> Result<Location, String> {
        if self.is_azure && key.ends_with('/') {
            return Err("its key ends with a slash, which the client drops".to_owned());
        }
        Location::of(key, !self.is_azure)
    }

    /// Asks for the length and the tag of an object.
    ///
    /// # Errors
    /// Those of the request.
    pub fn head(&self, location: &Location) -> Result<ObjectMeta, Error> {
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

    /// Lists the keys that begin with `prefix`, each exactly as the store has it.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn list(&self, prefix: &str, span: Span) -> Result<Listing, Error> {
        let (lists, prefix) = (Arc::clone(&self.lists), prefix.to_owned());
        self.wait(async move { exact_keys::list(lists, prefix, span).await })
    }

    /// The object of a path below the prefix.
    #[must_use]
    pub fn object(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), Path::join)
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

/// A request under way.
struct Pending<T>(std::sync::mpsc::Receiver<T>);

impl<T> Pending<T> {
    /// Its result; none if it was dropped.
    fn end(self) -> Option<T> {
        self.0.recv().ok()
    }
}

/// The bucket's own address, and the key or pattern in it, exactly.
#[must_use]
pub fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(at) => (&url[..host + at], &url[host + at + 1..]),
        None => (url, ""),
    }
}

/// Whether an address is a web server's and no bucket's.
#[must_use]
pub fn is_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Settings of a client: what the environment says, and an address and a region that the config says.
#[must_use]
pub fn settings(
    environment: &[(String, String)],
    endpoint: Option<&str>,
    region: Option<&str>,
) -> Vec<(String, String)> {
    let mut settings = environment.to_vec();
    let mut set = |name: &str, value: &str| settings.push((name.to_owned(), value.to_owned()));
    if let Some(endpoint) = endpoint {
        for name in ["aws_endpoint", "google_base_url", "azure_storage_endpoint"] {
            set(name, endpoint);
        }
        if endpoint.starts_with("http://") {
            for name in ["aws_allow_http", "google_allow_http", "azure_allow_http"] {
                set(name, "true");
            }
        }
    }
    if let Some(region) = region {
        set("aws_region", region);
    }
    settings
}

/// The client of a store, in both of its roles.
struct Connected {
    store: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    is_azure: bool,
}

/// The client of the store that the address names, with the settings that it knows.
fn connect(url: &url::Url, options: &[(String, String)]) -> Result<Connected, Error> {
    let signing = Arc::<Signing>::default();
    macro_rules! builder {
        ($builder:ty) => {{
            let with =
                |builder: $builder, (name, value): &(String, String)| match name.to_ascii_lowercase().parse()
                {
                    Ok(known) => builder.with_config(known, value),
                    Err(_) => builder,
                };
            let builder = options.iter().fold(<$builder>::new().with_url(url.as_str()), with);
            builder.with_retry(retry()).with_http_connector(exact_keys::Connector(Arc::clone(&signing)))
        }};
    }
    let (scheme, _) = ObjectStoreScheme::parse(url)?;
    let is_azure = matches!(scheme, ObjectStoreScheme::MicrosoftAzure);
    let (store, lists) = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = builder!(AmazonS3Builder);
            let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
            let store = builder.build()?;
            signing.set(store.credentials(), region);
            both(store)
        }
        ObjectStoreScheme::GoogleCloudStorage => both(builder!(GoogleCloudStorageBuilder).build()?),
        ObjectStoreScheme::MicrosoftAzure => both(builder!(MicrosoftAzureBuilder).build()?),
        _ => {
            let operation = format!("a bucket at {}://", url.scheme());
            return Err(Error::NotImplemented { operation, implementer: "syncline".to_owned() });
        }
    };
    Ok(Connected { store, lists, is_azure })
}

fn both<S: ObjectStore + PaginatedListStore>(
    store: S,
) -> (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>) {
    let store = Arc::new(store);
    (Arc::clone(&store) as Arc<dyn ObjectStore>, store as Arc<dyn PaginatedListStore>)
}

/// A store that does not answer is given up on while somebody still waits for the answer.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

/// The kind of trouble, and what the store says.
#[must_use]
pub fn io_error(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, plain(error))
}

/// What the store says: short, without secrets and without the query of any address.
fn plain(error: &Error) -> String {
    error_text(error)
}

/// What an error says with all of its causes: short, without secrets and without the query of any address.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    // Before the query of an address is cut off: a part of a secret is not recognized.
    let text = without_secrets(&text).into_owned();
    let words = text.split_whitespace().map(|word| word.split('?').next().unwrap_or(word));
    escaped(&words.collect::<Vec<_>>().join(" ")).chars().take(MESSAGE_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_what_is_in_it() {
        assert_eq!(split("s3://b/a/*.csv"), ("s3://b", "a/*.csv"));
        assert_eq!(split("s3://b"), ("s3://b", ""));
        assert_eq!(split("s3://b//a"), ("s3://b", "/a"));
    }
}
