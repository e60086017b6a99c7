//! A run in the journal as one value: when, by which command, and what it changed.

use super::journal::{JournalEntry, JournalEvent, RunRecord};
use super::run_origin::{Operator, RunOrigin};
use crate::model::Timestamp;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended. `None`: it was killed, or has not ended.
    pub ended: Option<Timestamp>,
    /// Its result, as a stable code.
    pub result: Option<String>,
    /// What started it. `None`: an earlier version of the program wrote it.
    pub origin: Option<RunOrigin>,
    /// Requests sent.
    pub requests: u64,
    /// Why the run, or a part of it that is no cohort and no export, failed.
    pub errors: Vec<String>,
    /// The cohorts with changes, blocks or errors, by id: they run at the same time, so their events have any order.
    pub cohorts: Vec<CohortRunSummary>,
    /// The exports, by id.
    pub exports: Vec<ExportRunSummary>,
}

/// What a run did to one cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CohortRunSummary {
    /// The cohort.
    pub cohort: String,
    /// When its last event was written.
    pub at: Option<Timestamp>,
    /// The planned additions and removals.
    pub planned: Option<(u64, u64)>,
    /// Whether its work ended.
    pub is_finished: bool,
    /// Members added.
    pub added: u64,
    /// Members removed.
    pub removed: u64,
    /// Identifiers that Braze rejected.
    pub rejected: u64,
    /// Members left in doubt.
    pub in_doubt: u64,
    /// Why the guard blocked changes, in words.
    pub blocked: Vec<String>,
    /// The blocked additions and removals.
    pub blocked_changes: (u64, u64),
    /// The approval that lifted a block.
    pub approval: Option<UsedApproval>,
    /// Why it could not be planned, or stopped early.
    pub error: Option<String>,
    /// The operator stopped it, so the error is no failure.
    pub is_stopped: bool,
}

/// An approval that a run used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedApproval {
    /// The digest of the plan.
    pub plan: String,
    /// When the plan was approved.
    pub approved_at: String,
    /// The operator who approved it.
    pub by: Operator,
    /// Why.
    pub reason: Option<String>,
}

/// What a run did for one export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportRunSummary {
    /// The export.
    pub export: String,
    /// Files read to their end.
    pub files: u64,
    /// Events read.
    pub events: u64,
    /// Events that Heap accepted.
    pub sent: u64,
    /// Events that were rejected.
    pub rejected: u64,
    /// Events that are held.
    pub waiting: u64,
    /// Why it is not complete.
    pub error: Option<String>,
    /// The operator stopped it, so the error is no failure.
    pub is_stopped: bool,
}

impl RunSummary {
    /// Members added, over all cohorts.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.cohorts.iter().map(|cohort| cohort.added).sum()
    }

    /// Members removed, over all cohorts.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.cohorts.iter().map(|cohort| cohort.removed).sum()
    }

    fn cohort(&mut self, id: &str, at: Option<Timestamp>) -> &mut CohortRunSummary {
        let index = self.cohorts.iter().position(|known| known.cohort == id).unwrap_or_else(|| {
            self.cohorts.push(CohortRunSummary { cohort: id.to_owned(), ..CohortRunSummary::default() });
            self.cohorts.len() - 1
        });
        let cohort = &mut self.cohorts[index];
        cohort.at = at.or(cohort.at);
        cohort
    }

    fn add(&mut self, entry: &JournalEntry) {
        let at = entry.at.parse().ok();
        match entry.event.clone() {
            JournalEvent::Began { origin, .. } => (self.began, self.origin) = (at, origin),
            JournalEvent::Planned { cohort, adds, removes, .. } => {
                self.cohort(&cohort, at).planned = Some((adds, removes));
            }
            JournalEvent::Approved { cohort, plan, approved_at, by, reason } => {
                self.cohort(&cohort, at).approval = Some(UsedApproval { plan, approved_at, by, reason });
            }
            JournalEvent::Blocked { cohort, reasons, adds, removes, .. } => {
                let cohort = self.cohort(&cohort, at);
                (cohort.blocked, cohort.blocked_changes) = (reasons, (adds, removes));
            }
            JournalEvent::NotPlanned { cohort, error } => self.cohort(&cohort, at).error = Some(error),
            JournalEvent::Finished { cohort, added, removed, rejected, in_doubt, error, stopped } => {
                let cohort = self.cohort(&cohort, at);
                (cohort.added, cohort.removed, cohort.rejected) = (added, removed, rejected);
                (cohort.in_doubt, cohort.error, cohort.is_finished) = (in_doubt, error, true);
                cohort.is_stopped = stopped;
            }
            JournalEvent::Exported { export, files, events, sent, rejected, waiting, error, stopped } => {
                let is_stopped = stopped;
                self.exports.push(ExportRunSummary {
                    export,
                    files,
                    events,
                    sent,
                    rejected,
                    waiting,
                    error,
                    is_stopped,
                });
            }
            JournalEvent::Failed { error } => self.errors.push(error),
            JournalEvent::Sent { .. } | JournalEvent::Posted { .. } | JournalEvent::Triggered { .. } => {
                self.requests += 1;
            }
            JournalEvent::Ended { result, .. } => (self.ended, self.result) = (at, Some(result)),
            JournalEvent::Committed { .. } => {}
        }
    }
}

