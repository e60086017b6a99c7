//! The journal: the events of each run as NDJSON. A run writes a file of its own; `logs` merges the files of many runs into
//! one. Nothing is decided from it, but that a state is older than the commits that it has.
//!
//! ```text
//! journal/2026/11/23/<run>.ndjson                        one run
//! journal/2026/11/23/<first>_<last>.<random>.ndjson      many runs; each line has its `run`
//! ```
//!
//! Each line has a checksum (`log_lines`). A run that is killed leaves a file without an end, and perhaps half a line;
//! `history` shows it as interrupted. Entries hold counts and ids of things, never a person's identifier and never a secret.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::heads::Heads;
use super::log_lines::{self, LogLines};
use super::store::{Growing, Store};
use crate::model::{ChangeOp, CohortId, RunId, Timestamp, timestamp_text};

/// How often a reader starts again when files were merged while it read them.
const TRIES: u32 = 4;

/// The date at the start of a run's name: `20261123`.
const DATE_LEN: usize = 8;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When, in UTC.
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub event: JournalEvent,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JournalEvent {
    /// The run began.
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
    /// The run ended.
    Ended {
        /// Its result in a word.
        result: String,
        /// Requests sent.
        requests: u64,
    },
}

/// Writes the journal of one run. Cohorts are applied side by side, so it is shared.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<Growing>,
    run: RunId,
    heads: Arc<Heads>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.heads.ended(&self.run);
    }
}

/// The folder of a day.
pub(super) fn folder_of(at: Timestamp) -> String {
    format!("journal/{}", at.strftime("%Y/%m/%d"))
}

impl Journal {
    pub(super) fn create(
        store: &Store,
        heads: &Arc<Heads>,
        run: &RunId,
        began: Timestamp,
    ) -> Result<Self, StateError> {
        let file = Mutex::new(store.growing(&format!("{}/{run}.ndjson", folder_of(began)))?);
        heads.began(run);
        Ok(Self { file, run: run.clone(), heads: Arc::clone(heads) })
    }

    /// Appends a line. It is on disk after the next [`Journal::sync`].
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&self, at: Timestamp, event: JournalEvent) -> Result<(), StateError> {
        let entry = JournalEntry { at: timestamp_text(at), event };
        let mut line = Vec::new();
        log_lines::seal(self.run.as_str(), &serde_json::to_vec(&entry).unwrap_or_default(), &mut line);
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

impl JournalEvent {
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
    pub fn sent(cohort: &CohortId, op: Option<ChangeOp>, members: u64, outcome: &str) -> Self {
        let what = op.map_or("name", ChangeOp::as_str).to_owned();
        Self::Sent { cohort: cohort.to_string(), what, members, outcome: outcome.to_owned() }
    }
}

/// A run as its journal tells it.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The run.
    pub run: String,
    /// Its lines.
    pub entries: Vec<JournalEntry>,
}

/// The journal of one run, which may be in several files, or a merged file with many runs.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The oldest run in it.
    pub(super) first: String,
    /// The newest run in it.
    pub(super) last: String,
    /// Whether it was merged from others.
    pub(super) is_merged: bool,
    /// The files, in the order of their lines.
    pub(super) paths: Vec<String>,
}

/// A line of a merged file.
#[derive(Deserialize)]
struct Line {
    run: Option<String>,
    #[serde(flatten)]
    entry: JournalEntry,
}

impl Unit {
    /// The runs of the unit. None: a file has gone since it was listed.
    fn read(&self, store: &Store) -> Result<Option<Vec<RunRecord>>, StateError> {
        let mut runs: BTreeMap<String, Vec<JournalEntry>> = BTreeMap::new();
        if !self.is_merged {
            runs.insert(self.first.clone(), Vec::new());
        }
        for path in &self.paths {
            let Some(bytes) = store.read(path)? else { return Ok(None) };
            let mut lines = LogLines::of_bytes(store, path, bytes);
            while lines.advance_whole()? {
                // A newer program may write events that this one does not know.
                let Ok(Line { run, entry }) = serde_json::from_slice(lines.line()) else { continue };
                runs.entry(run.unwrap_or_else(|| self.first.clone())).or_default().push(entry);
            }
        }
        Ok(Some(runs.into_iter().map(|(run, entries)| RunRecord { run, entries }).collect()))
    }
}

