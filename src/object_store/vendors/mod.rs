//! Clients of the vendors' stores: S3, Google Cloud Storage and Azure Blob Storage.

mod listing;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::{Error, ObjectStore, ObjectStoreScheme, RetryConfig};

use self::listing::ExactKeyConnector;
use self::signing::RequestSigning;
use super::connected::ConnectedStore;

/// Creates the client for an address, with the supported settings.
pub(in super::super) fn connect(
    url: &url::Url,
    options: &[(String, String)],
) -> Result<ConnectedStore, Error> {
    let signing = Arc::<RequestSigning>::default();
    macro_rules! builder {
        ($builder:ty) => {{
            let with =
                |builder: $builder, (name, value): &(String, String)| match name.to_ascii_lowercase().parse()
                {
                    Ok(known) => builder.with_config(known, value),
                    Err(_) => builder,
                };
            let builder = options.iter().fold(<$builder>::new().with_url(url.as_str()), with);
            builder.with_retry(retry()).with_http_connector(ExactKeyConnector(Arc::clone(&signing)))
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
    Ok(ConnectedStore { store, lists, is_azure })
}

fn both<S: ObjectStore + PaginatedListStore>(
    store: S,
) -> (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>) {
    let store = Arc::new(store);
    (Arc::clone(&store) as Arc<dyn ObjectStore>, store as Arc<dyn PaginatedListStore>)
}

/// Attempts after the first one.
const RETRIES_MAX: usize = 6;

/// Retries end while the caller still waits for the answer.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES_MAX, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}
