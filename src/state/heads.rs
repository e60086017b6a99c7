//! Heads: the newest version number of every entry, to detect a state that is older than the last commit.
//!
//! ```text
//! heads/000000000001.json          versioned JSON, written at the end of each run that commits anything
//! heads/copies/000000000001.json   its copy, used if the file is damaged or deleted
//! ```
//!
//! A restored backup, an incomplete copy or deleted files leave a state that is older than what Braze has accepted. Three
//! sources reveal this: these numbers, the journal of later runs, and the number of the newest `heads` file in
//! `lease.json`. An entry that is older than they say is an error and cannot be the base of a plan.
//!
//! # Caveats
//! The numbers are a lower bound. A crash loses those of its last run, except for cohorts, which the journal has. A
//! state that is replaced as a whole by an older copy of itself cannot be detected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::journal::{self, JournalEvent};
use super::store::Store;
use super::versioned_json::{Retention, Versions, path_of};
use super::{StateError, lease};
use crate::model::RunId;

const FOLDER: &str = "heads";
const COPIES: &str = "heads/copies";
/// Commits after which the numbers are written even in the middle of a run.
const UNWRITTEN_MAX: u32 = 64;

/// The file format.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct HeadsJson {
    /// The numbers include all commits of runs with smaller ids. It is not a run id once all runs have ended.
    run: String,
    heads: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct HeadsState {
    /// The number of the newest file. 0: there is none.
    number: u64,
    shape: HeadsJson,
    /// Commits that are not in the file yet.
    unwritten: u32,
    is_changed: bool,
    /// The number of a file that must exist and does not.
    lost: Option<u64>,
    /// Runs of this process that have not ended.
    open: BTreeSet<RunId>,
}

/// The smallest text that sorts after this run's id and before those of later runs.
fn after(run: &str) -> String {
    format!("{run}~")
}

/// The numbers, shared by the readers of one process.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<HeadsState>);

