//! One conversation with a database: connect, begin to read, ask, take rows by the thousand, end.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, private::BytesMut};
use tokio_postgres::{
    Client, Config, IsolationLevel, Portal, Row, Statement, Transaction, TransactionBuilder,
};

use super::error::{SqlError, Trouble};
use super::statement::{Column, DOUBLE, columns_of, select};
use super::{Database, Values, tls};
use crate::config::{Postgres, SqlSource};
use crate::model::ConnectionName;

/// Rows that are asked for at once.
const ROWS: i32 = 50_000;
/// How the server calls us among its connections.
const APPLICATION: &str = "syncline";
/// A connection that nothing is heard on is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(super) struct Session<'a> {
    client: Client,
    database: &'a ConnectionName,
    statement_timeout: Duration,
    /// Moves the bytes, for as long as there is a session.
    _pump: tokio::task::JoinSet<()>,
}

impl<'a> Session<'a> {
    pub(super) async fn open(database: Database<'a>, settings: &Postgres) -> Result<Self, SqlError> {
        let Database { name, secrets, .. } = database;
        let mut config = Config::new();
        config.host(&settings.host).port(settings.port).dbname(&settings.database).user(&settings.user);
        config.application_name(APPLICATION).connect_timeout(settings.connect_timeout);
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(KEEPALIVE * 4);
        if let Some(password) = secrets.get("password") {
            config.password(password.expose());
        }
        let mut pump = tokio::task::JoinSet::new();
        let client = if settings.is_encrypted && !settings.host.starts_with('/') {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let connector = tls::Connector::new(settings.ca.as_deref())
                .map_err(|what| SqlError::new(name, Trouble::Certificate, what))?;
            let (client, connection) =
                limited(name, settings.connect_timeout, config.connect(connector)).await?;
            pump.spawn(async move { drop(connection.await) });
            client
        } else {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let connect = config.connect(tokio_postgres::NoTls);
            let (client, connection) = limited(name, settings.connect_timeout, connect).await?;
            pump.spawn(async move { drop(connection.await) });
            client
        };
        let statement_timeout = settings.statement_timeout;
        Ok(Self { client, database: name, statement_timeout, _pump: pump })
    }

    /// Asks, and gives every row to `take`.
    pub(super) async fn query(
        mut self,
        source: &SqlSource,
        columns: &[Box<str>],
        mut take: impl FnMut(&Values<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let database = self.database;
        let asking = self.begin().await?;
        let (_, statement) = prepared(database, &asking, source, columns).await?;
        let portal = bound(database, &asking, &statement, source).await?;
        take_all(database, &asking, &portal, &mut take).await?;
        asking.commit().await.map_err(|e| SqlError::of(database, &e, false))
    }

    /// Asks for no row of it: whether it could be asked, and may be.
    pub(super) async fn try_source(
        mut self,
        source: &SqlSource,
        columns: &[Box<str>],
    ) -> Result<(), SqlError> {
        let database = self.database;
        let asking = self.begin().await?;
        let (shape, _) = prepared(database, &asking, source, columns).await?;
        let portal = bound(database, &asking, &shape, source).await?;
        // Only what is executed is held to the user's rights.
        asking.query_portal(&portal, 1).await.map_err(|e| SqlError::of(database, &e, true))?;
        Ok(())
    }

    /// The first column of the one row that a question of ours gives; none if the server does not know it.
    pub(super) async fn one<T>(&self, question: &str) -> Option<T>
    where
        T: for<'b> tokio_postgres::types::FromSql<'b>,
    {
        self.client.query_one(question, &[]).await.ok()?.try_get(0).ok()
    }

    /// All rows that a question of ours gives.
    pub(super) async fn rows(&self, question: &str) -> Result<Vec<Row>, SqlError> {
        self.client.query(question, &[]).await.map_err(|e| SqlError::of(self.database, &e, true))
    }

    /// Begins to read, under the time limit.
    async fn begin(&mut self) -> Result<Transaction<'_>, SqlError> {
        self.start(|client| client.build_transaction().read_only(true)).await
    }

