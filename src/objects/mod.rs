//! A bucket's client: S3, Google Cloud Storage or Azure Blob Storage, for whoever blocks.
//!
//! Requests run on a thread of their own, so that callers on any thread can wait for them. What is stored, and
//! what an error means, is not known here; errors are words without the query of any address, which may hold a
//! signature.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreScheme, RetryConfig};
use tokio::runtime::Runtime;

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
        // Whoever is first installs it for the process; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = url::Url::parse(url).map_err(io::Error::other)?;
        let (store, prefix) = connect(&parsed, options).map_err(|error| io_error(&error))?;
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
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        if let Some(runtime) = &self.thread.0 {
            runtime.spawn(async move { tell.send(work.await) });
        }
        told.recv().unwrap_or_else(|e| Err(Error::Generic { store: "bucket", source: e.into() }))
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

/// What the store says, short, and without the query of any address.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().map(|word| word.split('?').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ").chars().take(MESSAGE_LEN_MAX).collect()
}
