//! A database of the config with its secrets, and what is known about it and its tables.

use crate::config::{Secrets, SqlConfig};
use crate::model::{ConnectionName, Timestamp};

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

/// Properties of a database. A property that the server does not report is none.
#[derive(Clone, Debug, Default)]
pub struct DatabaseInfo {
    /// Product and version.
    pub server: Option<String>,
    /// The server's current time.
    pub clock: Option<Timestamp>,
    /// Open connections, and the maximum.
    pub connections: Option<(i64, i64)>,
    /// Whether the user can write.
    pub may_write: Option<bool>,
    /// A transaction pooler assigns server connections per transaction.
    pub pooled: bool,
}

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlTable {
    /// Its name, qualified by catalog and schema.
    pub name: Vec<String>,
    /// The names of its columns, in order.
    pub columns: Vec<String>,
    /// Estimated number of rows, if the database keeps statistics.
    pub rows: Option<u64>,
}
