//! Temporary tables that are filled with rows from elsewhere and last as long as one session.
//!
//! # Guarantees
//! Tables are always temporary: a driver without temporary tables fails. Persistent data does not change. Memory in
//! this process does not grow with the rows.

use std::sync::Arc;

use adbc_core::error::Error;
use adbc_core::options::{IngestMode, OptionStatement};
use adbc_core::{Connection as _, Optionable as _, Statement as _};
use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field as Described, Schema, SchemaRef};

use super::super::database::Database;
use super::super::error::{SqlError, SqlErrorKind};
use super::adbc::AdbcSession;
use crate::config::{SqlConfig, SqlSource};
use crate::connector::rows::RowSink;
use crate::model::{Field, Fields};

/// Rows per insert.
const ROWS_MAX: usize = 8_192;
/// Bytes of text per insert.
const LEN_MAX: usize = 4 << 20;

/// A session with temporary tables. The database drops them at its end.
pub struct TempTables<'a> {
    session: AdbcSession<'a>,
}

impl<'a> TempTables<'a> {
    /// Opens a session.
    ///
    /// # Errors
    /// [`SqlError`] when the database cannot be reached, or has no ADBC driver.
    pub fn open(database: Database<'a>) -> Result<Self, SqlError> {
        match database.settings {
            SqlConfig::Adbc(settings) => Ok(Self { session: AdbcSession::open(database, settings)? }),
            SqlConfig::Postgres(_) => {
                let message = "temporary tables need a connection of `kind: adbc`";
                Err(SqlError::new(database.name, SqlErrorKind::Local, message))
            }
        }
    }

    /// Starts a table with these columns, each a nullable text.
    ///
    /// # Errors
    /// [`SqlError`] when there are no columns, or two that differ only by case.
    pub fn table(&mut self, name: &str, columns: &[Box<str>]) -> Result<TempTableWriter<'_, 'a>, SqlError> {
        if let Some(what) = unfit(columns) {
            return Err(SqlError::new(self.session.name, SqlErrorKind::TempTable(name.to_owned()), what));
        }
        let fields = columns.iter().map(|column| Described::new(&**column, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let values = columns.iter().map(|_| StringBuilder::new()).collect();
        let name = name.to_owned();
        Ok(TempTableWriter {
            session: &mut self.session,
            name,
            schema,
            values,
            rows: 0,
            len: 0,
            is_there: false,
        })
    }

    /// Runs a query and pushes the requested columns of every row into `sink`. Returns the number of rows.
    ///
    /// # Errors
    /// [`SqlError`] when not every row was read. Discard the rows then.
    pub fn read(
        &mut self,
        source: &SqlSource,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<u64, SqlError> {
        self.session.read(source, columns, sink)
    }
}

/// The reason why a table cannot have these columns. Some drivers would accept them and mix them up.
fn unfit(columns: &[Box<str>]) -> Option<String> {
    if columns.is_empty() {
        return Some("it has no columns".to_owned());
    }
    let mut names: Vec<(String, &str)> =
        columns.iter().map(|column| (column.to_lowercase(), &**column)).collect();
    names.sort_unstable();
    let same = names.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
    Some(format!("its columns `{}` and `{}` are the same to a database", same[0].1, same[1].1))
}

/// Writes rows into a temporary table.
pub struct TempTableWriter<'s, 'a> {
    session: &'s mut AdbcSession<'a>,
    name: String,
    schema: SchemaRef,
    values: Vec<StringBuilder>,
    rows: usize,
    len: usize,
    is_there: bool,
}

impl TempTableWriter<'_, '_> {
    /// Adds a row. Returns `false` if one of its values is not UTF-8; the table must be discarded then.
    ///
    /// # Errors
    /// [`SqlError`] when the database rejects the rows.
    pub fn put(&mut self, row: &impl Fields) -> Result<bool, SqlError> {
        for (at, values) in self.values.iter_mut().enumerate() {
            match row.field(at) {
                Field::Absent => values.append_null(),
                Field::Text(bytes) | Field::Whole { text: bytes, .. } | Field::Other(_, bytes) => {
                    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(false) };
                    self.len += text.len();
                    values.append_value(text);
                }
            }
        }
        self.rows += 1;
        if self.rows >= ROWS_MAX || self.len >= LEN_MAX {
            self.write()?;
        }
        Ok(true)
    }

    /// Writes the remaining rows. Creates the table even if it has none.
    ///
    /// # Errors
    /// [`SqlError`] when the database rejects the rows.
    pub fn finish(mut self) -> Result<(), SqlError> {
        if self.rows > 0 || !self.is_there { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SqlError> {
        let values = self.values.iter_mut().map(|values| Arc::new(values.finish()) as ArrayRef).collect();
        let kind = || SqlErrorKind::TempTable(self.name.clone());
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), values)
            .map_err(|e| SqlError::new(self.session.name, kind(), e.to_string()))?;
        let made = self.session.connection.new_statement();
        let failed = |session: &AdbcSession<'_>, error: &Error| session.error(error, kind());
        let mut statement = made.map_err(|e| failed(self.session, &e))?;
        let mode = if self.is_there { IngestMode::Append } else { IngestMode::Create };
        for (option, value) in [
            (OptionStatement::Temporary, "true".into()),
            (OptionStatement::TargetTable, self.name.as_str().into()),
            (OptionStatement::IngestMode, mode.into()),
        ] {
            statement.set_option(option, value).map_err(|e| failed(self.session, &e))?;
        }
        statement.bind(batch).map_err(|e| failed(self.session, &e))?;
        self.session.within_time(&mut statement, |session, statement, _| {
            statement.execute_update().map(drop).map_err(|e| failed(session, &e))
        })?;
        (self.rows, self.len, self.is_there) = (0, 0, true);
        Ok(())
    }
}
