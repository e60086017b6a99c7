//! What is best read as a table: exports, segments in Braze, and what was done.

use super::format::{age, count, length, result};
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

/// A cell that says of which column it is, where the table is too narrow for columns.
fn cell(html: &mut Html, column: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("td", &[("data-column", column)], inside);
}

fn head(html: &mut Html, inside: impl FnOnce(&mut Html)) {
    html.node("th", &[("scope", "row")], inside);
}

pub(super) fn exports(html: &mut Html, board: &DashboardView) {
    if board.exports.is_empty() {
        return;
    }
    let columns = ["Export", "From", "Behind by", "Events in Heap", "Last good run", "State"];
    table(html, "exports", "Exports to Heap", &columns, |html| {
        board.exports.iter().for_each(|export| export_row(html, board, export));
    });
}

fn export_row(html: &mut Html, board: &DashboardView, export: &ExportView) {
    html.node("tr", &[], |html| {
        head(html, |html| html.name(&export.id));
        cell(html, "From", |html| html.text(&export.source));
        cell(html, "Behind by", |html| match export.lag {
            Some(lag) if lag.is_zero() => html.text("nothing"),
            Some(lag) => html.text(&length(lag)),
            None => html.text("not known"),
        });
        cell(html, "Events in Heap", |html| html.text(&count(export.events)));
        cell(html, "Last good run", |html| match export.last_good {
            Some(last) => age(html, last, board.now),
            None => html.text("none yet"),
        });
        cell(html, "State", |html| match &export.trouble {
            None => html.text("✓ running"),
            Some(trouble) => {
                html.text(match trouble.then {
                    NextStep::TriedAgain { .. } => "✕ failing, tried again: ",
                    NextStep::NeedsPerson => "✕ failing, needs a person: ",
                });
                html.prose(&trouble.why);
            }
        });
    });
}

pub(super) fn segments(html: &mut Html, board: &DashboardView) {
    if board.segments.is_empty() {
        return;
    }
    let columns = ["Segment", "Verdict", "Why", "Checked"];
    table(html, "segments", "Segments in Braze", &columns, |html| {
        board.segments.iter().for_each(|segment| segment_row(html, board, segment));
    });
}

fn segment_row(html: &mut Html, board: &DashboardView, segment: &SegmentCheckView) {
    html.node("tr", &[], |html| {
        head(html, |html| html.name(&segment.name));
        cell(html, "Verdict", |html| {
            html.text(match segment.verdict {
                SegmentVerdictView::InSync => "✓ in sync",
                SegmentVerdictView::Drifted => "✕ drifted",
                SegmentVerdictView::Unknown => "? cannot be known",
            });
        });
        cell(html, "Why", |html| html.prose(&segment.why.join("; ")));
        cell(html, "Checked", |html| age(html, segment.checked, board.now));
    });
}

pub(super) fn history(html: &mut Html, board: &DashboardView) {
    if board.history.is_empty() {
        html.node("section", &[("aria-labelledby", "history")], |html| {
            html.leaf("h2", &[("id", "history")], "History");
            html.leaf("p", &[("class", "empty")], "No run yet. What is done to each cohort appears here.");
        });
        return;
    }
    let columns = ["When", "Cohort", "Added", "Removed", "Result"];
    table(html, "history", "History", &columns, |html| {
        board.history.iter().for_each(|past| history_row(html, board, past));
    });
}

fn history_row(html: &mut Html, board: &DashboardView, past: &HistoryView) {
    let name = board.cohorts.iter().find(|cohort| cohort.id == past.cohort).map(|cohort| &*cohort.name);
    html.node("tr", &[("title", past.run.as_str())], |html| {
        head(html, |html| age(html, past.at, board.now));
        cell(html, "Cohort", |html| html.name(name.unwrap_or(past.cohort.as_str())));
        cell(html, "Added", |html| html.text(&format!("+{}", count(past.added))));
        cell(html, "Removed", |html| html.text(&format!("−{}", count(past.removed))));
        cell(html, "Result", |html| {
            html.text(result(&past.result));
            if let Some(error) = &past.error {
                html.text(": ");
                html.prose(error);
            }
        });
    });
}
