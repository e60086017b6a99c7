//! Garbage collection: finds superseded versions, parts that no version names, and temporary files of a crash.
//!
//! # Guarantees
//! The newest version of an entry and its parts are never removed. Superseded versions stay for an hour, because a
//! reader may use them. Beyond [`KEPT_MAX`] versions they stay only for [`GRACE_MIN`]. If a version cannot be read,
//! nothing of its entry is removed.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use super::entry_files::EntryFiles;
use super::store::{PROBES, Store, StoredFile, TEMPORARY};
use super::versioned_json::VersionFiles;
use super::{StateError, StateWriter};
use super::{exports, heap_segments, membership};
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

/// Finds the garbage of an entry, in the order of removal: versions before the parts that they name.
pub(super) fn of(entry: &EntryFiles<'_>, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let is_old = |written| is_old(written, now);
    let named = |number| -> Result<BTreeSet<Box<str>>, StateError> {
        Ok((entry.named)(number)?.into_iter().map(|part| part.file.id).collect())
    };
    let (folder, VersionFiles { versions, others }) = (entry.versions.folder(), entry.versions.files()?);
    let crashed = others.iter().filter(|found| found.name.starts_with(TEMPORARY) && is_old(found.written));
    let mut garbage: Vec<Garbage> =
        crashed.map(|found| item(folder, found, "temporary file of a crash")).collect();
    if versions.is_empty() {
        return Ok(garbage); // the versions may be lost, and a backup may restore them
    }
    let (mut recent, mut dropped) = (Vec::new(), BTreeSet::new());
    for (at, (number, found)) in versions.iter().enumerate() {
        let next = versions.get(at + 1).map(|(_, next)| next.written);
        let is_beyond = versions.len() - at > KEPT_MAX + 1;
        match next {
            Some(replaced) if is_old(replaced) => {
                garbage.push(item(folder, found, "replaced by a newer version"));
            }
            Some(replaced) if is_beyond && is_older(replaced, now, GRACE_MIN) => {
                dropped.extend(named(*number)?);
                garbage.push(item(folder, found, "replaced by many newer versions"));
            }
            _ => recent.push(*number),
        }
    }
    // A recent unnamed part may belong to a version that is not committed yet, unless a dropped version named it.
    let mut unnamed = entry.store.files(&entry.parts)?;
    let is_in = |ids: &BTreeSet<Box<str>>, found: &StoredFile| {
        entry.id_of(&found.name).is_some_and(|id| ids.contains(id))
    };
    unnamed.retain(|found| is_old(found.written) || is_in(&dropped, found));
    // The newest version names nearly all parts, so the older ones are read only if unnamed parts are left.
    for (at, number) in recent.iter().rev().enumerate() {
        if at == 0 || !unnamed.is_empty() {
            let named = named(*number)?;
            unnamed.retain(|found| !is_in(&named, found));
        }
    }
    for found in &unnamed {
        let crashed = found.name.starts_with(TEMPORARY);
        let why = if crashed { "temporary file of a crash" } else { "no version names it" };
        garbage.push(item(&entry.parts, found, why));
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
        match self.is_gc_due(&membership::entry_of(cohort), version.number) {
            true => self.remove(&of(&EntryFiles::of_cohort(self.reader(), cohort), now)?),
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
        if !self.is_gc_due(&exports::entry_of(export), number) {
            return Ok(());
        }
        self.remove(&of(&EntryFiles::of_export(self.reader(), export), now)?)?;
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
        match self.is_gc_due(&heap_segments::entry_of(connection), number) {
            true => self.remove(&of(&EntryFiles::of_segments(self.reader(), connection), now)?),
            false => Ok(()),
        }
    }

    /// Whether garbage collection of an entry is due: once at the start of a process, then every [`COLLECT_EVERY`]
    /// versions, because it lists the folder.
    fn is_gc_due(&self, entry: &str, number: u64) -> bool {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let last = collected.get(entry).copied();
        let is_due = last.is_none_or(|last| number >= last.saturating_add(COLLECT_EVERY) || number < last);
        if is_due {
            collected.insert(entry.to_owned(), number);
        }
        is_due
    }

    /// Removes files that `garbage` has returned.
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
    use super::super::entry_files::NamedPart;
    use super::super::membership::{Membership, RecordedWorkspace};
    use super::super::part::{self, PartWriter};
    use super::super::versioned_json::{Versions, path_of};
    use super::super::{ImmutableFile, PartRef, StateReader};
    use super::*;
    use crate::model::{ChangeOp, Identifier, IdentifierKind, KeySeed, RunId};

    fn part(store: &Store, cohort: &CohortId, value: &str) -> PartRef {
        let mut packed = Vec::new();
        Identifier { kind: IdentifierKind::ExternalId, label: "", value }.pack_into(&mut packed);
        let mut writer = PartWriter::create(store, cohort, ChangeOp::Add, KeySeed(1)).unwrap();
        writer.push(&packed).unwrap();
        writer.finish().unwrap()
    }

    fn named_part(id: &dyn ToString) -> NamedPart {
        ImmutableFile { id: id.to_string().into(), rows: 0, bytes: 0, checksum: 0 }.into()
    }

    /// Versions in `v`, parts in `r`.
    fn entry<'a>(
        store: &'a Store,
        named: impl Fn(u64) -> Result<Vec<NamedPart>, StateError> + 'a,
    ) -> EntryFiles<'a> {
        let (versions, parts) = (Versions::new(store, "v"), "r".to_owned());
        EntryFiles { store, versions, parts, suffix: ".part", named: Box::new(named) }
    }

    #[test]
    fn only_old_superseded_versions_are_removed_and_never_the_newest() {
        let (store, cohort) = (Store::in_memory(), CohortId::new("c").unwrap());
        let state = StateReader { store: store.clone(), format: None, heads: Default::default() };
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
            let version = Membership { number, parts: names.to_vec(), late, ..first.clone() };
            assert!(membership::put(&store, &cohort, &version).unwrap());
        }
        let newest =
            store.files(&part::folder_of(&cohort)).unwrap().iter().map(|file| file.written).max().unwrap();
        let at = |ahead: u64| newest.checked_add(Duration::from_secs(ahead)).unwrap();
        let found = |ahead| -> Vec<String> {
            let garbage = of(&EntryFiles::of_cohort(&state, &cohort), at(ahead)).unwrap();
            garbage.into_iter().map(|item| item.path).collect()
        };
        assert_eq!(found(10), Vec::<String>::new(), "a reader may still use them");
        let mut gone = found(2 * 3600);
        gone[2..].sort();
        let mut unneeded = [0, 2].map(|at| part::path_of(&cohort, &parts[at].id));
        unneeded.sort();
        assert_eq!(gone[..2], [1, 2].map(|number| path_of("cohorts/c/versions", number)));
        assert_eq!(gone[2..], unneeded);
        for path in gone {
            store.remove(&path).unwrap();
        }
        assert_eq!(found(9 * 3600), Vec::<String>::new());
        assert_eq!(membership::newest(&store, &cohort).unwrap().unwrap().number, 3);
    }

    #[test]
    fn older_versions_are_read_only_if_unnamed_parts_are_left() {
        let store = Store::in_memory();
        for number in 1..=9 {
            store.put_new(&path_of("v", number), b"{}").unwrap();
        }
        store.put_new("r/a.part", b"").unwrap();
        let newest = store.files("r").unwrap()[0].written;
        let read = std::cell::RefCell::new(Vec::new());
        let named = |number| {
            read.borrow_mut().push(number);
            Ok(if number == 8 { vec![named_part(&"a")] } else { Vec::new() })
        };
        let entry = entry(&store, named);
        let found = |ahead: u64| {
            let now = newest.checked_add(Duration::from_secs(ahead)).unwrap();
            let paths = of(&entry, now).unwrap().into_iter().map(|item| item.path);
            (paths.filter(|path| path.starts_with('r')).count(), read.take())
        };
        assert_eq!(found(10), (0, vec![9]), "no file is old");
        assert_eq!(found(2 * 3600), (1, vec![9]), "older versions are superseded");
    }

    #[test]
    fn superseded_files_are_bounded_in_number() {
        let store = Store::in_memory();
        // Each version names the part written before it and the one before that.
        for number in 1..=200 {
            // The base of a segment table is Parquet; its changes are not.
            let suffix = if number % 2 == 0 { "part" } else { "parquet" };
            store.put_new(&format!("r/{number}.{suffix}"), b"").unwrap();
            store.put_new(&path_of("v", number), b"{}").unwrap();
        }
        store.put_new("r/next.part", b"").unwrap();
        let entry = entry(&store, |number| Ok(vec![named_part(&number), named_part(&(number - 1))]));
        let newest = store.files("r").unwrap().iter().map(|found| found.written).max().unwrap();
        let left = |after: u64| {
            let now = newest.checked_add(Duration::from_secs(after)).unwrap();
            for item in of(&entry, now).unwrap() {
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
        let (store, cohort) = (Store::in_memory(), CohortId::new("c").unwrap());
        store.put_new(&path_of("cohorts/c/versions", 1), b"{").unwrap();
        let state = StateReader { store, format: None, heads: Default::default() };
        assert!(of(&EntryFiles::of_cohort(&state, &cohort), Timestamp::MAX).is_err());
    }
}
