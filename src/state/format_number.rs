//! The format number of the files of the state, and its check.

use std::path::Path;

use serde::Deserialize;

use super::StateError;

/// The newest format that this program supports.
pub(super) const SUPPORTED: u64 = 2;

/// Rejects a file of another format before its content is parsed.
///
/// # Errors
/// [`StateError::Newer`], or [`StateError::Damaged`] when it has no format number or an old one.
pub(super) fn check(bytes: &[u8], path: &Path) -> Result<(), StateError> {
    #[derive(Deserialize)]
    struct FormatNumber {
        format: u64,
    }
    let damaged =
        |e: serde_json::Error| StateError::Damaged { path: path.to_owned(), problem: e.to_string() };
    let FormatNumber { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > SUPPORTED {
        return Err(StateError::Newer { path: path.to_owned(), found: format, supported: SUPPORTED });
    }
    if format < SUPPORTED {
        let problem = format!("format {format} is not supported any more, only format {SUPPORTED}");
        return Err(StateError::Damaged { path: path.to_owned(), problem });
    }
    Ok(())
}
