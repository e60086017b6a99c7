//! Queries through an ADBC (Arrow Database Connectivity) driver: a shared library that you install.
//!
//! Drivers agree on the format of rows and on little else. So a query is embedded unchanged in a `select`, where no
//! writing statement is valid. The connection is set to read-only if the driver supports it. The time limit is
//! enforced here, by cancelling the statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use adbc_core::error::{Error, Status};
use adbc_core::options::{AdbcVersion, OptionConnection, OptionDatabase};
use adbc_core::{
    Connection as _, Database as _, Driver as _, LOAD_FLAG_DEFAULT, Optionable as _, Statement as _,
};
use adbc_driver_manager::{ManagedConnection, ManagedDriver, ManagedStatement};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, Schema};

use super::super::database::Database;
use super::super::error::{SqlError, SqlErrorKind};
use super::server_error::{driver_message, is_type_guess};
use super::session::check_columns;
use super::statement::{columns_of, is_one_statement, select_as_is};
use crate::config::{AdbcConfig, SqlQuery, SqlSource};
use crate::connector::columns::Columns;
use crate::connector::rows::{RowLocation, RowSink};
use crate::model::ConnectionName;

/// A connection through a driver.
pub(super) struct AdbcSession<'a> {
    pub(super) name: &'a ConnectionName,
    settings: &'a AdbcConfig,
    pub(super) connection: ManagedConnection,
    /// The last statement. Errors may show its names.
    sent: String,
    /// The columns of the rules.
    wanted: Vec<Box<str>>,
}

