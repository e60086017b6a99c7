//! In a build without the feature `warehouse`: no Parquet file can be read.

use std::io;
use std::path::Path;

use super::FileError;
use super::open::FileBytes;
use crate::connector::rows::RowSink;
use crate::model::BuildFeature;

/// Fails: the feature is missing.
pub(super) fn read(
    _: FileBytes,
    path: &Path,
    _: &[Box<str>],
    _: &str,
    _: &mut impl RowSink,
) -> Result<bool, FileError> {
    let missing = BuildFeature::Warehouse.missing("a Parquet file");
    let source = io::Error::new(io::ErrorKind::Unsupported, missing);
    Err(FileError::Io { path: path.to_owned(), source })
}
