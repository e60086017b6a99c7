//! The last outcome of each cohort and export, for `status`, the dashboard and metrics.
//!
//! ```text
//! outcomes/000000000001.json   versioned JSON
//! ```
//!
//! The journal lists runs, but only for its retention, and `watch` writes no journal for a run without work. This
//! document has the time of the last good run, and since when a cohort is blocked.
//!
//! # Caveats
//! No plan depends on it, so it has no entry in `heads`. A damaged document is an error for readers, and the next run
//! starts a new one.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::journal::JournalEvent;
use super::versioned_json::{Retention, Versions};
use super::{StateError, StateReader, StateWriter};
use crate::model::{CohortId, ExportId, RunId, Timestamp};

const FOLDER: &str = "outcomes";
/// An unchanged outcome is written again once its recorded time is this old. `watch` may run a cohort every second.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// How a run ended for a cohort or an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Everything is done.
    InSync,
    /// The source has no data yet.
    Waiting(String),
    /// The guard blocked changes.
    Blocked {
        /// Why, in words.
        reasons: Vec<String>,
        /// The digest of the plan, if an approval can lift the block.
        plan: Option<String>,
        /// The number of blocked additions. `None`: additions are not blocked.
        adds: Option<u64>,
        /// The number of blocked removals. `None`: removals are not blocked.
        removes: Option<u64>,
    },
    /// A cohort could not be planned.
    NotPlanned(RunFailure),
    /// The work failed after the plan. The journal has its own event with the reason.
    Failed(RunFailure),
    /// The operator stopped the run. The next run continues.
    Stopped(String),
}

/// Why a run failed for a cohort or an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// The reason.
    pub reason: String,
    /// A retry alone does not help.
    pub needs_operator: bool,
}

impl RunOutcome {
    /// The result as JSON shows it.
    #[must_use]
    pub fn result(&self) -> OutcomeResult {
        match self {
            Self::InSync => OutcomeResult::InSync,
            Self::Waiting(_) => OutcomeResult::Waiting,
            Self::Blocked { .. } => OutcomeResult::Blocked,
            Self::NotPlanned(_) | Self::Failed(_) => OutcomeResult::Failed,
            Self::Stopped(_) => OutcomeResult::Stopped,
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Self::InSync => None,
            Self::Blocked { reasons, .. } => Some(reasons.join("; ")),
            Self::NotPlanned(failure) | Self::Failed(failure) => Some(failure.reason.clone()),
            Self::Waiting(reason) | Self::Stopped(reason) => Some(reason.clone()),
        }
    }

    fn needs_operator(&self) -> bool {
        matches!(self, Self::NotPlanned(failure) | Self::Failed(failure) if failure.needs_operator)
    }

    /// The event in the journal, if the outcome has one of its own.
    #[must_use]
    pub fn event(&self, cohort: &CohortId) -> Option<JournalEvent> {
        let cohort = cohort.to_string();
        match self {
            Self::Blocked { reasons, plan, adds, removes } => Some(JournalEvent::Blocked {
                cohort,
                reasons: reasons.clone(),
                plan: plan.clone(),
                adds: adds.unwrap_or(0),
                removes: removes.unwrap_or(0),
            }),
            Self::NotPlanned(RunFailure { reason, .. }) => {
                Some(JournalEvent::NotPlanned { cohort, error: reason.clone() })
            }
            Self::InSync | Self::Waiting(_) | Self::Failed(_) | Self::Stopped(_) => None,
        }
    }
}

/// The result of a run for a cohort or an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// Everything is done.
    InSync,
    /// The source has no data yet.
    Waiting,
    /// The guard blocked changes.
    Blocked,
    /// It could not be planned, or its work failed.
    Failed,
    /// The operator stopped the run.
    Stopped,
    /// A result of a later version of the program.
    #[serde(other)]
    Unknown,
}

impl OutcomeResult {
    /// The result as JSON spells it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// The last outcome of a cohort or an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcome {
    /// The result.
    pub result: OutcomeResult,
    /// Why, in words, unless it is in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It failed, and a retry alone does not help.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_operator: bool,
    /// The digest of the blocked plan, if an approval can lift the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The run.
    pub run: String,
    /// The command of the run.
    pub command: String,
    /// When the run ended.
    pub at: CheckTime,
    /// Since when the result is the same.
    pub since: CheckTime,
    /// What is blocked, and since when. A failed run in between does not change it.
    #[serde(default, skip_serializing_if = "RecordedBlock::is_nothing")]
    pub block: RecordedBlock,
    /// The last run after which everything was in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_run: Option<GoodRun>,
}

