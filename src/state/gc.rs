//! Garbage collection: finds superseded versions, parts that no version names, and temporary files of a crash.
//!
//! # Guarantees
//! The newest version of an entry and its parts are never removed. Superseded versions stay for an hour, because a
//! reader may use them. Beyond [`KEPT_MAX`] versions they stay only for [`GRACE_MIN`]. If a version cannot be read,
//! nothing of its entry is removed.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use super::membership;
use super::part::{self, PartFolder, PartRef};
use super::store::{PROBES, Store, StoredFile, TEMPORARY};
use super::{StateError, StateReader, StateWriter};
use super::{exports, heap_segments, identity};
use crate::model::{CohortId, ConnectionName, ExportId, Timestamp};

/// How long superseded files are kept for readers.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// How many superseded versions are kept for [`GRACE`], and how long further ones are kept.
const KEPT_MAX: usize = 32;
const GRACE_MIN: Duration = Duration::from_secs(30);
/// An entry is collected once in so many versions.
const COLLECT_EVERY: u64 = 16;

/// A file that can be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Its path in the state.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why it is not needed.
    pub why: &'static str,
}

/// The folders of one entry: its versions and its parts.
struct GcFolder<'a> {
    versions: &'a str,
    parts: &'a str,
    /// The suffix of parts that do not hold members.
    suffix: &'a str,
    /// Returns the ids of the parts that a version names.
    named: &'a dyn Fn(u64) -> Result<Vec<Box<str>>, StateError>,
}

fn ids<'a>(parts: impl IntoIterator<Item = &'a PartRef>) -> Vec<Box<str>> {
    parts.into_iter().map(|part| part.id.clone()).collect()
}

/// Finds the garbage of a cohort, in the order of removal: versions before the parts that they name.
pub(super) fn of_cohort(
    store: &Store,
    cohort: &CohortId,
    now: Timestamp,
) -> Result<Vec<Garbage>, StateError> {
    let named = |number| membership::read(store, cohort, number).map(|version| ids(version.all_parts()));
    let (versions, parts) = (membership::folder_of(cohort), part::folder_of(cohort));
    of(store, &GcFolder { versions: &versions, parts: &parts, suffix: ".parquet", named: &named }, now)
}

/// Finds the garbage of a Heap connection's segment tables.
pub(super) fn of_segments(
    state: &StateReader,
    connection: &ConnectionName,
    now: Timestamp,
) -> Result<Vec<Garbage>, StateError> {
    let named = |number| {
        let (parts, changes) = state.segment_files(connection, number)?;
        Ok(ids(&parts).into_iter().chain(changes.into_iter().map(|file| file.id)).collect())
    };
    let (versions, parts) =
        (heap_segments::folder_of(connection), part::folder_of(PartFolder::Segments(connection)));
    let suffix = heap_segments::SUFFIX;
    of(&state.store, &GcFolder { versions: &versions, parts: &parts, suffix, named: &named }, now)
}

/// Finds the garbage of an export.
pub(super) fn of_export(
    state: &StateReader,
    export: &ExportId,
    now: Timestamp,
) -> Result<Vec<Garbage>, StateError> {
    let named = |number| {
        let record = state.export_at(export, number)?;
        Ok(record.held.into_iter().map(|held| held.file.id).collect())
    };
    let (versions, parts) = (exports::folder_of(export), exports::held_folder_of(export));
    let folder = GcFolder { versions: &versions, parts: &parts, suffix: exports::HELD_SUFFIX, named: &named };
    of(&state.store, &folder, now)
}

/// Finds the garbage of the identity map.
pub(super) fn of_identity(state: &StateReader, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let named = |number| {
        let parts = identity::parts_at(&state.store, number)?;
        Ok(parts.into_iter().map(|part| part.id).collect())
    };
    let folder = GcFolder {
        versions: identity::VERSIONS,
        parts: identity::PARTS,
        suffix: identity::SUFFIX,
        named: &named,
    };
    of(&state.store, &folder, now)
}