impl Heads {
    /// Reads the numbers, with a constant number of listings.
    pub(super) fn read(store: &Store) -> Result<Self, StateError> {
        // Read first, because it may be outdated but never ahead.
        let noted = lease::heads_of(store)?;
        let (number, mut shape, mut lost) = match read_newest(store) {
            Ok(found) => {
                let (number, shape) = found.unwrap_or_default();
                (number, shape, (number < noted).then_some(noted))
            }
            Err(error @ StateError::Damaged { .. }) => {
                tracing::warn!("{error}, and so is its copy");
                let number = newest_number(store)?;
                (number, HeadsJson::default(), Some(number.max(noted)))
            }
            Err(error) => return Err(error),
        };
        if number == 0 && noted == 0 {
            lost = None;
        }
        let later = journal::runs_from(store, &shape.run)?;
        // If no later run has commits that are missing in the file, the file need not be written again.
        let mut is_changed = false;
        if let Some(newest) = later.first() {
            shape.run = after(&newest.run).max(shape.run);
        }
        for run in later {
            for entry in run.entries {
                if let JournalEvent::Committed { cohort, version, .. } = entry.event {
                    let head = shape.heads.entry(format!("cohorts/{cohort}")).or_default();
                    is_changed |= version > *head;
                    *head = version.max(*head);
                }
            }
        }
        Ok(Self(Mutex::new(HeadsState { number, shape, is_changed, lost, ..HeadsState::default() })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HeadsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the newest version of an entry is older than one that was committed.
    pub(super) fn check(&self, store: &Store, entry: &str, found: u64) -> Result<(), StateError> {
        let known = self.lock();
        let older = |entry: String, found, known| {
            Err(StateError::Older { path: store.at(&entry), entry, found, committed: known })
        };
        if let Some(noted) = known.lost {
            // A damaged file counts as missing.
            let found = known.number.min(noted.saturating_sub(1));
            return older(path_of(FOLDER, noted), found, noted);
        }
        match known.shape.heads.get(entry) {
            Some(head) if *head > found => older(entry.to_owned(), found, *head),
            _ => Ok(()),
        }
    }

    /// All entries with their numbers.
    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        self.lock().shape.heads.clone()
    }

    /// The path of a file that must exist and does not.
    pub(super) fn lost(&self) -> Option<String> {
        self.lock().lost.map(|number| path_of(FOLDER, number))
    }

    /// Records that a version of an entry was committed. Returns whether the numbers must be written now.
    pub(super) fn committed(&self, entry: &str, number: u64) -> bool {
        let mut known = self.lock();
        let head = known.shape.heads.entry(entry.to_owned()).or_default();
        *head = number.max(*head);
        known.unwritten += 1;
        known.is_changed = true;
        known.unwritten >= UNWRITTEN_MAX
    }

    /// Records that a run began to write its journal.
    pub(super) fn began(&self, run: &RunId) {
        let mut known = self.lock();
        known.open.insert(run.clone());
        if known.shape.run.as_str() < run.as_str() {
            known.shape.run = after(run.as_str());
            known.is_changed = true;
        }
    }

    /// Records that a run has written the last line of its journal.
    pub(super) fn ended(&self, run: &RunId) {
        self.lock().open.remove(run);
    }

    /// Returns the runs that have not ended.
    pub(super) fn open(&self) -> BTreeSet<RunId> {
        self.lock().open.clone()
    }

    /// Whether the numbers on disk include every commit in the journal of earlier runs.
    pub(super) fn is_written(&self) -> bool {
        let known = self.lock();
        known.lost.is_none() && !known.is_changed
    }

    /// Accepts an existing version as the newest.
    pub(super) fn accept(&self, entry: &str, found: u64) {
        let mut known = self.lock();
        known.shape.heads.insert(entry.to_owned(), found);
        known.is_changed = true;
    }

    /// Accepts the newest existing `heads` file.
    pub(super) fn accept_lost(&self) {
        let mut known = self.lock();
        // A number must never be used twice.
        known.number = known.lost.take().unwrap_or(0).max(known.number);
        known.is_changed = true;
    }

    /// Writes the numbers, if they have changed. Returns the number of the newest file.
    pub(super) fn write(&self, store: &Store) -> Result<Option<u64>, StateError> {
        let mut known = self.lock();
        if !known.is_changed || known.lost.is_some() {
            return Ok(None);
        }
        let mut shape = known.shape.clone();
        // Runs that have not ended may still commit, so their journals must be read again after a crash.
        if let Some(oldest) = known.open.first().filter(|oldest| oldest.as_str() < shape.run.as_str()) {
            oldest.as_str().clone_into(&mut shape.run);
        }
        // A number must never be used twice, not even after a failure.
        known.number += 1;
        for folder in [COPIES, FOLDER] {
            if !Versions::new(store, folder).put(known.number, &shape, Retention::Newest(2))? {
                return Err(StateError::LeaseLost);
            }
        }
        (known.unwritten, known.is_changed) = (0, false);
        Ok(Some(known.number))
    }
}

fn newest_number(store: &Store) -> Result<u64, StateError> {
    let newest = |folder| Versions::new(store, folder).newest_number();
    Ok(newest(FOLDER)?.max(newest(COPIES)?))
}

/// Returns the missing counterparts: files without a copy, and copies without a file.
pub(super) fn without_copy(store: &Store) -> Result<Vec<String>, StateError> {
    let numbers = |folder| -> Result<BTreeSet<u64>, StateError> {
        Ok(Versions::new(store, folder).numbers()?.into_iter().collect())
    };
    let (files, copies) = (numbers(FOLDER)?, numbers(COPIES)?);
    let lost = copies.difference(&files).map(|number| path_of(FOLDER, *number));
    Ok(lost.chain(files.difference(&copies).map(|number| path_of(COPIES, *number))).collect())
}

/// Reads the newest numbers, from the file or from its copy.
fn read_newest(store: &Store) -> Result<Option<(u64, HeadsJson)>, StateError> {
    let newest_in = |folder| Versions::new(store, folder).newest(|shape, _| Some(shape));
    let (file, copy) = (newest_in(FOLDER), newest_in(COPIES));
    let number = |found: &Option<(u64, HeadsJson)>| found.as_ref().map(|(number, _)| *number);
    match (file, copy) {
        (Ok(file), Ok(copy)) => Ok(if number(&copy) > number(&file) { copy } else { file }),
        (Err(error @ StateError::Damaged { .. }), Ok(copy))
        | (Ok(copy), Err(error @ StateError::Damaged { .. })) => {
            // The intact one may be a version older.
            if number(&copy) < Some(newest_number(store)?) {
                return Err(error);
            }
            tracing::warn!("{error}; its copy is used");
            Ok(copy)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::journal_writer::Journal;
    use super::super::store::{Crash, MemoryStore};
    use super::*;
    use crate::model::{CohortId, Timestamp};

    #[test]
    fn a_commit_of_a_run_that_outlives_a_later_one_survives_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let at = |second| Timestamp::from_second(second).unwrap();
        let heads = Arc::new(Heads::read(&store).unwrap());
        let begin = |second| Journal::create(&store, &heads, &RunId::new(at(second), 7), at(second)).unwrap();
        let (slow, quick) = (begin(1), begin(2));
        heads.committed("cohorts/b", 1);
        drop(quick);
        heads.write(&store).unwrap();
        let committed = JournalEvent::Committed { cohort: "a".to_owned(), version: 3, in_doubt: 0 };
        slow.append(at(3), committed).unwrap();
        let known = Heads::read(&store).unwrap();
        let folder = format!("cohorts/{}", CohortId::new("a").unwrap());
        assert_eq!(known.all(), BTreeMap::from([(folder, 3), ("cohorts/b".to_owned(), 1)]));
        // Accepting overrides the old journals.
        known.accept("cohorts/a", 2);
        known.write(&store).unwrap();
        assert_eq!(Heads::read(&store).unwrap().all()["cohorts/a"], 2);
    }

    #[test]
    fn numbers_are_written_after_a_write_that_failed_half_way() {
        // A write has five steps. The copy is written first.
        for steps in 0..10 {
            let memory = MemoryStore::default();
            let store = Store::Memory(memory.clone());
            let heads = Heads::read(&store).unwrap();
            heads.committed("cohorts/a", 1);
            memory.fail_after(steps);
            assert!(heads.write(&store).is_err(), "{steps}");
            memory.restart(Crash::Process);
            assert_eq!(heads.write(&store).unwrap(), Some(2), "{steps}");
            assert_eq!(Heads::read(&store).unwrap().all()["cohorts/a"], 1, "{steps}");
        }
    }
}
