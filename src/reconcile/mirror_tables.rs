//! The tables of members beside sources, brought to what the record says once a run has changed it.
//!
//! # Expected flow
//! First the table, then the note of what is in it: whatever stops between the two, the next plan trusts neither.
//!
//! # Guarantees
//! What fails here fails no run: the table is only a copy, and the next plan reads the source in full.

use std::collections::BTreeMap;

use super::ApplyResources;
use super::read_source::PushdownReport;
use crate::config::{Config, SqlConfig};
use crate::connector::sql::pushdown::{self, MirrorTableName, format_member};
use crate::connector::sql::{Database, SqlError};
use crate::model::{CohortId, ConnectionName, Standing, TableChecksum};
use crate::source;
use crate::state::{Membership, MirrorNote, PartRef, StateError};

/// Why a table could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum MirrorTableError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("its record is damaged: {0}")]
    Damaged(#[from] crate::model::IdentifierError),
}

/// What a plan started from.
pub(super) struct MirrorBefore {
    number: u64,
    parts: Vec<PartRef>,
    compared: Option<PushdownReport>,
}

impl MirrorBefore {
    pub(super) fn of(record: &Membership, compared: Option<&PushdownReport>) -> Self {
        Self { number: record.number, parts: record.parts.clone(), compared: compared.cloned() }
    }
}

/// What the config says of tables.
pub(super) struct MirrorTables {
    databases: BTreeMap<ConnectionName, SqlConfig>,
    /// The connection and the schema of each.
    wanted: BTreeMap<CohortId, (ConnectionName, String)>,
}

impl MirrorTables {
    pub(super) fn of(config: &Config) -> Self {
        let wanted = config.cohorts.iter().filter_map(|cohort| {
            let (source, schema) = source::pushdown_source(cohort, config)?;
            Some((cohort.id.clone(), (source.connection.clone(), schema.to_owned())))
        });
        Self { databases: config.sql.clone(), wanted: wanted.collect() }
    }

    /// Brings the table of a cohort to the newest version of its record, or drops it where none is wanted any more.
    /// What went wrong, if anything did.
    pub(super) fn keep(
        &self,
        id: &CohortId,
        before: &MirrorBefore,
        means: &ApplyResources,
    ) -> Option<String> {
        let kept = match self.wanted.get(id) {
            Some((connection, schema)) => brought(id, connection, schema, before, self, means),
            None => dropped(id, None, self, means),
        };
        let trouble = kept.err().map(|error| error.to_string());
        if let Some(trouble) = &trouble {
            tracing::warn!(cohort = %id, "the table beside its source could not be brought up to date: {trouble}");
        }
        trouble
    }
}

/// Tidies a record. What its members are does not change, so that a table of the version before is as good as before.
pub(super) fn tidy(id: &CohortId, means: &ApplyResources) -> Result<(), StateError> {
    let (state, now) = (&means.state, means.clock.now());
    let number = || Ok::<_, StateError>(state.reader().version(id)?.map_or(0, |record| record.number));
    let Some(note) = state.reader().pushdown(id)? else { return state.tidy(id, now) };
    let before = number()?;
    state.tidy(id, now)?;
    let version = number()?;
    if note.version != before || version == before {
        return Ok(());
    }
    state.note_pushdown(id, Some(&MirrorNote { version, ..note }))
}

fn database<'a>(
    name: &'a ConnectionName,
    tables: &'a MirrorTables,
    means: &'a ApplyResources,
) -> Option<Database<'a>> {
    let (settings, secrets) = (tables.databases.get(name)?, means.secrets.databases.get(name)?);
    Some(Database { name, settings, secrets })
}

/// Drops the table that the note tells of, unless it is this one, and the note with it.
fn dropped(
    id: &CohortId,
    but: Option<(&ConnectionName, &MirrorTableName)>,
    tables: &MirrorTables,
    means: &ApplyResources,
) -> Result<(), MirrorTableError> {
    let Some(note) = means.state.reader().pushdown(id)? else { return Ok(()) };
    let MirrorNote { connection, schema, table: name, .. } = note;
    let table = MirrorTableName { schema, name };
    if but.is_some_and(|(at, but)| *but == table && at.as_str() == connection) {
        return Ok(());
    }
    let known = tables.databases.iter().find(|(name, _)| name.as_str() == connection);
    let database = known.and_then(|(name, _)| database(name, tables, means));
    let Some(database) = database.filter(|database| matches!(database.settings, SqlConfig::Postgres(_)))
    else {
        // There is no way to it any more; the note stays, so that `forget` can tell.
        return Ok(());
    };
    pushdown::drop_table(database, &table)?;
    Ok(means.state.note_pushdown(id, None)?)
}

