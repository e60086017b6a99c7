//! SQL connections and sources, typed. They contain locations of secrets, not the secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;
use crate::model::ConnectionName;

/// A SQL connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlConfig {
    /// A database with PostgreSQL's protocol.
    Postgres(PostgresConfig),
    /// A database with an ADBC driver.
    Adbc(AdbcConfig),
}

impl SqlConfig {
    /// Locations of its secrets, by name.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &SecretRef)> {
        let (password, options) = match self {
            Self::Postgres(postgres) => (postgres.password.as_ref(), None),
            Self::Adbc(adbc) => (None, Some(&adbc.secrets)),
        };
        let options = options.into_iter().flatten().map(|(name, secret)| (&**name, secret));
        password.map(|secret| ("password", secret)).into_iter().chain(options)
    }
}

/// A database with an ADBC driver on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdbcConfig {
    /// Name of an installed driver, or its file.
    pub driver: String,
    /// Entry point of the file, if it is not the default.
    pub entrypoint: Option<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Locations of secret options.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Quote character for names.
    pub quote: char,
    /// Timeout of a query.
    pub statement_timeout: Duration,
}

/// A database with PostgreSQL's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// The host, or the folder of its socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// Location of the password.
    pub password: Option<SecretRef>,
    /// Whether the connection is encrypted and the certificate verified.
    pub is_encrypted: bool,
    /// Additional trusted certificates.
    pub ca: Option<PathBuf>,
    /// Timeout of a query.
    pub statement_timeout: Duration,
    /// Timeout of connecting.
    pub connect_timeout: Duration,
    /// Schema of mirror tables.
    pub pushdown: Option<String>,
}

/// A query or table with all members of a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlSource {
    /// The connection.
    pub connection: ConnectionName,
    /// The query, or the table's name.
    pub query: SqlQuery,
    /// Values for its placeholders, as text.
    pub params: Vec<String>,
    /// Strings that mean "no value".
    pub null_values: Vec<String>,
    /// Whether rows are compared with the members in the database.
    pub pushdown: bool,
}

/// A query or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlQuery {
    /// A query.
    Text(String),
    /// All rows of a table, by its qualified name.
    Table(Vec<String>),
}