fn of(store: &Store, folder: &GcFolder<'_>, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let is_old = |written| is_old(written, now);
    let mut garbage = Vec::new();
    let mut versions: Vec<(u64, StoredFile)> = Vec::new();
    for found in store.files(folder.versions)? {
        match membership::number_of(&found.name) {
            Some(number) => versions.push((number, found)),
            None if found.name.starts_with(TEMPORARY) && is_old(found.written) => {
                garbage.push(item(folder.versions, &found, "temporary file of a crash"));
            }
            None => {}
        }
    }
    if versions.is_empty() {
        return Ok(garbage); // the versions may be lost, and a backup may restore them
    }
    versions.sort_unstable_by_key(|(number, _)| *number);
    let (mut recent, mut dropped) = (Vec::new(), BTreeSet::new());
    for (at, (number, found)) in versions.iter().enumerate() {
        let next = versions.get(at + 1).map(|(_, next)| next.written);
        let is_beyond = versions.len() - at > KEPT_MAX + 1;
        match next {
            Some(replaced) if is_old(replaced) => {
                garbage.push(item(folder.versions, found, "replaced by a newer version"));
            }
            Some(replaced) if is_beyond && is_older(replaced, now, GRACE_MIN) => {
                dropped.extend((folder.named)(*number)?);
                garbage.push(item(folder.versions, found, "replaced by many newer versions"));
            }
            _ => recent.push(*number),
        }
    }
    // A recent unnamed part may belong to a version that is not committed yet, unless a dropped version named it.
    let mut unnamed = store.files(folder.parts)?;
    let id_of = |name: &str| -> Option<Box<str>> {
        Some(name.strip_suffix(folder.suffix).or_else(|| name.strip_suffix(".parquet"))?.into())
    };
    let was_named = |found: &StoredFile| id_of(&found.name).is_some_and(|id| dropped.contains(&id));
    unnamed.retain(|found| is_old(found.written) || was_named(found));
    // The newest version names nearly all parts, so the older ones are read only if unnamed parts are left.
    for (at, number) in recent.iter().rev().enumerate() {
        if at == 0 || !unnamed.is_empty() {
            let named: BTreeSet<Box<str>> = (folder.named)(*number)?.into_iter().collect();
            unnamed.retain(|found| !id_of(&found.name).is_some_and(|id| named.contains(&id)));
        }
    }
    for found in &unnamed {
        let crashed = found.name.starts_with(TEMPORARY);
        let why = if crashed { "temporary file of a crash" } else { "no version names it" };
        garbage.push(item(folder.parts, found, why));
    }
    Ok(garbage)
}

/// Finds temporary files of a crash outside of entries.
pub(super) fn elsewhere(store: &Store, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let is_probe =
        |found: &StoredFile| found.name.len() == 16 && found.name.bytes().all(|b| b.is_ascii_hexdigit());
    let is_temporary = |found: &StoredFile| found.name.starts_with(TEMPORARY);
    let (probes, others) = (store.files(PROBES)?, store.files("")?);
    let probes = probes.iter().filter(|found| is_probe(found)).map(|found| (PROBES, found));
    let others = others.iter().filter(|found| is_temporary(found)).map(|found| ("", found));
    let left = probes.chain(others).filter(|(_, found)| is_old(found.written, now));
    Ok(left.map(|(folder, found)| item(folder, found, "temporary file of a crash")).collect())
}

fn is_old(written: Timestamp, now: Timestamp) -> bool {
    is_older(written, now, GRACE)
}

fn is_older(written: Timestamp, now: Timestamp, age: Duration) -> bool {
    Duration::try_from(now.duration_since(written)).is_ok_and(|found| found > age)
}

fn item(folder: &str, found: &StoredFile, why: &'static str) -> Garbage {
    let path = if folder.is_empty() { found.name.clone() } else { format!("{folder}/{}", found.name) };
    Garbage { path, bytes: found.bytes, why }
}

