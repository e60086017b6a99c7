//! Checks whether `syncline` can maintain mirror tables in a database, if the config has any. Nothing is written.

use std::sync::Arc;

use super::DoctorFindings;
use super::sql_errors::failed;
use super::vendors::blocking;
use crate::config::{PostgresConfig, Secrets, SqlConfig};
use crate::connector::sql::Database;
use crate::connector::sql::pushdown::{Rights, rights};
use crate::model::ConnectionName;

/// Whether the database user may write.
pub(super) fn are_kept(settings: &SqlConfig) -> bool {
    matches!(settings, SqlConfig::Postgres(postgres) if postgres.pushdown.is_some())
}

pub(super) async fn check(
    name: &ConnectionName,
    settings: &Arc<(SqlConfig, Secrets)>,
    findings: &mut DoctorFindings,
) {
    let SqlConfig::Postgres(postgres) = settings.0.clone() else { return };
    let Some(schema) = postgres.pushdown.clone() else { return };
    let (database, with, wanted) = (name.clone(), Arc::clone(settings), schema.clone());
    let found = blocking(move || {
        let (settings, secrets): &(SqlConfig, Secrets) = &with;
        let SqlConfig::Postgres(postgres) = settings else { return Ok(None) };
        rights(Database { name: &database, settings, secrets }, postgres, &wanted)
    });
    match found.await {
        Some(Ok(Some(rights))) => report(&schema, &postgres, &rights, findings),
        Some(Err(error)) => failed(&error, findings),
        Some(Ok(None)) | None => {}
    }
}

fn report(schema: &str, postgres: &PostgresConfig, rights: &Rights, findings: &mut DoctorFindings) {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (in_sql, user) = (quoted(schema), quoted(&postgres.user));
    let database = quoted(&postgres.database);
    let mut wrong = |says: String, remedy: String| findings.failed("pushdown", says, remedy);
    if let Some(what) = &rights.unfit {
        return wrong(
            format!("mirror tables need PostgreSQL 12 or newer with UTF-8, found {what}"),
            "delete `diff: pushdown` of its cohorts: their sources are then read in full".to_owned(),
        );
    }
    if !rights.exists && !rights.may_make {
        return wrong(
            format!("schema `{schema}` does not exist, and the user cannot create it"),
            format!("as an administrator: create schema {in_sql} authorization {user}"),
        );
    }
    if rights.exists && !(rights.may_use && rights.may_create) {
        return wrong(
            format!("the user cannot create tables in schema `{schema}`"),
            format!("as an administrator: grant usage, create on schema {in_sql} to {user}"),
        );
    }
    if !rights.may_make_temporary {
        return wrong(
            "the user cannot create temporary tables, which changes need".to_owned(),
            format!("as an administrator: grant temporary on database {database} to {user}"),
        );
    }
    let made = if rights.exists { "" } else { ", which the first run creates" };
    findings.passed("pushdown", format!("mirror tables can be created in schema `{schema}`{made}"));
}