fn brought(
    id: &CohortId,
    connection: &ConnectionName,
    schema: &str,
    before: &MirrorBefore,
    tables: &MirrorTables,
    means: &ApplyResources,
) -> Result<(), MirrorTableError> {
    if matches!(&before.compared, Some(PushdownReport::Here { why }) if why.is_permanent()) {
        return Ok(());
    }
    let state = &means.state;
    let database = database(connection, tables, means).ok_or_else(|| SqlError::unknown(connection))?;
    let table = source::mirror_table_of(id, schema, state.reader());
    dropped(id, Some((connection, &table)), tables, means)?;
    let Some(record) = state.reader().version(id)? else { return Ok(()) };
    let is_distrusted = matches!(before.compared, Some(PushdownReport::Here { .. }));
    let note = state.reader().pushdown(id)?.filter(|note| !is_distrusted && note.version == before.number);
    let changed = note.as_ref().and_then(|_| changed_parts(&before.parts, &record.parts));
    let tabled = match (note, changed) {
        (Some(note), Some(_)) if note.version == record.number => return Ok(()),
        (Some(note), Some(changed)) if changed.is_empty() => note.tabled,
        (Some(note), Some(changed)) => update(id, database, &table, note.tabled, &changed, &record, means)?,
        _ => rebuild(id, database, &table, &record, means)?,
    };
    let MirrorTableName { schema, name } = table;
    let (connection, version) = (connection.to_string(), record.number);
    let note = MirrorNote { connection, schema, table: name, version, tabled };
    Ok(state.note_pushdown(id, Some(&note))?)
}

/// The parts in which somebody may stand otherwise than before; none if the parts of before are no longer there, and
/// nobody can tell.
fn changed_parts(before: &[PartRef], after: &[PartRef]) -> Option<Vec<PartRef>> {
    let is_there = |part: &PartRef| after.iter().any(|other| other.id == part.id);
    before.iter().all(is_there).then(|| after.iter().filter(|part| !before.contains(part)).cloned().collect())
}

fn rebuild(
    id: &CohortId,
    database: Database<'_>,
    table: &MirrorTableName,
    record: &Membership,
    means: &ApplyResources,
) -> Result<TableChecksum, MirrorTableError> {
    let about = format!("Members of cohort {id} as syncline knows them; it is made again if it is dropped");
    let mut members = means.state.reader().members(id, Some(record))?;
    pushdown::rebuild(database, table, &about, |member| {
        while let Some((_, standing)) = members.advance()? {
            if standing == Standing::Member {
                format_member(members.packed()?, member)?;
                return Ok::<_, MirrorTableError>(true);
            }
        }
        Ok(false)
    })
}

/// Takes all out of the table who are in the changed parts, and puts those in who are settled members now.
fn update(
    id: &CohortId,
    database: Database<'_>,
    table: &MirrorTableName,
    before: TableChecksum,
    changed: &[PartRef],
    record: &Membership,
    means: &ApplyResources,
) -> Result<TableChecksum, MirrorTableError> {
    let state = means.state.reader();
    let some = Membership { parts: changed.to_vec(), ..record.clone() };
    let mut candidates = state.members(id, Some(&some))?;
    let mut all = state.members(id, Some(record))?;
    let mut at = all.advance()?;
    pushdown::update(database, (table, before), |member| {
        let Some((key, _)) = candidates.advance_any()? else { return Ok::<_, MirrorTableError>(None) };
        while at.is_some_and(|(other, _)| other < key) {
            let skipped = all.ahead().partition_point(|other| *other < key);
            all.skip(skipped);
            at = all.advance()?;
        }
        format_member(candidates.packed()?, member)?;
        Ok(Some(at == Some((key, Standing::Member))))
    })
}
