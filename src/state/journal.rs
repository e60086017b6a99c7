//! The journal: what each pass did, line by line, in one file a pass. Nothing is decided from it, but that a
//! state is older than the commits that it has.
//!
//! A pass that is killed leaves a file without an end, and perhaps half a line; `history` shows it as
//! interrupted. Entries hold counts and ids of things, never a person's identifier and never a secret.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::store::{Growing, Store};
use crate::model::{CohortId, Op, PassId, Timestamp, timestamp_text};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in UTC.
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The pass began.
    Began {
        /// The program's version.
        syncline: String,
        /// The config's digest.
        config: String,
    },
    /// A cohort was planned and passed the guard, at least in part.
    Planned {
        /// Which.
        cohort: String,
        /// The version that the plan starts from.
        base: u64,
        /// Members to add.
        adds: u64,
        /// Members to remove.
        removes: u64,
        /// Refusals of the guard.
        refusals: u64,
    },
    /// A version was committed.
    Committed {
        /// Of which cohort.
        cohort: String,
        /// Its number.
        version: u64,
        /// Rows in doubt in it.
        in_doubt: u64,
    },
    /// A request had an answer, or none.
    Sent {
        /// About which cohort.
        cohort: String,
        /// `name`, `add` or `remove`.
        what: String,
        /// Identifiers in it.
        members: u64,
        /// What came of it, in a word.
        outcome: String,
    },
    /// A request that triggers something for people had an answer, or none.
    Triggered {
        /// Of which cohort.
        cohort: String,
        /// `on_enter` or `on_exit`.
        what: String,
        /// People in it.
        people: u64,
        /// What came of it, in a word.
        outcome: String,
    },
    /// A request with events had an answer, or none.
    Posted {
        /// Of which export.
        export: String,
        /// `track` or `user_properties`.
        what: String,
        /// Events in it, or users.
        events: u64,
        /// What came of it, in a word.
        outcome: String,
    },
    /// An export is done.
    Exported {
        /// Which.
        export: String,
        /// Files read to their end.
        files: u64,
        /// Events read.
        events: u64,
        /// Events that Heap took.
        sent: u64,
        /// Events that could not be used.
        rejected: u64,
        /// Events that wait.
        waiting: u64,
        /// What went wrong, if anything did.
        error: Option<String>,
    },
    /// A cohort is done.
    Finished {
        /// Which.
        cohort: String,
        /// Members added.
        added: u64,
        /// Members removed.
        removed: u64,
        /// Identifiers that Braze refused.
        refused: u64,
        /// Members left in doubt.
        in_doubt: u64,
        /// What went wrong, if anything did.
        error: Option<String>,
    },
    /// The pass ended.
    Ended {
        /// Its result in a word.
        result: String,
        /// Requests sent.
        requests: u64,
    },
}

/// Writes the journal of one pass. Cohorts are applied side by side, so it is shared.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<Growing>,
}

impl Journal {
    pub(super) fn create(store: &Store, pass: &PassId, began: Timestamp) -> Result<Self, StateError> {
        let relative = format!("journal/{}/{pass}.ndjson", began.strftime("%Y/%m/%d"));
        Ok(Self { file: Mutex::new(store.growing(&relative)?) })
    }

    /// Appends a line. It is on disk after the next [`Journal::sync`].
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&self, at: Timestamp, event: Event) -> Result<(), StateError> {
        let entry = Entry { at: timestamp_text(at), event };
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.append(&line)?)
    }

    /// Lets others see what was appended, should this process die: in a bucket that takes a request.
    ///
    /// # Errors
    /// When the bucket does not take it.
    pub fn publish(&self) -> Result<(), StateError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.publish()?)
    }

    /// Puts what was appended on disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self) -> Result<(), StateError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.sync()?)
    }
}

impl Event {
    /// Something was triggered for people.
    #[must_use]
    pub fn triggered(cohort: &CohortId, enters: bool, people: u64, outcome: &str) -> Self {
        let what = if enters { "on_enter" } else { "on_exit" };
        Self::Triggered {
            cohort: cohort.to_string(),
            what: what.to_owned(),
            people,
            outcome: outcome.to_owned(),
        }
    }

    /// A cohort's plan that may run.
    #[must_use]
    pub fn planned(cohort: &CohortId, base: u64, adds: u64, removes: u64, refusals: u64) -> Self {
        Self::Planned { cohort: cohort.to_string(), base, adds, removes, refusals }
    }

