//! A connection to PostgreSQL or Amazon Redshift and the transactions on it.
//!
//! # Guarantees
//! A transaction pooler (PgBouncer, RDS Proxy, Odyssey) may assign another server connection to each transaction. So
//! settings use `set local` and end with the transaction, and statements are unnamed: nothing remains on a shared
//! server connection. A row that row-level security would hide is an error.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, Kind, Oid, ToSql, Type, private::BytesMut};
use tokio_postgres::{Client, Config, IsolationLevel, Row, Transaction, TransactionBuilder};

use super::super::database::Database;
use super::super::error::{SqlError, SqlErrorKind};
use super::statement::{DOUBLE, StatementColumn, column_names, column_types, columns_of, select};
use super::tls;
use super::values::{ColumnKind, RowReader, SqlValues, TypedRow};
use crate::config::{PostgresConfig, SqlSource};
use crate::connector::file::is_plausible_name;
use crate::model::ConnectionName;
use crate::retry::{Retry, RetryPolicy};

/// The application name of our connections.
const APPLICATION: &str = "syncline";
/// An idle connection is probed by keepalive packets.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Backoff for a server that accepts no connection at present. The connect timeout ends the attempts.
const BUSY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first_wait: Duration::from_millis(250),
    longest_wait: Duration::from_secs(5),
};
/// The first major version of PostgreSQL with the catalog functions that are used. Amazon Redshift reports version 8.
const MAJOR_MIN: u32 = 10;

pub(super) struct PostgresSession<'a> {
    client: Client,
    database: &'a ConnectionName,
    statement_timeout: Duration,
    /// The server has PostgreSQL's functions for types and row-level security.
    is_supported: bool,
    /// The task that drives the connection.
    _pump: tokio::task::JoinSet<()>,
}

impl<'a> PostgresSession<'a> {
    /// Connects. Retries if the server accepts no connection, as long as the waits fit into the connect timeout.
    pub(super) async fn open(database: Database<'a>, settings: &PostgresConfig) -> Result<Self, SqlError> {
        let (mut waited, mut retry) = (Duration::ZERO, Retry::new(BUSY));
        loop {
            let error = match Self::connect(database, settings).await {
                Err(error) if error.kind == SqlErrorKind::Busy => error,
                done => return done,
            };
            let is_in_time = |wait: &Duration| waited + *wait < settings.connect_timeout;
            let Some(wait) = retry.next_wait().filter(is_in_time) else { return Err(error) };
            retry.log_wait(database.name.as_str(), &error.to_string(), wait);
            tokio::time::sleep(wait).await;
            waited += wait;
        }
    }

    async fn connect(database: Database<'a>, settings: &PostgresConfig) -> Result<Self, SqlError> {
        let Database { name, secrets, .. } = database;
        let mut config = Config::new();
        config.host(&settings.host).port(settings.port).dbname(&settings.database).user(&settings.user);
        config.application_name(APPLICATION).connect_timeout(settings.connect_timeout);
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(KEEPALIVE * 4);
        if let Some(password) = secrets.get("password") {
            config.password(password.expose());
        }
        let mut pump = tokio::task::JoinSet::new();
        let (client, is_supported) = if settings.is_encrypted && !settings.host.starts_with('/') {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let connector = tls::DatabaseTlsConnector::new(settings.ca.as_deref())
                .map_err(|what| SqlError::new(name, SqlErrorKind::Certificate, what))?;
            let (client, connection) =
                limited(name, settings.connect_timeout, config.connect(connector)).await?;
            let is_supported = is_supported(connection.parameter("server_version"));
            pump.spawn(async move { drop(connection.await) });
            (client, is_supported)
        } else {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let connect = config.connect(tokio_postgres::NoTls);
            let (client, connection) = limited(name, settings.connect_timeout, connect).await?;
            let is_supported = is_supported(connection.parameter("server_version"));
            pump.spawn(async move { drop(connection.await) });
            (client, is_supported)
        };
        let statement_timeout = settings.statement_timeout;
        Ok(Self { client, database: name, statement_timeout, is_supported, _pump: pump })
    }

