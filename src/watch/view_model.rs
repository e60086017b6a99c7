//! Converts the live status to the view model of the dashboard. Pure.

use std::time::Duration;

use super::schedule;
use super::status::{
    CohortStatus, ConditionStatus, ExportStatus, HeapStatus, ProcessRole, RecordedOutcome, StatusData,
    WatchStatus,
};
use crate::config::{self, BrazeObject, SourceConfig};
use crate::dashboard as page;
use crate::model::duration_words;
use crate::model::{CohortId, ConnectionName, ExportId, Timestamp};
use crate::state::{CheckLevel, CheckVerdict, OutcomeResult, SegmentCheck, SegmentSync, SegmentTable};
use crate::webhooks::RejectedRequests;

/// The view model at this moment.
pub(super) fn dashboard(
    status: &WatchStatus,
    rejected: Vec<RejectedRequests>,
    query: page::PageQuery,
) -> page::DashboardView {
    let now = status.clock().now();
    let data = status.lock();
    let since = data.role_since;
    let role = match &data.role {
        ProcessRole::Standby(holder) => {
            page::RoleView::Standby { since, holder: Some(holder.clone()), recorded_at: data.recorded_at }
        }
        ProcessRole::Starting | ProcessRole::Leader | ProcessRole::Stopping => {
            page::RoleView::Leader { since }
        }
    };
    let in_order = data.order.iter().filter_map(|id| Some((id, data.cohorts.get(id)?)));
    page::DashboardView {
        now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: data.started,
        role,
        config: page::ConfigView {
            target: data.target.clone(),
            loaded: data.config_loaded,
            invalid: data.config_error.as_ref().map(|(since, invalid)| page::InvalidConfigView {
                since: *since,
                problems: invalid.problems,
                text: invalid.text.clone(),
            }),
        },
        cohorts: in_order.filter_map(|(id, status)| cohort(id, status, &data, now)).collect(),
        orphaned: data.orphaned.iter().map(orphaned).collect(),
        inboxes: data.heaps.iter().map(|(name, heap)| inbox(name, heap, &data, now)).collect(),
        exports: data.exports.iter().map(|(id, status)| export(id, status, now)).collect(),
        segments: data.segments.iter().filter_map(segment).collect(),
        rejected_requests: rejected.into_iter().map(rejected_requests).collect(),
        history: data.history.iter().cloned().collect(),
        query,
    }
}

fn rejected_requests(rejected: RejectedRequests) -> page::RejectedRequestsView {
    let (status, reason) = rejected.error.parts();
    page::RejectedRequestsView {
        endpoint: Some(rejected.endpoint).filter(|endpoint| !endpoint.is_empty()),
        status: status.as_u16(),
        reason,
        likely_cause: rejected.error.likely_cause(),
        number: rejected.number,
        last: rejected.last,
        accepted_since: rejected.accepted_since,
    }
}

/// None: the segment was not checked yet.
fn segment(
    (segment, check): &(config::SegmentConfig, Option<SegmentCheck>),
) -> Option<page::SegmentCheckView> {
    let check = check.as_ref()?;
    let name = match &segment.named {
        BrazeObject::Name(name) => name.clone(),
        BrazeObject::Id(id) => check.segment.as_ref().map_or_else(|| id.clone(), |seen| seen.name.clone()),
    };
    let findings = check.findings.iter().filter(|finding| finding.level > CheckLevel::Note);
    Some(page::SegmentCheckView {
        id: segment.id.to_string(),
        name,
        verdict: match check.verdict {
            CheckVerdict::InSync => page::SegmentVerdictView::InSync,
            CheckVerdict::Drifted => page::SegmentVerdictView::Drifted,
            CheckVerdict::Unknown => page::SegmentVerdictView::Unknown,
        },
        findings: findings.map(|finding| finding.text.clone()).collect(),
        checked: check.at.0,
    })
}

fn orphaned(cohort: &crate::reconcile::OrphanedCohort) -> page::OrphanedView {
    page::OrphanedView { id: cohort.id.clone(), name: cohort.name.clone(), members: cohort.members }
}

