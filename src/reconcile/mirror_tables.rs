//! Mirror tables: keeps a copy of the recorded members beside a SQL source, so that the database can compute the
//! difference.
//!
//! # Expected flow
//! After the members are sent, the table is updated first, and the note of its content second. If a run stops between
//! the two, the next plan trusts neither and reads the source in full.
//!
//! # Guarantees
//! An error here does not fail the run, because the table is only a copy.

use std::collections::BTreeMap;

use super::context::ApplyResources;
use super::read_source::PushdownReport;
use crate::config::{Config, SqlConfig};
use crate::connector::sql::pushdown::{self, MirrorTableName, format_member};
use crate::connector::sql::{Database, SqlError};
use crate::model::{CohortId, ConnectionName, Standing, TableChecksum};
use crate::source;
use crate::state::{Membership, MirrorNote, PartRef, StateError};

/// Why a table could not be updated.
#[derive(Debug, thiserror::Error)]
enum MirrorTableError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("its recorded membership is damaged: {0}")]
    Damaged(#[from] crate::model::IdentifierError),
}

/// The membership that a plan started from, and how its source was compared.
pub(super) struct MirrorBefore {
    number: u64,
    parts: Vec<PartRef>,
    pushdown: Option<PushdownReport>,
}

impl MirrorBefore {
    pub(super) fn of(membership: &Membership, pushdown: Option<&PushdownReport>) -> Self {
        Self { number: membership.number, parts: membership.parts.clone(), pushdown: pushdown.cloned() }
    }
}

/// The mirror tables that the config asks for.
pub(super) struct MirrorTables {
    databases: BTreeMap<ConnectionName, SqlConfig>,
    /// Connection and schema by cohort.
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

    /// Updates the table of a cohort to its newest version, or drops it if the config no longer asks for it. Returns the
    /// error, if there is one.
    pub(super) fn keep(
        &self,
        id: &CohortId,
        before: &MirrorBefore,
        resources: &ApplyResources,
    ) -> Option<String> {
        let updated = match self.wanted.get(id) {
            Some((connection, schema)) => bring_up_to_date(id, connection, schema, before, self, resources),
            None => drop_unless(id, None, self, resources),
        };
        let error = updated.err().map(|error| error.to_string());
        if let Some(error) = &error {
            tracing::warn!(cohort = %id, "the mirror table could not be updated: {error}");
        }
        error
    }
}

/// Merges the parts of a membership. Its members stay the same, so the table stays valid for the new version.
pub(super) fn tidy(id: &CohortId, resources: &ApplyResources) -> Result<(), StateError> {
    let (state, now) = (&resources.state, resources.clock.now());
    let number =
        || Ok::<_, StateError>(state.reader().version(id)?.map_or(0, |membership| membership.number));
    let Some(note) = state.reader().mirror_note(id)? else { return state.tidy(id, now) };
    let before = number()?;
    state.tidy(id, now)?;
    let version = number()?;
    if note.version != before || version == before {
        return Ok(());
    }
    state.put_mirror_note(id, Some(&MirrorNote { version, ..note }))
}

fn database<'a>(
    name: &'a ConnectionName,
    tables: &'a MirrorTables,
    resources: &'a ApplyResources,
) -> Option<Database<'a>> {
    let (settings, secrets) = (tables.databases.get(name)?, resources.secrets.databases.get(name)?);
    Some(Database { name, settings, secrets })
}

/// Drops the table of the note, and the note, unless it is the table `wanted`.
fn drop_unless(
    id: &CohortId,
    wanted: Option<(&ConnectionName, &MirrorTableName)>,
    tables: &MirrorTables,
    resources: &ApplyResources,
) -> Result<(), MirrorTableError> {
    let Some(note) = resources.state.reader().mirror_note(id)? else { return Ok(()) };
    let MirrorNote { connection, schema, table: name, .. } = note;
    let table = MirrorTableName { schema, name };
    if wanted.is_some_and(|(at, wanted)| *wanted == table && at.as_str() == connection) {
        return Ok(());
    }
    let known = tables.databases.iter().find(|(name, _)| name.as_str() == connection);
    let database = known.and_then(|(name, _)| database(name, tables, resources));
    let Some(database) = database.filter(|database| matches!(database.settings, SqlConfig::Postgres(_)))
    else {
        // The table cannot be reached any more. The note stays, so that `forget` reports it.
        return Ok(());
    };
    pushdown::drop_table(database, &table)?;
    Ok(resources.state.put_mirror_note(id, None)?)
}

fn bring_up_to_date(
    id: &CohortId,
    connection: &ConnectionName,
    schema: &str,
    before: &MirrorBefore,
    tables: &MirrorTables,
    resources: &ApplyResources,
) -> Result<(), MirrorTableError> {
    if matches!(&before.pushdown, Some(PushdownReport::InFull { reason }) if reason.is_permanent()) {
        return Ok(());
    }
    let state = &resources.state;
    let database = database(connection, tables, resources).ok_or_else(|| SqlError::unknown(connection))?;
    let table = source::mirror_table_of(id, schema, state.reader());
    drop_unless(id, Some((connection, &table)), tables, resources)?;
    let Some(membership) = state.reader().version(id)? else { return Ok(()) };
    let is_distrusted = matches!(before.pushdown, Some(PushdownReport::InFull { .. }));
    let note = state.reader().mirror_note(id)?.filter(|note| !is_distrusted && note.version == before.number);
    let changed = note.as_ref().and_then(|_| changed_parts(&before.parts, &membership.parts));
    let tabled = match (note, changed) {
        (Some(note), Some(_)) if note.version == membership.number => return Ok(()),
        (Some(note), Some(changed)) if changed.is_empty() => note.checksum,
        (Some(note), Some(changed)) => {
            update(id, database, &table, note.checksum, &changed, &membership, resources)?
        }
        _ => rebuild(id, database, &table, &membership, resources)?,
    };
    let MirrorTableName { schema, name } = table;
    let (connection, version) = (connection.to_string(), membership.number);
    let note = MirrorNote { connection, schema, table: name, version, checksum: tabled };
    Ok(state.put_mirror_note(id, Some(&note))?)
}

/// The parts that may change the standing of a member. `None` if earlier parts are missing, so that this is unknown.
fn changed_parts(before: &[PartRef], after: &[PartRef]) -> Option<Vec<PartRef>> {
    let is_kept = |part: &PartRef| after.iter().any(|other| other.id == part.id);
    before.iter().all(is_kept).then(|| after.iter().filter(|part| !before.contains(part)).cloned().collect())
}

fn rebuild(
    id: &CohortId,
    database: Database<'_>,
    table: &MirrorTableName,
    membership: &Membership,
    resources: &ApplyResources,
) -> Result<TableChecksum, MirrorTableError> {
    let about =
        format!("Recorded members of cohort {id}, kept by syncline, which builds it again if it is dropped");
    let mut members = resources.state.reader().members(id, Some(membership))?;
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

/// Deletes all users of the changed parts from the table, and inserts those that are settled members now.
fn update(
    id: &CohortId,
    database: Database<'_>,
    table: &MirrorTableName,
    before: TableChecksum,
    changed: &[PartRef],
    membership: &Membership,
    resources: &ApplyResources,
) -> Result<TableChecksum, MirrorTableError> {
    let state = resources.state.reader();
    let some = Membership { parts: changed.to_vec(), ..membership.clone() };
    let mut candidates = state.members(id, Some(&some))?;
    let mut all = state.members(id, Some(membership))?;
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
