//! How far the state has come: the newest version number of every place that has versions.
//!
//! ```text
//! heads/000000000001.json          versioned JSON, written at the end of each run that commits anything
//! heads/copies/000000000001.json   its copy: one damaged or deleted file stops nothing
//! ```
//!
//! A restored backup, a half copy or deleted files leave a state that is older than what Braze has accepted. These
//! numbers, the journal of later runs, and the number of the newest `heads` file in `lease.json` know of the later
//! commits. A place that is older than they say is an error and not a base for a plan.
//!
//! # Caveats
//! The numbers are a lower bound: a crash loses those of its last run, except for cohorts, which the journal has. A
//! state that is replaced as a whole by an older copy of itself cannot know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::journal::{self, JournalEvent};
use super::membership::number_of;
use super::store::Store;
use super::{StateError, lease, versioned_json};
use crate::model::RunId;

const FOLDER: &str = "heads";
const COPIES: &str = "heads/copies";
/// Commits after which the numbers are written even in the middle of a run.
const UNWRITTEN_MAX: u32 = 64;
/// How often a reader lists anew when a writer has replaced what it found.
const TRIES: u32 = 4;

/// The file, letter by letter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Shape {
    /// The numbers know all commits of the runs whose names are smaller. It is no run's name once all runs have ended.
    run: String,
    heads: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of the newest file; 0 if there is none.
    number: u64,
    shape: Shape,
    /// Commits that are not in the file yet.
    unwritten: u32,
    is_changed: bool,
    /// The number of a file that must exist and does not.
    lost: Option<u64>,
    /// Runs of this process that have not ended.
    open: BTreeSet<RunId>,
}

/// The smallest text that is larger than the name of a run, and smaller than those of later ones.
fn after(run: &str) -> String {
    format!("{run}~")
}

/// The numbers, shared by the readers of one process.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Known>);

