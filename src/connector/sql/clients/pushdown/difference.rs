//! Compares the members of a source with those of its mirror table, inside the database.

use super::super::runtime::runtime;
use super::super::session::{PostgresSession, QueryTransaction};
use super::super::statement::StatementColumn;
use super::super::values::{ColumnKind, RowReader, SqlValues};
use super::checksum::tabled;
use super::query::{self, mark};
use super::server::unsupported_server;
use crate::config::{SqlConfig, SqlSource};
use crate::connector::rows::{RowLocation, RowSink as _};
use crate::connector::sql::database::Database;
use crate::connector::sql::error::{SqlError, SqlErrorKind};
use crate::connector::sql::pushdown::{Differences, MemberRules};
use crate::connector::sql::pushdown::{MirrorTableName, MirrorUnusable};
use crate::model::{ChangeOp, IdShapes, TableChecksum};

/// Finds the differences between the members of a source and those of its mirror table, if the table has the expected
/// checksum. Returns the number of the source's rows and the shapes of their identifiers.
///
/// # Errors
/// [`SqlError`] when not everything was read. Discard the differences then.
pub fn difference(
    source: &SqlSource,
    database: Database<'_>,
    asking: &MemberRules<'_>,
    (table, expected): (&MirrorTableName, TableChecksum),
    sink: &mut impl Differences,
) -> Result<Result<(u64, IdShapes), MirrorUnusable>, SqlError> {
    let SqlConfig::Postgres(settings) = database.settings else {
        return Ok(Err(MirrorUnusable::Server("another database".to_owned())));
    };
    runtime(database)?.block_on(async {
        let mut session = PostgresSession::open(database, settings).await?;
        if let Some(what) = unsupported_server(&session).await {
            return Ok(Err(MirrorUnusable::Server(what)));
        }
        let snapshot = session.snapshot().await?;
        if let Err(unusable) = check_table(database, &snapshot, table, expected).await? {
            return rollback(database, snapshot).await.map(|()| Err(unusable));
        }
        let available = snapshot.columns(source, asking.columns).await?;
        if let Some(unusable) = bytes_column(&available) {
            return rollback(database, snapshot).await.map(|()| Err(unusable));
        }
        let statement = query::difference(source, asking, &available, table);
        let name = format!("query of {}", database.name);
        let reader = RowReader::new(available.iter().map(|column| column.kind));
        let mut differences = DifferenceSink { database, name, rows: None, reader, sink };
        snapshot.take_all(&statement, source, &mut |row| differences.take(row)).await?;
        let rows = differences.rows.ok_or_else(|| differences.stopped(SqlErrorKind::Broken));
        snapshot.transaction.commit().await.map_err(|e| SqlError::of(database.name, &e, false))?;
        rows.map(Ok)
    })
}

/// The reason why the database cannot compare a source, regardless of the mirror table; none if it can.
///
/// # Errors
/// [`SqlError`] when a read of the source would fail.
pub fn unsupported(
    source: &SqlSource,
    database: Database<'_>,
    wanted: &[Box<str>],
) -> Result<Option<MirrorUnusable>, SqlError> {
    let SqlConfig::Postgres(settings) = database.settings else {
        return Ok(Some(MirrorUnusable::Server("another database".to_owned())));
    };
    runtime(database)?.block_on(async {
        let mut session = PostgresSession::open(database, settings).await?;
        if let Some(what) = unsupported_server(&session).await {
            return Ok(Some(MirrorUnusable::Server(what)));
        }
        let snapshot = session.snapshot().await?;
        let available = snapshot.columns(source, wanted).await?;
        let unsupported = bytes_column(&available);
        rollback(database, snapshot).await.map(|()| unsupported)
    })
}

/// Ends a transaction early.
async fn rollback(database: Database<'_>, snapshot: QueryTransaction<'_>) -> Result<(), SqlError> {
    snapshot.transaction.rollback().await.map_err(|e| SqlError::of(database.name, &e, true))
}

/// The error for a column that holds bytes, if there is one.
fn bytes_column(columns: &[StatementColumn<'_>]) -> Option<MirrorUnusable> {
    let column = columns.iter().find(|column| column.kind == ColumnKind::Bytes);
    column.map(|column| MirrorUnusable::Bytes(column.name.to_owned()))
}

/// Whether the mirror table exists and has the expected checksum.
async fn check_table(
    database: Database<'_>,
    snapshot: &QueryTransaction<'_>,
    table: &MirrorTableName,
    expected: TableChecksum,
) -> Result<Result<(), MirrorUnusable>, SqlError> {
    let checksum = async {
        let query_row = async |sql: String| snapshot.transaction.query_typed_one(&sql, &[]).await;
        if !query_row(query::exists(table)).await?.try_get::<_, bool>(0)? {
            return Ok(Err(MirrorUnusable::Missing));
        }
        Ok(Ok(tabled(&query_row(query::sum(table)).await?)?))
    };
    match checksum.await.map_err(|e: tokio_postgres::Error| SqlError::of(database.name, &e, true)) {
        Ok(Ok(found)) if found == expected => Ok(Ok(())),
        Ok(Ok(found)) => Ok(Err(MirrorUnusable::Differs { found: found.rows, expected: expected.rows })),
        Ok(Err(unusable)) => Ok(Err(unusable)),
        Err(error) if [SqlErrorKind::Query, SqlErrorKind::Permission].contains(&error.kind) => {
            Ok(Err(MirrorUnusable::Unreadable(error.message)))
        }
        Err(error) => Err(error),
    }
}

/// The number of rows of the source, and the shapes of the identifiers that the database matched.
fn counted(text: &[u8]) -> Option<(u64, IdShapes)> {
    let mut numbers = std::str::from_utf8(text).ok()?.split(' ').map(|number| number.parse().ok());
    let mut number = || numbers.next().flatten();
    Some((number()?, IdShapes { decimal: number()?, exponent: number()?, invisible: 0 }))
}

/// Parses the rows of a difference.
struct DifferenceSink<'a, S> {
    database: Database<'a>,
    /// Name of the source in rejects.
    name: String,
    rows: Option<(u64, IdShapes)>,
    reader: RowReader,
    sink: &'a mut S,
}

impl<S: Differences> DifferenceSink<'_, S> {
    fn stopped(&self, kind: SqlErrorKind) -> SqlError {
        SqlError::new(self.database.name, kind, "it did not return all differences")
    }

    fn take(&mut self, row: &SqlValues<'_>) -> Result<(), SqlError> {
        let text = |at| row.raw(at).unwrap_or_default();
        let number = || std::str::from_utf8(text(1)).ok().and_then(|number| number.parse::<u64>().ok());
        let member = || std::str::from_utf8(text(2)).unwrap_or_default();
        let is_taken = match text(0) {
            mark::ROWS => {
                self.rows = counted(text(1));
                true
            }
            mark::ADD => self.sink.differs(ChangeOp::Add, member()),
            mark::DROP => self.sink.differs(ChangeOp::Remove, member()),
            mark::ODD => {
                let location = RowLocation { file: &self.name, line: number().unwrap_or_default() };
                self.sink.rows().row(&self.reader.read(row, 2), location).is_ok()
            }
            _ => return Err(self.stopped(SqlErrorKind::Broken)),
        };
        if is_taken { Ok(()) } else { Err(self.stopped(SqlErrorKind::Stopped)) }
    }
}
