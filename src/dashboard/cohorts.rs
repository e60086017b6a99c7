//! The cohorts section: those that need attention first, the others in the order of the config.

use super::alerts::{anchor, stale_reason};
use super::format::{age, count, due, elapsed, plural, time};
use super::html::Html;
use super::plot::plot;
use super::view::{
    BlockedView, CohortStateView, CohortView, DashboardView, NextStep, OrphanedView, PlanView, RemedyView,
    SourceView,
};
use crate::model::{reason_words, timestamp_text};

/// The labels of states, in the order of the summary.
pub(super) const LABELS: [&str; 8] = [
    "needs approval",
    "needs a decision",
    "failing",
    "stale",
    "waiting for Heap",
    "updating",
    "new",
    "in sync",
];

/// The label of a state.
pub(super) fn label(state: &CohortStateView) -> &'static str {
    match state {
        CohortStateView::Blocked { approve_command: Some(_), .. } => LABELS[0],
        CohortStateView::Blocked { approve_command: None, .. } => LABELS[1],
        CohortStateView::Failing { .. } => LABELS[2],
        CohortStateView::Stale { .. } => LABELS[3],
        CohortStateView::WaitingForHeap { .. } => LABELS[4],
        CohortStateView::Updating { .. } => LABELS[5],
        CohortStateView::New => LABELS[6],
        CohortStateView::InSync => LABELS[7],
    }
}

/// The CSS class of a state, and a sign that does not depend on color.
fn appearance(state: &CohortStateView) -> (&'static str, &'static str) {
    match state {
        CohortStateView::InSync => ("state good", "✓"),
        CohortStateView::Blocked { .. } => ("state blocked", "!"),
        CohortStateView::Failing { .. } => ("state failing", "✕"),
        CohortStateView::Stale { .. } => ("state blocked", "!"),
        CohortStateView::WaitingForHeap { .. } | CohortStateView::New => ("state idle", "…"),
        CohortStateView::Updating { .. } => ("state idle", "→"),
    }
}

/// The position of a state in the list.
fn rank(state: &CohortStateView) -> u8 {
    match state {
        CohortStateView::Blocked { .. }
        | CohortStateView::Stale { .. }
        | CohortStateView::Failing { next: NextStep::NeedsOperator, .. } => 0,
        CohortStateView::Failing { .. } => 1,
        CohortStateView::WaitingForHeap { .. } | CohortStateView::Updating { .. } | CohortStateView::New => 2,
        CohortStateView::InSync => 3,
    }
}

pub(super) fn section(html: &mut Html, view: &DashboardView) {
    html.node("section", &[("aria-labelledby", "cohorts")], |html| {
        html.leaf("h2", &[("id", "cohorts")], "Cohorts");
        if view.cohorts.is_empty() {
            let hint = "No cohorts yet. Declare one under `cohorts:` in the config.";
            html.node("p", &[("class", "empty")], |html| html.prose(hint));
        }
        let mut sorted: Vec<&CohortView> = view.cohorts.iter().collect();
        sorted.sort_by_key(|cohort| rank(&cohort.state));
        for cohort in sorted {
            card(html, view, cohort);
        }
        orphaned(html, &view.orphaned);
    });
    html.newline();
}

fn card(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("article", &[("class", "cohort"), ("id", &anchor(cohort))], |html| {
        html.node("div", &[("class", "who")], |html| {
            html.node("h3", &[], |html| html.name(&cohort.name));
            html.node("p", &[], |html| source(html, cohort));
            html.leaf("p", &[], &format!("to Braze ({})", cohort.connection));
        });
        html.node("div", &[("class", "how")], |html| {
            let (class, sign) = appearance(&cohort.state);
            html.node("p", &[("class", class)], |html| {
                html.leaf("span", &[("aria-hidden", "true")], sign);
                html.text(label(&cohort.state));
            });
            when(html, view, cohort);
        });
        html.node("p", &[("class", "members")], |html| members(html, cohort));
        plot(html, cohort.id.as_str(), &cohort.name, &cohort.sizes, view.now);
        problem(html, view, cohort);
        details(html, view, cohort);
    });
    html.newline();
}

