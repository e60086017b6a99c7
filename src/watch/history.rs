//! Status from before this process: orphaned cohorts, segments, and the runs and cohort sizes in the journal.

use std::time::Duration;

use super::context::LeaderContext;
use super::endpoints::EndpointInboxes;
use crate::config::Config;
use crate::dashboard::{HistoryView, PlannedView};
use crate::model::{CohortId, RunId, Timestamp};
use crate::reconcile::{self, OrphanedCohort};
use crate::state::{JournalEvent, RunRecord, StateWriter};

/// The number of runs that are read from the journal.
const RUNS_READ: usize = 100;

/// Fills the status from the state. This reads the state, so it must not run on the event loop.
pub(super) fn restore(context: &LeaderContext, inboxes: &EndpointInboxes) {
    let (status, reader) = (&context.status, context.state.reader());
    let orphaned = orphaned_cohorts(&context.config, &context.state);
    status.lock().orphaned = orphaned;
    for name in context.config.heap.keys() {
        if let Ok(segments) = reader.segments(name) {
            status.set_heap_segments(name, segments, inboxes.waiting_bytes(name));
        }
    }
    let journal = reader.runs(RUNS_READ).unwrap_or_default();
    for id in context.config.cohort_ids() {
        let last_success = last_success(&journal, id);
        status.update_cohort(id, |status| status.last_success = status.last_success.max(last_success));
        let Ok(Some(membership)) = reader.version(id) else { continue };
        status.update_cohort(id, |status| {
            (status.in_doubt, status.uncertain_until) = (membership.in_doubt, membership.uncertain_until());
            let Some(members) = membership.members else { return };
            let sizes = sizes(&journal, id, members);
            sizes.into_iter().for_each(|(at, members)| status.set_members(members, at));
            status.set_members(members, membership.written_at);
        });
    }
    runs(&journal).into_iter().rev().for_each(|run| status.add_history(run));
}

/// The cohorts in the state that are not in the config.
pub(super) fn orphaned_cohorts(config: &Config, state: &StateWriter) -> Vec<OrphanedCohort> {
    reconcile::orphaned(config, state.reader()).unwrap_or_else(|error| {
        tracing::warn!("cannot list the orphaned cohorts: {error}");
        Vec::new()
    })
}

/// A duration as text, in its largest suitable unit: `90 seconds`, `3 hours`.
pub(super) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7200 => (seconds / 60, "minutes"),
        _ => (seconds / 3600, "hours"),
    };
    format!("{number} {unit}")
}

/// The changes of single cohorts, the newest first.
fn runs(records: &[RunRecord]) -> Vec<HistoryView> {
    let mut all = Vec::new();
    for record in records {
        let result = record.entries.iter().rev().find_map(|entry| match &entry.event {
            JournalEvent::Ended { result, .. } => Some(result.clone()),
            _ => None,
        });
        let result = result.unwrap_or_else(|| "interrupted".to_owned());
        for entry in &record.entries {
            let JournalEvent::Finished { cohort, added, removed, error, .. } = &entry.event else { continue };
            let (Ok(at), Ok(cohort)) = (entry.at.parse(), CohortId::new(cohort)) else { continue };
            let run = RunId::named(&record.run);
            let (added, removed, error) = (*added, *removed, error.clone());
            let planned = planned(record, &cohort);
            all.push(HistoryView { at, run, cohort, planned, added, removed, result: result.clone(), error });
        }
    }
    all
}

fn planned(record: &RunRecord, cohort: &CohortId) -> Option<PlannedView> {
    record.entries.iter().find_map(|entry| match &entry.event {
        JournalEvent::Planned { cohort: of, adds, removes, .. } if of == cohort.as_str() => {
            Some(PlannedView { adds: *adds, removes: *removes })
        }
        _ => None,
    })
}

/// The time of the last recorded run that left a cohort in sync.
fn last_success(records: &[RunRecord], cohort: &CohortId) -> Option<Timestamp> {
    let is_good = |run: &HistoryView| run.error.is_none() && matches!(&*run.result, "applied" | "in_sync");
    runs(records).into_iter().filter(|run| run.cohort == *cohort && is_good(run)).map(|run| run.at).max()
}

/// The size of a cohort after each run, the oldest first. The journal has only changes, so sizes are computed backwards
/// from `current`.
fn sizes(records: &[RunRecord], cohort: &CohortId, current: u64) -> Vec<(Timestamp, u64)> {
    let (mut sizes, mut members) = (Vec::new(), current);
    for run in runs(records).into_iter().filter(|run| run.cohort == *cohort) {
        sizes.push((run.at, members));
        members = (members + run.removed).saturating_sub(run.added);
    }
    sizes.reverse();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::JournalEntry;

    fn record(at: &str, added: u64, removed: u64) -> RunRecord {
        let finished = JournalEvent::Finished {
            cohort: "carts".to_owned(),
            added,
            removed,
            rejected: 0,
            in_doubt: 0,
            error: None,
        };
        let ended = JournalEvent::Ended { result: "applied".to_owned(), requests: 1 };
        let entries = [finished, ended].map(|event| JournalEntry { at: at.to_owned(), event }).to_vec();
        RunRecord { run: format!("p-{at}"), entries }
    }

    #[test]
    fn sizes_are_computed_backwards_from_the_current_size() {
        let records = [
            record("2026-11-24T03:00:00.000Z", 0, 5),
            record("2026-11-24T02:00:00.000Z", 10, 0),
            record("2026-11-24T01:00:00.000Z", 100, 0),
        ];
        let sizes = sizes(&records, &CohortId::new("carts").unwrap(), 105);
        assert_eq!(sizes.iter().map(|(_, members)| *members).collect::<Vec<_>>(), [100, 110, 105]);
        assert_eq!(runs(&records)[0].result, "applied");
    }

    #[test]
    fn the_last_success_is_that_of_the_last_good_run() {
        let mut records =
            [record("2026-11-24T03:00:00.000Z", 0, 5), record("2026-11-24T02:00:00.000Z", 10, 0)];
        let id = |id| CohortId::new(id).unwrap();
        assert_eq!(last_success(&records, &id("carts")), Some("2026-11-24T03:00:00Z".parse().unwrap()));
        assert_eq!(last_success(&records, &id("vip")), None);
        let JournalEvent::Ended { result, .. } = &mut records[0].entries[1].event else { panic!("it ended") };
        "blocked".clone_into(result);
        assert_eq!(last_success(&records, &id("carts")), Some("2026-11-24T02:00:00Z".parse().unwrap()));
    }
}