impl LastOutcome {
    /// Since when changes are blocked.
    #[must_use]
    pub fn blocked_since(&self) -> Option<CheckTime> {
        self.block.since.as_ref().map(|start| start.at)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What the guard blocks in a cohort. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedBlock {
    /// The first of the runs that were blocked.
    pub since: Option<BlockStart>,
    /// Additions are blocked.
    pub adds: bool,
    /// Removals are blocked.
    pub removes: bool,
}

impl RecordedBlock {
    fn is_nothing(&self) -> bool {
        self.since.is_none()
    }

    /// The block after a run with this outcome. A block that continues keeps its start.
    fn after(self, outcome: &RunOutcome, run: &RunId, at: CheckTime) -> Self {
        match outcome {
            RunOutcome::InSync => Self::default(),
            RunOutcome::Blocked { adds, removes, .. } => {
                let start = self.since.unwrap_or_else(|| BlockStart { run: run.to_string(), at });
                Self { since: Some(start), adds: adds.is_some(), removes: removes.is_some() }
            }
            RunOutcome::Waiting(_)
            | RunOutcome::NotPlanned(_)
            | RunOutcome::Failed(_)
            | RunOutcome::Stopped(_) => self,
        }
    }
}

/// The start of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStart {
    /// The run.
    pub run: String,
    /// The time.
    pub at: CheckTime,
}

/// A run after which a cohort or an export was in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodRun {
    /// The run.
    pub run: String,
    /// When it ended.
    pub at: CheckTime,
}

/// A run that failed as a whole, before its first cohort or export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// The run.
    pub run: String,
    /// The command of the run.
    pub command: String,
    /// When it ended.
    pub at: CheckTime,
    /// Why.
    pub error: String,
}

/// The last outcomes of all cohorts and exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcomes {
    cohorts: BTreeMap<String, LastOutcome>,
    exports: BTreeMap<String, LastOutcome>,
    /// The last run, if it failed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_run: Option<FailedRun>,
}

impl LastOutcomes {
    /// The last outcome of a cohort. `None`: none is recorded.
    #[must_use]
    pub fn cohort(&self, id: &CohortId) -> Option<&LastOutcome> {
        self.cohorts.get(id.as_str())
    }

    /// The last outcome of an export. `None`: none is recorded.
    #[must_use]
    pub fn export(&self, id: &ExportId) -> Option<&LastOutcome> {
        self.exports.get(id.as_str())
    }

    /// The cohorts with a last outcome.
    pub fn cohort_ids(&self) -> impl Iterator<Item = CohortId> {
        self.cohorts.keys().filter_map(|id| CohortId::new(id).ok())
    }

    /// The last outcomes of cohorts and exports.
    pub fn all(&self) -> impl Iterator<Item = &LastOutcome> {
        self.cohorts.values().chain(self.exports.values())
    }

    /// Whether an outcome must be written: it is new, or its recorded time is too old.
    fn is_due(&self, written: &Self) -> bool {
        let is_old = |new: CheckTime, old: CheckTime| {
            Duration::try_from(new.0.duration_since(old.0)).unwrap_or_default() >= WRITTEN_EVERY
        };
        let is_due = |(id, new): (&String, &LastOutcome), old: &BTreeMap<String, LastOutcome>| {
            old.get(id).is_none_or(|old| {
                (new.result, &new.reason, new.needs_operator, &new.plan, &new.block)
                    != (old.result, &old.reason, old.needs_operator, &old.plan, &old.block)
                    || is_old(new.at, old.at)
            })
        };
        let has_failed_anew = match (&self.failed_run, &written.failed_run) {
            (Some(new), Some(old)) => {
                (&new.command, &new.error) != (&old.command, &old.error) || is_old(new.at, old.at)
            }
            (new, old) => new.is_some() != old.is_some(),
        };
        has_failed_anew
            || self.cohorts.iter().any(|entry| is_due(entry, &written.cohorts))
            || self.exports.iter().any(|entry| is_due(entry, &written.exports))
    }
}

