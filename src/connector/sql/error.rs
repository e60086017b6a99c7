//! Errors of databases, classified by who can fix them and whether a retry can help.

use crate::foreign::{escaped, without_secrets};
use crate::model::ConnectionName;

/// Longest server message that is quoted, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// Class of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlErrorKind {
    /// The server cannot be reached, or its protocol is not supported.
    Unreachable,
    /// The server accepts no connection at present.
    Busy,
    /// The connection broke, or the server stopped, while rows were read.
    Broken,
    /// The server's certificate is missing or does not match its name.
    Certificate,
    /// User or password are wrong.
    Credentials,
    /// The user lacks a permission that the query needs.
    Permission,
    /// Row-level security would hide rows from the user.
    RowSecurity,
    /// The query is invalid.
    Query,
    /// The driver inferred the type of a column from its first rows, and a later row has another type.
    TypeGuess(Option<String>),
    /// The query writes.
    Writes,
    /// The database rejects a temporary table.
    TempTable(String),
    /// The driver is missing or does not work.
    Driver,
    /// The query exceeded its time limit.
    Timeout,
    /// A column of a rule is missing in the query.
    MissingColumn {
        /// The column.
        column: String,
        /// The columns of the query.
        found: Vec<String>,
    },
    /// A column of a rule exists twice.
    DuplicateColumn(String),
    /// The sink stopped the read. The sink keeps the reason.
    Stopped,
    /// This machine lacks a resource.
    Local,
}

/// The reason why a query returned no rows, or not all of them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct SqlError {
    /// The connection.
    pub database: ConnectionName,
    /// Class of the error.
    pub kind: SqlErrorKind,
    /// The server's message.
    pub message: String,
}

impl SqlError {
    pub(super) fn new(database: &ConnectionName, kind: SqlErrorKind, message: impl Into<String>) -> Self {
        // Secrets are removed before the text is cut: a partial secret would not be recognized.
        let message = without_secrets(&message.into()).into_owned();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = escaped(&message).chars().take(MESSAGE_LEN_MAX).collect();
        Self { database: database.clone(), kind, message }
    }

    /// The config has no such connection.
    #[must_use]
    pub fn unknown(database: &ConnectionName) -> Self {
        Self::new(database, SqlErrorKind::Local, "the config does not have it")
    }

    fn text(&self) -> String {
        let (database, message) = (&self.database, &self.message);
        match &self.kind {
            SqlErrorKind::Unreachable => format!("database `{database}` cannot be reached: {message}"),
            SqlErrorKind::Busy => {
                format!("database `{database}` accepts no connection at present: {message}")
            }
            SqlErrorKind::Broken => {
                format!("database `{database}` closed the connection before all rows were read: {message}")
            }
            SqlErrorKind::Certificate => format!("database `{database}` cannot be trusted: {message}"),
            SqlErrorKind::Credentials => format!("database `{database}` rejects the user: {message}"),
            SqlErrorKind::Permission => {
                format!("the user lacks a permission in database `{database}`: {message}")
            }
            SqlErrorKind::RowSecurity => {
                format!("row-level security hides rows from the user in database `{database}`: {message}")
            }
            SqlErrorKind::Query => format!("database `{database}` rejects the query: {message}"),
            SqlErrorKind::TypeGuess(column) => {
                let column = column.as_ref().map_or("a column".to_owned(), |name| format!("column `{name}`"));
                format!(
                    "the driver of database `{database}` took the type of {column} from its first rows, and a later row has another type: {message}"
                )
            }
            SqlErrorKind::Writes => format!("the query would write to database `{database}`: {message}"),
            SqlErrorKind::TempTable(table) => {
                format!("database `{database}` rejects the temporary table `{table}`: {message}")
            }
            SqlErrorKind::Driver => format!("the driver of database `{database}` cannot be used: {message}"),
            SqlErrorKind::Timeout => format!("database `{database}` ended the query: {message}"),
            SqlErrorKind::MissingColumn { column, .. } => {
                format!("the query of database `{database}` has no column `{column}`")
            }
            SqlErrorKind::DuplicateColumn(column) => {
                format!("the query of database `{database}` has two columns `{column}`")
            }
            SqlErrorKind::Stopped => "reading was stopped".to_owned(),
            SqlErrorKind::Local => {
                format!("database `{database}` cannot be queried from this machine: {message}")
            }
        }
    }
}
