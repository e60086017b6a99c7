//! Databases, and cohorts that are asked of them, typed. It holds no secret, only where each one is to be found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;
use crate::model::ConnectionName;

/// A database that cohorts may be asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlConfig {
    /// One that speaks PostgreSQL's protocol.
    Postgres(PostgresConfig),
    /// One that a driver of Arrow Database Connectivity speaks to.
    Adbc(AdbcConfig),
}

impl SqlConfig {
    /// Where its secrets are, by their names.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &SecretRef)> {
        let (password, options) = match self {
            Self::Postgres(postgres) => (postgres.password.as_ref(), None),
            Self::Adbc(adbc) => (None, Some(&adbc.secrets)),
        };
        let options = options.into_iter().flatten().map(|(name, place)| (&**name, place));
        password.map(|place| ("password", place)).into_iter().chain(options)
    }
}

/// A database that a driver on this machine speaks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdbcConfig {
    /// The driver's name among those that are installed, or its file.
    pub driver: String,
    /// The function of the file to begin with, if it is not the usual one.
    pub entrypoint: Option<String>,
    /// What the driver is told, as it calls it.
    pub options: BTreeMap<String, String>,
    /// The same, of what must not be shown.
    pub secrets: BTreeMap<String, SecretRef>,
    /// What stands around names in a query.
    pub quote: char,
    /// How long a query may take.
    pub statement_timeout: Duration,
}

/// A database that speaks PostgreSQL's protocol.
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
    /// Where the password is, if there is one.
    pub password: Option<SecretRef>,
    /// Whether the connection is encrypted and checked.
    pub is_encrypted: bool,
    /// Certificates to trust besides the machine's.
    pub ca: Option<PathBuf>,
    /// How long a query may take.
    pub statement_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The schema that tables of members are kept in, if there is one.
    pub pushdown: Option<String>,
}

/// A query whose rows are a whole cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlSource {
    /// The connection.
    pub connection: ConnectionName,
    /// The query, or the table's name.
    pub query: SqlQuery,
    /// Values for its placeholders, as text.
    pub params: Vec<String>,
    /// Texts that stand for "no value".
    pub null_values: Vec<String>,
    /// Whether the rows are compared with the members where they are.
    pub pushdown: bool,
}

/// What is asked of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlQuery {
    /// A query.
    Text(String),
    /// Everything in a table: its name, with what it lies in.
    Table(Vec<String>),
}