/// The units among the names of a day's files, in the order in which they are read: a unit comes before every unit whose
/// runs it may repeat, since a crash may leave a merged file beside the files that it was merged from.
pub(super) fn units<'a>(folder: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<Unit> {
    let (mut merged, mut single) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    for name in names.into_iter().filter(|name| name.ends_with(".ndjson") && !name.starts_with('.')) {
        let stem = name.split('.').next().unwrap_or_default();
        match stem.split_once('_') {
            Some((first, last)) => merged.push(Unit {
                first: first.to_owned(),
                last: last.to_owned(),
                is_merged: true,
                paths: vec![format!("{folder}/{name}")],
            }),
            None => single.entry(stem).or_default().push(name),
        }
    }
    let singles = single.into_iter().map(|(run, mut names)| {
        // In a bucket a journal is in parts: `<run>.ndjson`, `<run>.2.ndjson`.
        names.sort_unstable_by_key(|name| (name.len(), *name));
        let paths = names.into_iter().map(|name| format!("{folder}/{name}")).collect();
        Unit { first: run.to_owned(), last: run.to_owned(), is_merged: false, paths }
    });
    merged.extend(singles);
    merged.sort_by(|a, b| {
        b.last.cmp(&a.last).then(b.is_merged.cmp(&a.is_merged)).then_with(|| a.first.cmp(&b.first))
    });
    merged
}

/// Calls `visit` with the folder of each day that has a journal, one after the other, until it breaks.
pub(super) fn each_day(
    store: &Store,
    is_newest_first: bool,
    visit: &mut dyn FnMut(&str) -> Result<ControlFlow<()>, StateError>,
) -> Result<(), StateError> {
    let list = |folder: &str| -> Result<Vec<String>, StateError> {
        let mut names = store.list(folder)?;
        if is_newest_first {
            names.reverse();
        }
        Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect())
    };
    for year in list("journal")? {
        for month in list(&year)? {
            for day in list(&month)? {
                if visit(&day)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The newest runs, newest first.
pub(super) fn runs(store: &Store, limit: usize) -> Result<Vec<RunRecord>, StateError> {
    newest(store, limit, "")
}

/// The runs from one on, newest first. It reads no older journal than it must.
pub(super) fn runs_from(store: &Store, run: &str) -> Result<Vec<RunRecord>, StateError> {
    newest(store, usize::MAX, run)
}

fn newest(store: &Store, limit: usize, from: &str) -> Result<Vec<RunRecord>, StateError> {
    let mut found = BTreeMap::new();
    for _ in 0..TRIES {
        found.clear();
        if !gather(store, limit, from, &mut found)? {
            break; // nothing was merged meanwhile
        }
    }
    Ok(found.into_values().rev().take(limit).collect())
}

/// Reads units, the newest first, until no other can hold a run that is wanted. Whether a file has gone meanwhile.
fn gather(
    store: &Store,
    limit: usize,
    from: &str,
    found: &mut BTreeMap<String, RunRecord>,
) -> Result<bool, StateError> {
    let mut has_changed = false;
    each_day(store, true, &mut |day| {
        let names = store.list(day)?;
        for unit in units(day, names.iter().map(String::as_str)) {
            let is_full =
                found.keys().rev().nth(limit.saturating_sub(1)).is_some_and(|oldest| *oldest > unit.last);
            if is_full || unit.last.as_str() < from {
                return Ok(ControlFlow::Break(()));
            }
            match unit.read(store)? {
                Some(runs) => {
                    for run in runs.into_iter().filter(|run| run.run.as_str() >= from) {
                        found.entry(run.run.clone()).or_insert(run);
                    }
                }
                None => has_changed = true,
            }
        }
        // The runs of an earlier day are older than those of this one.
        let is_first_day = day.bytes().filter(u8::is_ascii_digit).le(from.bytes().take(DATE_LEN));
        let is_done = found.len() >= limit || (is_first_day && !from.is_empty());
        Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(has_changed)
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
            let journal =
                Journal::create(&store, &Arc::default(), &RunId::new(time(second), 7), time(second)).unwrap();
            for requests in 0..events {
                journal
                    .append(time(second), JournalEvent::Ended { result: "in_step".to_owned(), requests })
                    .unwrap();
            }
            journal.sync().unwrap();
        }
        let newest = "journal/2026/11/23/20261123t000001000z-000007.ndjson";
        let mut file = File::options().append(true).open(store.at(newest)).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        let read = runs(&store, 10).unwrap();
        assert_eq!(read.iter().map(|p| p.entries.len()).collect::<Vec<_>>(), [3, 1]);
        let whole = br#"{"at":"x","event":"ended","result":"in_step","requests":0}"#;
        let mut line = b"\n".to_vec();
        log_lines::seal("20261123t000001000z-000007", whole, &mut line);
        file.write_all(&line).unwrap();
        assert_eq!(runs(&store, 1).unwrap()[0].entries.len(), 4, "nothing else is lost by half a line");
        // A line that is valid JSON and not what was written.
        file.write_all(&[whole, &b"\n"[..]].concat()).unwrap();
        assert_eq!(runs(&store, 1).unwrap()[0].entries.len(), 4, "a line without its checksum is skipped");
    }
}