fn cohort(
    id: &CohortId,
    status: &CohortStatus,
    data: &StatusData,
    now: Timestamp,
) -> Option<page::CohortView> {
    // A cohort under `removed:` appears in the history only.
    let declared = status.declared.as_deref()?;
    Some(page::CohortView {
        id: id.clone(),
        name: declared.name.clone(),
        connection: declared.to.clone(),
        declared_at: declared.declared_at.clone(),
        source: source(&declared.source, data),
        members: status.members,
        sizes: status
            .sizes
            .iter()
            .map(|(at, members)| page::SizePoint { at: *at, members: *members })
            .collect(),
        state: state(status, data, now),
        last_success: status.last_success,
        next_run: status.next_run,
        plan: status.last_plan,
        rejects: status.rejects.clone(),
        rejects_file: status.rejects_file.clone(),
        in_doubt: status.in_doubt,
        uncertain_until: status.uncertain_until,
        rejected: status.rejected,
        runs: status.runs.iter().cloned().collect(),
    })
}

fn source(source: &SourceConfig, data: &StatusData) -> page::SourceView {
    match source {
        SourceConfig::File(file) => page::SourceView::Files { pattern: file.pattern.clone() },
        SourceConfig::HeapConnect(source) => {
            page::SourceView::Files { pattern: format!("{}, table {}", source.folder.path, source.table) }
        }
        SourceConfig::DumpQuery(query) => {
            let (path, tables) = (&query.folder.path, query.tables.join(", "));
            page::SourceView::Files { pattern: format!("{path}, a query over {tables}") }
        }
        SourceConfig::Sql(sql) => page::SourceView::Query { connection: sql.connection.clone() },
        SourceConfig::HeapSegment(source) => {
            let heap = data.heaps.get(&source.connection);
            let segment = heap.and_then(|heap| heap.segments.by_id.get(&source.segment));
            page::SourceView::HeapSegment {
                connection: source.connection.clone(),
                segment: source.segment,
                name: segment.map(|segment| segment.name.clone()),
            }
        }
    }
}

fn state(status: &CohortStatus, data: &StatusData, now: Timestamp) -> page::CohortStateView {
    let since = status.since;
    if status.progress.is_some() {
        return page::CohortStateView::Updating { since };
    }
    match &status.condition {
        ConditionStatus::New if status.recorded.is_some() => recorded_state(status, data, now),
        ConditionStatus::New => page::CohortStateView::New,
        ConditionStatus::Waiting(reason) => {
            page::CohortStateView::WaitingForHeap { reason: Some(reason.clone()) }
        }
        ConditionStatus::Blocked(blocked) => page::CohortStateView::Blocked {
            since,
            blocks: blocked.blocks.clone(),
            approve_command: blocked.approve_command.clone(),
            adds_continue: blocked.adds.is_none(),
            removes_continue: blocked.removes.is_none(),
        },
        ConditionStatus::Stopped(_) => page::CohortStateView::Stopped { since },
        ConditionStatus::Failing(failure) => page::CohortStateView::Failing {
            since,
            reason: failure.reason.clone(),
            next: next_step(failure.needs_operator, status.next_run),
            remedies: failure.remedies.clone(),
        },
        ConditionStatus::InSync if status.is_stale => {
            page::CohortStateView::Stale { after: data.stale_after }
        }
        ConditionStatus::InSync => page::CohortStateView::InSync,
    }
}

