//! What nobody needs any more: versions that others have replaced, parts that no version names, and what a
//! crash has left behind.
//!
//! # Guarantees
//! The newest version of a cohort and its parts always stay. What was replaced stays for an hour more, since a reader
//! may be using it, but no more than [`KEPT_MAX`] versions of one place: beyond that it goes after [`GRACE_MIN`]. A
//! cohort that cannot be understood in full keeps everything.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use super::membership::{self, PartRef};
use super::part::{self, PartFolder};
use super::store::{PROBES, Store, StoredFile, TEMPORARY};
use super::{StateError, StateReader, StateWriter};
use super::{exports, heap_segments, identity};
use crate::model::{CohortId, ConnectionName, ExportId, Timestamp};

/// How long a reader may take.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// Replaced versions that are kept for readers, and how long further ones are kept.
const KEPT_MAX: usize = 32;
const GRACE_MIN: Duration = Duration::from_secs(30);
/// A place is collected once in so many versions.
const COLLECT_EVERY: u64 = 16;

/// A file that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Its path in the state.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why nobody needs it.
    pub why: &'static str,
}

/// Versions and parts that belong together.
struct GcFolder<'a> {
    versions: &'a str,
    parts: &'a str,
    /// How the names of files end that are not parts of members.
    suffix: &'a str,
    /// The parts that a version names.
    named: &'a dyn Fn(u64) -> Result<Vec<Box<str>>, StateError>,
}

fn ids<'a>(parts: impl IntoIterator<Item = &'a PartRef>) -> Vec<Box<str>> {
    parts.into_iter().map(|part| part.id.clone()).collect()
}

/// Finds what may go of one cohort, in the order in which it must: versions before the parts that they name.
pub(super) fn of_cohort(
    store: &Store,
    cohort: &CohortId,
    now: Timestamp,
) -> Result<Vec<Garbage>, StateError> {
    let named = |number| membership::read(store, cohort, number).map(|version| ids(version.all_parts()));
    let (versions, parts) = (membership::folder_of(cohort), part::folder_of(cohort));
    of(store, &GcFolder { versions: &versions, parts: &parts, suffix: ".parquet", named: &named }, now)
}

/// Finds what may go of what a Heap has told.
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

/// Finds what may go of an export.
pub(super) fn of_export(
    state: &StateReader,
    export: &ExportId,
    now: Timestamp,
) -> Result<Vec<Garbage>, StateError> {
    let named = |number| {
        let record = state.export_at(export, number)?;
        Ok(record.waiting.into_iter().map(|room| room.file.id).collect())
    };
    let (versions, parts) = (exports::folder_of(export), exports::waiting_folder_of(export));
    let place =
        GcFolder { versions: &versions, parts: &parts, suffix: exports::WAITING_SUFFIX, named: &named };
    of(&state.store, &place, now)
}

/// Finds what may go of the identity map.
pub(super) fn of_identity(state: &StateReader, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let named = |number| {
        let parts = identity::parts_at(&state.store, number)?;
        Ok(parts.into_iter().map(|part| part.id).collect())
    };
    let place = GcFolder {
        versions: identity::VERSIONS,
        parts: identity::PARTS,
        suffix: identity::SUFFIX,
        named: &named,
    };
    of(&state.store, &place, now)
}

fn of(store: &Store, place: &GcFolder<'_>, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let is_old = |written| is_old(written, now);
    let mut garbage = Vec::new();
    let mut versions: Vec<(u64, StoredFile)> = Vec::new();
    for found in store.files(place.versions)? {
        match membership::number_of(&found.name) {
            Some(number) => versions.push((number, found)),
            None if found.name.starts_with(TEMPORARY) && is_old(found.written) => {
                garbage.push(item(place.versions, &found, "left behind by a crash"));
            }
            None => {}
        }
    }
    if versions.is_empty() {
        return Ok(garbage); // its versions may have been lost, and could be restored
    }
    versions.sort_unstable_by_key(|(number, _)| *number);
    let (mut recent, mut dropped) = (Vec::new(), BTreeSet::new());
    for (at, (number, found)) in versions.iter().enumerate() {
        let next = versions.get(at + 1).map(|(_, next)| next.written);
        let is_beyond = versions.len() - at > KEPT_MAX + 1;
        match next {
            Some(replaced) if is_old(replaced) => {
                garbage.push(item(place.versions, found, "a newer version has replaced it"));
            }
            Some(replaced) if is_beyond && is_older(replaced, now, GRACE_MIN) => {
                dropped.extend((place.named)(*number)?);
                garbage.push(item(place.versions, found, "many newer versions have replaced it"));
            }
            _ => recent.push(*number),
        }
    }
    // A part that no version names may be one that is still to be named, unless it is old or a version has named it.
    let mut unnamed = store.files(place.parts)?;
    let id_of = |name: &str| -> Option<Box<str>> {
        Some(name.strip_suffix(place.suffix).or_else(|| name.strip_suffix(".parquet"))?.into())
    };
    let was_named = |found: &StoredFile| id_of(&found.name).is_some_and(|id| dropped.contains(&id));
    unnamed.retain(|found| is_old(found.written) || was_named(found));
    // The newest names nearly all of them, and there may be hundreds of others.
    for (at, number) in recent.iter().rev().enumerate() {
        if at == 0 || !unnamed.is_empty() {
            let named: BTreeSet<Box<str>> = (place.named)(*number)?.into_iter().collect();
            unnamed.retain(|found| !id_of(&found.name).is_some_and(|id| named.contains(&id)));
        }
    }
    for found in &unnamed {
        let crashed = found.name.starts_with(TEMPORARY);
        let why = if crashed { "left behind by a crash" } else { "no version names it" };
        garbage.push(item(place.parts, found, why));
    }
    Ok(garbage)
}

