//! The board as the dashboard shows it. Nothing is looked up here.

use std::time::Duration;

use super::on_done::lasted;
use super::schedule;
use super::status::{
    CohortStatus, ConditionStatus, ExportStatus, HeapStatus, ProcessRole, StatusInner, WatchStatus,
};
use crate::config::{self, BrazeObject, SourceConfig};
use crate::dashboard as page;
use crate::model::{CohortId, ConnectionName, ExportId, Timestamp};
use crate::state::{CheckLevel, CheckVerdict, SegmentCheck, SegmentSync, SegmentTable};

/// What the page shows now.
pub(super) fn board(board: &WatchStatus, refresh_seconds: Option<u32>) -> page::DashboardView {
    let now = board.clock.now();
    let inner = board.lock();
    let since = inner.role_since;
    let role = match &inner.role {
        ProcessRole::StandingBy(holder) => page::RoleView::StandingBy { since, holder: Some(holder.clone()) },
        ProcessRole::Starting | ProcessRole::Leading | ProcessRole::Stopping => {
            page::RoleView::Leading { since }
        }
    };
    let in_order = inner.order.iter().filter_map(|id| Some((id, inner.cohorts.get(id)?)));
    page::DashboardView {
        now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: inner.started,
        role,
        config: page::ConfigView {
            digest: inner.config_digest.clone(),
            loaded: inner.config_loaded,
            ignored: inner.config_error.as_ref().map(|(since, text)| page::IgnoredConfigView {
                since: *since,
                problems: text.lines().filter(|line| line.contains(" [")).count().max(1) as u64,
                text: text.clone(),
            }),
        },
        cohorts: in_order.filter_map(|(id, status)| cohort(id, status, &inner)).collect(),
        orphaned: inner.orphaned.iter().map(orphaned).collect(),
        inboxes: inner.heaps.iter().map(|(name, heap)| inbox(name, heap, &inner, now)).collect(),
        exports: inner.exports.iter().map(|(id, status)| export(id, status, now)).collect(),
        segments: inner.segments.iter().filter_map(segment).collect(),
        history: inner.runs.iter().cloned().collect(),
        refresh_seconds,
    }
}

/// One that was not checked yet is not shown.
fn segment(
    (segment, check): &(config::SegmentConfig, Option<SegmentCheck>),
) -> Option<page::SegmentCheckView> {
    let check = check.as_ref()?;
    let name = match &segment.named {
        BrazeObject::Name(name) => name.clone(),
        BrazeObject::Id(id) => check.segment.as_ref().map_or_else(|| id.clone(), |seen| seen.name.clone()),
    };
    let why = check.findings.iter().filter(|finding| finding.level > CheckLevel::Note);
    Some(page::SegmentCheckView {
        id: segment.id.to_string(),
        name,
        verdict: match check.verdict {
            CheckVerdict::InSync => page::SegmentVerdictView::InSync,
            CheckVerdict::Drifted => page::SegmentVerdictView::Drifted,
            CheckVerdict::Unknown => page::SegmentVerdictView::Unknown,
        },
        why: why.map(|finding| finding.text.clone()).collect(),
        checked: check.at.0,
    })
}

fn orphaned(left: &crate::reconcile::OrphanedCohort) -> page::OrphanedView {
    page::OrphanedView { id: left.id.clone(), name: left.name.clone(), members: left.members }
}

fn cohort(id: &CohortId, status: &CohortStatus, inner: &StatusInner) -> Option<page::CohortView> {
    // What is to be emptied is told by the runs that empty it.
    let declared = status.declared.as_deref()?;
    Some(page::CohortView {
        id: id.clone(),
        name: declared.name.clone(),
        connection: declared.to.clone(),
        declared_at: declared.declared_at.clone(),
        source: source(&declared.source, inner),
        members: status.members,
        sizes: status
            .sizes
            .iter()
            .map(|(at, members)| page::SizePoint { at: *at, members: *members })
            .collect(),
        state: state(status, inner),
        last_good: status.last_good,
        next_look: status.next_look,
        plan: status.last_plan,
        rejects: status.rejects.clone(),
        rejects_file: status.rejects_file.clone(),
        in_doubt: status.in_doubt,
        uncertain_until: status.uncertain_until,
        refused: status.refused,
    })
}

