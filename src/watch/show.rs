//! The board as the dashboard shows it. Nothing is looked up here.

use std::time::Duration;

use super::board::{Board, CohortStatus, Condition, ExportStatus, HeapStatus, Inner, Role};
use super::outcome::lasted;
use super::schedule;
use crate::config::{self, Named, Source};
use crate::dashboard as page;
use crate::model::{CohortId, ConnectionName, ExportId, Timestamp};
use crate::state::{Check, CheckVerdict, Level, Segment, Sync};

/// What the page shows now.
pub(super) fn board(board: &Board, refresh_seconds: Option<u32>) -> page::Board {
    let now = board.clock.now();
    let inner = board.lock();
    let since = inner.role_since;
    let role = match &inner.role {
        Role::StandingBy(holder) => page::Role::StandingBy { since, holder: Some(holder.clone()) },
        Role::Starting | Role::Leading | Role::Stopping => page::Role::Leading { since },
    };
    let in_order = inner.order.iter().filter_map(|id| Some((id, inner.cohorts.get(id)?)));
    page::Board {
        now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: inner.started,
        role,
        config: page::Config {
            digest: inner.config_digest.clone(),
            loaded: inner.config_loaded,
            ignored: inner.config_error.as_ref().map(|(since, text)| page::IgnoredConfig {
                since: *since,
                problems: text.lines().filter(|line| line.contains(" [")).count().max(1) as u64,
                text: text.clone(),
            }),
        },
        cohorts: in_order.filter_map(|(id, status)| cohort(id, status, &inner)).collect(),
        left_behind: inner.left_behind.iter().map(left_behind).collect(),
        inboxes: inner.heaps.iter().map(|(name, heap)| inbox(name, heap, &inner, now)).collect(),
        exports: inner.exports.iter().map(|(id, status)| export(id, status, now)).collect(),
        segments: inner.segments.iter().filter_map(segment).collect(),
        history: inner.passes.iter().cloned().collect(),
        refresh_seconds,
    }
}

/// One that was not checked yet is not shown.
fn segment((segment, check): &(config::Segment, Option<Check>)) -> Option<page::SegmentCheck> {
    let check = check.as_ref()?;
    let name = match &segment.named {
        Named::Name(name) => name.clone(),
        Named::Id(id) => check.segment.as_ref().map_or_else(|| id.clone(), |seen| seen.name.clone()),
    };
    let why = check.findings.iter().filter(|finding| finding.level > Level::Note);
    Some(page::SegmentCheck {
        id: segment.id.to_string(),
        name,
        verdict: match check.verdict {
            CheckVerdict::InStep => page::Verdict::InStep,
            CheckVerdict::Drifted => page::Verdict::Drifted,
            CheckVerdict::Unknown => page::Verdict::Unknown,
        },
        why: why.map(|finding| finding.text.clone()).collect(),
        checked: check.at.0,
    })
}

fn left_behind(left: &crate::reconcile::LeftBehind) -> page::LeftBehind {
    page::LeftBehind { id: left.id.clone(), name: left.name.clone(), members: left.members }
}

