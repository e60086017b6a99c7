//! The page of one cohort: its problem with the commands, size over time, rejects by reason, and last runs with their
//! plans.

use super::cohort_parts::{members, plan_in_full, problem, reject_reason, rejected_rows, source, when};
use super::cohort_state::{badge, needs_attention};
use super::format::{count, counted};
use super::html::Html;
use super::plot::plot;
use super::tables::{cell, head, number, rows, run_rows};
use super::view::{CohortView, DashboardView};

pub(super) fn main(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("main", &[], |html| {
        summary(html, view, cohort);
        size(html, view, cohort);
        rejects(html, cohort);
        runs(html, view, cohort);
    });
}

fn summary(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    let class = match needs_attention(&cohort.state) {
        true => "summary bad",
        false => "summary",
    };
    html.node("section", &[("class", class), ("aria-labelledby", "summary")], |html| {
        html.node("h1", &[("id", "summary")], |html| html.name(&cohort.name));
        html.node("div", &[("class", "how")], |html| {
            html.node("p", &[("class", "lead")], |html| {
                badge(html, &cohort.state);
                html.text(" ");
                members(html, cohort);
            });
            when(html, view, cohort);
        });
        problem(html, view, cohort);
        html.node("dl", &[], |html| facts(html, view, cohort));
    });
    html.newline();
}

fn facts(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    fact(html, "Id", |html| html.leaf("code", &[], cohort.id.as_str()));
    fact(html, "In the config at", |html| html.leaf("code", &[], &cohort.declared_at));
    fact(html, "Source", |html| source(html, cohort));
    fact(html, "Target", |html| html.text(&format!("Braze ({})", cohort.connection)));
    if let Some(plan) = &cohort.plan {
        fact(html, "Last plan", |html| plan_in_full(html, view, plan));
    }
    if cohort.in_doubt > 0 {
        let text = format!("{}; the next run settles them", counted(cohort.in_doubt, "member"));
        fact(html, "Sent, not yet answered by Braze", |html| html.text(&text));
    }
    if cohort.rejected > 0 {
        fact(html, "Rejected by Braze", |html| html.text(&counted(cohort.rejected, "identifier")));
    }
}

fn fact(html: &mut Html, term: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("div", &[], |html| {
        html.leaf("dt", &[], term);
        html.node("dd", &[], inside);
    });
}

/// A section of the page with its title.
fn section(html: &mut Html, id: &'static str, title: &'static str, inside: impl FnOnce(&mut Html)) {
    html.node("section", &[("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], title);
        inside(html);
    });
    html.newline();
}

fn size(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    section(html, "size", "Size over time", |html| {
        html.node("div", &[("class", "box large")], |html| {
            plot(html, cohort.id.as_str(), &cohort.name, &cohort.sizes, view.now);
        });
    });
}

fn rejects(html: &mut Html, cohort: &CohortView) {
    section(html, "rejects", "Rejected rows of the last plan", |html| {
        if rejected_rows(cohort) == 0 {
            let text = match cohort.plan {
                Some(_) => "None.",
                None => "Not known: this process has made no plan yet.",
            };
            html.leaf("p", &[("class", "empty")], text);
            return;
        }
        rows(html, "rejects", &["Reason", "Rows", "Code"], |html| {
            for (reason, rejected) in &cohort.rejects {
                html.node("tr", &[], |html| {
                    head(html, |html| reject_reason(html, reason, *rejected));
                    number(html, "Rows", |html| html.text(&count(*rejected)));
                    cell(html, "Code", |html| html.leaf("code", &[], reason));
                });
            }
        });
        if let Some(file) = &cohort.rejects_file {
            html.node("p", &[("class", "meta")], |html| {
                html.text("All rejects are in ");
                html.leaf("code", &[], file);
            });
        }
    });
}

fn runs(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    section(html, "runs", "Last plans and runs", |html| {
        if cohort.runs.is_empty() {
            html.leaf("p", &[("class", "empty")], "No runs with changes yet.");
            return;
        }
        run_rows(html, view, "runs", &cohort.runs, false);
    });
}