    /// An answered or unanswered request; without an `op` it was about the name.
    #[must_use]
    pub fn sent(cohort: &CohortId, op: Option<Op>, members: u64, outcome: &str) -> Self {
        let what = op.map_or("name", Op::as_str).to_owned();
        Self::Sent { cohort: cohort.to_string(), what, members, outcome: outcome.to_owned() }
    }
}

/// A pass as its journal tells it.
#[derive(Clone, Debug)]
pub struct PassRecord {
    /// The pass.
    pub pass: String,
    /// Its lines.
    pub entries: Vec<Entry>,
}

/// The newest passes, newest first.
pub(super) fn passes(store: &Store, limit: usize) -> Result<Vec<PassRecord>, StateError> {
    let mut files = Vec::new();
    for year in store.list("journal")? {
        for month in store.list(&format!("journal/{year}"))? {
            for day in store.list(&format!("journal/{year}/{month}"))? {
                let at = format!("journal/{year}/{month}/{day}");
                files.extend(store.list(&at)?.into_iter().map(|name| format!("{at}/{name}")));
            }
        }
    }
    // A pass whose journal grew in a bucket has it in parts: `<pass>.ndjson`, `<pass>.2.ndjson`.
    let pass_of = |file: &String| file.rsplit('/').next()?.split('.').next().map(str::to_owned);
    let mut passes: Vec<String> = files.iter().filter_map(pass_of).collect();
    passes.dedup();
    passes
        .iter()
        .rev()
        .take(limit)
        .map(|pass| {
            let mut parts: Vec<&String> =
                files.iter().filter(|file| pass_of(file).as_ref() == Some(pass)).collect();
            parts.sort_unstable_by_key(|file| (file.len(), file.as_str()));
            read(store, pass, &parts)
        })
        .collect()
}

/// The runs whose journals are newer than one run's. It lists days from the newest one on, and no further back than
/// it must.
pub(super) fn passes_after(store: &Store, run: &str) -> Result<Vec<PassRecord>, StateError> {
    let mut found = Vec::new();
    for year in store.list("journal")?.iter().rev() {
        for month in store.list(&format!("journal/{year}"))?.iter().rev() {
            for day in store.list(&format!("journal/{year}/{month}"))?.iter().rev() {
                let folder = format!("journal/{year}/{month}/{day}");
                let names = store.list(&folder)?;
                let mut is_past = false;
                for name in names.iter().rev() {
                    let pass = name.split('.').next().unwrap_or_default();
                    is_past = pass <= run;
                    if is_past {
                        break;
                    }
                    found.push(read(store, pass, &[&format!("{folder}/{name}")])?);
                }
                if is_past {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

fn read(store: &Store, pass: &str, parts: &[&String]) -> Result<PassRecord, StateError> {
    let mut entries = Vec::new();
    for file in parts {
        let bytes = store.read(file)?.unwrap_or_default();
        // A killed pass may leave its last line unfinished, and a disk that was full for a moment any: nothing
        // is decided from a journal, so what can be read of it is shown.
        entries.extend(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
    }
    Ok(PassRecord { pass: pass.to_owned(), entries })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn newest_first_and_a_torn_last_line_is_no_damage() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        for (second, events) in [("2026-11-22T23:59:59Z", 1), ("2026-11-23T00:00:01Z", 3)] {
            let journal = Journal::create(&store, &PassId::new(time(second), 7), time(second)).unwrap();
            for requests in 0..events {
                journal
                    .append(time(second), Event::Ended { result: "in_step".to_owned(), requests })
                    .unwrap();
            }
            journal.sync().unwrap();
        }
        let newest = "journal/2026/11/23/20261123t000001000z-000007.ndjson";
        let mut file = File::options().append(true).open(store.at(newest)).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        let read = passes(&store, 10).unwrap();
        assert_eq!(read.iter().map(|p| p.entries.len()).collect::<Vec<_>>(), [3, 1]);
        let whole = "\n{\"at\":\"x\",\"event\":\"ended\",\"result\":\"in_step\",\"requests\":0}\n";
        file.write_all(whole.as_bytes()).unwrap();
        assert_eq!(passes(&store, 1).unwrap()[0].entries.len(), 4, "nothing else is lost by half a line");
    }
}
