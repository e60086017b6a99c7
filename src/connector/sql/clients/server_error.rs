//! Errors of servers and drivers → [`SqlError`].

use tokio_postgres::error::{DbError, SqlState};

use super::tls;
use crate::connector::sql::{SqlError, SqlErrorKind};
use crate::foreign::{escaped, without_quoted};
use crate::model::ConnectionName;

/// Parts of driver messages when the type of a column was inferred from its first rows: of SQLite; of DuckDB for CSV
/// and JSON files, and for SQLite tables.
const TYPE_GUESS_SIGNS: [&str; 5] =
    ["type mismatch in column", "auto-detect", "auto_detect", "sample_size", "invalid type in column"];

/// Classes of errors about values, which the message quotes (SQL standard, SQLSTATE): data exceptions and violated
/// constraints.
const ABOUT_VALUES: [&str; 2] = ["22", "23"];
/// The longest value without quotes at the end of a driver's message, in words.
const VALUE_WORDS_MAX: usize = 3;
/// Classes of errors of functions and extensions, which write their messages themselves.
const OF_FUNCTIONS: [&str; 5] = ["38", "39", "HV", "P0", "XX"];
/// Classes of errors about the connection, permissions and resources.
const OF_SERVER: [&str; 8] = ["08", "25", "28", "53", "54", "55", "57", "58"];

impl SqlError {
    /// Classifies an error of the client library.
    pub(super) fn of(database: &ConnectionName, error: &tokio_postgres::Error, before_rows: bool) -> Self {
        let Some(server) = error.as_db_error() else {
            let kind = if before_rows { SqlErrorKind::Unreachable } else { SqlErrorKind::Broken };
            return Self::new(database, kind, tls::cause(error));
        };
        let message = message_of(server);
        let kind = match server.code() {
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
        Self::new(database, kind, message)
    }

    /// The same error, as [`SqlErrorKind::TypeGuess`] if its message says so. `columns` are those of the query.
    pub(super) fn or_type_guess(self, columns: &[Box<str>]) -> Self {
        let may_be = matches!(self.kind, SqlErrorKind::Query | SqlErrorKind::Broken);
        if !may_be || !is_type_guess(&self.message) {
            return self;
        }
        let message = self.message.to_ascii_lowercase();
        // SQLite's driver counts columns from 0; DuckDB names them.
        let index = message
            .split_once("mismatch in column ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
        #[allow(clippy::borrowed_box, reason = "what `find` hands out")]
        let named = |name: &&Box<str>| {
            let name = name.to_ascii_lowercase();
            message.contains(&format!("column \"{name}\"")) || message.contains(&format!("column {name} "))
        };
        let column = index.and_then(|index| columns.get(index)).or_else(|| columns.iter().find(named));
        let column = column.map(|name| escaped(name).into_owned());
        // DuckDB quotes the value, and the whole line of a CSV file.
        let shown = self.message.split("Original Line").next().unwrap_or_default();
        let message = without_quoted(shown.trim_end(), "");
        Self { kind: SqlErrorKind::TypeGuess(column), message, ..self }
    }
}

/// The message of a server, without values of rows.
fn message_of(server: &DbError) -> String {
    let code = server.code().code();
    let class = code.get(..2).unwrap_or_default();
    let is_of_server = OF_SERVER.contains(&class) || *server.code() == SqlState::INSUFFICIENT_PRIVILEGE;
    // The context names a function. Its statement, or its own message, may be made of values.
    if OF_FUNCTIONS.contains(&class) || (server.where_().is_some() && !is_of_server) {
        return format!(
            "a function or an extension reports SQLSTATE {code}; its message may contain values, so it is not shown"
        );
    }
    if ABOUT_VALUES.contains(&class) {
        return without_quoted(server.message(), "");
    }
    let hint = server.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", server.message())
}

/// The message of a driver about a statement, without values of rows. Its first line has the reason, and further ones
/// repeat the input. Names that the statement contains are shown.
pub(super) fn driver_message(message: &str, statement: &str) -> String {
    let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let safe = without_quoted(first, statement);
    // A few words after the last colon may be a value without quotes.
    match safe.rsplit_once(": ") {
        Some((what, last))
            if last.split_whitespace().count() <= VALUE_WORDS_MAX && !statement.contains(last.trim()) =>
        {
            format!("{what}: …")
        }
        _ => safe,
    }
}

/// Whether a message is about a type that was inferred from the first rows.
pub(super) fn is_type_guess(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    TYPE_GUESS_SIGNS.iter().any(|sign| message.contains(sign))
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
