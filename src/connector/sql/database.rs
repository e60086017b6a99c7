//! A database of the config with its secrets, and the runtime that its client needs.

use super::error::{SqlError, SqlErrorKind};
use crate::config::{Secrets, SqlConfig};
use crate::model::ConnectionName;

/// A database of the config, with its secrets.
#[derive(Clone, Copy, Debug)]
pub struct Database<'a> {
    /// Its name in the config.
    pub name: &'a ConnectionName,
    /// Its settings.
    pub settings: &'a SqlConfig,
    /// Secrets by name: `password` of PostgreSQL, or options of a driver.
    pub secrets: &'a Secrets,
}

/// The runtime of a session.
pub(super) fn runtime(database: Database<'_>) -> Result<tokio::runtime::Runtime, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| SqlError::new(database.name, SqlErrorKind::Local, e.to_string()))
}