fn cohort(id: &CohortId, status: &CohortStatus, inner: &Inner) -> Option<page::Cohort> {
    // What is to be emptied is told by the passes that empty it.
    let declared = status.declared.as_deref()?;
    Some(page::Cohort {
        id: id.clone(),
        name: declared.name.clone(),
        connection: declared.to.clone(),
        declared_at: declared.declared_at.clone(),
        source: source(&declared.source, inner),
        members: status.members,
        sizes: status.sizes.iter().map(|(at, members)| page::Size { at: *at, members: *members }).collect(),
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

fn source(source: &Source, inner: &Inner) -> page::Source {
    match source {
        Source::File(file) => page::Source::Files { pattern: file.pattern.clone() },
        Source::HeapConnect(source) => {
            page::Source::Files { pattern: format!("{}, table {}", source.place.path, source.table) }
        }
        Source::DumpQuery(query) => {
            let (path, tables) = (&query.place.path, query.tables.join(", "));
            page::Source::Files { pattern: format!("{path}, a query over {tables}") }
        }
        Source::Sql(sql) => page::Source::Query { connection: sql.connection.clone() },
        Source::HeapSegment(told) => {
            let known = inner.heaps.get(&told.connection);
            let segment = known.and_then(|heap| heap.told.by_id.get(&told.segment));
            page::Source::HeapSegment {
                connection: told.connection.clone(),
                segment: told.segment,
                name: segment.map(|segment| segment.name.clone()),
            }
        }
    }
}

fn state(status: &CohortStatus, inner: &Inner) -> page::State {
    let since = status.since;
    if status.busy.is_some() {
        return page::State::Updating { since };
    }
    match &status.condition {
        Condition::New => page::State::New,
        Condition::Waiting(why) => page::State::WaitingForHeap { why: Some(why.clone()) },
        Condition::Refused(refused) => page::State::Withheld {
            since,
            refusals: refused.withheld.clone(),
            approve: refused.approve.clone(),
        },
        Condition::Failing(failing) => page::State::Failing {
            since,
            why: failing.why.clone(),
            then: match failing.needs_person {
                true => page::Then::NeedsPerson,
                false => page::Then::TriedAgain { at: status.next_look },
            },
            ways_out: failing.ways_out.clone(),
        },
        Condition::InStep if status.is_stale => page::State::Stale { after: inner.stale_after },
        Condition::InStep => page::State::InStep,
    }
}

fn export(id: &ExportId, status: &ExportStatus, now: Timestamp) -> page::Export {
    let lag =
        status.waiting_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    page::Export {
        id: id.to_string(),
        source: status.source.clone(),
        lag: lag.or(Some(Duration::ZERO)),
        events: status.events,
        last_good: status.last_good,
        trouble: trouble(status, now),
    }
}

fn trouble(status: &ExportStatus, now: Timestamp) -> Option<page::Trouble> {
    let stale = || {
        let since = status.last_good.unwrap_or(status.known_since);
        format!("no good run for {}", lasted(schedule::until(now, since)))
    };
    let why = status.trouble.clone().or_else(|| status.is_stale.then(stale))?;
    let then = match status.needs_person {
        true => page::Then::NeedsPerson,
        false => page::Then::TriedAgain { at: status.next_look },
    };
    Some(page::Trouble { why, then })
}

fn inbox(name: &ConnectionName, heap: &HeapStatus, inner: &Inner, now: Timestamp) -> page::Inbox {
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
    page::Inbox {
        connection: name.clone(),
        bytes: heap.waiting_bytes,
        waiting_since: heap.waiting_since,
        last_delivery: segments().map(|(_, segment)| segment.told_at).max(),
        put_aside: heap.told.put_aside,
        missing: missing.collect(),
        gaps: segments().flat_map(|(id, segment)| gaps(*id, segment, now)).collect(),
        undeclared: undeclared
            .map(|(id, segment)| page::UndeclaredSegment {
                segment: *id,
                name: segment.name.clone(),
                told_at: segment.told_at,
            })
            .collect(),
    }
}

fn missing(id: u64, segment: &Segment, sync: &Sync) -> page::MissingPages {
    page::MissingPages {
        segment: id,
        name: segment.name.clone(),
        missing: sync.missing().len() as u64,
        pages: u64::from(sync.pages),
        at: sync.last_page,
    }
}

fn gaps(id: u64, segment: &Segment, now: Timestamp) -> Vec<page::MissingPages> {
    let gap = |gap: &crate::state::Gap| page::MissingPages {
        segment: id,
        name: segment.name.clone(),
        missing: gap.missing.len() as u64,
        pages: u64::from(gap.pages),
        at: gap.at.parse().unwrap_or(now),
    };
    segment.gaps.iter().map(gap).collect()
}
