//! Parts of a cohort that the list and the page of a cohort share: source, size, times, problem and remedies, rejects.

use super::alerts::stale_reason;
use super::format::{age, count, counted, due, elapsed, planned_text, time};
use super::html::Html;
use super::view::{
    BlockedView, CohortStateView, CohortView, DashboardView, NextStep, PlanView, PlannedView, RemedyView,
    SourceView,
};
use crate::model::{reason_words, timestamp_text};

pub(super) fn source(html: &mut Html, cohort: &CohortView) {
    match &cohort.source {
        SourceView::Files { pattern } => {
            html.text("from ");
            html.leaf("code", &[], pattern);
        }
        SourceView::Query { connection } => html.text(&format!("from a query of {connection}")),
        SourceView::HeapSegment { connection, segment, name } => {
            html.text("from Heap segment ");
            match name {
                Some(name) => {
                    html.text("“");
                    html.name(name);
                    html.text("”");
                }
                None => html.text(&segment.to_string()),
            }
            html.text(&format!(" ({connection})"));
        }
    }
}

pub(super) fn members(html: &mut Html, cohort: &CohortView) {
    match cohort.members {
        Some(number) => {
            html.leaf("b", &[], &count(number));
            html.leaf("span", &[], if number == 1 { " member" } else { " members" });
        }
        None => html.leaf("span", &[], "size unknown"),
    }
}

/// When the cohort was last in sync, and when its next run is due.
pub(super) fn when(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("p", &[], |html| match cohort.last_success {
        Some(last) => {
            html.text("last in sync ");
            age(html, last, view.now);
        }
        None => html.text("not in sync so far"),
    });
    if let Some(until) = cohort.uncertain_until {
        html.node("p", &[("class", "warn")], |html| {
            html.text("not certain until ");
            time(html, until, &timestamp_text(until));
            html.text(": Braze may still process requests without a reply");
        });
    }
    if let Some(next) = cohort.next_run {
        html.node("p", &[], |html| {
            html.text("next run ");
            time(html, next, &due(next, view.now));
        });
    }
}

/// The problem of a cohort, and its remedies.
pub(super) fn problem(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    match &cohort.state {
        CohortStateView::InSync | CohortStateView::New => {}
        CohortStateView::Updating { since } => note(html, |html| {
            html.text("A run is in progress, started ");
            age(html, *since, view.now);
            html.text(".");
        }),
        CohortStateView::Stopped { since } => note(html, |html| {
            html.text("The last run was stopped ");
            age(html, *since, view.now);
            html.text(". The next run continues.");
        }),
        CohortStateView::WaitingForHeap { reason } => note(html, |html| waiting(html, reason.as_deref())),
        CohortStateView::Stale { after } => note(html, |html| {
            html.text(&sentence(&stale_reason(view, cohort, *after)));
            html.text(". Check whether its source still receives data.");
        }),
        CohortStateView::Blocked { since, blocks, approve_command, adds_continue, removes_continue } => {
            let continues = what_continues(*adds_continue, *removes_continue);
            note(html, |html| {
                blocked(html, blocks);
                html.node("p", &[("class", "since")], |html| {
                    html.text("Blocked for ");
                    elapsed(html, *since, view.now);
                    html.text(&format!("; {continues}."));
                });
                let remedies = blocks.iter().flat_map(|block| &block.remedies);
                remedy_list(html, remedies, approve_command.as_deref());
            });
        }
        CohortStateView::BlockedInRecord { since, reason, approve_command } => note(html, |html| {
            html.node("p", &[], |html| html.prose(&format!("{}.", sentence(reason).trim_end_matches('.'))));
            html.node("p", &[("class", "since")], |html| {
                html.text("Blocked for ");
                elapsed(html, *since, view.now);
                html.text(", as recorded by the last run.");
            });
            remedy_list(html, [], approve_command.as_deref());
        }),
        CohortStateView::Failing { since, reason, next, remedies } => note(html, |html| {
            html.node("p", &[], |html| html.prose(&format!("{}.", sentence(reason).trim_end_matches('.'))));
            html.node("p", &[("class", "since")], |html| {
                html.text("Failing for ");
                elapsed(html, *since, view.now);
                html.text("; ");
                next_step(html, view, *next);
            });
            remedy_list(html, remedies, None);
        }),
    }
}

