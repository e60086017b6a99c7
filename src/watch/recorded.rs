//! The status that the state records: memberships, last outcomes, runs of the journal, segments and waiting deliveries. A
//! standby shows it, and a leader begins with it.

use super::environment::WatchEnvironment;
use super::history;
use super::status::{RecordedOutcome, WatchStatus};
use crate::config::Config;
use crate::dashboard::HistoryView;
use crate::model::{CohortId, ConnectionName, EndpointName, ExportId, SegmentId, Timestamp};
use crate::reconcile::{self, OrphanedCohort};
use crate::state::{
    ClosedFile, HeapSegments, LastOutcome, LastOutcomes, Membership, OutcomeResult, SegmentCheck, StateError,
    StateReader,
};

/// The number of runs that are read from the journal.
const RUNS_READ: usize = 200;

/// The recorded status at one moment. What cannot be read is logged and stays unknown.
#[derive(Debug)]
pub(super) struct RecordedStatus {
    at: Timestamp,
    cohorts: Vec<RecordedCohort>,
    exports: Vec<RecordedExport>,
    heaps: Vec<(ConnectionName, HeapSegments, WaitingDeliveries)>,
    checks: Vec<(SegmentId, SegmentCheck)>,
    orphaned: Option<Vec<OrphanedCohort>>,
    history: Vec<HistoryView>,
}

#[derive(Debug)]
struct RecordedCohort {
    id: CohortId,
    membership: Option<Membership>,
    sizes: Vec<(Timestamp, u64)>,
    outcome: Option<RecordedOutcome>,
}

#[derive(Debug)]
struct RecordedExport {
    id: ExportId,
    events: Option<u64>,
    waiting: WaitingDeliveries,
    outcome: Option<LastOutcome>,
}

/// Deliveries of an endpoint that no run has processed.
#[derive(Clone, Copy, Debug, Default)]
struct WaitingDeliveries {
    bytes: u64,
    since: Option<Timestamp>,
}

impl WaitingDeliveries {
    fn of(files: &[ClosedFile]) -> Self {
        let files = files.iter().filter(|file| file.bytes > 0);
        Self {
            bytes: files.clone().map(|file| file.bytes).sum(),
            since: files.filter_map(ClosedFile::began).min(),
        }
    }
}

impl RecordedStatus {
    /// Reads the state. A remote store may respond slowly.
    pub(super) fn read(config: &Config, state: &StateReader, environment: &dyn WatchEnvironment) -> Self {
        let journal = logged("the journal", state.runs(RUNS_READ)).unwrap_or_default();
        let history = history::runs(&journal);
        let outcomes = logged("the last outcomes", state.last_outcomes()).unwrap_or_default();
        let inbox = |endpoint: &EndpointName| {
            logged("an inbox", state.inbox(endpoint))
                .map(|files| WaitingDeliveries::of(&files))
                .unwrap_or_default()
        };
        let cohort = |id: &CohortId| {
            let membership = logged("a membership", state.version(id)).flatten();
            RecordedCohort::new(id, membership, &history, &outcomes, environment)
        };
        let heaps = config.heap.keys().filter_map(|name| {
            let segments = logged("the segments of Heap", state.segments(name))?;
            Some((name.clone(), segments, inbox(&EndpointName::of_heap(name))))
        });
        let checks = config.checked_segments().filter_map(|segment| {
            Some((
                segment.id.clone(),
                logged("the check of a segment", state.check_of(&segment.id)).flatten()?,
            ))
        });
        Self {
            at: environment.clock().now(),
            cohorts: config.cohort_ids().map(cohort).collect(),
            exports: config
                .exports
                .iter()
                .map(|export| RecordedExport {
                    id: export.id.clone(),
                    events: logged("the progress of an export", state.export(&export.id))
                        .and_then(|progress| progress.counts.get("sent").copied()),
                    waiting: inbox(&EndpointName::of_export(&export.id)),
                    outcome: outcomes.export(&export.id).cloned(),
                })
                .collect(),
            heaps: heaps.collect(),
            checks: checks.collect(),
            orphaned: orphaned_cohorts(config, state),
            history,
        }
    }

    /// Shows it in the status.
    pub(super) fn show(self, status: &WatchStatus) {
        self.checks.into_iter().for_each(|(id, check)| status.set_check(&id, check));
        let mut data = status.lock();
        data.recorded_at = Some(self.at);
        if let Some(orphaned) = self.orphaned {
            data.orphaned = orphaned;
        }
        for (name, segments, waiting) in self.heaps {
            // A connection without an endpoint has no status.
            if let Some(heap) = data.heaps.get_mut(&name) {
                (heap.segments, heap.waiting_bytes, heap.waiting_since) =
                    (segments, waiting.bytes, waiting.since);
            }
        }
        for recorded in self.cohorts {
            let Some(cohort) = data.cohorts.get_mut(&recorded.id) else { continue };
            if let Some(membership) = &recorded.membership {
                (cohort.in_doubt, cohort.uncertain_until) =
                    (membership.in_doubt, membership.uncertain_until());
            }
            cohort.sizes.clear();
            recorded.sizes.into_iter().for_each(|(at, members)| cohort.set_members(members, at));
            let runs = self.history.iter().filter(|run| run.cohort.as_ref() == Some(&recorded.id));
            cohort.set_runs(runs.cloned());
            cohort.set_recorded(recorded.outcome);
        }
        for recorded in self.exports {
            let Some(export) = data.exports.get_mut(&recorded.id) else { continue };
            export.events = recorded.events.unwrap_or(export.events);
            export.waiting_since = recorded.waiting.since;
            let Some(outcome) = recorded.outcome else { continue };
            export.last_success = outcome.good_run.as_ref().map(|good| good.at.0).max(export.last_success);
            if outcome.result == OutcomeResult::Failed {
                (export.failure, export.needs_operator) = (outcome.reason, outcome.needs_operator);
            }
        }
        data.set_history(self.history);
    }
}

impl RecordedCohort {
    fn new(
        id: &CohortId,
        membership: Option<Membership>,
        history: &[HistoryView],
        outcomes: &LastOutcomes,
        environment: &dyn WatchEnvironment,
    ) -> Self {
        let sizes = membership.as_ref().and_then(|membership| {
            let members = membership.members?;
            let mut sizes = history::sizes(history, id, members);
            sizes.push((membership.written_at, members));
            Some(sizes)
        });
        let outcome = outcomes.cohort(id).map(|last| RecordedOutcome {
            approve_command: last.plan.as_ref().and_then(|plan| environment.approve_command(id, plan)),
            last: last.clone(),
        });
        Self { id: id.clone(), membership, sizes: sizes.unwrap_or_default(), outcome }
    }
}

/// The cohorts in the state that are not in the config. None: they could not be read.
pub(super) fn orphaned_cohorts(config: &Config, state: &StateReader) -> Option<Vec<OrphanedCohort>> {
    logged("the orphaned cohorts", reconcile::orphaned(config, state))
}

/// The value, if it could be read.
fn logged<T>(what: &str, read: Result<T, StateError>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!("cannot read {what}: {error}")).ok()
}
