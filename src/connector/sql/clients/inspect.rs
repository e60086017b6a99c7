//! Properties of a database for `doctor`: version, rights, clock and connections. No row is read.

use super::super::database::{Database, DatabaseInfo};
use super::super::error::SqlError;
use super::adbc;
use super::runtime::runtime;
use super::session::PostgresSession;
use crate::config::{PostgresConfig, SqlConfig, SqlSource};
use crate::model::Timestamp;

const MILLIS: [&str; 2] = [
    "select (extract(epoch from clock_timestamp()) * 1000)::bigint",
    // Redshift has no `clock_timestamp`.
    "select (extract(epoch from getdate()) * 1000)::bigint",
];
const MAY_WRITE: &str = "select current_setting('is_superuser') = 'on' or exists (
    select 1 from information_schema.table_privileges
    where grantee in (current_user, 'PUBLIC') and privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      and table_schema not in ('information_schema', 'pg_catalog'))";

/// Connects and reads the properties.
///
/// # Errors
/// [`SqlError`] when the connection fails.
pub fn inspect_database(database: Database<'_>) -> Result<DatabaseInfo, SqlError> {
    let settings = match database.settings {
        SqlConfig::Adbc(settings) => {
            return adbc::greet(database, settings).map(|()| DatabaseInfo::default());
        }
        SqlConfig::Postgres(settings) => settings,
    };
    runtime(database)?.block_on(async {
        let session = PostgresSession::open(database, settings).await?;
        let server = session.query_one::<String>("select version()").await;
        let mut clock = None;
        for question in MILLIS {
            if clock.is_none() {
                clock = session.query_one::<i64>(question).await;
            }
        }
        let used = session.query_one::<i64>("select count(*) from pg_stat_activity").await;
        let max = session.query_one::<i64>("select current_setting('max_connections')::bigint").await;
        Ok(DatabaseInfo {
            server: server.map(|text| text.split(" on ").next().unwrap_or_default().to_owned()),
            clock: clock.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            connections: used.zip(max),
            may_write: session.query_one(MAY_WRITE).await,
            pooled: is_pooled(&session, database, settings).await,
        })
    })
}

/// Whether a transaction pooler is in front of the server: two open connections share a server process, or one
/// connection uses several. A session pooler makes the second connection wait, which does not count.
async fn is_pooled(session: &PostgresSession<'_>, database: Database<'_>, settings: &PostgresConfig) -> bool {
    const SERVER_PROCESS: &str = "select pg_backend_pid()";
    let first = session.query_one::<i32>(SERVER_PROCESS).await;
    let other = async {
        let other = PostgresSession::open(database, settings).await.ok()?;
        other.query_one::<i32>(SERVER_PROCESS).await
    };
    let other = tokio::time::timeout(settings.connect_timeout, other).await.ok().flatten();
    let again = session.query_one::<i32>(SERVER_PROCESS).await;
    first.is_some() && (first == other || (again.is_some() && first != again))
}

/// Checks that a source can be queried: it is valid, the user may read it, and it has the requested columns. Reads no
/// row.
///
/// # Errors
/// [`SqlError`] when a read would fail.
pub fn try_source(source: &SqlSource, database: Database<'_>, columns: &[Box<str>]) -> Result<(), SqlError> {
    match database.settings {
        SqlConfig::Adbc(settings) => adbc::try_source(source, database, settings, columns),
        SqlConfig::Postgres(settings) => runtime(database)?.block_on(async {
            PostgresSession::open(database, settings).await?.try_source(source, columns).await
        }),
    }
}