    /// Begins to read so that all questions are answered from one moment, under the time limit.
    pub(super) async fn snapshot(&mut self) -> Result<Transaction<'_>, SqlError> {
        self.start(|client| {
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true)
        })
        .await
    }

    /// Begins to write, under the time limit.
    pub(super) async fn writing(&mut self) -> Result<Transaction<'_>, SqlError> {
        self.start(|client| client.build_transaction().read_only(false)).await
    }

    async fn start(
        &mut self,
        how: impl for<'c> FnOnce(&'c mut Client) -> TransactionBuilder<'c>,
    ) -> Result<Transaction<'_>, SqlError> {
        let (database, millis) = (self.database, self.statement_timeout.as_millis());
        let failed = |e: tokio_postgres::Error| SqlError::of(database, &e, true);
        let begun = how(&mut self.client).start().await.map_err(failed)?;
        begun.batch_execute(&format!("set statement_timeout to {millis}")).await.map_err(failed)?;
        Ok(begun)
    }
}

/// The statement that asks for nothing, and the one that asks for the wanted columns.
async fn prepared(
    database: &ConnectionName,
    asking: &Transaction<'_>,
    source: &SqlSource,
    columns: &[Box<str>],
) -> Result<(Statement, Statement), SqlError> {
    let (shape, columns) = self::columns(database, asking, source, columns).await?;
    let statement = asking.prepare(&select(source, &columns)).await;
    Ok((shape, statement.map_err(|e| SqlError::of(database, &e, true))?))
}

/// The statement that asks for nothing, and the wanted columns.
pub(super) async fn columns<'c>(
    database: &ConnectionName,
    asking: &Transaction<'_>,
    source: &SqlSource,
    columns: &'c [Box<str>],
) -> Result<(Statement, Vec<Column<'c>>), SqlError> {
    let failed = |e: tokio_postgres::Error| SqlError::of(database, &e, true);
    let shape = asking.prepare(&columns_of(source, DOUBLE)).await.map_err(failed)?;
    let columns = wanted(database, &shape, columns)?;
    Ok((shape, columns))
}

/// Takes every row; only the server's word that there are no more is the end.
pub(super) async fn take_all(
    database: &ConnectionName,
    asking: &Transaction<'_>,
    portal: &Portal,
    take: &mut impl FnMut(&Values<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut is_first = true;
    loop {
        let broken = |e: tokio_postgres::Error| SqlError::of(database, &e, is_first);
        let mut rows = pin!(asking.query_portal_raw(portal, ROWS).await.map_err(broken)?);
        let mut taken = 0;
        while let Some(row) =
            rows.try_next().await.map_err(|e| SqlError::of(database, &e, is_first && taken == 0))?
        {
            take(&Values(&row))?;
            taken += 1;
        }
        is_first = false;
        if taken < ROWS {
            return Ok(());
        }
    }
}

/// A statement with its values.
pub(super) async fn bound(
    database: &ConnectionName,
    asking: &Transaction<'_>,
    statement: &Statement,
    source: &SqlSource,
) -> Result<Portal, SqlError> {
    let values: Vec<AsText<'_>> = source.params.iter().map(|text| AsText(text)).collect();
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    if values.len() != statement.params().len() {
        let (needs, has) = (statement.params().len(), values.len());
        let message = format!("it has {needs} placeholders, and `params` has {has} values");
        return Err(SqlError::new(database, Trouble::Query, message));
    }
    asking.bind(statement, &values).await.map_err(|e| SqlError::of(database, &e, true))
}

/// Connects within a time: the library's own limit does not cover a server that accepts and says nothing.
async fn limited<T>(
    database: &ConnectionName,
    limit: Duration,
    connect: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SqlError> {
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) if tls::is_about_certificate(&error) => {
            Err(SqlError::new(database, Trouble::Certificate, tls::cause(&error)))
        }
        Ok(Err(error)) => Err(SqlError::of(database, &error, true)),
        Err(_) => Err(SqlError::new(database, Trouble::Unreachable, "it does not answer")),
    }
}

/// The wanted columns, each of which must be there once.
fn wanted<'c>(
    database: &ConnectionName,
    shape: &Statement,
    columns: &'c [Box<str>],
) -> Result<Vec<Column<'c>>, SqlError> {
    let found = || shape.columns().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>();
    let each = columns.iter().map(|name| {
        let mut same = shape.columns().iter().filter(|column| column.name() == &**name);
        match (same.next(), same.next()) {
            (Some(column), None) => Ok(Column { name, is_bytes: *column.type_() == Type::BYTEA }),
            (Some(_), Some(_)) => {
                Err(SqlError::new(database, Trouble::DuplicateColumn(name.to_string()), String::new()))
            }
            (None, _) => {
                let trouble = Trouble::MissingColumn { column: name.to_string(), found: found() };
                Err(SqlError::new(database, trouble, String::new()))
            }
        }
    });
    each.collect()
}

/// A value that the server reads as it would read it in a query's text, whatever its type.
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