/// The run that outcomes are from.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeRun<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its command.
    pub command: &'a str,
    /// When it ended.
    pub at: Timestamp,
}

impl OutcomeRun<'_> {
    fn record(self, into: &mut BTreeMap<String, LastOutcome>, id: &str, outcome: &RunOutcome) {
        let (result, at, before) = (outcome.result(), CheckTime(self.at), into.get(id));
        let plan = match outcome {
            RunOutcome::Blocked { plan, .. } => plan.clone(),
            _ => None,
        };
        let block = before.map(|before| before.block.clone()).unwrap_or_default();
        let last = LastOutcome {
            result,
            reason: outcome.reason(),
            needs_operator: outcome.needs_operator(),
            plan,
            run: self.run.to_string(),
            command: self.command.to_owned(),
            at,
            since: before.filter(|before| before.result == result).map_or(at, |before| before.since),
            block: block.after(outcome, self.run, at),
            good_run: match result {
                OutcomeResult::InSync => Some(GoodRun { run: self.run.to_string(), at }),
                _ => before.and_then(|before| before.good_run.clone()),
            },
        };
        into.insert(id.to_owned(), last);
    }
}

/// The outcomes that this process knows, and those on disk.
#[derive(Debug, Default)]
pub(super) struct OutcomeBook {
    /// `None`: not read yet.
    current: Option<LastOutcomes>,
    /// The newest version with its number. `None`: unknown, because a write failed and may have taken effect.
    written: Option<(u64, LastOutcomes)>,
}

impl OutcomeBook {
    /// The current outcomes, unless `is_written` finds that the newest version has them.
    fn unwritten(&self, is_written: impl Fn(&LastOutcomes, &LastOutcomes) -> bool) -> Option<LastOutcomes> {
        let current = self.current.as_ref()?;
        let has_all = self.written.as_ref().is_some_and(|(_, written)| is_written(current, written));
        (!has_all).then(|| current.clone())
    }
}

fn versions(state: &StateReader) -> Versions<'_> {
    Versions::new(&state.store, FOLDER).pretty()
}

impl StateReader {
    /// Returns the last outcomes of all cohorts and exports.
    ///
    /// # Errors
    /// When they cannot be read or are damaged.
    pub fn last_outcomes(&self) -> Result<LastOutcomes, StateError> {
        let found = versions(self).newest(|outcomes: LastOutcomes, _| Some(outcomes))?;
        Ok(found.map(|(_, outcomes)| outcomes).unwrap_or_default())
    }
}

impl StateWriter {
    /// Records the outcomes of a run.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn record_outcomes(
        &self,
        of: OutcomeRun<'_>,
        cohorts: &[(CohortId, RunOutcome)],
        exports: &[(ExportId, RunOutcome)],
    ) -> Result<(), StateError> {
        self.change_outcomes(|current| {
            current.failed_run = None;
            cohorts.iter().for_each(|(id, outcome)| of.record(&mut current.cohorts, id.as_str(), outcome));
            exports.iter().for_each(|(id, outcome)| of.record(&mut current.exports, id.as_str(), outcome));
        })
    }

    /// Records a run that failed as a whole.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn record_failed_run(&self, of: OutcomeRun<'_>, error: &str) -> Result<(), StateError> {
        let failed = FailedRun {
            run: of.run.to_string(),
            command: of.command.to_owned(),
            at: CheckTime(of.at),
            error: error.to_owned(),
        };
        self.change_outcomes(|current| current.failed_run = Some(failed))
    }

    fn change_outcomes(&self, change: impl FnOnce(&mut LastOutcomes)) -> Result<(), StateError> {
        let mut book = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if book.current.is_none() {
            let found = read_or_new(self.reader())?;
            book.current = Some(found.1.clone());
            book.written = Some(found);
        }
        if let Some(current) = &mut book.current {
            change(current);
        }
        let due = book.unwritten(|current, written| !current.is_due(written));
        due.map_or(Ok(()), |due| self.write_outcomes(&mut book, due))
    }

    fn write_outcomes(&self, book: &mut OutcomeBook, due: LastOutcomes) -> Result<(), StateError> {
        self.check_lease()?;
        let number = match book.written.take() {
            Some((number, _)) => number,
            None => versions(self.reader()).newest_number()?,
        };
        if !versions(self.reader()).put(number + 1, &due, Retention::Newest(2))? {
            return Err(StateError::LeaseLost);
        }
        book.written = Some((number + 1, due));
        Ok(())
    }

    /// Writes outcomes that are not on disk yet, before the lease ends. A failure is logged.
    pub(super) fn flush_outcomes(&self) {
        let mut book = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(due) = book.unwritten(|current, written| current == written) else { return };
        if let Err(error) = self.write_outcomes(&mut book, due) {
            tracing::warn!("the last outcomes could not be written: {error}");
        }
    }
}

