//! How far the state has come: the newest version number of every place that has versions.
//!
//! ```text
//! heads/000000000001.json   versioned JSON, written at the end of each run that commits anything
//! ```
//!
//! A restored backup, a half copy or deleted files leave a state that is older than what Braze has accepted. These
//! numbers, the journal of later runs, and the number of the newest `heads` file in `lease.json` know of the later
//! commits. A place that is older than they say is an error and not a base for a plan.
//!
//! # Caveats
//! The numbers are a lower bound: a crash loses those of its last run, except for cohorts, which the journal has. A
//! state that is replaced as a whole by an older copy of itself cannot know.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::journal::{self, Event};
use super::store::Store;
use super::version::number_of;
use super::{StateError, lease, numbered};
use crate::model::PassId;

const FOLDER: &str = "heads";
/// Commits after which the numbers are written even in the middle of a run.
const UNWRITTEN_MAX: u32 = 64;
/// How often a reader lists anew when a writer has replaced what it found.
const TRIES: u32 = 4;

/// The file, letter by letter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Shape {
    /// The newest run that is accounted for.
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
            Err(StateError::Damaged { .. }) => {
                let number = newest_number(store)?;
                (number, Shape::default(), Some(number.max(noted)))
            }
            Err(error) => return Err(error),
        };
        if number == 0 && noted == 0 {
            lost = None;
        }
        for pass in journal::passes_after(store, &shape.run)? {
            for entry in pass.entries {
                if let Event::Committed { cohort, version, .. } = entry.event {
                    let head = shape.heads.entry(format!("cohorts/{cohort}")).or_default();
                    *head = version.max(*head);
                }
            }
        }
        Ok(Self(Mutex::new(Known { number, shape, unwritten: 0, is_changed: false, lost })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the newest version of a place is older than one that was committed.
    pub(super) fn check(&self, store: &Store, place: &str, found: u64) -> Result<(), StateError> {
        let known = self.lock();
        let older = |path: String, found, known| {
            Err(StateError::Older { path: store.at(&path), place: place.to_owned(), found, known })
        };
        if let Some(noted) = known.lost {
            return older(format!("{FOLDER}/{noted:012}.json"), known.number, noted);
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

    /// A run has a journal, which need not be read again once the numbers are written.
    pub(super) fn began(&self, run: &PassId) {
        let mut known = self.lock();
        if known.shape.run.as_str() < run.as_str() {
            run.as_str().clone_into(&mut known.shape.run);
            known.is_changed = true;
        }
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
        numbered::put(store, FOLDER, known.number, &known.shape)?;
        known.number += 1;
        (known.unwritten, known.is_changed) = (0, false);
        Ok(Some(known.number))
    }
}

fn newest_number(store: &Store) -> Result<u64, StateError> {
    Ok(store.list(FOLDER)?.iter().filter_map(|name| number_of(name)).max().unwrap_or(0))
}

fn read_newest(store: &Store) -> Result<Option<(u64, Shape)>, StateError> {
    let mut read = numbered::newest::<Shape>(store, FOLDER);
    for _ in 1..TRIES {
        match &read {
            // A writer may have replaced it since it was listed.
            Err(StateError::Damaged { path, .. }) if !path.exists() => {
                read = numbered::newest::<Shape>(store, FOLDER);
            }
            _ => break,
        }
    }
    read
}