    /// Runs the source's query and passes every row to `take`.
    pub(super) async fn query(
        mut self,
        source: &SqlSource,
        columns: &[Box<str>],
        mut take: impl FnMut(&TypedRow<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let database = self.database;
        let asking = self.begin().await?;
        let columns = asking.columns(source, columns).await?;
        let mut reader = RowReader::new(columns.iter().map(|column| column.kind));
        let statement = select(source, &columns);
        asking.take_all(&statement, source, &mut |row| take(&reader.read(row, 0))).await?;
        asking.transaction.commit().await.map_err(|e| SqlError::of(database, &e, false))
    }

    /// Runs the source's query with `limit 0`: checks that it is valid and permitted.
    pub(super) async fn try_source(
        mut self,
        source: &SqlSource,
        columns: &[Box<str>],
    ) -> Result<(), SqlError> {
        let asking = self.begin().await?;
        let columns = asking.columns(source, columns).await?;
        let statement = format!("{} limit 0", select(source, &columns));
        asking.take_all(&statement, source, &mut |_| Ok(())).await
    }

    /// The first column of the single row of an internal query; none if the server does not support the query.
    pub(super) async fn query_one<T>(&self, question: &str) -> Option<T>
    where
        T: for<'b> tokio_postgres::types::FromSql<'b>,
    {
        self.client.query_typed_one(question, &[]).await.ok()?.try_get(0).ok()
    }

    /// All rows of an internal query.
    pub(super) async fn rows(&self, question: &str) -> Result<Vec<Row>, SqlError> {
        self.client.query_typed(question, &[]).await.map_err(|e| SqlError::of(self.database, &e, true))
    }

    /// Begins a read-only transaction with the time limit.
    async fn begin(&mut self) -> Result<QueryTransaction<'_>, SqlError> {
        self.start(|client| client.build_transaction().read_only(true)).await
    }

    /// Begins a read-only transaction in which all queries see the same snapshot.
    pub(super) async fn snapshot(&mut self) -> Result<QueryTransaction<'_>, SqlError> {
        self.start(|client| {
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true)
        })
        .await
    }

    /// Begins a transaction that writes, with the time limit.
    pub(super) async fn writing(&mut self) -> Result<QueryTransaction<'_>, SqlError> {
        self.start(|client| client.build_transaction().read_only(false)).await
    }

    async fn start(
        &mut self,
        how: impl for<'c> FnOnce(&'c mut Client) -> TransactionBuilder<'c>,
    ) -> Result<QueryTransaction<'_>, SqlError> {
        let (database, is_supported, millis) =
            (self.database, self.is_supported, self.statement_timeout.as_millis());
        let failed = |e: tokio_postgres::Error| SqlError::of(database, &e, true);
        let transaction = how(&mut self.client).start().await.map_err(failed)?;
        let mut settings = format!("set local statement_timeout to {millis};");
        if is_supported {
            settings.push_str("set local row_security to off;");
        }
        transaction.batch_execute(&settings).await.map_err(failed)?;
        Ok(QueryTransaction { transaction, database, is_supported })
    }
}

/// A transaction. Its statements are unnamed.
pub(super) struct QueryTransaction<'s> {
    pub(super) transaction: Transaction<'s>,
    database: &'s ConnectionName,
    is_supported: bool,
}

impl QueryTransaction<'_> {
    /// The requested columns. Each must exist once.
    pub(super) async fn columns<'c>(
        &self,
        source: &SqlSource,
        wanted: &'c [Box<str>],
    ) -> Result<Vec<StatementColumn<'c>>, SqlError> {
        if !self.is_supported {
            return self.described(source, wanted).await;
        }
        let rows = self.rows(&column_names(source), source).await?;
        let names: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        check_columns(self.database, &names.map_err(|e| SqlError::of(self.database, &e, true))?, wanted)?;
        let types = self.rows(&column_types(source, wanted), source).await?;
        let columns = wanted.iter().zip(types).map(|(name, row)| {
            let base: Oid = row.try_get(0).map_err(|e| SqlError::of(self.database, &e, true))?;
            let category: String = row.try_get(1).map_err(|e| SqlError::of(self.database, &e, true))?;
            Ok(StatementColumn {
                name,
                kind: ColumnKind::of(base, category.chars().next().unwrap_or_default()),
            })
        });
        columns.collect()
    }

    /// The same for a server without the functions, by a named statement that ends with the transaction.
    async fn described<'c>(
        &self,
        source: &SqlSource,
        wanted: &'c [Box<str>],
    ) -> Result<Vec<StatementColumn<'c>>, SqlError> {
        let shape = self.transaction.prepare(&columns_of(source, DOUBLE)).await;
        let shape = shape.map_err(|e| SqlError::of(self.database, &e, true))?;
        let names: Vec<String> = shape.columns().iter().map(|column| column.name().to_owned()).collect();
        check_columns(self.database, &names, wanted)?;
        let kind = |name: &str| {
            let column = shape.columns().iter().find(|column| column.name() == name);
            column.map_or(ColumnKind::Text, |column| {
                ColumnKind::of(column.type_().oid(), category(column.type_()))
            })
        };
        Ok(wanted.iter().map(|name| StatementColumn { name, kind: kind(name) }).collect())
    }

    /// All rows of a statement about the source.
    async fn rows(&self, statement: &str, source: &SqlSource) -> Result<Vec<Row>, SqlError> {
        let rows = self.transaction.query_typed_raw(statement, values(source)).await;
        let rows = rows.map_err(|e| of_source(self.database, &e, source))?;
        rows.try_collect().await.map_err(|e| of_source(self.database, &e, source))
    }

    /// Passes every row of a statement to `take`. Only the server's completion message ends the rows.
    pub(super) async fn take_all(
        &self,
        statement: &str,
        source: &SqlSource,
        take: &mut impl FnMut(&SqlValues<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let rows = self.transaction.query_typed_raw(statement, values(source)).await;
        let mut rows = pin!(rows.map_err(|e| of_source(self.database, &e, source))?);
        let mut is_first = true;
        loop {
            let row = rows.try_next().await.map_err(|e| SqlError::of(self.database, &e, is_first))?;
            let Some(row) = row else { return Ok(()) };
            take(&SqlValues(&row))?;
            is_first = false;
        }
    }
}

