//! The tables of the page: exports, segments in Braze, and the history of runs.

use super::format::{age, ago, count, duration, result_text, time};
use super::html::Html;
use super::view::{DashboardView, ExportView, HistoryView, NextStep, SegmentCheckView, SegmentVerdictView};

fn table(
    html: &mut Html,
    id: &'static str,
    title: &'static str,
    columns: &[&'static str],
    rows: impl FnOnce(&mut Html),
) {
    html.node("section", &[("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], title);
        html.node("table", &[("class", id), ("aria-labelledby", id)], |html| {
            html.node("thead", &[], |html| {
                html.node("tr", &[], |html| {
                    columns.iter().for_each(|column| html.leaf("th", &[("scope", "col")], column));
                });
            });
            html.node("tbody", &[], rows);
        });
    });
    html.newline();
}

/// A cell with the name of its column, for narrow screens without columns.
fn cell(html: &mut Html, column: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("td", &[("data-column", column)], inside);
}

fn head(html: &mut Html, inside: impl FnOnce(&mut Html)) {
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
        cell(html, "Lag", |html| match export.lag {
            Some(lag) if lag.is_zero() => html.text("none"),
            Some(lag) => html.text(&duration(lag)),
            None => html.text("unknown"),
        });
        cell(html, "Events in Heap", |html| html.text(&count(export.events)));
        cell(html, "Last success", |html| match export.last_success {
            Some(last) => age(html, last, view.now),
            None => html.text("none yet"),
        });
        cell(html, "State", |html| match &export.failure {
            None => html.text("✓ running"),
            Some(failure) => {
                html.text(match failure.next {
                    NextStep::Retry { .. } => "✕ failing, retried: ",
                    NextStep::NeedsOperator => "✕ failing, needs attention: ",
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
        cell(html, "Checked", |html| age(html, segment.checked, view.now));
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
    let columns = ["When", "Cohort", "Added", "Removed", "Result"];
    table(html, "history", "History", &columns, |html| {
        view.history.iter().for_each(|run| history_row(html, view, run));
    });
}

fn history_row(html: &mut Html, view: &DashboardView, run: &HistoryView) {
    let name = view.cohorts.iter().find(|cohort| cohort.id == run.cohort).map(|cohort| &*cohort.name);
    html.node("tr", &[("title", run.run.as_str())], |html| {
        head(html, |html| {
            time(html, run.at, &run.at.strftime("%-d %b %Y, %H:%M UTC").to_string());
            html.text(", ");
            html.text(&ago(run.at, view.now));
        });
        cell(html, "Cohort", |html| html.name(name.unwrap_or(run.cohort.as_str())));
        cell(html, "Added", |html| html.text(&format!("+{}", count(run.added))));
        cell(html, "Removed", |html| html.text(&format!("−{}", count(run.removed))));
        cell(html, "Result", |html| {
            html.text(result_text(&run.result));
            if let Some(error) = &run.error {
                html.text(": ");
                html.prose(error);
            }
        });
    });
}