impl StateWriter {
    /// Compacts the parts of a cohort if that is due, and removes garbage.
    ///
    /// # Errors
    /// When the state cannot be read or written. The recorded members are unchanged.
    pub fn tidy(&self, cohort: &CohortId, now: Timestamp) -> Result<(), StateError> {
        let store = &self.reader.store;
        let Some(version) = self.reader.version(cohort)? else { return Ok(()) };
        if let Some(compacted) = super::compact::compacted(store, cohort, &version, self.reader.seed())? {
            self.commit(cohort, &membership::Membership { written_at: now, ..compacted })?;
        }
        match self.is_gc_due(&membership::folder_of(cohort), version.number) {
            true => self.remove(&of_cohort(store, cohort, now)?),
            false => Ok(()),
        }
    }

    /// Removes superseded files of an export, and rejects older than `rejects_before`, once in several versions.
    /// `number` is the newest version.
    ///
    /// # Errors
    /// When the state cannot be read, or a file cannot be removed.
    pub fn tidy_export(
        &self,
        export: &ExportId,
        number: u64,
        rejects_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if !self.is_gc_due(&exports::folder_of(export), number) {
            return Ok(());
        }
        self.remove(&of_export(self.reader(), export, now)?)?;
        self.remove_rejects_before(export, rejects_before)
    }

    /// Removes superseded files of the segment tables, once in several versions. `number` is the newest version.
    ///
    /// # Errors
    /// When the state cannot be read, or a file cannot be removed.
    pub fn tidy_segments(
        &self,
        connection: &ConnectionName,
        number: u64,
        now: Timestamp,
    ) -> Result<(), StateError> {
        match self.is_gc_due(&heap_segments::folder_of(connection), number) {
            true => self.remove(&of_segments(self.reader(), connection, now)?),
            false => Ok(()),
        }
    }

    /// Whether garbage collection of a folder is due: once at the start of a process, then every [`COLLECT_EVERY`]
    /// versions, because it lists the folder.
    fn is_gc_due(&self, versions: &str, number: u64) -> bool {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let last = collected.get(versions).copied();
        let is_due = last.is_none_or(|last| number >= last.saturating_add(COLLECT_EVERY) || number < last);
        if is_due {
            collected.insert(versions.to_owned(), number);
        }
        is_due
    }

