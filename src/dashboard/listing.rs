//! Which cohorts the list shows, in which order, and the form that chooses them. The form sends a GET request: the page
//! needs no script.

use std::cmp::Reverse;

use super::cohort_state::{LABELS, code, label, needs_attention, rank};
use super::format::{count, counted};
use super::html::Html;
use super::query::{CohortOrder, ORDER, PageQuery, REFRESH, STATE, TEXT};
use super::view::{CohortView, DashboardView};

/// From this number of cohorts on, the list has a form.
const FORM_FROM: usize = 10;
/// The choice of all cohorts that need attention.
const ATTENTION: &str = "needs attention";

/// The cohorts that the reader has chosen, in the chosen order.
pub(super) fn listed(view: &DashboardView) -> Vec<&CohortView> {
    let query = &view.query;
    let text = query.text.to_lowercase();
    let is_listed = |cohort: &&CohortView| {
        let has_text = cohort.name.to_lowercase().contains(&text) || cohort.id.as_str().contains(&text);
        has_text && is_in_state(cohort, &query.state)
    };
    let mut listed: Vec<&CohortView> = view.cohorts.iter().filter(is_listed).collect();
    match query.order {
        CohortOrder::Config => {}
        CohortOrder::Attention => listed.sort_by_key(|cohort| rank(&cohort.state)),
        CohortOrder::Name => listed.sort_by_cached_key(|cohort| cohort.name.to_lowercase()),
        CohortOrder::Members => listed.sort_by_key(|cohort| Reverse(cohort.members)),
        // `None`, never in sync, is the longest time.
        CohortOrder::LastSuccess => listed.sort_by_key(|cohort| cohort.last_success),
    }
    listed
}

fn is_in_state(cohort: &CohortView, state: &str) -> bool {
    state.is_empty()
        || (state == code(ATTENTION) && needs_attention(&cohort.state))
        || state == code(label(&cohort.state))
}

/// The form and the number of listed cohorts.
pub(super) fn form(html: &mut Html, view: &DashboardView, listed: usize) {
    let query = &view.query;
    if view.cohorts.len() < FORM_FROM && !query.has_choice() {
        return;
    }
    let attributes = [("class", "choices"), ("method", "get"), ("action", "./#cohorts")];
    html.node("form", &attributes, |html| {
        if let Some(seconds) = query.refresh_seconds {
            let seconds = seconds.to_string();
            html.void("input", &[("type", "hidden"), ("name", REFRESH), ("value", &seconds)]);
        }
        field(html, "choice-text", "Name or id", |html| {
            let attributes =
                [("id", "choice-text"), ("type", "search"), ("name", TEXT), ("value", query.text.as_str())];
            html.void("input", &attributes);
        });
        field(html, "choice-state", "State", |html| states(html, view));
        field(html, "choice-order", "Order", |html| orders(html, query.order));
        html.leaf("button", &[("type", "submit")], "Show");
    });
    html.node("p", &[("class", "meta")], |html| {
        let all = view.cohorts.len() as u64;
        html.text(&format!("{} of {}", count(listed as u64), counted(all, "cohort")));
        if query.has_choice() {
            html.text(". ");
            let all = format!("./{}#cohorts", query.without_choice().address());
            html.leaf("a", &[("href", &all)], "Show all");
        }
    });
}

fn field(html: &mut Html, id: &'static str, name: &'static str, control: impl FnOnce(&mut Html)) {
    html.node("div", &[], |html| {
        html.leaf("label", &[("for", id)], name);
        control(html);
    });
}

/// The states that cohorts are in, each with the number of its cohorts.
fn states(html: &mut Html, view: &DashboardView) {
    let chosen = &*view.query.state;
    html.node("select", &[("id", "choice-state"), ("name", STATE)], |html| {
        option(html, "", "All", chosen.is_empty());
        for label in [ATTENTION].into_iter().chain(LABELS) {
            let state = code(label);
            let number = view.cohorts.iter().filter(|cohort| is_in_state(cohort, &state)).count();
            if number > 0 || state == chosen {
                option(html, &state, &format!("{label} ({number})"), state == chosen);
            }
        }
    });
}

fn orders(html: &mut Html, chosen: CohortOrder) {
    html.node("select", &[("id", "choice-order"), ("name", ORDER)], |html| {
        for order in CohortOrder::ALL {
            option(html, order.code(), order.label(), order == chosen);
        }
    });
}

fn option(html: &mut Html, value: &str, text: &str, is_chosen: bool) {
    let attributes = [("value", value), ("selected", "")];
    html.leaf("option", &attributes[..if is_chosen { 2 } else { 1 }], text);
}

/// The address of a cohort's page, from the main page.
pub(super) fn address(query: &PageQuery, cohort: &CohortView) -> String {
    let query = query.address();
    format!("cohorts/{}{}", cohort.id, if query == "?" { "" } else { &query })
}