/// Runs a query and pushes the requested columns of every row into `sink`. Returns the number of rows.
pub(super) fn read(
    source: &SqlSource,
    database: Database<'_>,
    settings: &AdbcConfig,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<u64, SqlError> {
    AdbcSession::open(database, settings)?.read(source, columns, sink)
}

/// Checks that the driver loads and opens the database.
pub(super) fn greet(database: Database<'_>, settings: &AdbcConfig) -> Result<(), SqlError> {
    AdbcSession::open(database, settings).map(drop)
}

/// Checks that a query is valid and has the requested columns. Reads no row.
pub(super) fn try_source(
    source: &SqlSource,
    database: Database<'_>,
    settings: &AdbcConfig,
    columns: &[Box<str>],
) -> Result<(), SqlError> {
    let mut session = AdbcSession::open(database, settings)?;
    session.wanted = columns.to_vec();
    check_columns(database.name, &session.columns(source)?, columns)?;
    let mut statement = session.statement(&columns_of(source, settings.quote))?;
    session.bind(&mut statement, source)?;
    session.within_time(&mut statement, |session, statement, _| {
        statement.execute().map(drop).map_err(|e| session.error(&e, SqlErrorKind::Query))
    })
}

impl<'a> AdbcSession<'a> {
    /// Opens a connection and sends no query.
    pub(super) fn open(database: Database<'a>, settings: &'a AdbcConfig) -> Result<Self, SqlError> {
        let Database { name, secrets, .. } = database;
        let fail = |error: &Error, kind| failed(name, error, kind);
        let mut driver = load(settings).map_err(|e| fail(&e, SqlErrorKind::Driver))?;
        let options = settings.options.iter().map(|(key, value)| (key, value.as_str()));
        let hidden = secrets.iter().map(|(key, secret)| (key, secret.expose()));
        let options =
            options.chain(hidden).map(|(key, value)| (OptionDatabase::from(key.as_str()), value.into()));
        let opened =
            driver.new_database_with_opts(options).map_err(|e| fail(&e, SqlErrorKind::Unreachable))?;
        let mut connection = opened.new_connection().map_err(|e| fail(&e, SqlErrorKind::Unreachable))?;
        // Some drivers lack the option. The embedding of queries prevents writes as well.
        let _ = connection.set_option(OptionConnection::ReadOnly, "true".into());
        Ok(Self { name, settings, connection, sent: String::new(), wanted: Vec::new() })
    }

    /// Runs a query and pushes the requested columns of every row into `sink`. Returns the number of rows.
    pub(super) fn read(
        &mut self,
        source: &SqlSource,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<u64, SqlError> {
        self.wanted = columns.to_vec();
        let available = self.columns(source)?;
        check_columns(self.name, &available, columns)?;
        let mut statement = self.statement(&select_as_is(source, columns, self.settings.quote))?;
        self.bind(&mut statement, source)?;
        let paths: Vec<[Box<str>; 1]> = columns.iter().map(|name| [name.clone()]).collect();
        let name = format!("query of {}", self.name);
        self.within_time(&mut statement, |session, statement, is_over| {
            let batches = statement.execute().map_err(|e| session.error(&e, SqlErrorKind::Query))?;
            let mut rows = 0;
            for batch in batches {
                let batch = batch.map_err(|e| session.arrow_error(&e, rows == 0))?;
                let cells = Columns::of(&batch, paths.iter().map(<[Box<str>; 1]>::as_slice));
                for row in 0..batch.num_rows() {
                    rows += 1;
                    let result = sink.row(&cells.row(row), RowLocation { file: &name, line: rows });
                    result.map_err(|_| SqlError::new(session.name, SqlErrorKind::Stopped, String::new()))?;
                }
                // For drivers that cannot cancel a statement.
                if is_over.load(Ordering::Relaxed) {
                    return Err(session.too_long());
                }
            }
            Ok(rows)
        })
    }

    fn statement(&mut self, sql: &str) -> Result<ManagedStatement, SqlError> {
        sql.clone_into(&mut self.sent);
        let made = self.connection.new_statement();
        let mut statement = made.map_err(|e| self.error(&e, SqlErrorKind::Unreachable))?;
        statement.set_sql_query(sql).map_err(|e| self.error(&e, SqlErrorKind::Query))?;
        Ok(statement)
    }

    /// Binds the values of a query's placeholders, as one row of text.
    fn bind(&self, statement: &mut ManagedStatement, source: &SqlSource) -> Result<(), SqlError> {
        if source.params.is_empty() {
            return Ok(());
        }
        let value = |text: &String| -> ArrayRef { Arc::new(StringArray::from(vec![text.as_str()])) };
        let values = source.params.iter().enumerate().map(|(at, text)| (format!("{}", at + 1), value(text)));
        let row = RecordBatch::try_from_iter(values).map_err(|e| self.arrow_error(&e, true))?;
        statement.bind(row).map_err(|e| self.error(&e, SqlErrorKind::Query))
    }

    /// The columns of the source, without its rows if the driver supports that.
    fn columns(&mut self, source: &SqlSource) -> Result<Vec<String>, SqlError> {
        if let SqlQuery::Text(query) = &source.query
            && !is_one_statement(query)
        {
            return Err(SqlError::new(self.name, SqlErrorKind::Query, "it is more than one statement"));
        }
        let mut statement = self.statement(&columns_of(source, self.settings.quote))?;
        self.bind(&mut statement, source)?;
        let schema =
            self.within_time(&mut statement, |session, statement, _| match statement.execute_schema() {
                Ok(schema) => Ok(Arc::new(schema)),
                Err(error) if error.status == Status::NotImplemented => statement
                    .execute()
                    .map(|rows| rows.schema())
                    .map_err(|e| session.error(&e, SqlErrorKind::Query)),
                Err(error) => Err(session.error(&error, SqlErrorKind::Query)),
            })?;
        Ok(names(&schema))
    }

    /// Runs `work` within the time limit of a query. `work` receives whether the limit is over.
    pub(super) fn within_time<T>(
        &self,
        statement: &mut ManagedStatement,
        work: impl FnOnce(&Self, &mut ManagedStatement, &AtomicBool) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let (cancel, limit) = (statement.get_cancel_handle(), self.settings.statement_timeout);
        let is_over = AtomicBool::new(false);
        let (done, ended) = sync_channel::<()>(0);
        let result = std::thread::scope(|scope| {
            let is_over = &is_over;
            scope.spawn(move || {
                if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    is_over.store(true, Ordering::Relaxed);
                    // If the driver cannot cancel, the result is awaited.
                    let _ = cancel.try_cancel();
                }
            });
            let result = work(self, statement, is_over);
            drop(done);
            result
        });
        match result {
            Err(error) if is_over.load(Ordering::Relaxed) && error.kind != SqlErrorKind::Stopped => {
                Err(self.too_long())
            }
            result => result,
        }
    }

    fn too_long(&self) -> SqlError {
        let limit = self.settings.statement_timeout.as_secs_f64();
        SqlError::new(self.name, SqlErrorKind::Timeout, format!("it took longer than {limit} s"))
    }

    pub(super) fn error(&self, error: &Error, otherwise: SqlErrorKind) -> SqlError {
        let failed = failed(self.name, error, otherwise);
        match failed.kind {
            SqlErrorKind::Credentials | SqlErrorKind::Timeout => failed,
            kind => self.without_values(kind, &error.message),
        }
    }

    /// An error with a driver's message, without values of rows.
    fn without_values(&self, kind: SqlErrorKind, message: &str) -> SqlError {
        match kind {
            SqlErrorKind::Query | SqlErrorKind::Broken if is_type_guess(message) => {
                SqlError::new(self.name, kind, message).or_type_guess(&self.wanted)
            }
            kind => SqlError::new(self.name, kind, driver_message(message, &self.sent)),
        }
    }

    /// An error while rows are fetched. Drivers that run the query lazily fail here first.
    pub(super) fn arrow_error(&self, error: &ArrowError, is_first: bool) -> SqlError {
        let otherwise = if is_first { SqlErrorKind::Query } else { SqlErrorKind::Broken };
        match error {
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<Error>() {
                Some(error) => self.error(error, otherwise),
                None => self.without_values(otherwise, &inner.to_string()),
            },
            error => self.without_values(otherwise, &error.to_string()),
        }
    }
}

fn load(settings: &AdbcConfig) -> Result<ManagedDriver, Error> {
    let entrypoint = settings.entrypoint.as_ref().map(String::as_bytes);
    let load = |version| {
        ManagedDriver::load_from_name(&settings.driver, entrypoint, version, LOAD_FLAG_DEFAULT, None)
    };
    match load(AdbcVersion::V110) {
        Err(error) if error.status == Status::NotImplemented => load(AdbcVersion::V100),
        loaded => loaded,
    }
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// Classifies a driver's error. Many drivers report no code.
fn failed(database: &ConnectionName, error: &Error, otherwise: SqlErrorKind) -> SqlError {
    let state: String = error.sqlstate.iter().map(|c| char::from(c.to_ne_bytes()[0])).collect();
    let kind = match (error.status, state.as_str()) {
        (_, "42501") | (Status::Unauthorized, _) => SqlErrorKind::Permission,
        (_, "25006") => SqlErrorKind::Writes,
        (_, "57014") | (Status::Timeout, _) => SqlErrorKind::Timeout,
        (Status::Unauthenticated, _) => SqlErrorKind::Credentials,
        (_, state) if state.starts_with("28") => SqlErrorKind::Credentials,
        (Status::IO | Status::Cancelled, _) if otherwise == SqlErrorKind::Query => SqlErrorKind::Broken,
        _ => otherwise,
    };
    SqlError::new(database, kind, error.message.clone())
}
