//! Queries → rows, streaming, over PostgreSQL's protocol: PostgreSQL, and Amazon Redshift.
//!
//! # Guarantees
//! A query runs in a transaction that can only read, and that the server ends after a time. Either every row is
//! handed over, or there is an error: a connection that breaks never passes for the end. Memory does not grow
//! with the rows, since the server is asked for some thousands at a time.
//!
//! # Caveats
//! Callers block: the conversation runs on a runtime of its own, on the caller's thread.

mod error;
mod session;
mod statement;
mod tls;

use crate::config::{Postgres, Secret, SqlSource};
use crate::connector::file::{Place, Sink};
use crate::model::{ConnectionName, Field, Fields};

pub use error::{SqlError, Trouble};

use session::Session;

/// A database and what it takes to speak to it.
#[derive(Clone, Copy, Debug)]
pub struct Database<'a> {
    /// Its name in the config.
    pub name: &'a ConnectionName,
    /// Where it is.
    pub settings: &'a Postgres,
    /// The password, if it has one.
    pub password: Option<&'a Secret>,
}

/// Asks a query, and hands over the wanted columns of every row. How many rows there were.
///
/// # Errors
/// [`SqlError`] when not every row was read; what the sink was given is then of no use.
pub fn read(
    source: &SqlSource,
    database: Database<'_>,
    columns: &[Box<str>],
    sink: &mut impl Sink,
) -> Result<u64, SqlError> {
    let place = format!("query of {}", database.name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| SqlError::new(database.name, Trouble::Local, e.to_string()))?;
    let mut rows = 0;
    let asked = runtime.block_on(async {
        let session = Session::open(database).await?;
        session
            .query(source, columns, |fields: &Values<'_>| {
                rows += 1;
                let place = Place { file: &place, line: rows };
                sink.row(fields, place)
                    .map_err(|_| SqlError::new(database.name, Trouble::Stopped, String::new()))
            })
            .await
    });
    asked.map(|()| rows)
}

/// The wanted values of one row, as the server sent them.
pub(super) struct Values<'a>(&'a tokio_postgres::Row);

/// Whatever the type: the bytes of its text.
struct Raw<'a>(&'a [u8]);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw<'a> {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

impl Fields for Values<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        match self.0.try_get::<_, Option<Raw<'_>>>(at) {
            Ok(Some(Raw(bytes))) => Field::Text(bytes),
            _ => Field::Absent,
        }
    }
}
