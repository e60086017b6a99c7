//! The runtime that a session needs.

use crate::connector::sql::{Database, SqlError, SqlErrorKind};

/// The runtime of a session.
pub(super) fn runtime(database: Database<'_>) -> Result<tokio::runtime::Runtime, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| SqlError::new(database.name, SqlErrorKind::Local, e.to_string()))
}