    /// Removes files that [`StateReader::garbage`] has returned.
    ///
    /// # Errors
    /// When a file cannot be removed. Files before it are removed.
    pub fn remove(&self, garbage: &[Garbage]) -> Result<(), StateError> {
        for item in garbage {
            self.lease.check()?;
            self.reader.store.remove(&item.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::{Membership, RecordedWorkspace};
    use super::super::part::PartWriter;
    use super::*;
    use crate::model::{ChangeOp, Identifier, IdentifierKind, KeySeed, RunId};

    fn part(store: &Store, cohort: &CohortId, value: &str) -> PartRef {
        let mut packed = Vec::new();
        Identifier { kind: IdentifierKind::ExternalId, label: "", value }.pack_into(&mut packed);
        let mut writer = PartWriter::create(store, cohort, ChangeOp::Add, KeySeed(1)).unwrap();
        writer.push(&packed).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn only_old_superseded_versions_are_removed_and_never_the_newest() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let workspace = RecordedWorkspace {
            connection: String::new(),
            endpoint: String::new(),
            partner: String::new(),
            delivery: crate::model::DeliveryMethod::CohortImport,
        };
        let first =
            Membership::first(&RunId::new(Timestamp::UNIX_EPOCH, 0), Timestamp::UNIX_EPOCH, workspace);
        let parts: Vec<PartRef> = ["a", "b", "orphan"].map(|value| part(&store, &cohort, value)).to_vec();
        let late = super::super::membership::LateRequest {
            part: part(&store, &cohort, "late"),
            rows: crate::model::RowSet::all(1),
            until: Timestamp::UNIX_EPOCH,
        };
        for (number, names) in [(1, &parts[..1]), (2, &parts[..2]), (3, &parts[1..2])] {
            let late = vec![late.clone()];
            membership::commit(
                &store,
                &cohort,
                &Membership { number, parts: names.to_vec(), late, ..first.clone() },
            )
            .unwrap();
        }
        let newest =
            store.files(&part::folder_of(&cohort)).unwrap().iter().map(|file| file.written).max().unwrap();
        let at = |ahead: u64| newest.checked_add(Duration::from_secs(ahead)).unwrap();
        let found = |ahead| -> Vec<String> {
            of_cohort(&store, &cohort, at(ahead)).unwrap().into_iter().map(|item| item.path).collect()
        };
        assert_eq!(found(10), Vec::<String>::new(), "a reader may still use them");
        let mut gone = found(2 * 3600);
        gone[2..].sort();
        let mut unneeded = [0, 2].map(|at| part::path_of(&cohort, &parts[at].id));
        unneeded.sort();
        assert_eq!(gone[..2], [membership::path_of(&cohort, 1), membership::path_of(&cohort, 2)]);
        assert_eq!(gone[2..], unneeded);
        for path in gone {
            store.remove(&path).unwrap();
        }
        assert_eq!(found(9 * 3600), Vec::<String>::new());
        assert_eq!(membership::newest(&store, &cohort).unwrap().unwrap().number, 3);
    }

    #[test]
    fn older_versions_are_read_only_if_unnamed_parts_are_left() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        for number in 1..=9 {
            store.put_new(&format!("v/{number:012}.json"), b"{}").unwrap();
        }
        store.put_new("r/a.part", b"").unwrap();
        let newest = store.files("r").unwrap()[0].written;
        let read = std::cell::RefCell::new(Vec::new());
        let named = |number| {
            read.borrow_mut().push(number);
            Ok(if number == 8 { vec!["a".into()] } else { Vec::new() })
        };
        let folder = GcFolder { versions: "v", parts: "r", suffix: ".part", named: &named };
        let found = |ahead: u64| {
            let now = newest.checked_add(Duration::from_secs(ahead)).unwrap();
            let paths = of(&store, &folder, now).unwrap().into_iter().map(|item| item.path);
            (paths.filter(|path| path.starts_with('r')).count(), read.take())
        };
        assert_eq!(found(10), (0, vec![9]), "no file is old");
        assert_eq!(found(2 * 3600), (1, vec![9]), "older versions are superseded");
    }

    #[test]
    fn superseded_files_are_bounded_in_number() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        // Each version names the part written before it and the one before that.
        for number in 1..=200 {
            // The base of a segment table is Parquet; its changes are not.
            let suffix = if number % 2 == 0 { "part" } else { "parquet" };
            store.put_new(&format!("r/{number}.{suffix}"), b"").unwrap();
            store.put_new(&format!("v/{number:012}.json"), b"{}").unwrap();
        }
        store.put_new("r/next.part", b"").unwrap();
        let named = |number: u64| Ok([number, number - 1].map(|part| part.to_string().into()).to_vec());
        let folder = GcFolder { versions: "v", parts: "r", suffix: ".part", named: &named };
        let newest = store.files("r").unwrap().iter().map(|found| found.written).max().unwrap();
        let left = |after: u64| {
            let now = newest.checked_add(Duration::from_secs(after)).unwrap();
            for item in of(&store, &folder, now).unwrap() {
                store.remove(&item.path).unwrap();
            }
            (store.files("v").unwrap().len(), store.files("r").unwrap().len())
        };
        assert_eq!(left(10), (200, 201), "a reader may still use them");
        // The parts of the kept versions, and one that is not named yet.
        assert_eq!(left(60), (KEPT_MAX + 1, KEPT_MAX + 2 + 1));
        assert_eq!(left(2 * 3600), (1, 2));
    }

    #[test]
    fn a_cohort_with_an_unreadable_version_keeps_everything() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        store.put_new(&membership::path_of(&cohort, 1), b"{").unwrap();
        assert!(of_cohort(&store, &cohort, Timestamp::MAX).is_err());
    }
}
