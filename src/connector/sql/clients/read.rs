//! Reads all rows of a query.

use super::super::database::Database;
use super::super::error::{SqlError, SqlErrorKind};
use super::adbc;
use super::runtime::runtime;
use super::session::PostgresSession;
use super::values::TypedRow;
use crate::config::{SqlConfig, SqlSource};
use crate::connector::rows::{RowLocation, RowSink};

/// Runs a query and pushes the requested columns of every row into `sink`. Returns the number of rows.
///
/// # Errors
/// [`SqlError`] when not every row was read. Discard the rows then.
pub fn read(
    source: &SqlSource,
    database: Database<'_>,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<u64, SqlError> {
    let settings = match database.settings {
        SqlConfig::Adbc(settings) => return adbc::read(source, database, settings, columns, sink),
        SqlConfig::Postgres(settings) => settings,
    };
    let name = format!("query of {}", database.name);
    let mut rows = 0;
    let result = runtime(database)?.block_on(async {
        let session = PostgresSession::open(database, settings).await?;
        session
            .query(source, columns, |fields: &TypedRow<'_>| {
                rows += 1;
                let location = RowLocation { file: &name, line: rows };
                sink.row(fields, location)
                    .map_err(|_| SqlError::new(database.name, SqlErrorKind::Stopped, String::new()))
            })
            .await
    });
    result.map(|()| rows)
}
