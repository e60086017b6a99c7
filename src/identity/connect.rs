//! Import of Heap Connect dumps into the identity map: `users` and `user_migrations` as of the newest dump.
//!
//! # Guarantees
//! The map equals what one full dump at the end would give, regardless of how many imports read the history. Each dump
//! is imported together with the bookmark, or not at all. A dump that a later one replaces is not read.
//!
//! # Assumptions
//! Heap's rules of replay: a full dump of a table replaces it, an incremental one replaces the rows that it contains,
//! and `user_migrations` is always full. Columns may appear or disappear without a full dump. In a dump without the
//! owner column rows keep their owner, but rows that a full dump lacks are removed.

use std::sync::Mutex;

use super::{ImportError, ImportSummary, RowRejectReason, locked, noted, text};
use crate::config::IdentityDumpSource;
use crate::connector::file::{self, AvroValues};
use crate::connector::heap_connect::{Dump, DumpError, DumpFile, DumpTable, Dumps, Manifest};
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::{ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Field, Fields, Timestamp};
use crate::state::{
    IdentityMap, ReplayTable, SourceBookmark, SourceName, SourceTable, StateError, StateReader,
};

/// How often dumps are read again after their tables were changed by another import.
const ATTEMPTS_MAX: u32 = 3;
const USERS: &str = "users";
const MIGRATIONS: &str = "user_migrations";

/// The result of importing dumps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpImport {
    /// The newest dump.
    pub newest: u64,
    /// The dumps that were read, in order. Empty: there was nothing new.
    pub read: Vec<u64>,
    /// Whether the tables were rebuilt from the beginning.
    pub is_anew: bool,
    /// Statistics of the rows.
    pub summary: ImportSummary,
}

fn name_of(source: &IdentityDumpSource) -> SourceName {
    SourceName { address: source.address.clone(), label: source.label.clone() }
}

/// Imports and commits dumps that were not read yet. The map is not locked while they are read.
///
/// # Errors
/// [`ImportError`]. Then the map is unchanged.
pub fn import_dumps(
    source: &IdentityDumpSource,
    from: file::FileAccess<'_>,
    map: &Mutex<IdentityMap>,
) -> Result<DumpImport, ImportError> {
    let dumps = Dumps::find(&source.folder, from)?;
    for _ in 0..ATTEMPTS_MAX {
        if let Some(dumped) = try_import(source, &dumps, map)? {
            return Ok(dumped);
        }
    }
    Err(ImportError::Busy)
}

/// Returns `None` if another import has changed the tables meanwhile.
fn try_import(
    source: &IdentityDumpSource,
    dumps: &Dumps,
    map: &Mutex<IdentityMap>,
) -> Result<Option<DumpImport>, ImportError> {
    let (name, newest) = (name_of(source), dumps.all().last().map_or(0, |dump| dump.id));
    let known = locked(map).bookmark(&name).cloned();
    let before = known.as_ref().filter(|bookmark| continues(bookmark, source, dumps));
    if before.is_some_and(|before| before.dump >= newest) {
        return Ok(Some(DumpImport { newest, ..DumpImport::default() }));
    }
    let replay = ReplayPlan::plan(source, dumps, before)?;
    let joins_anew = before.is_none() || replay.migrations.is_some();
    let (state, mut users, mut joins) = {
        let map = locked(map);
        let users = map.table(&name, SourceTable::Users, before.is_none())?;
        (map.state(), users, map.table(&name, SourceTable::Joins, joins_anew)?)
    };
    let mut summary = ImportSummary::default();
    let read = replay.users(&mut users, &mut summary)?;
    replay.joins(&mut joins, &mut summary)?;
    let begins = replay.begins.or(before.map(|before| before.from)).unwrap_or(newest);
    let seen = dumps.all().iter().filter(|dump| dump.id >= begins).map(|dump| (dump.id, dump.mark));
    let bookmark = SourceBookmark {
        dump: newest,
        from: begins,
        seen: seen.collect(),
        fingerprint: source.owner.clone(),
    };
    let is_anew = before.is_none() && known.is_some();
    let (users, joins) = (users.finish(&state)?, joins.finish(&state)?);
    let is_imported = locked(map).import(&name, bookmark, users, joins)?;
    Ok(is_imported.then_some(DumpImport { newest, read, is_anew, summary }))
}

