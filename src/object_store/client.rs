//! Client of one bucket, or of a prefix in it: S3, Google Cloud Storage or Azure Blob Storage.

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

use super::address::split;
use super::error::io_error;
use super::exact_keys::{self, Listing, Span};
use super::location::{ObjectKey, Signing};
use super::thread::{Pending, RequestThread};

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
        let Connected { store, lists, is_azure } =
            connect(&parsed, options).map_err(|error| io_error(&error))?;
        let key = key.trim_end_matches('/');
        let prefix = if key.is_empty() { Ok(Path::ROOT.into()) } else { ObjectKey::of(key, false) };
        let prefix = prefix
            .map(|location| location.path)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let url = PathBuf::from(url.trim_end_matches('/'));
        Ok(Self { url, prefix, store, lists, is_azure, thread: RequestThread::start()? })
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
    pub fn list(&self, prefix: &str, span: Span) -> Result<Listing, Error> {
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
    ) -> Pending<T> {
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

/// The client of a store, for objects and for listings.
struct Connected {
    store: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    is_azure: bool,
}

/// Creates the client for an address, with the supported settings.
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
            builder
                .with_retry(retry())
                .with_http_connector(exact_keys::ExactKeyConnector(Arc::clone(&signing)))
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

/// Retries end while the caller still waits for the answer.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}
