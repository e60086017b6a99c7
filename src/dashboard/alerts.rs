//! Alerts: conditions that differ from normal operation, those that need attention first.

use super::format::{count, counted, counted_as};
use super::listing::address;
use super::view::{
    CohortStateView, CohortView, DashboardView, InboxView, MissingPagesView, NextStep, RejectedRequestsView,
    RoleView, SegmentVerdictView,
};
use crate::model::duration_words;

/// An alert of rejected deliveries ends after this time without another one, in seconds.
const REJECTED_SHOWN: i64 = 24 * 60 * 60;

/// Whether an operator must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertLevel {
    /// An operator must act.
    NeedsAttention,
    /// A retry or a later delivery may end it.
    Temporary,
}

/// One alert.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) level: AlertLevel,
    /// The address of the details.
    pub(super) href: String,
    /// The cohort, export, segment or config.
    pub(super) subject: String,
    pub(super) text: String,
}

/// All alerts of the page.
pub(super) fn find(view: &DashboardView) -> Vec<Alert> {
    let mut all: Vec<Alert> = Vec::new();
    if let Some(invalid) = &view.config.invalid {
        let text = format!("the new config has {} and is not in use", counted(invalid.problems, "problem"));
        all.push(alert(AlertLevel::NeedsAttention, "config", "Config", text));
    }
    for cohort in &view.cohorts {
        if let Some((level, text)) = of_cohort(view, cohort) {
            let (href, subject) = (address(&view.query, cohort), cohort.name.clone());
            all.push(Alert { level, href, subject, text });
        }
    }
    view.inboxes.iter().for_each(|inbox| add_inbox_alerts(inbox, &mut all));
    all.extend(view.rejected_requests.iter().filter_map(|rejected| rejected_alert(view, rejected)));
    for export in &view.exports {
        if let Some(failure) = &export.failure {
            all.push(alert(level(failure.next), "exports", &export.id, failure.reason.clone()));
        }
    }
    for segment in view.segments.iter().filter(|segment| segment.verdict == SegmentVerdictView::Drifted) {
        let text = format!("the segment in Braze has drifted: {}", segment.findings.join("; "));
        all.push(alert(AlertLevel::NeedsAttention, "segments", &segment.name, text));
    }
    all.sort_by_key(|alert| alert.level);
    all
}

/// An alert with its details on the same page.
fn alert(level: AlertLevel, anchor: &str, subject: &str, text: String) -> Alert {
    Alert { level, href: format!("#{anchor}"), subject: subject.to_owned(), text }
}

fn level(next: NextStep) -> AlertLevel {
    match next {
        NextStep::Retry { .. } => AlertLevel::Temporary,
        NextStep::NeedsOperator { .. } => AlertLevel::NeedsAttention,
    }
}

/// The alert of a cohort: its level and its text.
pub(super) fn of_cohort(view: &DashboardView, cohort: &CohortView) -> Option<(AlertLevel, String)> {
    Some(match &cohort.state {
        CohortStateView::InSync
        | CohortStateView::New
        | CohortStateView::Updating { .. }
        | CohortStateView::Stopped { .. } => return None,
        CohortStateView::WaitingForHeap { .. } => {
            (AlertLevel::Temporary, "waiting for Heap’s first sync".to_owned())
        }
        CohortStateView::Blocked { blocks, .. } => {
            let blocks = blocks.iter().map(ToString::to_string);
            (AlertLevel::NeedsAttention, blocks.collect::<Vec<_>>().join("; "))
        }
        CohortStateView::BlockedInRecord { reason, .. } => (AlertLevel::NeedsAttention, reason.clone()),
        CohortStateView::Failing { reason, next, .. } => (level(*next), reason.clone()),
        CohortStateView::Stale { after } => (AlertLevel::NeedsAttention, stale_reason(view, cohort, *after)),
    })
}

/// An endpoint that rejects deliveries of its sender and has accepted none since needs attention. Other rejected requests
/// may come from anywhere.
fn rejected_alert(view: &DashboardView, rejected: &RejectedRequestsView) -> Option<Alert> {
    let endpoint = rejected.endpoint.as_deref()?;
    let cause = rejected.likely_cause?;
    if rejected.accepted_since || view.now.duration_since(rejected.last).as_secs() > REJECTED_SHOWN {
        return None;
    }
    let number = counted_as(rejected.number, "delivery was", "deliveries were");
    let text = format!("{number} rejected, and none is accepted since: {}; {cause}", rejected.reason);
    Some(alert(AlertLevel::NeedsAttention, "rejected-requests", endpoint, text))
}

/// Why a cohort is stale.
pub(super) fn stale_reason(view: &DashboardView, cohort: &CohortView, after: std::time::Duration) -> String {
    let limit = duration_words(after);
    match cohort.last_success {
        Some(last) => {
            let age = duration_words(view.now.duration_since(last).unsigned_abs());
            format!("no successful run for {age}; the limit is {limit}")
        }
        None => format!("no successful run so far; the limit is {limit}"),
    }
}

fn add_inbox_alerts(inbox: &InboxView, all: &mut Vec<Alert>) {
    let subject = |pages: &MissingPagesView| format!("{} ({})", pages.name, pages.segment);
    let number = |pages: &MissingPagesView| {
        format!("{} of {}", count(pages.missing), counted_as(pages.pages, "page", "pages"))
    };
    for gap in &inbox.gaps {
        let text = format!(
            "{} of a Heap sync never arrived, so the segment may be incomplete; sync it again in Heap",
            number(gap)
        );
        all.push(alert(AlertLevel::NeedsAttention, "heap", &subject(gap), text));
    }
    for pages in &inbox.missing {
        let text =
            format!("{} of a Heap sync have not arrived yet; no member is removed until then", number(pages));
        all.push(alert(AlertLevel::Temporary, "heap", &subject(pages), text));
    }
}

/// The overall status in a few words.
pub(super) fn headline(view: &DashboardView, alerts: &[Alert]) -> String {
    let attention = alerts.iter().filter(|alert| alert.level == AlertLevel::NeedsAttention).count() as u64;
    let temporary = alerts.len() as u64 - attention;
    match (attention, temporary) {
        (0, _) if matches!(view.role, RoleView::Standby { .. }) => "Standby".to_owned(),
        (0, 0) if view.cohorts.is_empty() => "No cohorts yet".to_owned(),
        (0, 0) if view.cohorts.iter().all(|cohort| matches!(cohort.state, CohortStateView::InSync)) => {
            "Everything is in sync".to_owned()
        }
        (0, 0) => "No alerts".to_owned(),
        (0, _) => "Nothing needs attention".to_owned(),
        (1, _) => "1 alert needs attention".to_owned(),
        (n, _) => format!("{} alerts need attention", count(n)),
    }
}