/// Whether there are dumps that were not imported yet. Reads no table.
pub(super) fn has_changes(
    source: &IdentityDumpSource,
    from: file::FileAccess<'_>,
    state: &StateReader,
) -> Result<bool, ImportError> {
    let dumps = Dumps::find(&source.folder, from)?;
    let newest = dumps.all().last().map_or(0, |dump| dump.id);
    let before = state.bookmark(&name_of(source))?.filter(|bookmark| continues(bookmark, source, &dumps));
    Ok(before.is_none_or(|before| before.dump < newest))
}

/// Whether the dumps continue the imported ones: no dump that the tables include was added or changed since. Missing old
/// dumps do not count.
fn continues(bookmark: &SourceBookmark, source: &IdentityDumpSource, dumps: &Dumps) -> bool {
    let newest = dumps.all().last().map_or(0, |dump| dump.id);
    let mut within = dumps.all().iter().filter(|dump| (bookmark.from..=bookmark.dump).contains(&dump.id));
    bookmark.fingerprint == source.owner
        && newest >= bookmark.from
        && within.all(|dump| bookmark.seen.contains(&(dump.id, dump.mark)))
}

/// Which dumps and tables to read, in order.
struct ReplayPlan<'a> {
    source: &'a IdentityDumpSource,
    dumps: &'a Dumps,
    /// Sorted by number.
    manifests: Vec<(&'a Dump, Manifest)>,
    /// The full dump that `users` is rebuilt from. `None`: it continues from the last import.
    begins: Option<u64>,
    /// The dump with the newest `user_migrations`.
    migrations: Option<u64>,
}

impl<'a> ReplayPlan<'a> {
    /// Searches backwards from the newest dump, no further than necessary.
    fn plan(
        source: &'a IdentityDumpSource,
        dumps: &'a Dumps,
        before: Option<&SourceBookmark>,
    ) -> Result<Self, DumpError> {
        let mut plan = Self { source, dumps, manifests: Vec::new(), begins: None, migrations: None };
        let after = before.map(|before| before.dump);
        let mut oldest = None;
        for dump in dumps.all().iter().rev().take_while(|dump| after.is_none_or(|after| dump.id > after)) {
            let manifest = dumps.manifest(dump)?;
            if plan.migrations.is_none() && manifest.table(MIGRATIONS).is_some() {
                plan.migrations = Some(dump.id);
            }
            let full = manifest.table(USERS).filter(|users| !users.is_incremental);
            if let Some(users) = full
                && plan.begins.is_none()
            {
                oldest = Some(dump.id);
                plan.begins = plan.has_owners(dump, users)?.then_some(dump.id);
            }
            plan.manifests.push((dump, manifest));
            if plan.begins.is_some() && plan.migrations.is_some() {
                break;
            }
        }
        plan.manifests.reverse();
        if before.is_none() {
            plan.begins = plan.begins.or(oldest);
            let path = || dumps.path();
            plan.begins.ok_or_else(|| DumpError::NoBeginning { path: path(), table: USERS.to_owned() })?;
        }
        Ok(plan)
    }

    /// Whether a table has the owner column, by the schema of its files, or by the manifest if it has no files.
    fn has_owners(&self, dump: &Dump, users: &DumpTable) -> Result<bool, DumpError> {
        match users.files.first() {
            Some(file) => Ok(self.dumps.open(dump, users, file)?.has(&self.source.owner)),
            None => Ok(users.columns.is_empty() || users.columns.contains(&self.source.owner)),
        }
    }

    /// Replays `users`. Returns the dumps that were read.
    fn users(&self, table: &mut ReplayTable, summary: &mut ImportSummary) -> Result<Vec<u64>, ImportError> {
        let (mut read, mut is_known) = (Vec::new(), self.begins.is_none());
        let needed =
            self.manifests.iter().filter(|(dump, _)| self.begins.is_none_or(|first| dump.id >= first));
        for (dump, manifest) in needed {
            read.push(dump.id);
            let Some(users) = manifest.table(USERS) else { continue };
            let has_owners = self.has_owners(dump, users)?;
            is_known |= has_owners;
            match (users.is_incremental, has_owners) {
                (true, _) => {}
                (false, true) => table.clear(),
                (false, false) => {
                    self.keep_listed(dump, users, table, summary)?;
                    continue;
                }
            }
            for file in &users.files {
                self.file(dump, users, file, table, summary, IdentityRow::Users)?;
            }
        }
        if is_known {
            return Ok(read);
        }
        let (table, column) = (USERS.to_owned(), self.source.owner.clone());
        Err(DumpError::NoColumn { path: self.dumps.path(), table, column }.into())
    }

