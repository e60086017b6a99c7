//! The cohorts section: a card for each cohort, or a table if there are many.

use super::alerts;
use super::cohort_parts::{last_change, members, plan_in_short, problem, rejected_rows, source, when};
use super::cohort_state::badge;
use super::format::{age, count, counted, due, planned_text, time};
use super::html::Html;
use super::listing::{address, form, listed};
use super::plot::plot;
use super::tables::{cell, head, number, rows};
use super::view::{CohortView, DashboardView, OrphanedView};

/// The most cohorts that are shown as cards. More are shown as a table.
const CARDS_MAX: usize = 24;

pub(super) fn section(html: &mut Html, view: &DashboardView) {
    html.node("section", &[("aria-labelledby", "cohorts")], |html| {
        html.leaf("h2", &[("id", "cohorts")], "Cohorts");
        if view.cohorts.is_empty() {
            let hint = "No cohorts yet. Declare one under `cohorts:` in the config.";
            html.node("p", &[("class", "empty")], |html| html.prose(hint));
        }
        let listed = listed(view);
        form(html, view, listed.len());
        if listed.len() > CARDS_MAX {
            table(html, view, &listed);
        } else {
            listed.iter().for_each(|cohort| card(html, view, cohort));
        }
        orphaned(html, &view.orphaned);
    });
    html.newline();
}

fn card(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("article", &[("class", "cohort")], |html| {
        html.node("div", &[("class", "who")], |html| {
            html.node("h3", &[], |html| link(html, view, cohort));
            html.node("p", &[], |html| source(html, cohort));
            html.leaf("p", &[], &format!("to Braze ({})", cohort.connection));
            html.node("p", &[], |html| last_plan(html, cohort));
        });
        html.node("div", &[("class", "how")], |html| {
            html.node("p", &[], |html| badge(html, &cohort.state));
            when(html, view, cohort);
        });
        html.node("p", &[("class", "members")], |html| members(html, cohort));
        plot(html, cohort.id.as_str(), &cohort.name, &cohort.sizes, view.now);
        problem(html, view, cohort);
    });
    html.newline();
}

/// The name of a cohort, as a link to its page.
fn link(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("a", &[("href", &address(&view.query, cohort))], |html| html.name(&cohort.name));
}

fn last_plan(html: &mut Html, cohort: &CohortView) {
    html.text(&plan_in_short(cohort));
    rejected(html, cohort);
}

fn rejected(html: &mut Html, cohort: &CohortView) {
    let rejected = rejected_rows(cohort);
    if rejected > 0 {
        html.text(" · ");
        html.leaf("span", &[("class", "warn")], &format!("{} rejected", counted(rejected, "row")));
    }
}

fn table(html: &mut Html, view: &DashboardView, listed: &[&CohortView]) {
    let columns = ["Cohort", "State", "Members", "Last in sync", "Next run", "Last plan"];
    rows(html, "cohorts", &columns, |html| {
        listed.iter().for_each(|cohort| row(html, view, cohort));
    });
}

fn row(html: &mut Html, view: &DashboardView, cohort: &CohortView) {
    html.node("tr", &[], |html| {
        head(html, |html| link(html, view, cohort));
        cell(html, "State", |html| {
            badge(html, &cohort.state);
            if let Some((_, reason)) = alerts::of_cohort(view, cohort) {
                html.node("p", &[("class", "reason")], |html| html.prose(&reason));
            }
        });
        number(html, "Members", |html| match cohort.members {
            Some(members) => html.text(&count(members)),
            None => html.text("unknown"),
        });
        number(html, "Last in sync", |html| match cohort.last_success {
            Some(last) => age(html, last, view.now),
            None => html.text("never"),
        });
        number(html, "Next run", |html| match cohort.next_run {
            Some(next) => time(html, next, &due(next, view.now)),
            None => html.text("not scheduled"),
        });
        cell(html, "Last plan", |html| {
            html.text(&match last_change(cohort) {
                None => "not yet".to_owned(),
                Some(plan) => planned_text(plan).unwrap_or_else(|| "no changes".to_owned()),
            });
            rejected(html, cohort);
        });
    });
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
                let size = cohort.members.map(|number| counted(number, "member"));
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
