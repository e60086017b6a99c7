//! Rows of elsewhere, lent to a database for as long as one conversation lasts: temporary tables, which queries may
//! name as they name any other.
//!
//! # Guarantees
//! A table is temporary or there is none: a driver that does not know such tables is not asked for others. Nothing
//! that the database keeps is changed. Memory does not grow with the rows, as far as they are here.

use std::sync::Arc;

use adbc_core::error::Error;
use adbc_core::options::{IngestMode, OptionStatement};
use adbc_core::{Connection as _, Optionable as _, Statement as _};
use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field as Described, Schema, SchemaRef};

use super::adbc::AdbcSession;
use super::database::Database;
use super::error::{SqlError, SqlErrorKind};
use crate::config::{SqlConfig, SqlSource};
use crate::connector::rows::RowSink;
use crate::model::{Field, Fields};

/// Rows that are put at once.
const ROWS_MAX: usize = 8_192;
/// Bytes of their texts, likewise.
const LEN_MAX: usize = 4 << 20;

/// A conversation with a database that tables are lent to. They are gone with it.
pub struct TempTables<'a> {
    session: AdbcSession<'a>,
}

impl<'a> TempTables<'a> {
    /// Begins it.
    ///
    /// # Errors
    /// [`SqlError`] when the database cannot be reached, or is not spoken to by a driver.
    pub fn open(database: Database<'a>) -> Result<Self, SqlError> {
        match database.settings {
            SqlConfig::Adbc(settings) => Ok(Self { session: AdbcSession::open(database, settings)? }),
            SqlConfig::Postgres(_) => {
                let message = "tables are lent through a driver only";
                Err(SqlError::new(database.name, SqlErrorKind::Local, message))
            }
        }
    }

    /// Begins a table with these columns, each a text or nothing.
    ///
    /// # Errors
    /// [`SqlError`] when there are no columns, or two that no database tells apart.
    pub fn table(&mut self, name: &str, columns: &[Box<str>]) -> Result<TempTableWriter<'_, 'a>, SqlError> {
        if let Some(what) = unfit(columns) {
            return Err(SqlError::new(self.session.name, SqlErrorKind::Lend(name.to_owned()), what));
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

    /// Asks a query, and hands over the wanted columns of every row. How many rows there were.
    ///
    /// # Errors
    /// [`SqlError`] when not every row was read; what the sink was given is then of no use.
    pub fn read(
        &mut self,
        source: &SqlSource,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<u64, SqlError> {
        self.session.read(source, columns, sink)
    }
}

/// Why these cannot be the columns of a table. Some drivers would take them, and mix them up.
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

/// A table that rows are being put into.
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
    /// Puts a row. `false`, and no row at all any more, if one of its values is no text.
    ///
    /// # Errors
    /// [`SqlError`] when the database does not take the rows.
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

    /// Puts what is left. The table is there then, if only an empty one.
    ///
    /// # Errors
    /// [`SqlError`] when the database does not take the rows.
    pub fn finish(mut self) -> Result<(), SqlError> {
        if self.rows > 0 || !self.is_there { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SqlError> {
        let values = self.values.iter_mut().map(|values| Arc::new(values.finish()) as ArrayRef).collect();
        let trouble = || SqlErrorKind::Lend(self.name.clone());
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), values)
            .map_err(|e| SqlError::new(self.session.name, trouble(), e.to_string()))?;
        let made = self.session.connection.new_statement();
        let failed = |session: &AdbcSession<'_>, error: &Error| session.error(error, trouble());
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
        self.session.within_time(&mut statement, |session, statement| {
            statement.execute_update().map(drop).map_err(|e| failed(session, &e))
        })?;
        (self.rows, self.len, self.is_there) = (0, 0, true);
        Ok(())
    }
}