/// PostgreSQL's `typcategory` of a type, for the categories that decide how a value is read.
fn category(of: &Type) -> char {
    match of.kind() {
        Kind::Array(_) => 'A',
        Kind::Composite(_) => 'C',
        Kind::Range(_) | Kind::Multirange(_) => 'R',
        _ => 'S',
    }
}

/// The values of the source's placeholders. The server infers their types.
fn values(source: &SqlSource) -> impl Iterator<Item = (AsText<'_>, Type)> {
    source.params.iter().map(|text| (AsText(text), Type::UNKNOWN))
}

/// Classifies an error of a statement with placeholders.
fn of_source(database: &ConnectionName, error: &tokio_postgres::Error, source: &SqlSource) -> SqlError {
    const ABOUT_PLACEHOLDERS: [SqlState; 3] =
        [SqlState::PROTOCOL_VIOLATION, SqlState::INDETERMINATE_DATATYPE, SqlState::UNDEFINED_PARAMETER];
    let sql_error = SqlError::of(database, error, true);
    if error.code().is_some_and(|code| ABOUT_PLACEHOLDERS.contains(code)) {
        let number = source.params.len();
        let message = format!(
            "its placeholders do not fit the number of values in `params`, {number}: {}",
            sql_error.message
        );
        return SqlError::new(database, SqlErrorKind::Query, message);
    }
    sql_error
}

/// Whether the server's version supports [`column_types`] and row-level security.
fn is_supported(version: Option<&str>) -> bool {
    let major = version.unwrap_or_default().split(|c: char| !c.is_ascii_digit()).next();
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= MAJOR_MIN)
}

/// Connects within a time limit. The library's limit does not cover a server that accepts and never answers.
async fn limited<T>(
    database: &ConnectionName,
    limit: Duration,
    connect: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SqlError> {
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) if tls::is_about_certificate(&error) => {
            Err(SqlError::new(database, SqlErrorKind::Certificate, tls::cause(&error)))
        }
        Ok(Err(error)) => Err(SqlError::of(database, &error, true)),
        Err(_) => Err(SqlError::new(database, SqlErrorKind::Unreachable, "it does not respond")),
    }
}

/// Checks that each requested column exists once.
pub(super) fn check_columns(
    database: &ConnectionName,
    found: &[String],
    wanted: &[Box<str>],
) -> Result<(), SqlError> {
    // The columns of a file without a header row are data.
    let shown: Vec<String> = found.iter().filter(|name| is_plausible_name(name)).cloned().collect();
    for name in wanted {
        let kind = match found.iter().filter(|column| ***column == **name).count() {
            1 => continue,
            0 => SqlErrorKind::MissingColumn { column: name.to_string(), found: shown.clone() },
            _ => SqlErrorKind::DuplicateColumn(name.to_string()),
        };
        return Err(SqlError::new(database, kind, String::new()));
    }
    Ok(())
}

/// A value in text form. The server parses it like a literal of any type.
#[derive(Debug)]
struct AsText<'a>(&'a str);

impl ToSql for AsText<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
