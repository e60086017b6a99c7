//! A bucket's client: S3, Google Cloud Storage or Azure Blob Storage, or a web server; for whoever blocks.
//!
//! Requests run on a thread of their own, so that callers on any thread can wait for them. What is stored, and
//! what an error means, is not known here; errors are words without the query of any address, which may hold a
//! signature.

mod public;
mod ranges;

pub use ranges::{Blocks, Object, Ranges, Trouble};

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreScheme, RetryConfig};
use tokio::runtime::Runtime;

use crate::foreign::{escaped, without_secrets};

/// Longest message of a store that is repeated.
const MESSAGE_LEN_MAX: usize = 300;

/// A prefix of a bucket, to talk to.
#[derive(Clone)]
pub struct Objects {
    /// Its address, without a slash at its end.
    pub url: PathBuf,
    /// The prefix.
    pub prefix: Path,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    thread: Arc<Thread>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.url).finish()
    }
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

impl Objects {
    /// A client of the store at `url`, with the settings among `options` that it knows. Nothing is sent yet.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn open(url: &str, options: &[(String, String)]) -> io::Result<Self> {
        Self::opened(url, |url| connect(url, options))
    }

    /// A client of the web server of `url`. Unless it is allowed, it is no machine of a private network. Nothing is
    /// sent yet.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn open_web(url: &str, is_allowed: bool) -> io::Result<Self> {
        Self::opened(url, |url| web(url, is_allowed))
    }

    fn opened(
        url: &str,
        connect: impl FnOnce(&url::Url) -> Result<(Arc<dyn ObjectStore>, Path), Error>,
    ) -> io::Result<Self> {
        // Whoever is first installs it for the process; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = url::Url::parse(url).map_err(io::Error::other)?;
        let (store, prefix) = connect(&parsed).map_err(|error| io_error(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let url = PathBuf::from(url.trim_end_matches('/'));
        Ok(Self { url, prefix, store, thread: Arc::new(Thread(Some(runtime))) })
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
        self.begin(work).end()
    }

    /// Begins a request, to wait for it later.
    fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Pending<T> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        if let Some(runtime) = &self.thread.0 {
            runtime.spawn(async move { tell.send(work.await) });
        }
        Pending(told)
    }
}

/// A request under way.
struct Pending<T>(std::sync::mpsc::Receiver<Result<T, Error>>);

impl<T> Pending<T> {
    fn end(self) -> Result<T, Error> {
        self.0.recv().unwrap_or_else(|e| Err(Error::Generic { store: "bucket", source: e.into() }))
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

/// The client of a web server, and the path on it.
fn web(url: &url::Url, is_allowed: bool) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let mut base = url.clone();
    base.set_path("/");
    let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
    let builder = HttpBuilder::new().with_url(base.as_str()).with_client_options(options);
    let builder =
        if is_allowed { builder } else { builder.with_http_connector(public::PublicOnly::new(url)) };
    Ok((Arc::new(builder.with_retry(retry()).build()?), Path::from_url_path(url.path())?))
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
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder),
        _ => {
            let operation = format!("a bucket at {}://", url.scheme());
            return Err(Error::NotImplemented { operation, implementer: "syncline".to_owned() });
        }
    };
    Ok((store, Path::parse(path)?))
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
    // Before the query of an address is cut off: a part of a secret is not recognized.
    let mut text = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // Some errors do not repeat what has caused them.
    let cause = cause.to_string();
    if !text.contains(&cause) {
        text = format!("{text}: {cause}");
    }
    let text = without_secrets(&text).into_owned();
    let words = text.split_whitespace().map(|word| word.split('?').next().unwrap_or(word));
    escaped(&words.collect::<Vec<_>>().join(" ")).chars().take(MESSAGE_LEN_MAX).collect()
}
