//! The tables of the page: exports, segments in Braze, and the history of runs.

use super::format::{age, ago, count, planned_text, result_text, time};
use super::html::Html;
use super::view::{DashboardView, ExportView, HistoryView, NextStep, SegmentCheckView, SegmentVerdictView};
use crate::model::duration_words;

fn table(
    html: &mut Html,
    id: &'static str,
    title: &'static str,
    columns: &[&'static str],
    body: impl FnOnce(&mut Html),
) {
    html.node("section", &[("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], title);
        rows(html, id, columns, body);
    });
    html.newline();
}

/// A table below the heading with this id.
pub(super) fn rows(
    html: &mut Html,
    id: &'static str,
    columns: &[&'static str],
    body: impl FnOnce(&mut Html),
) {
    html.node("table", &[("class", id), ("aria-labelledby", id)], |html| {
        html.node("thead", &[], |html| {
            html.node("tr", &[], |html| {
                columns.iter().for_each(|column| html.leaf("th", &[("scope", "col")], column));
            });
        });
        html.node("tbody", &[], body);
    });
}

/// A cell with the name of its column, for narrow screens without columns.
pub(super) fn cell(html: &mut Html, column: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("td", &[("data-column", column)], inside);
}

/// A cell with numbers or a time, which stays on one line.
pub(super) fn number(html: &mut Html, column: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("td", &[("class", "number"), ("data-column", column)], inside);
}

/// The first cell of a row, which names it.
pub(super) fn head(html: &mut Html, inside: impl FnOnce(&mut Html)) {
    html.node("th", &[("scope", "row")], inside);
}

pub(super) fn exports(html: &mut Html, view: &DashboardView) {
    if view.exports.is_empty() {
        return;
    }
    let columns = ["Export", "From", "Lag", "Events in Heap", "Last success", "State"];
    table(html, "exports", "Exports to Heap", &columns, |html| {
        view.exports.iter().for_each(|export| export_row(html, view, export));
    });
}

fn export_row(html: &mut Html, view: &DashboardView, export: &ExportView) {
    html.node("tr", &[], |html| {
        head(html, |html| html.name(&export.id));
        cell(html, "From", |html| match &export.url {
            Some(url) => html.leaf("code", &[], url),
            None => html.text(&export.source),
        });
        number(html, "Lag", |html| match export.lag {
            Some(lag) if lag.is_zero() => html.text("none"),
            Some(lag) => html.text(&duration_words(lag)),
            None => html.text("unknown"),
        });
        number(html, "Events in Heap", |html| html.text(&count(export.events)));
        number(html, "Last success", |html| match export.last_success {
            Some(last) => age(html, last, view.now),
            None => html.text("none yet"),
        });
        cell(html, "State", |html| match &export.failure {
            None => html.text("✓ running"),
            Some(failure) => {
                html.text(match failure.next {
                    NextStep::Retry { .. } => "✕ failing, retried: ",
                    NextStep::NeedsOperator { .. } => "✕ failing, needs attention: ",
                });
                html.prose(&failure.reason);
            }
        });
    });
}

pub(super) fn segments(html: &mut Html, view: &DashboardView) {
    if view.segments.is_empty() {
        return;
    }
    let columns = ["Segment", "Verdict", "Findings", "Checked"];
    table(html, "segments", "Segments in Braze", &columns, |html| {
        view.segments.iter().for_each(|segment| segment_row(html, view, segment));
    });
}

fn segment_row(html: &mut Html, view: &DashboardView, segment: &SegmentCheckView) {
    html.node("tr", &[], |html| {
        head(html, |html| html.name(&segment.name));
        cell(html, "Verdict", |html| {
            html.text(match segment.verdict {
                SegmentVerdictView::InSync => "✓ in sync",
                SegmentVerdictView::Drifted => "✕ drifted",
                SegmentVerdictView::Unknown => "? unknown",
            });
        });
        cell(html, "Findings", |html| html.prose(&segment.findings.join("; ")));
        number(html, "Checked", |html| age(html, segment.checked, view.now));
    });
}

pub(super) fn history(html: &mut Html, view: &DashboardView) {
    if view.history.is_empty() {
        html.node("section", &[("aria-labelledby", "history")], |html| {
            html.leaf("h2", &[("id", "history")], "History");
            html.leaf("p", &[("class", "empty")], "No runs yet.");
        });
        return;
    }
    html.node("section", &[("aria-labelledby", "history")], |html| {
        html.leaf("h2", &[("id", "history")], "History");
        run_rows(html, view, "history", &view.history, true);
    });
    html.newline();
}

/// A table of runs, of all cohorts or of one.
pub(super) fn run_rows(
    html: &mut Html,
    view: &DashboardView,
    id: &'static str,
    runs: &[HistoryView],
    of_all: bool,
) {
    let columns = ["When", "Cohort", "Plan", "Added", "Removed", "Result"];
    let columns: Vec<&str> = columns.into_iter().filter(|column| of_all || *column != "Cohort").collect();
    rows(html, id, &columns, |html| {
        runs.iter().for_each(|run| run_row(html, view, run, of_all));
    });
}

fn run_row(html: &mut Html, view: &DashboardView, run: &HistoryView, of_all: bool) {
    html.node("tr", &[("title", run.run.as_str())], |html| {
        head(html, |html| {
            time(html, run.at, &run.at.strftime("%-d %b %Y, %H:%M UTC").to_string());
            html.text(", ");
            html.text(&ago(run.at, view.now));
        });
        if of_all {
            cell(html, "Cohort", |html| match &run.cohort {
                Some(id) => {
                    let name =
                        view.cohorts.iter().find(|cohort| cohort.id == *id).map(|cohort| &*cohort.name);
                    html.name(name.unwrap_or(id.as_str()));
                }
                None => html.text("all"),
            });
        }
        number(html, "Plan", |html| match run.planned {
            Some(plan) => html.text(&planned_text(plan).unwrap_or_else(|| "no changes".to_owned())),
            None => html.text("none"),
        });
        number(html, "Added", |html| html.text(&format!("+{}", count(run.added))));
        number(html, "Removed", |html| html.text(&format!("−{}", count(run.removed))));
        cell(html, "Result", |html| {
            html.text(result_text(&run.result));
            if let Some(error) = &run.error {
                html.text(": ");
                html.prose(error);
            }
        });
    });
}

/// Requests that webhook endpoints rejected, by endpoint and reason.
pub(super) fn rejected_requests(html: &mut Html, view: &DashboardView) {
    if view.rejected_requests.is_empty() {
        return;
    }
    let columns = ["Endpoint", "Reason", "Number", "Last", "Likely cause"];
    table(html, "rejected-requests", "Rejected deliveries", &columns, |html| {
        for rejected in &view.rejected_requests {
            html.node("tr", &[], |html| {
                head(html, |html| match &rejected.endpoint {
                    Some(endpoint) => html.name(endpoint),
                    None => html.text("unknown path"),
                });
                cell(html, "Reason", |html| {
                    html.prose(&format!("{} ({})", rejected.reason, rejected.status));
                });
                number(html, "Number", |html| html.text(&count(rejected.number)));
                cell(html, "Last", |html| {
                    age(html, rejected.last, view.now);
                    if rejected.accepted_since {
                        html.text("; a later delivery was accepted");
                    }
                });
                cell(html, "Likely cause", |html| html.prose(rejected.likely_cause.unwrap_or_default()));
            });
        }
    });
}
