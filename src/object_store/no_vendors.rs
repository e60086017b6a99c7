//! In a build without the feature `cloud`: no bucket can be used.

use object_store::Error;

use super::connected::ConnectedStore;
use crate::model::BuildFeature;

/// Rejects an address.
pub(super) fn connect(_: &url::Url, _: &[(String, String)]) -> Result<ConnectedStore, Error> {
    Err(Error::NotSupported { source: BuildFeature::Cloud.missing("a bucket").into() })
}
