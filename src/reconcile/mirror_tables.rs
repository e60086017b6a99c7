//! Mirror tables: keeps a copy of the recorded members beside a SQL source, so that the database can compute the
//! difference.
//!
//! # Expected flow
//! After the members are sent, the table is updated first, and the note of its content second. If a run stops between
//! the two, the next plan trusts neither and reads the source in full.
//!
//! [`MirrorUpdate`] is the plan of the stage: what the table needs, from its note and the two memberships alone.
//!
//! # Guarantees
//! An error here does not fail the run, because the table is only a copy.

use std::collections::BTreeMap;

use super::context::ApplyResources;
use super::read_source::PushdownReport;
use crate::config::{Config, SqlConfig};
use crate::connector::sql::pushdown::{self, MirrorTableName, format_member};
use crate::connector::sql::{Database, SqlError};
use crate::model::{CohortId, ConnectionName, MemberKey, MemberStanding, TableChecksum};
use crate::source;
use crate::state::{Membership, MembershipCursor, MirrorNote, PartRef, StateError, StateReader};

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

    /// What the table needs to hold the members of `after`, the newest version. `note` is about its content.
    fn update_to(&self, after: &Membership, note: Option<&MirrorNote>) -> MirrorUpdate {
        match &self.pushdown {
            Some(PushdownReport::InFull { reason }) if reason.is_permanent() => return MirrorUpdate::Nothing,
            // The plan found that the table does not match the membership.
            Some(PushdownReport::InFull { .. }) => return MirrorUpdate::Rebuild,
            Some(PushdownReport::InDatabase { .. }) | None => {}
        }
        let Some(note) = note.filter(|note| note.version == self.number) else {
            return MirrorUpdate::Rebuild;
        };
        match changed_parts(&self.parts, &after.parts) {
            None => MirrorUpdate::Rebuild,
            Some(_) if note.version == after.number => MirrorUpdate::Nothing,
            Some(changed) if changed.is_empty() => MirrorUpdate::NoteVersion(note.checksum),
            Some(changed) => MirrorUpdate::ChangedParts(note.checksum, changed),
        }
    }
}