fn read_or_new(state: &StateReader) -> Result<(u64, LastOutcomes), StateError> {
    match versions(state).newest(|outcomes: LastOutcomes, _| Some(outcomes)) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(error @ StateError::Damaged { .. }) => {
            tracing::warn!("the last outcomes are recorded anew: {error}");
            Ok((versions(state).newest_number()?, LastOutcomes::default()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Holder, Location};
    use super::*;
    use crate::model::Clock;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn writer(folder: &std::path::Path) -> StateWriter {
        let holder = Holder { host: String::new(), process: 1, since: at(0), renewal: None };
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        StateWriter::open(&Location::Folder(folder.join("state")), &holder, clock, 7).unwrap()
    }

    fn blocked() -> RunOutcome {
        RunOutcome::Blocked {
            reasons: vec!["too many".to_owned()],
            plan: Some("sha256:0".to_owned()),
            adds: None,
            removes: Some(45),
        }
    }

    fn not_planned(needs_operator: bool) -> RunOutcome {
        RunOutcome::NotPlanned(RunFailure { reason: "down".to_owned(), needs_operator })
    }

    fn record(state: &StateWriter, second: i64, outcome: RunOutcome) {
        let (run, cohort) = (RunId::new(at(second), 0), CohortId::new("vip").unwrap());
        let of = OutcomeRun { run: &run, command: "watch", at: at(second) };
        state.record_outcomes(of, &[(cohort, outcome)], &[]).unwrap();
    }

    fn last(state: &StateWriter) -> LastOutcome {
        state.reader().last_outcomes().unwrap().cohort(&CohortId::new("vip").unwrap()).unwrap().clone()
    }

    #[test]
    fn the_last_good_run_and_the_start_of_a_block_outlive_failures() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        record(&state, 100, RunOutcome::InSync);
        record(&state, 200, blocked());
        record(&state, 300, not_planned(false));
        let failed = last(&state);
        assert_eq!((failed.result, failed.since), (OutcomeResult::Failed, CheckTime(at(300))));
        let start = BlockStart { run: RunId::new(at(200), 0).to_string(), at: CheckTime(at(200)) };
        let block = RecordedBlock { since: Some(start), adds: false, removes: true };
        assert_eq!(failed.block, block);
        record(&state, 400, blocked());
        drop(state);
        let state = writer(home.path());
        record(&state, 500, blocked());
        let last_blocked = last(&state);
        assert_eq!(last_blocked.good_run.map(|good| good.at), Some(CheckTime(at(100))));
        assert_eq!((last_blocked.since, last_blocked.at), (CheckTime(at(400)), CheckTime(at(500))));
        assert_eq!(last_blocked.block, block);
        record(&state, 600, RunOutcome::InSync);
        assert_eq!((last(&state).block, last(&state).reason), (RecordedBlock::default(), None));
    }

    #[test]
    fn an_unchanged_outcome_is_written_once_a_minute_and_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        for second in [0, 30, 59] {
            record(&state, second, RunOutcome::InSync);
            assert_eq!(last(&state).at, CheckTime(at(0)));
        }
        record(&state, 60, RunOutcome::InSync);
        assert_eq!(last(&state).at, CheckTime(at(60)));
        record(&state, 61, blocked());
        assert_eq!(last(&state).at, CheckTime(at(61)), "a change is written at once");
        record(&state, 62, blocked());
        drop(state);
        let state = writer(home.path());
        assert_eq!(last(&state).at, CheckTime(at(62)));
    }

    #[test]
    fn a_permanent_failure_is_recorded_and_an_earlier_version_of_the_program_reads_the_rest() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        record(&state, 100, not_planned(true));
        assert!(last(&state).needs_operator);
        record(&state, 101, not_planned(false));
        assert!(!last(&state).needs_operator, "the change is written at once");
        // The document of an earlier version has no such field.
        let text = serde_json::to_string(&last(&state)).unwrap();
        assert!(!text.contains("needs_operator"), "{text}");
        assert_eq!(serde_json::from_str::<LastOutcome>(&text).unwrap(), last(&state));
    }

    #[test]
    fn a_stopped_run_is_no_failure_and_keeps_the_block() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        record(&state, 100, blocked());
        record(&state, 200, RunOutcome::Stopped("stopped as requested".to_owned()));
        let stopped = last(&state);
        assert_eq!(
            (stopped.result, stopped.blocked_since()),
            (OutcomeResult::Stopped, Some(CheckTime(at(100))))
        );
    }

    /// Lets writes fail while `during` runs.
    #[allow(clippy::disallowed_methods, reason = "the test damages the folder")]
    fn without_folder(home: &std::path::Path, during: impl FnOnce()) {
        let (folder, away) = (home.join("state/outcomes"), home.join("away"));
        std::fs::rename(&folder, &away).unwrap();
        std::fs::write(&folder, "").unwrap();
        during();
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
    }

    #[test]
    fn outcomes_of_a_failed_write_are_in_the_next_one() {
        let home = tempfile::tempdir().unwrap();
        let (run, cohort) = (RunId::new(at(200), 0), CohortId::new("vip").unwrap());
        let fail = |state: &StateWriter| {
            let of = OutcomeRun { run: &run, command: "watch", at: at(200) };
            without_folder(home.path(), || {
                assert!(state.record_outcomes(of, &[(cohort.clone(), blocked())], &[]).is_err());
            });
        };
        let state = writer(home.path());
        record(&state, 100, RunOutcome::InSync);
        fail(&state);
        assert_eq!(last(&state).result, OutcomeResult::InSync);
        record(&state, 300, not_planned(false));
        assert_eq!(last(&state).blocked_since(), Some(CheckTime(at(200))));
        record(&state, 400, RunOutcome::InSync);
        fail(&state);
        drop(state);
        let state = writer(home.path());
        assert_eq!(last(&state).result, OutcomeResult::Blocked, "it is written at the end");
    }

    #[test]
    fn a_repeated_failure_is_written_once_a_minute() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        let fail = |second: i64, error: &str| {
            let run = RunId::new(at(second), 0);
            let of = OutcomeRun { run: &run, command: "watch", at: at(second) };
            state.record_failed_run(of, error).unwrap();
            state.reader().last_outcomes().unwrap().failed_run.unwrap().at.0.as_second()
        };
        let written = [(0, "no key"), (1, "no key"), (59, "no key"), (60, "no key"), (61, "no network")];
        assert_eq!(written.map(|(second, error)| fail(second, error)), [0, 0, 0, 60, 61]);
    }

    #[test]
    fn a_damaged_document_is_an_error_for_readers_and_is_replaced_by_the_next_run() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        record(&state, 0, RunOutcome::InSync);
        drop(state);
        let path = home.path().join("state/outcomes/000000000001.json");
        let text = std::fs::read_to_string(&path).unwrap().replace("in_sync", "in_sink");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        let state = writer(home.path());
        assert!(matches!(state.reader().last_outcomes(), Err(StateError::Damaged { .. })));
        record(&state, 100, blocked());
        assert_eq!(last(&state).good_run, None);
    }

    #[test]
    fn a_run_that_fails_as_a_whole_changes_no_outcome() {
        let home = tempfile::tempdir().unwrap();
        let state = writer(home.path());
        record(&state, 0, RunOutcome::InSync);
        let run = RunId::new(at(10), 0);
        let of = OutcomeRun { run: &run, command: "reconcile", at: at(10) };
        state.record_failed_run(of, "no key").unwrap();
        let failed = state.reader().last_outcomes().unwrap().failed_run.unwrap();
        assert_eq!((failed.error.as_str(), failed.at), ("no key", CheckTime(at(10))));
        assert_eq!(last(&state).result, OutcomeResult::InSync);
        record(&state, 20, RunOutcome::InSync);
        assert_eq!(state.reader().last_outcomes().unwrap().failed_run, None);
    }
}
