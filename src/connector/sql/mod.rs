//! Queries → rows, streaming: PostgreSQL and Amazon Redshift over their protocol, any other warehouse through a
//! driver that is installed.
//!
//! # Guarantees
//! A query can only read, and is ended after a time. Either every row is handed over, or there is an error: a
//! connection that breaks never runs for the end. Memory does not grow with the rows, since some thousands are
//! asked for at a time.
//!
//! # Caveats
//! Callers block: the conversation runs on the caller's thread. A driver is code of others in this process.

mod adbc;
mod error;
mod inspect;
pub mod pushdown;
mod session;
mod statement;
mod tables;
mod temp_tables;
mod tls;
mod values;

use crate::config::{Secrets, SqlConfig, SqlSource};
use crate::connector::file::{RowLocation, RowSink};
use crate::model::ConnectionName;

pub use error::{SqlError, SqlErrorKind};
pub use inspect::{DatabaseInfo, look, try_source};
pub use tables::{SqlTable, tables};
pub use temp_tables::{TempTableWriter, TempTables};

use session::PostgresSession;
use values::TypedRow;

/// A database and what it takes to speak to it.
#[derive(Clone, Copy, Debug)]
pub struct Database<'a> {
    /// Its name in the config.
    pub name: &'a ConnectionName,
    /// Where it is.
    pub settings: &'a SqlConfig,
    /// What must not be shown, by name: `password` of PostgreSQL, options of a driver.
    pub secrets: &'a Secrets,
}

/// Asks a query, and hands over the wanted columns of every row. How many rows there were.
///
/// # Errors
/// [`SqlError`] when not every row was read; what the sink was given is then of no use.
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
    let place = format!("query of {}", database.name);
    let mut rows = 0;
    let asked = runtime(database)?.block_on(async {
        let session = PostgresSession::open(database, settings).await?;
        session
            .query(source, columns, |fields: &TypedRow<'_>| {
                rows += 1;
                let place = RowLocation { file: &place, line: rows };
                sink.row(fields, place)
                    .map_err(|_| SqlError::new(database.name, SqlErrorKind::Stopped, String::new()))
            })
            .await
    });
    asked.map(|()| rows)
}

/// What a conversation runs on.
fn runtime(database: Database<'_>) -> Result<tokio::runtime::Runtime, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| SqlError::new(database.name, SqlErrorKind::Local, e.to_string()))
}