/// Finds what a crash has left beside the cohorts.
pub(super) fn elsewhere(store: &Store, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
    let is_probe =
        |found: &StoredFile| found.name.len() == 16 && found.name.bytes().all(|b| b.is_ascii_hexdigit());
    let is_temporary = |found: &StoredFile| found.name.starts_with(TEMPORARY);
    let (probes, others) = (store.files(PROBES)?, store.files("")?);
    let probes = probes.iter().filter(|found| is_probe(found)).map(|found| (PROBES, found));
    let others = others.iter().filter(|found| is_temporary(found)).map(|found| ("", found));
    let left = probes.chain(others).filter(|(_, found)| is_old(found.written, now));
    Ok(left.map(|(folder, found)| item(folder, found, "left behind by a crash")).collect())
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
    /// Merges the parts of a cohort if they have become too many, and takes away what nobody needs any more.
    ///
    /// # Errors
    /// When the state cannot be read or written; the record is the same as before.
    pub fn tidy(&self, cohort: &CohortId, now: Timestamp) -> Result<(), StateError> {
        let store = &self.reader.store;
        let Some(version) = self.reader.version(cohort)? else { return Ok(()) };
        if let Some(tidied) = super::compact::tidied(store, cohort, &version, self.reader.seed())? {
            self.commit(cohort, &membership::Membership { written_at: now, ..tidied })?;
        }
        match self.is_to_be_collected(&membership::folder_of(cohort), version.number) {
            true => self.remove(&of_cohort(store, cohort, now)?),
            false => Ok(()),
        }
    }

    /// Whether a place is due to be collected, which lists it: for the first time in this process, and then once in
    /// [`COLLECT_EVERY`] versions.
    pub(super) fn is_to_be_collected(&self, versions: &str, number: u64) -> bool {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let last = collected.get(versions).copied();
        let is_due = last.is_none_or(|last| number >= last.saturating_add(COLLECT_EVERY) || number < last);
        if is_due {
            collected.insert(versions.to_owned(), number);
        }
        is_due
    }

    /// Removes what [`StateReader::garbage`] has found.
    ///
    /// # Errors
    /// When a file cannot be removed; those before it are gone.
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
    fn only_what_was_replaced_long_ago_goes_and_never_the_newest() {
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
        let late = super::super::late::Late {
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
        assert_eq!(found(10), Vec::<String>::new(), "somebody may still be reading");
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
    fn versions_are_read_no_further_back_than_it_takes() {
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
        let place = GcFolder { versions: "v", parts: "r", suffix: ".part", named: &named };
        let found = |ahead: u64| {
            let now = newest.checked_add(Duration::from_secs(ahead)).unwrap();
            let paths = of(&store, &place, now).unwrap().into_iter().map(|item| item.path);
            (paths.filter(|path| path.starts_with('r')).count(), read.take())
        };
        assert_eq!(found(10), (0, vec![9]), "nothing is old");
        assert_eq!(found(2 * 3600), (1, vec![9]), "the others are over");
    }

    #[test]
    fn replaced_files_of_a_busy_place_are_bounded_in_number() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        // Each version names the part that was written before it, and the one before that.
        for number in 1..=200 {
            // A segment's base is Parquet, as the members of a cohort are; its changes are not.
            let suffix = if number % 2 == 0 { "part" } else { "parquet" };
            store.put_new(&format!("r/{number}.{suffix}"), b"").unwrap();
            store.put_new(&format!("v/{number:012}.json"), b"{}").unwrap();
        }
        store.put_new("r/next.part", b"").unwrap();
        let named = |number: u64| Ok([number, number - 1].map(|part| part.to_string().into()).to_vec());
        let place = GcFolder { versions: "v", parts: "r", suffix: ".part", named: &named };
        let newest = store.files("r").unwrap().iter().map(|found| found.written).max().unwrap();
        let left = |after: u64| {
            let now = newest.checked_add(Duration::from_secs(after)).unwrap();
            for item in of(&store, &place, now).unwrap() {
                store.remove(&item.path).unwrap();
            }
            (store.files("v").unwrap().len(), store.files("r").unwrap().len())
        };
        assert_eq!(left(10), (200, 201), "a reader may be using them");
        // The parts of the versions that are kept, and one that is not named yet.
        assert_eq!(left(60), (KEPT_MAX + 1, KEPT_MAX + 2 + 1));
        assert_eq!(left(2 * 3600), (1, 2));
    }

    #[test]
    fn what_cannot_be_understood_keeps_everything() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        store.put_new(&membership::path_of(&cohort, 1), b"{").unwrap();
        assert!(of_cohort(&store, &cohort, Timestamp::MAX).is_err());
    }
}
