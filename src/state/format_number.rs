//! The format number of the files of the state, and its check.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::StateError;
use crate::foreign::json_error;

/// The newest format that this program supports.
pub(super) const SUPPORTED: u64 = 2;

/// The members that are read before the content. `version` may have any type, because a later format may change it.
#[derive(Deserialize)]
struct HeaderJson {
    format: u64,
    #[serde(default)]
    version: Value,
}

/// Rejects a file of another format before its content is parsed. Returns its version number, if it has one.
///
/// # Errors
/// [`StateError::Newer`], or [`StateError::Damaged`] when it has no format number or an old one.
pub(super) fn check(bytes: &[u8], path: &Path) -> Result<Option<u64>, StateError> {
    let damaged =
        |e: serde_json::Error| StateError::Damaged { path: path.to_owned(), problem: json_error(&e) };
    let HeaderJson { format, version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > SUPPORTED {
        return Err(StateError::Newer { path: path.to_owned(), found: format, supported: SUPPORTED });
    }
    if format < SUPPORTED {
        let problem = format!("format {format} is not supported any more, only format {SUPPORTED}");
        return Err(StateError::Damaged { path: path.to_owned(), problem });
    }
    Ok(version.as_u64())
}