fn source(source: &SourceConfig, inner: &StatusInner) -> page::SourceView {
    match source {
        SourceConfig::File(file) => page::SourceView::Files { pattern: file.pattern.clone() },
        SourceConfig::HeapConnect(source) => {
            page::SourceView::Files { pattern: format!("{}, table {}", source.place.path, source.table) }
        }
        SourceConfig::DumpQuery(query) => {
            let (path, tables) = (&query.place.path, query.tables.join(", "));
            page::SourceView::Files { pattern: format!("{path}, a query over {tables}") }
        }
        SourceConfig::Sql(sql) => page::SourceView::Query { connection: sql.connection.clone() },
        SourceConfig::HeapSegment(told) => {
            let known = inner.heaps.get(&told.connection);
            let segment = known.and_then(|heap| heap.told.by_id.get(&told.segment));
            page::SourceView::HeapSegment {
                connection: told.connection.clone(),
                segment: told.segment,
                name: segment.map(|segment| segment.name.clone()),
            }
        }
    }
}

fn state(status: &CohortStatus, inner: &StatusInner) -> page::CohortStateView {
    let since = status.since;
    if status.busy.is_some() {
        return page::CohortStateView::Updating { since };
    }
    match &status.condition {
        ConditionStatus::New => page::CohortStateView::New,
        ConditionStatus::Waiting(why) => page::CohortStateView::WaitingForHeap { why: Some(why.clone()) },
        ConditionStatus::Refused(refused) => page::CohortStateView::Withheld {
            since,
            refusals: refused.withheld.clone(),
            approve: refused.approve.clone(),
        },
        ConditionStatus::Failing(failing) => page::CohortStateView::Failing {
            since,
            why: failing.why.clone(),
            then: match failing.needs_person {
                true => page::NextStep::NeedsPerson,
                false => page::NextStep::TriedAgain { at: status.next_look },
            },
            ways_out: failing.ways_out.clone(),
        },
        ConditionStatus::InSync if status.is_stale => {
            page::CohortStateView::Stale { after: inner.stale_after }
        }
        ConditionStatus::InSync => page::CohortStateView::InSync,
    }
}

fn export(id: &ExportId, status: &ExportStatus, now: Timestamp) -> page::ExportView {
    let lag =
        status.waiting_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    page::ExportView {
        id: id.to_string(),
        source: status.source.clone(),
        lag: lag.or(Some(Duration::ZERO)),
        events: status.events,
        last_good: status.last_good,
        trouble: trouble(status, now),
    }
}

fn trouble(status: &ExportStatus, now: Timestamp) -> Option<page::ExportFailureView> {
    let stale = || {
        let since = status.last_good.unwrap_or(status.known_since);
        format!("no good run for {}", lasted(schedule::until(now, since)))
    };
    let why = status.trouble.clone().or_else(|| status.is_stale.then(stale))?;
    let then = match status.needs_person {
        true => page::NextStep::NeedsPerson,
        false => page::NextStep::TriedAgain { at: status.next_look },
    };
    Some(page::ExportFailureView { why, then })
}

fn inbox(name: &ConnectionName, heap: &HeapStatus, inner: &StatusInner, now: Timestamp) -> page::InboxView {
    let segments = || heap.told.by_id.iter();
    let is_used = |id: u64| {
        inner
            .cohorts
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
        bytes: heap.waiting_bytes,
        waiting_since: heap.waiting_since,
        last_delivery: segments().map(|(_, segment)| segment.delivered_at).max(),
        put_aside: heap.told.invalid,
        missing: missing.collect(),
        gaps: segments().flat_map(|(id, segment)| gaps(*id, segment, now)).collect(),
        undeclared: undeclared
            .map(|(id, segment)| page::UndeclaredSegmentView {
                segment: *id,
                name: segment.name.clone(),
                delivered_at: segment.delivered_at,
            })
            .collect(),
    }
}

fn missing(id: u64, segment: &SegmentTable, sync: &SegmentSync) -> page::MissingPagesView {
    page::MissingPagesView {
        segment: id,
        name: segment.name.clone(),
        missing: sync.missing().len() as u64,
        pages: u64::from(sync.pages),
        at: sync.last_page,
    }
}

fn gaps(id: u64, segment: &SegmentTable, now: Timestamp) -> Vec<page::MissingPagesView> {
    let gap = |gap: &crate::state::SyncGap| page::MissingPagesView {
        segment: id,
        name: segment.name.clone(),
        missing: gap.missing.len() as u64,
        pages: u64::from(gap.pages),
        at: gap.at.parse().unwrap_or(now),
    };
    segment.gaps.iter().map(gap).collect()
}