/// What a block leaves.
fn what_continues(adds: bool, removes: bool) -> &'static str {
    match (adds, removes) {
        (true, true) => "members are added and removed as before",
        (true, false) => "additions continue",
        (false, true) => "removals continue",
        (false, false) => "no member is added or removed",
    }
}

fn waiting(html: &mut Html, reason: Option<&str>) {
    html.text("Heap has not sent this segment yet. ");
    html.text("Heap sends it with its first sync to this address.");
    if let Some(reason) = reason {
        html.prose(&format!(" {}.", sentence(reason).trim_end_matches('.')));
    }
}

fn note(html: &mut Html, inside: impl FnOnce(&mut Html)) {
    html.node("div", &[("class", "note")], inside);
}

fn blocked(html: &mut Html, blocks: &[BlockedView]) {
    for block in blocks {
        html.node("p", &[], |html| {
            html.leaf("b", &[], &format!("{} blocked: ", sentence(block.side)));
            html.prose(&block.reason);
            html.text(". Code: ");
            html.leaf("code", &[], block.code);
        });
    }
}

fn next_step(html: &mut Html, view: &DashboardView, next: NextStep) {
    let (words, at) = match next {
        NextStep::Retry { at: None } => ("it is retried", None),
        NextStep::Retry { at } => ("", at),
        NextStep::NeedsOperator { at: None } => ("it needs attention", None),
        NextStep::NeedsOperator { at } => ("it needs attention; ", at),
    };
    html.text(words);
    if let Some(at) = at {
        html.text("next attempt ");
        time(html, at, &due(at, view.now));
    }
    html.text(".");
}

fn remedy_list<'a>(
    html: &mut Html,
    remedies: impl IntoIterator<Item = &'a RemedyView>,
    approve_command: Option<&str>,
) {
    let mut remedies = remedies.into_iter().peekable();
    if approve_command.is_none() && remedies.peek().is_none() {
        return;
    }
    html.node("ul", &[("class", "remedies")], |html| {
        if approve_command.is_some() {
            remedy(html, "to approve exactly this plan", approve_command);
        }
        for action in remedies {
            remedy(html, &action.text, action.command.as_deref());
        }
    });
}

fn remedy(html: &mut Html, text: &str, command: Option<&str>) {
    html.node("li", &[], |html| {
        html.prose(&sentence(text));
        if let Some(command) = command {
            html.text(": ");
            html.leaf("code", &[("class", "command")], command);
        }
    });
}

/// A text with a capital letter at its start.
pub(super) fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// The changes of the last plan: of this process, or of the last recorded run with a plan.
pub(super) fn last_change(cohort: &CohortView) -> Option<PlannedView> {
    let recorded = || cohort.runs.iter().find_map(|run| run.planned);
    cohort.plan.map(|plan| plan.changes).or_else(recorded)
}

/// The last plan in a few words.
pub(super) fn plan_in_short(cohort: &CohortView) -> String {
    match last_change(cohort) {
        None => "Not planned yet".to_owned(),
        Some(plan) => match planned_text(plan) {
            Some(changes) => format!("Last plan: {changes}"),
            None => "No changes in the last plan".to_owned(),
        },
    }
}

/// The last plan with all its numbers.
pub(super) fn plan_in_full(html: &mut Html, view: &DashboardView, plan: &PlanView) {
    let PlannedView { adds, removes, blocked_adds, blocked_removes } = plan.changes;
    let blocked = match blocked_adds + blocked_removes {
        0 => String::new(),
        _ => format!("; blocked: {} to add, {} to remove", count(blocked_adds), count(blocked_removes)),
    };
    html.text(&format!(
        "{} to add, {} to remove, {} unchanged{blocked}; {}, made ",
        count(adds),
        count(removes),
        count(plan.unchanged),
        counted(plan.requests, "request"),
    ));
    age(html, plan.at, view.now);
}

/// The number of rejected rows.
pub(super) fn rejected_rows(cohort: &CohortView) -> u64 {
    cohort.rejects.values().sum()
}

/// The reason of rejects in words, with its code as the title.
pub(super) fn reject_reason(html: &mut Html, reason: &str, number: u64) {
    html.leaf("span", &[("title", reason)], &reason_words(reason, number));
}
