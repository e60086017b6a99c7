//! In a build without the feature `cloud`: no bucket can be used.

use object_store::Error;

use super::connected::Connected;
use crate::model::BuildFeature;

/// Rejects an address.
pub(super) fn connect(_: &url::Url, _: &[(String, String)]) -> Result<Connected, Error> {
    Err(Error::NotSupported { source: BuildFeature::Cloud.missing("a bucket").into() })
}
