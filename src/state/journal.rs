//! The journal: events of each run as NDJSON. Each run writes its own file; `logs` merges the files of many runs.
//!
//! ```text
//! journal/2026/11/23/<run>.ndjson                        one run
//! journal/2026/11/23/<first>_<last>.<random>.ndjson      many runs; each line has its `run`
//! ```
//!
//! The journal is a log. Only `heads` uses it, to detect commits that the state has lost. Each line has a checksum
//! (`log_lines`). A killed run leaves a file without an end and possibly half a line; `history` shows it as interrupted.
//! Entries contain counts and ids, never a user's identifier and never a secret.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::StateError;
use super::approvals::Approval;
use super::as_text::count;
use super::log_lines::LogLines;
use super::run_origin::{Operator, RunOrigin};
use super::store::Store;
use crate::model::{ChangeOp, CohortId, Timestamp, timestamp_text};

/// How often a reader starts again after files were merged while it read them.
const TRIES: u32 = 4;

/// Length of the date at the start of a run id: `20261123`.
const DATE_LEN: usize = 8;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When it happened, in UTC.
    pub at: String,
    /// The event.
    #[serde(flatten)]
    pub event: JournalEvent,
}

/// An event in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JournalEvent {
    /// The run began.
    Began {
        /// The program's version.
        syncline: String,
        /// The config's digest.
        config: String,
        /// What started it. `None`: an earlier version of the program wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<RunOrigin>,
    },
    /// An approval lifted a block of a cohort.
    Approved {
        /// The cohort.
        cohort: String,
        /// The digest of the plan.
        plan: String,
        /// When it was approved.
        approved_at: String,
        /// The operator who approved it.
        #[serde(default)]
        by: Operator,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The guard blocked changes of a cohort.
    Blocked {
        /// The cohort.
        cohort: String,
        /// Why, in words.
        reasons: Vec<String>,
        /// The digest of the plan, if an approval can lift the block.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<String>,
        /// Blocked additions. An earlier version of the program wrote no number.
        #[serde(default)]
        adds: u64,
        /// Blocked removals.
        #[serde(default)]
        removes: u64,
    },
    /// A cohort could not be planned.
    NotPlanned {
        /// The cohort.
        cohort: String,
        /// Why.
        error: String,
    },
    /// The run, or a part of it that is no cohort and no export, failed.
    Failed {
        /// Why.
        error: String,
    },
    /// A cohort was planned and passed the guard, at least in part.
    Planned {
        /// The cohort.
        cohort: String,
        /// The version that the plan starts from.
        base: u64,
        /// Members to add.
        adds: u64,
        /// Members to remove.
        removes: u64,
        /// Changes that the guard blocked.
        violations: u64,
    },
    /// A version was committed.
    Committed {
        /// The cohort.
        cohort: String,
        /// Its number.
        version: u64,
        /// Rows in doubt in it.
        in_doubt: u64,
    },
    /// A request was answered or timed out.
    Sent {
        /// The cohort.
        cohort: String,
        /// `name`, `add` or `remove`.
        operation: String,
        /// Identifiers in it.
        members: u64,
        /// The outcome, as a stable code.
        outcome: String,
    },
    /// A request with triggers was answered or timed out.
    Triggered {
        /// The cohort.
        cohort: String,
        /// `on_enter` or `on_exit`.
        operation: String,
        /// Users in it.
        users: u64,
        /// The outcome, as a stable code.
        outcome: String,
    },
    /// A request with events was answered or timed out.
    Posted {
        /// The export.
        export: String,
        /// `track` or `user_properties`.
        operation: String,
        /// Events or users in it.
        events: u64,
        /// The outcome, as a stable code.
        outcome: String,
    },
    /// An export finished.
    Exported {
        /// The export.
        export: String,
        /// Files read to their end.
        files: u64,
        /// Events read.
        events: u64,
        /// Events that Heap accepted.
        sent: u64,
        /// Events that were rejected.
        rejected: u64,
        /// Events that are held.
        waiting: u64,
        /// Why it is not complete.
        error: Option<String>,
        /// The operator stopped it.
        #[serde(default)]
        stopped: bool,
    },
    /// A cohort finished.
    Finished {
        /// The cohort.
        cohort: String,
        /// Members added.
        #[serde(with = "count")]
        added: u64,
        /// Members removed.
        #[serde(with = "count")]
        removed: u64,
        /// Identifiers that Braze rejected.
        rejected: u64,
        /// Members left in doubt.
        in_doubt: u64,
        /// Why it is not complete.
        error: Option<String>,
        /// The operator stopped it.
        #[serde(default)]
        stopped: bool,
    },
    /// The run ended.
    Ended {
        /// Its result, as a stable code.
        result: String,
        /// Requests sent.
        requests: u64,
    },
}

