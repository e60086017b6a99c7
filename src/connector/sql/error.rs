//! Errors of databases, classified by who can fix them and whether a retry can help.

use tokio_postgres::error::{DbError, SqlState};

use super::tls;
use crate::foreign::{escaped, without_secrets};
use crate::model::ConnectionName;

/// Longest server message that is quoted, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// Parts of driver messages when the type of a column was inferred from its first rows: of SQLite; of DuckDB for CSV
/// and JSON files, and for SQLite tables.
const TYPE_GUESS_SIGNS: [&str; 5] =
    ["type mismatch in column", "auto-detect", "auto_detect", "sample_size", "invalid type in column"];

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
    pub trouble: SqlErrorKind,
    /// The server's message.
    pub message: String,
}

impl SqlError {
    pub(super) fn new(database: &ConnectionName, trouble: SqlErrorKind, message: impl Into<String>) -> Self {
        // Secrets are removed before the text is cut: a partial secret would not be recognized.
        let message = without_secrets(&message.into()).into_owned();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = escaped(&message).chars().take(MESSAGE_LEN_MAX).collect();
        Self { database: database.clone(), trouble, message }
    }

    /// The config has no such connection.
    #[must_use]
    pub fn unknown(database: &ConnectionName) -> Self {
        Self::new(database, SqlErrorKind::Local, "the config does not have it")
    }

    /// Classifies an error of the client library.
    pub(super) fn of(database: &ConnectionName, error: &tokio_postgres::Error, before_rows: bool) -> Self {
        let Some(server) = error.as_db_error() else {
            let trouble = if before_rows { SqlErrorKind::Unreachable } else { SqlErrorKind::Broken };
            return Self::new(database, trouble, tls::cause(error));
        };
        let mut message = server.message().to_owned();
        if let Some(hint) = server.hint() {
            message.push_str(&format!(" ({hint})"));
        }
        let trouble = match server.code() {
            code if is_authentication(code) => SqlErrorKind::Credentials,
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE && is_about_row_security(server) => {
                SqlErrorKind::RowSecurity
            }
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => SqlErrorKind::Permission,
            code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => SqlErrorKind::Writes,
            code if *code == SqlState::QUERY_CANCELED => SqlErrorKind::Timeout,
            code if is_busy(code) && before_rows => SqlErrorKind::Busy,
            code if is_going_away(code) => {
                if before_rows {
                    SqlErrorKind::Unreachable
                } else {
                    SqlErrorKind::Broken
                }
            }
            code if *code == SqlState::INVALID_CATALOG_NAME => SqlErrorKind::Credentials,
            _ => SqlErrorKind::Query,
        };
        Self::new(database, trouble, message)
    }

    /// The same error, as [`SqlErrorKind::TypeGuess`] if its message says so. `columns` are those of the query.
    pub(super) fn or_type_guess(self, columns: &[Box<str>]) -> Self {
        let message = self.message.to_ascii_lowercase();
        let may_be = matches!(self.trouble, SqlErrorKind::Query | SqlErrorKind::Broken);
        if !may_be || !TYPE_GUESS_SIGNS.iter().any(|sign| message.contains(sign)) {
            return self;
        }
        // SQLite's driver counts columns from 0; DuckDB names them.
        let place = message
            .split_once("mismatch in column ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
        #[allow(clippy::borrowed_box, reason = "what `find` hands out")]
        let named = |name: &&Box<str>| {
            let name = name.to_ascii_lowercase();
            message.contains(&format!("column \"{name}\"")) || message.contains(&format!("column {name} "))
        };
        let column = place.and_then(|place| columns.get(place)).or_else(|| columns.iter().find(named));
        let column = column.map(|name| escaped(name).into_owned());
        Self { trouble: SqlErrorKind::TypeGuess(column), ..self }
    }

    fn text(&self) -> String {
        let (database, message) = (&self.database, &self.message);
        match &self.trouble {
            SqlErrorKind::Unreachable => format!("database `{database}` cannot be reached: {message}"),
            SqlErrorKind::Busy => format!("database `{database}` takes no connection now: {message}"),
            SqlErrorKind::Broken => {
                format!("database `{database}` broke off in the middle of the rows: {message}")
            }
            SqlErrorKind::Certificate => format!("database `{database}` cannot be trusted: {message}"),
            SqlErrorKind::Credentials => format!("database `{database}` refuses the user: {message}"),
            SqlErrorKind::Permission => {
                format!("the user may not read that in database `{database}`: {message}")
            }
            SqlErrorKind::RowSecurity => {
                format!("row-level security hides rows from the user in database `{database}`: {message}")
            }
            SqlErrorKind::Query => format!("database `{database}` refuses the query: {message}"),
            SqlErrorKind::TypeGuess(column) => {
                let column = column.as_ref().map_or("a column".to_owned(), |name| format!("column `{name}`"));
                format!(
                    "the driver of database `{database}` took the type of {column} from its first rows, and a later row has another type: {message}"
                )
            }
            SqlErrorKind::Writes => format!("the query would write to database `{database}`: {message}"),
            SqlErrorKind::TempTable(table) => {
                format!("database `{database}` does not take the table `{table}`: {message}")
            }
            SqlErrorKind::Driver => format!("the driver of database `{database}` cannot be used: {message}"),
            SqlErrorKind::Timeout => format!("database `{database}` ended the query: {message}"),
            SqlErrorKind::MissingColumn { column, .. } => {
                format!("the query of database `{database}` gives no column `{column}`")
            }
            SqlErrorKind::DuplicateColumn(column) => {
                format!("the query of database `{database}` gives two columns `{column}`")
            }
            SqlErrorKind::Stopped => "reading was stopped".to_owned(),
            SqlErrorKind::Local => format!("database `{database}` cannot be asked from here: {message}"),
        }
    }
}

/// Recognized by the server function, since messages may be in any language.
fn is_about_row_security(error: &DbError) -> bool {
    error.routine() == Some("check_enable_rls")
}

fn is_authentication(code: &SqlState) -> bool {
    [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code)
}

/// Too many connections, or a server that starts, stops or recovers.
fn is_busy(code: &SqlState) -> bool {
    [SqlState::TOO_MANY_CONNECTIONS, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

fn is_going_away(code: &SqlState) -> bool {
    let codes = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CONNECTION_FAILURE,
        SqlState::CONNECTION_EXCEPTION,
        SqlState::CONNECTION_DOES_NOT_EXIST,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    codes.contains(code)
}
