//! The history of runs in the journal, and the sizes of cohorts that follow from it.

use crate::dashboard::{HistoryView, PlannedView};
use crate::model::{CohortId, RunId, Timestamp};
use crate::state::{CohortRunSummary, RunRecord, RunSummary};

/// The results of runs that failed, of blocked ones, and of those that the operator stopped.
pub(super) const FAILED: &str = "failed";
pub(super) const BLOCKED: &str = "blocked";
pub(super) const STOPPED: &str = "stopped";

/// The runs of single cohorts, and runs that failed as a whole, the newest first.
pub(super) fn runs(records: &[RunRecord]) -> Vec<HistoryView> {
    let mut all = Vec::new();
    for summary in records.iter().map(RunRecord::summary) {
        all.extend(failed_run(&summary));
        for cohort in &summary.cohorts {
            let (Some(at), Ok(id)) = (cohort.at, CohortId::new(&cohort.cohort)) else { continue };
            all.push(HistoryView {
                at,
                run: RunId::named(&summary.run),
                cohort: Some(id),
                planned: planned(cohort),
                added: cohort.added,
                removed: cohort.removed,
                result: result(&summary, cohort).to_owned(),
                error: cohort.error.clone().or_else(|| joined(&cohort.blocked)),
            });
        }
    }
    all
}

/// The plan of a run for one cohort, with its blocked changes. None: the cohort could not be planned.
fn planned(cohort: &CohortRunSummary) -> Option<PlannedView> {
    let (blocked_adds, blocked_removes) = cohort.blocked_changes;
    let is_known = cohort.planned.is_some() || blocked_adds + blocked_removes > 0;
    let (adds, removes) = cohort.planned.unwrap_or_default();
    is_known.then_some(PlannedView { adds, removes, blocked_adds, blocked_removes })
}

/// The result of a run for one cohort.
fn result<'a>(run: &'a RunSummary, cohort: &CohortRunSummary) -> &'a str {
    let has_changed = cohort.added + cohort.removed > 0;
    match &run.result {
        _ if cohort.is_stopped => STOPPED,
        _ if cohort.error.is_some() => FAILED,
        _ if !cohort.blocked.is_empty() => BLOCKED,
        None => "interrupted",
        Some(_) if has_changed => "applied",
        Some(result) => result,
    }
}

/// A run that failed before its first cohort and its first export.
fn failed_run(run: &RunSummary) -> Option<HistoryView> {
    let is_failed = run.result.as_deref() == Some(FAILED) && run.cohorts.is_empty() && run.exports.is_empty();
    Some(HistoryView {
        at: run.ended.filter(|_| is_failed)?,
        run: RunId::named(&run.run),
        cohort: None,
        planned: None,
        added: 0,
        removed: 0,
        result: FAILED.to_owned(),
        error: joined(&run.errors),
    })
}

fn joined(reasons: &[String]) -> Option<String> {
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The size of a cohort after each run, the oldest first. The journal has only changes, so sizes are computed backwards
/// from `current`.
pub(super) fn sizes(newest_first: &[HistoryView], cohort: &CohortId, current: u64) -> Vec<(Timestamp, u64)> {
    let (mut sizes, mut members) = (Vec::new(), current);
    for run in newest_first.iter().filter(|run| run.cohort.as_ref() == Some(cohort)) {
        sizes.push((run.at, members));
        members = (members + run.removed).saturating_sub(run.added);
    }
    sizes.reverse();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{JournalEntry, JournalEvent};

    fn record(at: &str, result: &str, events: Vec<JournalEvent>) -> RunRecord {
        let ended = JournalEvent::Ended { result: result.to_owned(), requests: 1 };
        let events = events.into_iter().chain([ended]);
        let entries = events.map(|event| JournalEntry { at: at.to_owned(), event }).collect();
        RunRecord { run: format!("p-{at}"), entries }
    }

    fn finished(added: u64, removed: u64, error: Option<&str>) -> JournalEvent {
        let (cohort, error) = ("carts".to_owned(), error.map(str::to_owned));
        JournalEvent::Finished { cohort, added, removed, rejected: 0, in_doubt: 0, error, stopped: false }
    }

    fn changed(at: &str, added: u64, removed: u64) -> RunRecord {
        record(at, "applied", vec![finished(added, removed, None)])
    }

    #[test]
    fn sizes_are_computed_backwards_from_the_current_size() {
        let records = [
            changed("2026-11-24T03:00:00.000Z", 0, 5),
            changed("2026-11-24T02:00:00.000Z", 10, 0),
            changed("2026-11-24T01:00:00.000Z", 100, 0),
        ];
        let sizes = sizes(&runs(&records), &CohortId::new("carts").unwrap(), 105);
        assert_eq!(sizes.iter().map(|(_, members)| *members).collect::<Vec<_>>(), [100, 110, 105]);
    }

    #[test]
    fn each_cohort_of_a_run_has_its_own_result() {
        let at = "2026-11-24T03:00:00.000Z";
        let cohort = "carts".to_owned();
        let planned = JournalEvent::planned(&CohortId::new("carts").unwrap(), 1, 4, 3, 0);
        let blocked = JournalEvent::Blocked {
            cohort: cohort.clone(),
            reasons: vec!["removals blocked".to_owned()],
            plan: None,
            adds: 0,
            removes: 45,
        };
        let not_planned = JournalEvent::NotPlanned { cohort, error: "no file".to_owned() };
        let failed = JournalEvent::Failed { error: "no key".to_owned() };
        let shown = |result, events| {
            let run = runs(&[record(at, result, events)]).remove(0);
            let planned =
                run.planned.map(|plan| [plan.adds, plan.removes, plan.blocked_adds, plan.blocked_removes]);
            (run.result, run.error, planned, run.cohort.is_some())
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            shown("blocked", vec![planned.clone(), finished(4, 0, None), blocked.clone()]),
            (text(BLOCKED), Some(text("removals blocked")), Some([4, 3, 0, 45]), true)
        );
        assert_eq!(
            shown("blocked", vec![blocked]),
            (text(BLOCKED), Some(text("removals blocked")), Some([0, 0, 0, 45]), true)
        );
        assert_eq!(
            shown("failed", vec![planned, finished(4, 1, Some("down"))]),
            (text(FAILED), Some(text("down")), Some([4, 3, 0, 0]), true)
        );
        assert_eq!(shown("failed", vec![not_planned]), (text(FAILED), Some(text("no file")), None, true));
        assert_eq!(shown("blocked", vec![finished(4, 0, None)]), (text("applied"), None, None, true));
        assert_eq!(shown("failed", vec![failed]), (text(FAILED), Some(text("no key")), None, false));
    }
}