/// The state of a cohort that this process has not run: the one that the state records.
fn recorded_state(status: &CohortStatus, data: &StatusData, now: Timestamp) -> page::CohortStateView {
    let Some(RecordedOutcome { last, approve_command }) = &status.recorded else {
        return page::CohortStateView::New;
    };
    let reason = last.reason.clone();
    match last.result {
        OutcomeResult::InSync if schedule::until(now, status.last_success_or_start()) > data.stale_after => {
            page::CohortStateView::Stale { after: data.stale_after }
        }
        OutcomeResult::InSync => page::CohortStateView::InSync,
        OutcomeResult::Waiting => page::CohortStateView::WaitingForHeap { reason },
        OutcomeResult::Blocked => page::CohortStateView::BlockedInRecord {
            since: last.blocked_since().unwrap_or(last.since).0,
            reason: reason.unwrap_or_default(),
            approve_command: approve_command.clone(),
        },
        OutcomeResult::Failed => page::CohortStateView::Failing {
            since: last.since.0,
            reason: reason.unwrap_or_default(),
            next: next_step(last.needs_operator, None),
            remedies: Vec::new(),
        },
        OutcomeResult::Stopped => page::CohortStateView::Stopped { since: last.since.0 },
        OutcomeResult::Unknown => page::CohortStateView::New,
    }
}

fn next_step(needs_operator: bool, next_run: Option<Timestamp>) -> page::NextStep {
    match needs_operator {
        true => page::NextStep::NeedsOperator { at: next_run },
        false => page::NextStep::Retry { at: next_run },
    }
}

fn export(id: &ExportId, status: &ExportStatus, now: Timestamp) -> page::ExportView {
    let lag =
        status.waiting_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    page::ExportView {
        id: id.to_string(),
        source: status.source.clone(),
        url: status.url.clone(),
        lag: lag.or(Some(Duration::ZERO)),
        events: status.events,
        last_success: status.last_success,
        failure: failure(status, now),
    }
}

fn failure(status: &ExportStatus, now: Timestamp) -> Option<page::ExportFailureView> {
    let stale = || {
        let age = schedule::until(now, status.last_success_or_start());
        format!("no successful run for {}", duration_words(age))
    };
    let reason = status.failure.clone().or_else(|| status.is_stale.then(stale))?;
    Some(page::ExportFailureView { reason, next: next_step(status.needs_operator, status.next_run) })
}

fn inbox(name: &ConnectionName, heap: &HeapStatus, data: &StatusData, now: Timestamp) -> page::InboxView {
    let segments = || heap.segments.by_id.iter();
    let is_used = |id: u64| {
        data.cohorts
            .values()
            .filter_map(|status| status.declared.as_deref())
            .any(|cohort| cohort.source.segment_of(name) == Some(id))
    };
    let undeclared = segments().filter(|(id, _)| !is_used(**id));
    let missing = segments().flat_map(|(id, segment)| {
        let waiting = segment.syncs.iter().filter(|sync| !sync.removes_count());
        waiting.map(move |sync| missing(*id, segment, sync))
    });
    page::InboxView {
        connection: name.clone(),
        url: heap.url.clone(),
        bytes: heap.waiting_bytes,
        waiting_since: heap.waiting_since,
        last_delivery: segments().map(|(_, segment)| segment.delivered_at).max(),
        invalid: heap.segments.invalid,
        missing: missing.collect(),
        gaps: segments().flat_map(|(id, segment)| gaps(*id, segment, now)).collect(),
        undeclared: undeclared
            .map(|(id, segment)| page::UndeclaredSegmentView {
                segment: *id,
                name: segment.name.clone(),
                last_delivery: segment.delivered_at,
            })
            .collect(),
    }
}

fn missing(id: u64, segment: &SegmentTable, sync: &SegmentSync) -> page::MissingPagesView {
    page::MissingPagesView {
        segment: id,
        name: segment.name.clone(),
        missing: u64::from(sync.missing_count()),
        pages: u64::from(sync.pages),
        at: sync.last_page,
    }
}

fn gaps(id: u64, segment: &SegmentTable, now: Timestamp) -> Vec<page::MissingPagesView> {
    let gap = |gap: &crate::state::SyncGap| page::MissingPagesView {
        segment: id,
        name: segment.name.clone(),
        missing: gap.missing_count(),
        pages: u64::from(gap.pages),
        at: gap.at.parse().unwrap_or(now),
    };
    segment.gaps.iter().map(gap).collect()
}