impl RunRecord {
    /// The run as one value. The events of concurrent cohorts may have any order.
    #[must_use]
    pub fn summary(&self) -> RunSummary {
        let mut summary = RunSummary { run: self.run.clone(), ..RunSummary::default() };
        self.entries.iter().for_each(|entry| summary.add(entry));
        summary.cohorts.sort_by(|a, b| a.cohort.cmp(&b.cohort));
        summary.exports.sort_by(|a, b| a.export.cmp(&b.export));
        // The first line may be lost.
        summary.began = summary.began.or_else(|| self.entries.first()?.at.parse().ok());
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: u32, event: &str) -> JournalEntry {
        serde_json::from_str(&format!(r#"{{"at":"2026-11-24T12:00:{second:02}.000Z",{event}}}"#)).unwrap()
    }

    #[test]
    fn cohorts_are_in_the_same_order_whichever_ended_first() {
        let finished = |cohort: &str| {
            let counts = r#""added":1,"removed":0,"rejected":0,"in_doubt":0,"error":null"#;
            entry(1, &format!(r#""event":"finished","cohort":"{cohort}",{counts}"#))
        };
        for order in [["a", "b"], ["b", "a"]] {
            let entries = order.map(finished).into();
            let summary = RunRecord { run: "r".to_owned(), entries }.summary();
            let cohorts: Vec<&str> = summary.cohorts.iter().map(|cohort| cohort.cohort.as_str()).collect();
            assert_eq!(cohorts, ["a", "b"]);
        }
    }

    #[test]
    fn a_run_of_an_earlier_version_has_no_origin() {
        let entries = vec![
            entry(0, r#""event":"began","syncline":"0.1.0","config":"ab""#),
            entry(1, r#""event":"sent","cohort":"vip","operation":"add","members":3,"outcome":"accepted""#),
            entry(
                2,
                r#""event":"finished","cohort":"vip","added":3,"removed":1,"rejected":0,"in_doubt":0,"error":null"#,
            ),
            entry(4, r#""event":"ended","result":"applied","requests":1"#),
        ];
        let summary = RunRecord { run: "r".to_owned(), entries }.summary();
        assert_eq!((summary.added(), summary.removed(), summary.requests), (3, 1, 1));
        assert_eq!((summary.origin, summary.result.as_deref()), (None, Some("applied")));
        let (began, ended) = (summary.began.unwrap(), summary.ended.unwrap());
        assert_eq!(ended.duration_since(began).as_secs(), 4);
    }

    #[test]
    fn events_of_one_cohort_are_one_summary() {
        let entries = vec![
            entry(
                0,
                r#""event":"began","syncline":"0.2.0","config":"ab","origin":{"command":"reconcile","arguments":["reconcile"],"by":{"user":"anna"}}"#,
            ),
            entry(
                1,
                r#""event":"approved","cohort":"vip","plan":"sha256:1","approved_at":"x","by":{"user":"ben"},"reason":"ok""#,
            ),
            entry(2, r#""event":"planned","cohort":"vip","base":1,"adds":0,"removes":9,"violations":0"#),
            entry(3, r#""event":"blocked","cohort":"vip","reasons":["too many"]"#),
            entry(4, r#""event":"not_planned","cohort":"new","error":"down""#),
        ];
        let summary = RunRecord { run: "r".to_owned(), entries }.summary();
        let [new, vip] = &summary.cohorts[..] else { panic!("{:?}", summary.cohorts) };
        assert_eq!(
            (vip.planned, vip.is_finished, &vip.blocked[..]),
            (Some((0, 9)), false, &["too many".to_owned()][..])
        );
        assert_eq!(vip.approval.as_ref().unwrap().by.to_string(), "ben");
        assert_eq!(new.error.as_deref(), Some("down"));
        assert_eq!((summary.ended, summary.result), (None, None));
        assert_eq!(summary.origin.unwrap().by.to_string(), "anna");
    }
}