/// What a mirror table needs after the members are sent.
#[derive(Debug, PartialEq, Eq)]
enum MirrorUpdate {
    /// Nothing: it is up to date, or the source cannot use it.
    Nothing,
    /// A note of the newer version, which has the same members. The checksum stays.
    NoteVersion(TableChecksum),
    /// The members of these parts, which may have changed. The checksum is that before the update.
    ChangedParts(TableChecksum, Vec<PartRef>),
    /// All members, because its content is unknown.
    Rebuild,
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

/// Whether a note is about this table.
fn is_about(note: &MirrorNote, connection: &ConnectionName, table: &MirrorTableName) -> bool {
    note.connection == connection.as_str() && note.schema == table.schema && note.table == table.name
}

/// Drops the table of the note, and the note, unless it is the table `wanted`.
fn drop_unless(
    id: &CohortId,
    wanted: Option<(&ConnectionName, &MirrorTableName)>,
    tables: &MirrorTables,
    resources: &ApplyResources,
) -> Result<(), MirrorTableError> {
    let Some(note) = resources.state.reader().mirror_note(id)? else { return Ok(()) };
    if wanted.is_some_and(|(connection, table)| is_about(&note, connection, table)) {
        return Ok(());
    }
    let MirrorNote { connection, schema, table: name, .. } = note;
    let table = MirrorTableName { schema, name };
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
    let state = &resources.state;
    let Some(membership) = state.reader().version(id)? else { return Ok(()) };
    let table = source::mirror_table_of(id, schema, state.reader());
    let note = state.reader().mirror_note(id)?.filter(|note| is_about(note, connection, &table));
    let update = before.update_to(&membership, note.as_ref());
    if update == MirrorUpdate::Nothing {
        return Ok(());
    }
    let database = database(connection, tables, resources).ok_or_else(|| SqlError::unknown(connection))?;
    drop_unless(id, Some((connection, &table)), tables, resources)?;
    let tabled = match update {
        MirrorUpdate::Nothing => return Ok(()),
        MirrorUpdate::NoteVersion(checksum) => checksum,
        MirrorUpdate::ChangedParts(checksum, changed) => {
            let mut members = ChangedMembers::open(id, &changed, &membership, state.reader())?;
            pushdown::update(database, (&table, checksum), |member| members.next(member))?
        }
        MirrorUpdate::Rebuild => {
            let mut members = SettledMembers(state.reader().members(id, Some(&membership))?);
            let about = format!(
                "Recorded members of cohort {id}, kept by syncline, which builds it again if it is dropped"
            );
            pushdown::rebuild(database, &table, &about, |member| members.next(member))?
        }
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

/// The settled members of a membership, in the text form of the table.
struct SettledMembers(MembershipCursor);

impl SettledMembers {
    /// Writes the next member. Returns whether there is one.
    fn next(&mut self, member: &mut String) -> Result<bool, MirrorTableError> {
        while let Some((_, standing)) = self.0.advance()? {
            if standing == MemberStanding::Member {
                format_member(self.0.packed()?, member)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// All users of changed parts, each with whether it is a settled member of the newest version.
struct ChangedMembers {
    candidates: MembershipCursor,
    all: MembershipCursor,
    at: Option<(MemberKey, MemberStanding)>,
}

impl ChangedMembers {
    fn open(
        id: &CohortId,
        changed: &[PartRef],
        membership: &Membership,
        state: &StateReader,
    ) -> Result<Self, StateError> {
        let some = Membership { parts: changed.to_vec(), ..membership.clone() };
        let mut all = state.members(id, Some(membership))?;
        let at = all.advance()?;
        Ok(Self { candidates: state.members(id, Some(&some))?, all, at })
    }

    /// Writes the next user. Returns whether it is a member; `None` at the end.
    fn next(&mut self, member: &mut String) -> Result<Option<bool>, MirrorTableError> {
        let Some((key, _)) = self.candidates.advance_any()? else { return Ok(None) };
        while self.at.is_some_and(|(other, _)| other < key) {
            self.all.skip(self.all.ahead().partition_point(|other| *other < key));
            self.at = self.all.advance()?;
        }
        format_member(self.candidates.packed()?, member)?;
        Ok(Some(self.at == Some((key, MemberStanding::Member))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeOp, Identifier};
    use crate::reconcile::run_fixture::{RunFixture, alias, device, external};
    use crate::source::PushdownFallback;

    const CHECKSUM: TableChecksum = TableChecksum { rows: 2, sum: 7 };

    fn note(version: u64) -> MirrorNote {
        MirrorNote {
            connection: "warehouse".to_owned(),
            schema: "syncline".to_owned(),
            table: "syncline_carts".to_owned(),
            version,
            checksum: CHECKSUM,
        }
    }

    fn before(membership: &Membership, pushdown: &PushdownReport) -> MirrorBefore {
        MirrorBefore::of(membership, Some(pushdown))
    }

    fn in_database() -> PushdownReport {
        PushdownReport::InDatabase { transferred: 0, rows: 2 }
    }

    #[test]
    fn a_table_is_updated_by_the_parts_that_the_run_has_written() {
        let fixture = RunFixture::new("");
        fixture.record(ChangeOp::Add, &["ada", "bob"].map(external), true);
        let old = fixture.membership();
        let same = before(&old, &in_database()).update_to(&old, Some(&note(1)));
        assert_eq!(same, MirrorUpdate::Nothing);
        let newer = Membership { number: 2, ..old.clone() };
        let renumbered = before(&old, &in_database()).update_to(&newer, Some(&note(1)));
        assert_eq!(renumbered, MirrorUpdate::NoteVersion(CHECKSUM));
        fixture.record(ChangeOp::Remove, &[external("bob")], true);
        let new = fixture.membership();
        let updated = before(&old, &in_database()).update_to(&new, Some(&note(1)));
        assert_eq!(updated, MirrorUpdate::ChangedParts(CHECKSUM, new.parts[1..].to_vec()));
        // Rows that were in doubt were answered meanwhile.
        let doubtful = Membership {
            parts: old
                .parts
                .iter()
                .map(|part| PartRef { acknowledged: Default::default(), ..part.clone() })
                .collect(),
            ..old.clone()
        };
        let settled = before(&doubtful, &in_database()).update_to(&newer, Some(&note(1)));
        assert_eq!(settled, MirrorUpdate::ChangedParts(CHECKSUM, old.parts.clone()));
    }

    #[test]
    fn a_table_with_unknown_content_is_rebuilt() {
        let fixture = RunFixture::new("");
        fixture.record(ChangeOp::Add, &["ada", "bob"].map(external), true);
        let old = fixture.membership();
        let merged = Membership { parts: Vec::new(), number: 2, ..old.clone() };
        let mismatch = PushdownFallback::CountMismatch { table: 3, recorded: 2 };
        for (pushdown, after, note, why) in [
            (in_database(), &old, None, "there is no note"),
            (in_database(), &old, Some(note(0)), "a run stopped before it wrote the note"),
            (in_database(), &merged, Some(note(1)), "its parts were replaced"),
            (
                PushdownReport::InFull { reason: mismatch },
                &old,
                Some(note(1)),
                "the table does not match the membership",
            ),
        ] {
            let update = before(&old, &pushdown).update_to(after, note.as_ref());
            assert_eq!(update, MirrorUpdate::Rebuild, "{why}");
        }
    }

    #[test]
    fn a_note_about_another_table_does_not_count() {
        let warehouse = ConnectionName::new("warehouse").unwrap();
        let table = MirrorTableName { schema: "syncline".to_owned(), name: "syncline_carts".to_owned() };
        assert!(is_about(&note(1), &warehouse, &table));
        for other in [
            MirrorNote { connection: "lake".to_owned(), ..note(1) },
            MirrorNote { schema: "public".to_owned(), ..note(1) },
            MirrorNote { table: "syncline_vip".to_owned(), ..note(1) },
        ] {
            assert!(!is_about(&other, &warehouse, &table));
        }
    }

    #[test]
    fn a_table_has_the_settled_members_only() {
        let fixture = RunFixture::new("");
        let all: [Identifier<'_>; 4] = [external("ada"), device("phone"), alias("crm-1"), external("bob")];
        fixture.record(ChangeOp::Add, &all, true);
        fixture.record(ChangeOp::Remove, &[external("bob")], true);
        fixture.record(ChangeOp::Add, &[external("cyd")], false);
        let (state, membership) = (fixture.state.reader(), fixture.membership());
        let mut settled = SettledMembers(state.members(fixture.id(), Some(&membership)).unwrap());
        let (mut found, mut member) = (Vec::new(), String::new());
        while settled.next(&mut member).unwrap() {
            found.push(member.clone());
        }
        found.sort_unstable();
        assert_eq!(found, ["a3:crm:crm-1", "d:phone", "e:ada"]);

        let changed = &membership.parts[1..];
        let mut changed = ChangedMembers::open(fixture.id(), changed, &membership, state).unwrap();
        let mut found = Vec::new();
        while let Some(is_member) = changed.next(&mut member).unwrap() {
            found.push((member.clone(), is_member));
        }
        found.sort_unstable();
        assert_eq!(found, [("e:bob".to_owned(), false), ("e:cyd".to_owned(), false)]);
        // A user of a changed part who is a member again, as settled by a later part.
        fixture.record(ChangeOp::Add, &[external("bob")], true);
        let membership = fixture.membership();
        let mut changed =
            ChangedMembers::open(fixture.id(), &membership.parts[1..2], &membership, state).unwrap();
        assert_eq!((changed.next(&mut member).unwrap(), &*member), (Some(true), "e:bob"));
    }
}