/// The folder of the day.
pub(super) fn folder_of(at: Timestamp) -> String {
    format!("journal/{}", at.strftime("%Y/%m/%d"))
}

impl JournalEvent {
    /// The event of a trigger request.
    #[must_use]
    pub fn triggered(cohort: &CohortId, enters: bool, users: u64, outcome: &str) -> Self {
        let operation = if enters { "on_enter" } else { "on_exit" };
        Self::Triggered {
            cohort: cohort.to_string(),
            operation: operation.to_owned(),
            users,
            outcome: outcome.to_owned(),
        }
    }

    /// The event of an approval that lifted a block.
    #[must_use]
    pub fn approved(approval: &Approval) -> Self {
        Self::Approved {
            cohort: approval.cohort.to_string(),
            plan: approval.plan.clone(),
            approved_at: timestamp_text(approval.approved_at),
            by: approval.by.clone(),
            reason: approval.reason.clone(),
        }
    }

    /// The event of a cohort's plan that passed the guard.
    #[must_use]
    pub fn planned(cohort: &CohortId, base: u64, adds: u64, removes: u64, violations: u64) -> Self {
        Self::Planned { cohort: cohort.to_string(), base, adds, removes, violations }
    }

    /// The event of a request. Without an `op`, the request set the cohort's name.
    #[must_use]
    pub fn sent(cohort: &CohortId, op: Option<ChangeOp>, members: u64, outcome: &str) -> Self {
        let operation = op.map_or("name", ChangeOp::as_str).to_owned();
        Self::Sent { cohort: cohort.to_string(), operation, members, outcome: outcome.to_owned() }
    }
}

/// The journal of one run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The run.
    pub run: String,
    /// Its entries.
    pub entries: Vec<JournalEntry>,
}

/// A unit of the journal: the files of one run, or one merged file with many runs.
#[derive(Clone, Debug)]
pub(super) struct RunFiles {
    /// The oldest run in it.
    pub(super) first: String,
    /// The newest run in it.
    pub(super) last: String,
    /// Whether it is a merged file.
    pub(super) is_merged: bool,
    /// The files, in the order of their lines.
    pub(super) paths: Vec<String>,
}

/// A line of a merged file.
#[derive(Deserialize)]
struct JournalLine {
    run: Option<String>,
    #[serde(flatten)]
    entry: JournalEntry,
}

impl RunFiles {
    /// Reads the runs of the unit. `None`: a file was removed since it was listed.
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
                let Ok(JournalLine { run, entry }) = serde_json::from_slice(lines.line()) else { continue };
                runs.entry(run.unwrap_or_else(|| self.first.clone())).or_default().push(entry);
            }
        }
        Ok(Some(runs.into_iter().map(|(run, entries)| RunRecord { run, entries }).collect()))
    }
}

/// Groups the names of a day's files into units, in reading order. A crash may leave a merged file beside its inputs, so
/// a unit comes before every unit that may repeat its runs.
pub(super) fn units<'a>(folder: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<RunFiles> {
    let (mut merged, mut single) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    for name in names.into_iter().filter(|name| name.ends_with(".ndjson") && !name.starts_with('.')) {
        let stem = name.split('.').next().unwrap_or_default();
        match stem.split_once('_') {
            Some((first, last)) => merged.push(RunFiles {
                first: first.to_owned(),
                last: last.to_owned(),
                is_merged: true,
                paths: vec![format!("{folder}/{name}")],
            }),
            None => single.entry(stem).or_default().push(name),
        }
    }
    let singles = single.into_iter().map(|(run, mut names)| {
        // A bucket splits a journal: `<run>.ndjson`, `<run>.2.ndjson`.
        names.sort_unstable_by_key(|name| (name.len(), *name));
        let paths = names.into_iter().map(|name| format!("{folder}/{name}")).collect();
        RunFiles { first: run.to_owned(), last: run.to_owned(), is_merged: false, paths }
    });
    merged.extend(singles);
    merged.sort_by(|a, b| {
        b.last.cmp(&a.last).then(b.is_merged.cmp(&a.is_merged)).then_with(|| a.first.cmp(&b.first))
    });
    merged
}

