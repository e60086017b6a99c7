//! Writes mirror tables: rebuild, update and drop, each in one transaction.

use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::super::runtime::runtime;
use super::super::session::PostgresSession;
use super::checksum::tabled;
use super::server::unsupported_server;
use super::{hash, query};
use crate::config::{PostgresConfig, SqlConfig};
use crate::connector::sql::database::Database;
use crate::connector::sql::error::{SqlError, SqlErrorKind};
use crate::connector::sql::pushdown::{MirrorTableName, MirrorUnusable};
use crate::model::TableChecksum;

/// Bytes of members per statement.
const SENT_LEN: usize = 256 << 10;
/// Members per statement.
const SENT_MEMBERS: usize = 16_384;

fn settings<'a>(database: Database<'a>) -> Result<&'a PostgresConfig, SqlError> {
    match database.settings {
        SqlConfig::Postgres(settings) => Ok(settings),
        SqlConfig::Adbc(_) => {
            Err(SqlError::new(database.name, SqlErrorKind::Query, "it does not support mirror tables"))
        }
    }
}

async fn open<'a>(database: Database<'a>) -> Result<PostgresSession<'a>, SqlError> {
    let session = PostgresSession::open(database, settings(database)?).await?;
    match unsupported_server(&session).await {
        Some(what) => {
            Err(SqlError::new(database.name, SqlErrorKind::Query, MirrorUnusable::Server(what).to_string()))
        }
        None => Ok(session),
    }
}

/// Builds a new mirror table that replaces an existing one. `next` writes the next member in its text form and
/// returns whether there was one. Returns the table's checksum.
///
/// # Errors
/// The error of `next`, or [`SqlError`]. The table is unchanged then.
pub fn rebuild<E: From<SqlError>>(
    database: Database<'_>,
    table: &MirrorTableName,
    about: &str,
    mut next: impl FnMut(&mut String) -> Result<bool, E>,
) -> Result<TableChecksum, E> {
    runtime(database)?.block_on(async {
        let mut session = open(database).await?;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        create_schema(database, &mut session, &table.schema).await?;
        let writing = session.writing().await?.transaction;
        let new = query::next_of(table);
        writing.batch_execute(&query::create(&new)).await.map_err(failed)?;
        let mut sent = TableChecksum::default();
        insert(database, &writing, &query::insert(&new), MemberStays::Unsaid, |member| {
            let is_there = next(member)?;
            if is_there {
                sent.add(hash::hash(member));
            }
            Ok::<_, E>(is_there.then_some(true))
        })
        .await?;
        let row = writing.query_typed_one(&query::sum(&new), &[]).await.map_err(failed)?;
        let stored = tabled(&row).map_err(failed)?;
        if stored != sent {
            return Err(E::from(checksum_mismatch(database)));
        }
        writing.batch_execute(&query::swap(&new, table, about)).await.map_err(failed)?;
        writing.commit().await.map_err(failed)?;
        Ok(stored)
    })
}

/// Creates the schema if it does not exist, in its own transaction: the lock that serializes the creation is released
/// before any table is filled.
async fn create_schema(
    database: Database<'_>,
    session: &mut PostgresSession<'_>,
    schema: &str,
) -> Result<(), SqlError> {
    let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
    let writing = session.writing().await?.transaction;
    let exists = writing.query_typed_one(&query::schema_exists(schema), &[]).await.map_err(failed)?;
    if exists.try_get::<_, bool>(0).map_err(failed)? {
        return Ok(());
    }
    writing.batch_execute(&query::create_schema(schema)).await.map_err(failed)?;
    writing.commit().await.map_err(failed)
}

/// The inserted members differ from the sent ones, or the server's hash function differs.
fn checksum_mismatch(database: Database<'_>) -> SqlError {
    SqlError::new(
        database.name,
        SqlErrorKind::Query,
        "the checksum of the stored members differs from that of the sent ones",
    )
}

/// Updates a mirror table. `next` writes the next changed identifier in its text form and returns whether it is a
/// member now; none after the last one. `before` is the current checksum. Returns the new checksum.
///
/// # Errors
/// The error of `next`, or [`SqlError`]. The table is unchanged then.
pub fn update<E: From<SqlError>>(
    database: Database<'_>,
    (table, before): (&MirrorTableName, TableChecksum),
    mut next: impl FnMut(&mut String) -> Result<Option<bool>, E>,
) -> Result<TableChecksum, E> {
    runtime(database)?.block_on(async {
        let mut session = open(database).await?;
        let writing = session.writing().await?.transaction;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        writing.batch_execute(query::CANDIDATES).await.map_err(failed)?;
        let mut come = TableChecksum::default();
        insert(database, &writing, query::INSERT_CANDIDATES, MemberStays::Said, |member| {
            let stays = next(member)?;
            if stays == Some(true) {
                come.add(hash::hash(member));
            }
            Ok::<_, E>(stays)
        })
        .await?;
        let removed = writing.query_typed_one(&query::take_out(table), &[]).await.map_err(failed)?;
        let removed = tabled(&removed).map_err(failed)?;
        let inserted = writing.execute_typed(&query::put_in(table), &[]).await.map_err(failed)?;
        let after = before.after(removed, come).filter(|_| inserted == come.rows);
        let after = after.ok_or_else(|| checksum_mismatch(database))?;
        writing.commit().await.map_err(failed)?;
        Ok(after)
    })
}

/// Drops a mirror table, if it exists.
///
/// # Errors
/// [`SqlError`] when the server rejects it.
pub fn drop_table(database: Database<'_>, table: &MirrorTableName) -> Result<(), SqlError> {
    runtime(database)?.block_on(async {
        let mut session = PostgresSession::open(database, settings(database)?).await?;
        let writing = session.writing().await?.transaction;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        writing.batch_execute(&query::drop(table)).await.map_err(failed)?;
        writing.commit().await.map_err(failed)
    })
}

/// Whether a row states that its member stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberStays {
    Said,
    Unsaid,
}

/// Inserts the members that `next` writes until it returns none. It uses array parameters of unnamed statements:
/// `copy` needs named statements, which another session of a pooler could see.
async fn insert<E: From<SqlError>>(
    database: Database<'_>,
    writing: &Transaction<'_>,
    statement: &str,
    has: MemberStays,
    mut next: impl FnMut(&mut String) -> Result<Option<bool>, E>,
) -> Result<(), E> {
    let (mut members, mut stays, mut len) = (Vec::new(), Vec::new(), 0);
    let mut is_over = false;
    while !is_over {
        let mut member = String::new();
        match next(&mut member)? {
            Some(says) => {
                len += member.len();
                members.push(member);
                stays.push(says);
            }
            None => is_over = true,
        }
        if members.len() >= SENT_MEMBERS || len >= SENT_LEN || (is_over && !members.is_empty()) {
            let both: [(&(dyn ToSql + Sync), Type); 2] =
                [(&members, Type::TEXT_ARRAY), (&stays, Type::BOOL_ARRAY)];
            let values = if has == MemberStays::Said { &both[..] } else { &both[..1] };
            let sent = writing.execute_typed(statement, values).await;
            sent.map_err(|e| SqlError::of(database.name, &e, false))?;
            members.clear();
            stays.clear();
            len = 0;
        }
    }
    Ok(())
}
