//! Writing tables of members: anew, by what changed, and not at all any more. Each in one transaction.

use std::fmt::Write as _;
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Transaction;

use super::super::error::{SqlError, Trouble};
use super::super::session::Session;
use super::super::{Database, runtime};
use super::{TableName, member, query, tabled};
use crate::config::{Postgres, Sql};
use crate::model::Tabled;

/// Bytes that are sent at once.
const SENT_LEN: usize = 256 << 10;

fn settings<'a>(database: Database<'a>) -> Result<&'a Postgres, SqlError> {
    match database.settings {
        Sql::Postgres(settings) => Ok(settings),
        Sql::Adbc(_) => Err(SqlError::new(database.name, Trouble::Query, "it keeps no tables of members")),
    }
}

async fn open<'a>(database: Database<'a>) -> Result<Session<'a>, SqlError> {
    let session = Session::open(database, settings(database)?).await?;
    match session.unfit().await {
        Some(what) => {
            Err(SqlError::new(database.name, Trouble::Query, super::Unusable::Server(what).to_string()))
        }
        None => Ok(session),
    }
}

/// Puts members into a new table, which takes the place of the one that may be there. `next` writes the next member,
/// as it is spelled, and says whether there was one. What is in the table now.
///
/// # Errors
/// What `next` fails with, or [`SqlError`]: the table is then what it was.
pub fn rebuild<E: From<SqlError>>(
    database: Database<'_>,
    table: &TableName,
    about: &str,
    mut next: impl FnMut(&mut String) -> Result<bool, E>,
) -> Result<Tabled, E> {
    runtime(database)?.block_on(async {
        let mut session = open(database).await?;
        let writing = session.writing().await?;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        let has_schema =
            writing.query_one(&query::schema_exists(&table.schema), &[]).await.map_err(failed)?;
        if !has_schema.try_get::<_, bool>(0).map_err(failed)? {
            writing.batch_execute(&query::create_schema(&table.schema)).await.map_err(failed)?;
        }
        let new = query::next_of(table);
        writing.batch_execute(&query::create(&new)).await.map_err(failed)?;
        let mut sent = Tabled::default();
        copy(database, &writing, &query::copy(&new), |line, member| {
            let is_there = next(member)?;
            if is_there {
                sent.add(member::hash(member));
                escape(member, line);
                line.push('\n');
            }
            Ok::<_, E>(is_there)
        })
        .await?;
        let found =
            tabled(&writing.query_one(&query::sum(&new), &[]).await.map_err(failed)?).map_err(failed)?;
        if found != sent {
            return Err(E::from(garbled(database)));
        }
        writing.batch_execute(&query::swap(&new, table, about)).await.map_err(failed)?;
        writing.commit().await.map_err(failed)?;
        Ok(found)
    })
}

/// What arrived is not what was sent, or is hashed in another way.
fn garbled(database: Database<'_>) -> SqlError {
    SqlError::new(database.name, Trouble::Query, "the members that arrived are not those that were sent")
}

/// Brings a table up to date. `next` writes the next candidate, as it is spelled, and says whether it is a member now;
/// none after the last. `before` is what is in the table; what is in it now.
///
/// # Errors
/// What `next` fails with, or [`SqlError`]: the table is then what it was.
pub fn update<E: From<SqlError>>(
    database: Database<'_>,
    (table, before): (&TableName, Tabled),
    mut next: impl FnMut(&mut String) -> Result<Option<bool>, E>,
) -> Result<Tabled, E> {
    runtime(database)?.block_on(async {
        let mut session = open(database).await?;
        let writing = session.writing().await?;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        writing.batch_execute(query::CANDIDATES).await.map_err(failed)?;
        let mut come = Tabled::default();
        copy(database, &writing, query::COPY_CANDIDATES, |line, member| {
            let stays = next(member)?;
            if let Some(stays) = stays {
                if stays {
                    come.add(member::hash(member));
                }
                escape(member, line);
                line.push_str(if stays { "\tt\n" } else { "\tf\n" });
            }
            Ok::<_, E>(stays.is_some())
        })
        .await?;
        let gone = writing.query_one(&query::take_out(table), &[]).await.map_err(failed)?;
        let gone = tabled(&gone).map_err(failed)?;
        let inserted = writing.execute(&query::put_in(table), &[]).await.map_err(failed)?;
        let after = before.after(gone, come).filter(|_| inserted == come.rows);
        let after = after.ok_or_else(|| garbled(database))?;
        writing.commit().await.map_err(failed)?;
        Ok(after)
    })
}

/// Drops a table, if it is there.
///
/// # Errors
/// [`SqlError`] when the server does not do it.
pub fn drop_table(database: Database<'_>, table: &TableName) -> Result<(), SqlError> {
    runtime(database)?.block_on(async {
        let mut session = Session::open(database, settings(database)?).await?;
        let writing = session.writing().await?;
        let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
        writing.batch_execute(&query::drop(table)).await.map_err(failed)?;
        writing.commit().await.map_err(failed)
    })
}

/// Sends lines until `next` says that there was none; it is lent a text to write a member to.
async fn copy<E: From<SqlError>>(
    database: Database<'_>,
    writing: &Transaction<'_>,
    statement: &str,
    mut next: impl FnMut(&mut String, &mut String) -> Result<bool, E>,
) -> Result<(), E> {
    let failed = |e: tokio_postgres::Error| SqlError::of(database.name, &e, false);
    let mut sink = pin!(writing.copy_in::<_, Bytes>(statement).await.map_err(failed)?);
    let (mut lines, mut member) = (String::with_capacity(SENT_LEN + 4096), String::new());
    loop {
        let is_there = next(&mut lines, &mut member)?;
        if lines.len() >= SENT_LEN || !is_there {
            let full = std::mem::replace(&mut lines, String::with_capacity(SENT_LEN + 4096));
            sink.send(Bytes::from(full)).await.map_err(failed)?;
        }
        if !is_there {
            sink.finish().await.map_err(failed)?;
            return Ok(());
        }
    }
}

/// A value as `copy` reads it.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a text does not fail.
            c => drop(out.write_char(c)),
        }
    }
}