/// Calls `visit` with the folder of each day that has a journal, in order, until it breaks.
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

/// Which runs are read.
#[derive(Clone, Copy)]
struct RunFilter<'a> {
    /// The number of runs.
    limit: usize,
    /// Only this run and later ones.
    from: &'a str,
    /// Only runs that it accepts.
    accepts: &'a dyn Fn(&RunRecord) -> bool,
}

/// Returns the newest runs that `accepts` accepts, newest first.
pub(super) fn runs(
    store: &Store,
    limit: usize,
    accepts: &dyn Fn(&RunRecord) -> bool,
) -> Result<Vec<RunRecord>, StateError> {
    newest(store, &RunFilter { limit, from: "", accepts })
}

/// Returns the runs from `run` on, newest first. It reads no older journal than necessary.
pub(super) fn runs_from(store: &Store, run: &str) -> Result<Vec<RunRecord>, StateError> {
    newest(store, &RunFilter { limit: usize::MAX, from: run, accepts: &|_| true })
}

fn newest(store: &Store, filter: &RunFilter<'_>) -> Result<Vec<RunRecord>, StateError> {
    let mut found = BTreeMap::new();
    for _ in 0..TRIES {
        found.clear();
        if !gather(store, filter, &mut found)? {
            break; // nothing was merged meanwhile
        }
    }
    Ok(found.into_values().rev().take(filter.limit).collect())
}

/// Reads units, newest first, until the remaining ones are too old. Returns whether a file was removed meanwhile.
fn gather(
    store: &Store,
    filter: &RunFilter<'_>,
    found: &mut BTreeMap<String, RunRecord>,
) -> Result<bool, StateError> {
    let (mut has_changed, RunFilter { limit, from, accepts }) = (false, *filter);
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
                    for run in runs.into_iter().filter(|run| run.run.as_str() >= from && accepts(run)) {
                        found.entry(run.run.clone()).or_insert(run);
                    }
                }
                None => has_changed = true,
            }
        }
        // All runs of an earlier day are older.
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
    use std::sync::Arc;

    use super::super::journal_writer::Journal;
    use super::super::log_lines;
    use super::*;
    use crate::model::RunId;

    #[test]
    fn runs_are_newest_first_and_a_partial_last_line_is_ignored() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        for (second, events) in [("2026-11-22T23:59:59Z", 1), ("2026-11-23T00:00:01Z", 3)] {
            let journal =
                Journal::create(&store, &Arc::default(), &RunId::new(time(second), 7), time(second)).unwrap();
            for requests in 0..events {
                journal
                    .append(time(second), JournalEvent::Ended { result: "in_sync".to_owned(), requests })
                    .unwrap();
            }
            journal.sync().unwrap();
        }
        let newest = "journal/2026/11/23/20261123t000001000z-000007.ndjson";
        let mut file = File::options().append(true).open(store.at(newest)).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        let read = runs(&store, 10, &|_| true).unwrap();
        assert_eq!(read.iter().map(|p| p.entries.len()).collect::<Vec<_>>(), [3, 1]);
        let whole = br#"{"at":"x","event":"ended","result":"in_sync","requests":0}"#;
        let mut line = b"\n".to_vec();
        log_lines::seal("20261123t000001000z-000007", whole, &mut line);
        file.write_all(&line).unwrap();
        assert_eq!(runs(&store, 1, &|_| true).unwrap()[0].entries.len(), 4, "only the partial line is lost");
        // A valid JSON line without a checksum.
        file.write_all(&[whole, &b"\n"[..]].concat()).unwrap();
        assert_eq!(
            runs(&store, 1, &|_| true).unwrap()[0].entries.len(),
            4,
            "a line without its checksum is skipped"
        );
    }
}