fn source(html: &mut Html, cohort: &CohortView) {
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

fn members(html: &mut Html, cohort: &CohortView) {
    match cohort.members {
        Some(number) => {
            html.leaf("b", &[], &count(number));
            html.leaf("span", &[], if number == 1 { " member" } else { " members" });
        }
        None => html.leaf("span", &[], "size unknown"),
    }
}

fn when(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
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
fn problem(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    match &cohort.state {
        CohortStateView::InSync | CohortStateView::New => {}
        CohortStateView::Updating { since } => note(html, |html| {
            html.text("A run is in progress, started ");
            age(html, *since, view.now);
            html.text(".");
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
    match next {
        NextStep::Retry { at: Some(at) } => {
            html.text("next attempt ");
            time(html, at, &due(at, view.now));
            html.text(".");
        }
        NextStep::Retry { at: None } => html.text("it is retried."),
        NextStep::NeedsOperator => html.text("it needs attention."),
    }
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
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn details(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    let rejected: u64 = cohort.rejects.values().sum();
    html.node("details", &[], |html| {
        html.node("summary", &[], |html| {
            html.text(&cohort.plan.as_ref().map_or_else(|| "Not planned yet".to_owned(), in_short));
            if rejected > 0 {
                html.text(" · ");
                html.leaf("span", &[("class", "warn")], &format!("{} rejected", plural(rejected, "row")));
            }
        });
        html.node("dl", &[], |html| {
            entry(html, "Id", |html| html.leaf("code", &[], cohort.id.as_str()));
            entry(html, "Declared at", |html| html.leaf("code", &[], &cohort.declared_at));
            if let Some(plan) = &cohort.plan {
                entry(html, "Last plan", |html| in_full(html, view, plan));
            }
            if cohort.in_doubt > 0 {
                let text = format!("{}; the next run settles them", plural(cohort.in_doubt, "member"));
                entry(html, "In doubt", |html| html.text(&text));
            }
            if cohort.rejected > 0 {
                entry(html, "Rejected by Braze", |html| html.text(&plural(cohort.rejected, "identifier")));
            }
            if rejected > 0 {
                entry(html, "Rejected rows", |html| rejects(html, cohort));
            }
        });
    });
}

fn entry(html: &mut Html, term: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("div", &[], |html| {
        html.leaf("dt", &[], term);
        html.node("dd", &[], inside);
    });
}

fn in_short(plan: &PlanView) -> String {
    match (plan.adds, plan.removes) {
        (0, 0) => "No changes in the last plan".to_owned(),
        (adds, removes) => format!("Last plan: +{} −{}", count(adds), count(removes)),
    }
}

fn in_full(html: &mut Html, view: &DashboardView, plan: &PlanView) {
    html.text(&format!(
        "{} to add, {} to remove, {} unchanged; {}, made ",
        count(plan.adds),
        count(plan.removes),
        count(plan.unchanged),
        plural(plan.requests, "request"),
    ));
    age(html, plan.at, view.now);
}

fn rejects(html: &mut Html, cohort: &CohortView) {
    html.node("ul", &[], |html| {
        for (reason, number) in &cohort.rejects {
            html.node("li", &[], |html| {
                html.text(&count(*number));
                html.text(" ");
                html.leaf("span", &[("title", reason)], &reason_words(reason, *number));
            });
        }
    });
    if let Some(file) = &cohort.rejects_file {
        html.text("All rejects are in ");
        html.leaf("code", &[], file);
    }
}

fn orphaned(html: &mut Html, cohorts: &[OrphanedView]) {
    if cohorts.is_empty() {
        return;
    }
    html.node("article", &[("class", "box")], |html| {
        html.leaf("h3", &[], "Orphaned");
        let hint = "These cohorts left the config. Their members stay in Braze; list a cohort under `removed:` to remove them.";
        html.node("p", &[], |html| html.prose(hint));
        html.node("ul", &[], |html| {
            for cohort in cohorts {
                let size = cohort.members.map(|number| plural(number, "member"));
                html.node("li", &[], |html| {
                    html.leaf("code", &[], cohort.id.as_str());
                    if let Some(name) = &cohort.name {
                        html.text(" ");
                        html.name(name);
                    }
                    html.text(&format!(": {}", size.as_deref().unwrap_or("size unknown")));
                });
            }
        });
    });
}