    /// Keeps the owners of the users that a full dump without owner column lists.
    fn keep_listed(
        &self,
        dump: &Dump,
        users: &DumpTable,
        table: &mut ReplayTable,
        summary: &mut ImportSummary,
    ) -> Result<(), ImportError> {
        let mut listed = table.another()?;
        for file in &users.files {
            self.file(dump, users, file, &mut listed, summary, IdentityRow::Rows)?;
        }
        Ok(table.keep_only(listed)?)
    }

    /// Replays the newest `user_migrations`, if there is a new one.
    fn joins(&self, table: &mut ReplayTable, summary: &mut ImportSummary) -> Result<(), ImportError> {
        let found = self.manifests.iter().find(|(dump, _)| Some(dump.id) == self.migrations);
        let Some((dump, manifest)) = found else { return Ok(()) };
        if let Some(migrations) = manifest.table(MIGRATIONS) {
            for file in &migrations.files {
                self.file(dump, migrations, file, table, summary, IdentityRow::Joins)?;
            }
        }
        Ok(())
    }

    fn file(
        &self,
        dump: &Dump,
        of: &DumpTable,
        file: &DumpFile,
        table: &mut ReplayTable,
        summary: &mut ImportSummary,
        kind: IdentityRow,
    ) -> Result<(), ImportError> {
        let rows = self.dumps.open(dump, of, file)?;
        let columns = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<_>>();
        let (required, optional) = match kind {
            IdentityRow::Users if rows.has(&self.source.owner) => {
                (columns(&["user_id", &self.source.owner]), columns(&["last_modified", "joindate"]))
            }
            IdentityRow::Users | IdentityRow::Rows => (columns(&["user_id"]), Vec::new()),
            IdentityRow::Joins => (columns(&["from_user_id", "to_user_id"]), Vec::new()),
        };
        let lacks_owner = matches!(kind, IdentityRow::Users) && required.len() == 1;
        let mut replayer = DumpReplayer { table, summary, kind, lacks_owner, failed: None };
        let read = rows.read(&required, &optional, AvroValues::Typed, &mut replayer);
        match replayer.failed.take() {
            Some(error) => Err(error.into()),
            None => {
                summary.rows += read?;
                Ok(())
            }
        }
    }
}

/// The kinds of rows.
#[derive(Clone, Copy)]
enum IdentityRow {
    /// Owners of user ids.
    Users,
    /// Existing user ids.
    Rows,
    /// Merges of user ids.
    Joins,
}

struct DumpReplayer<'a> {
    table: &'a mut ReplayTable,
    summary: &'a mut ImportSummary,
    kind: IdentityRow,
    /// Whether the file lacks the owner column.
    lacks_owner: bool,
    failed: Option<StateError>,
}

impl DumpReplayer<'_> {
    fn take(&mut self, fields: &impl Fields) -> Result<(), RowRejectReason> {
        let id = |at| text(fields, at, ALIAS_LEN_MAX)?.ok_or(RowRejectReason::Unused("no_alias"));
        let user = id(0)?;
        match self.kind {
            IdentityRow::Users if self.lacks_owner => Err(RowRejectReason::Unused("no_column")),
            IdentityRow::Users => {
                let owner = text(fields, 1, EXTERNAL_ID_LEN_MAX);
                let seen = time(fields, 2).or_else(|| time(fields, 3)).unwrap_or(Timestamp::UNIX_EPOCH);
                let said = owner.as_ref().ok().copied().flatten().map(|owner| (owner, seen));
                self.table.link(user, said)?;
                self.summary.ties += u64::from(said.is_some());
                owner?.map(drop).ok_or(RowRejectReason::Unused("no_external_id"))
            }
            IdentityRow::Rows => Ok(self.table.mark_existing(user)?),
            IdentityRow::Joins => {
                self.table.join(user, id(1)?)?;
                self.summary.joins += 1;
                Ok(())
            }
        }
    }
}

/// Parses milliseconds since 1970.
fn time(fields: &impl Fields, at: usize) -> Option<Timestamp> {
    let Field::Text(text) = fields.field(at) else { return None };
    Timestamp::from_millisecond(std::str::from_utf8(text).ok()?.parse().ok()?).ok()
}

impl RowSink for DumpReplayer<'_> {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        let done = self.take(fields);
        noted(done, self.summary, &mut self.failed)
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        noted(Err(RowRejectReason::Unused(row.reason)), self.summary, &mut self.failed)
    }
}