impl Heads {
    /// Reads the numbers. It takes a few listings, however many cohorts there are.
    pub(super) fn read(store: &Store) -> Result<Self, StateError> {
        // First what may only lag behind.
        let noted = lease::heads_of(store)?;
        let (number, mut shape, mut lost) = match read_newest(store) {
            Ok(found) => {
                let (number, shape) = found.unwrap_or_default();
                (number, shape, (number < noted).then_some(noted))
            }
            Err(error @ StateError::Damaged { .. }) => {
                tracing::warn!("{error}, and its copy is as well");
                let number = newest_number(store)?;
                (number, Shape::default(), Some(number.max(noted)))
            }
            Err(error) => return Err(error),
        };
        if number == 0 && noted == 0 {
            lost = None;
        }
        let later = journal::runs_from(store, &shape.run)?;
        // A run that commits nothing more than the file knows gives no reason to write it anew.
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
        Ok(Self(Mutex::new(Known { number, shape, is_changed, lost, ..Known::default() })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the newest version of a place is older than one that was committed.
    pub(super) fn check(&self, store: &Store, place: &str, found: u64) -> Result<(), StateError> {
        let known = self.lock();
        let older = |place: String, found, known| {
            Err(StateError::Older { path: store.at(&place), place, found, known })
        };
        if let Some(noted) = known.lost {
            // A file that is damaged counts as one that is gone.
            let found = known.number.min(noted.saturating_sub(1));
            return older(format!("{FOLDER}/{noted:012}.json"), found, noted);
        }
        match known.shape.heads.get(place) {
            Some(head) if *head > found => older(place.to_owned(), found, *head),
            _ => Ok(()),
        }
    }

    /// All places with their numbers.
    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        self.lock().shape.heads.clone()
    }

    /// The number of a file that must exist and does not.
    pub(super) fn lost(&self) -> Option<String> {
        self.lock().lost.map(|number| format!("{FOLDER}/{number:012}.json"))
    }

    /// A version of a place was committed. Whether the numbers are due to be written.
    pub(super) fn committed(&self, place: &str, number: u64) -> bool {
        let mut known = self.lock();
        let head = known.shape.heads.entry(place.to_owned()).or_default();
        *head = number.max(*head);
        known.unwritten += 1;
        known.is_changed = true;
        known.unwritten >= UNWRITTEN_MAX
    }

    /// A run begins to write its journal.
    pub(super) fn began(&self, run: &RunId) {
        let mut known = self.lock();
        known.open.insert(run.clone());
        if known.shape.run.as_str() < run.as_str() {
            known.shape.run = after(run.as_str());
            known.is_changed = true;
        }
    }

    /// A run writes nothing to its journal any more.
    pub(super) fn ended(&self, run: &RunId) {
        self.lock().open.remove(run);
    }

    /// The runs that have not ended.
    pub(super) fn open(&self) -> BTreeSet<RunId> {
        self.lock().open.clone()
    }

    /// Whether the numbers hold everything that the journal has of earlier runs, on disk.
    pub(super) fn is_written(&self) -> bool {
        let known = self.lock();
        known.lost.is_none() && !known.is_changed
    }

    /// Takes what is there for the truth.
    pub(super) fn accept(&self, place: &str, found: u64) {
        let mut known = self.lock();
        known.shape.heads.insert(place.to_owned(), found);
        known.is_changed = true;
    }

    /// Takes the newest file that is there for the truth.
    pub(super) fn accept_lost(&self) {
        let mut known = self.lock();
        // Its number must never be given again.
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
        // The journals of runs that have not ended are read again after a crash: they may go on to commit.
        if let Some(oldest) = known.open.first().filter(|oldest| oldest.as_str() < shape.run.as_str()) {
            oldest.as_str().clone_into(&mut shape.run);
        }
        for folder in [COPIES, FOLDER] {
            versioned_json::put(store, folder, known.number, &shape)?;
        }
        known.number += 1;
        (known.unwritten, known.is_changed) = (0, false);
        Ok(Some(known.number))
    }
}

fn newest_number(store: &Store) -> Result<u64, StateError> {
    let names = [store.list(FOLDER)?, store.list(COPIES)?].concat();
    Ok(names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0))
}

/// Files of which only one of the two is there.
pub(super) fn without_copy(store: &Store) -> Result<Vec<String>, StateError> {
    let numbers = |folder| -> Result<BTreeSet<u64>, StateError> {
        Ok(store.list(folder)?.iter().filter_map(|name| number_of(name)).collect())
    };
    let (files, copies) = (numbers(FOLDER)?, numbers(COPIES)?);
    let path = |folder: &str, number: &u64| format!("{folder}/{number:012}.json");
    let lost = copies.difference(&files).map(|number| path(FOLDER, number));
    Ok(lost.chain(files.difference(&copies).map(|number| path(COPIES, number))).collect())
}

/// The newest numbers, from the file or from its copy.
fn read_newest(store: &Store) -> Result<Option<(u64, Shape)>, StateError> {
    let (file, copy) = (read_newest_in(store, FOLDER), read_newest_in(store, COPIES));
    let number = |found: &Option<(u64, Shape)>| found.as_ref().map(|(number, _)| *number);
    match (file, copy) {
        (Ok(file), Ok(copy)) => Ok(if number(&copy) > number(&file) { copy } else { file }),
        (Err(error @ StateError::Damaged { .. }), Ok(copy))
        | (Ok(copy), Err(error @ StateError::Damaged { .. })) => {
            // The other may be the one before.
            if number(&copy) < Some(newest_number(store)?) {
                return Err(error);
            }
            tracing::warn!("{error}; its copy is used");
            Ok(copy)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn read_newest_in(store: &Store, folder: &str) -> Result<Option<(u64, Shape)>, StateError> {
    let mut read = versioned_json::newest::<Shape>(store, folder);
    for _ in 1..TRIES {
        match &read {
            // A writer may have replaced it since it was listed.
            Err(StateError::Damaged { path, .. }) if !path.exists() => {
                read = versioned_json::newest::<Shape>(store, folder);
            }
            _ => break,
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::journal::Journal;
    use super::*;
    use crate::model::{CohortId, Timestamp};

    #[test]
    fn a_commit_of_a_run_that_outlives_a_later_one_is_known_after_a_crash() {
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
        // What was accepted is not read from old journals again.
        known.accept("cohorts/a", 2);
        known.write(&store).unwrap();
        assert_eq!(Heads::read(&store).unwrap().all()["cohorts/a"], 2);
    }
}
