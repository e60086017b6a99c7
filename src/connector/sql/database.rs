//! A database of the config with its secrets, and the runtime that its client needs.

use super::error::{SqlError, SqlErrorKind};
use crate::config::{Secrets, SqlConfig};
use crate::model::ConnectionName;

/// A database and what it takes to speak to it.
#[derive(Clone, Copy, Debug)]
pub struct Database<'a> {
    /// Its name in the config.
    pub name: &'a ConnectionName,
    /// Where it is.
    pub settings: &'a SqlConfig,
    /// What must not be shown, by name: `password` of PostgreSQL, options of a driver.
    pub secrets: &'a Secrets,
}

/// What a conversation runs on.
pub(super) fn runtime(database: Database<'_>) -> Result<tokio::runtime::Runtime, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| SqlError::new(database.name, SqlErrorKind::Local, e.to_string()))
}
