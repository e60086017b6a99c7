//! Alerts: conditions that differ from normal operation, those that need attention first.

use super::format::{count, counted, duration, plural};
use super::view::{
    CohortStateView, CohortView, DashboardView, InboxView, MissingPagesView, NextStep, RoleView,
    SegmentVerdictView,
};

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
    /// The anchor of the details on the page.
    pub(super) anchor: String,
    /// The cohort, export, segment or config.
    pub(super) subject: String,
    pub(super) text: String,
}

/// All alerts of the page.
pub(super) fn find(view: &DashboardView) -> Vec<Alert> {
    let mut all: Vec<Alert> = Vec::new();
    if let Some(invalid) = &view.config.invalid {
        let text = format!("the new config has {} and is not in use", plural(invalid.problems, "problem"));
        all.push(alert(AlertLevel::NeedsAttention, "config", "Config", text));
    }
    all.extend(view.cohorts.iter().filter_map(|cohort| cohort_alert(view, cohort)));
    view.inboxes.iter().for_each(|inbox| add_inbox_alerts(inbox, &mut all));
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

fn alert(level: AlertLevel, anchor: &str, subject: &str, text: String) -> Alert {
    Alert { level, anchor: anchor.to_owned(), subject: subject.to_owned(), text }
}

fn level(next: NextStep) -> AlertLevel {
    match next {
        NextStep::Retry { .. } => AlertLevel::Temporary,
        NextStep::NeedsOperator => AlertLevel::NeedsAttention,
    }
}

/// The anchor of a cohort on the page.
pub(super) fn anchor(cohort: &CohortView) -> String {
    format!("cohort-{}", cohort.id)
}

fn cohort_alert(view: &DashboardView, cohort: &CohortView) -> Option<Alert> {
    let (level, text) = match &cohort.state {
        CohortStateView::InSync | CohortStateView::New | CohortStateView::Updating { .. } => return None,
        CohortStateView::WaitingForHeap { .. } => {
            (AlertLevel::Temporary, "waiting for Heap’s first sync".to_owned())
        }
        CohortStateView::Blocked { blocks, .. } => {
            let blocks = blocks.iter().map(ToString::to_string);
            (AlertLevel::NeedsAttention, blocks.collect::<Vec<_>>().join("; "))
        }
        CohortStateView::Failing { reason, next, .. } => (level(*next), reason.clone()),
        CohortStateView::Stale { after } => (AlertLevel::NeedsAttention, stale_reason(view, cohort, *after)),
    };
    Some(alert(level, &anchor(cohort), &cohort.name, text))
}

/// Why a cohort is stale.
pub(super) fn stale_reason(view: &DashboardView, cohort: &CohortView, after: std::time::Duration) -> String {
    let limit = duration(after);
    match cohort.last_success {
        Some(last) => {
            let age = duration(view.now.duration_since(last).unsigned_abs());
            format!("no successful run for {age}; the limit is {limit}")
        }
        None => format!("no successful run so far; the limit is {limit}"),
    }
}

fn add_inbox_alerts(inbox: &InboxView, all: &mut Vec<Alert>) {
    let subject = |pages: &MissingPagesView| format!("{} ({})", pages.name, pages.segment);
    let number = |pages: &MissingPagesView| {
        format!("{} of {}", count(pages.missing), counted(pages.pages, "page", "pages"))
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
