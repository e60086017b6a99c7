//! Header, summary, alerts and footer of the page.

use super::alerts::{Alert, AlertLevel, headline};
use super::cohort_state::{LABELS, label};
use super::format::{absolute, age, count, counted, elapsed, time};
use super::html::Html;
use super::view::{DashboardView, InvalidConfigView, RoleView};

/// The number of alerts in a list. When Braze is down, every cohort has the same alert.
const LISTED_MAX: usize = 12;

/// The header of the main page, with links to its sections.
pub(super) fn header(html: &mut Html, view: &DashboardView) {
    let links: Vec<(String, &str)> =
        sections(view).into_iter().map(|(anchor, name)| (format!("#{anchor}"), name)).collect();
    bar(html, view, "On this page", &links);
}

/// The header of a cohort's page, with a link to the main page.
pub(super) fn cohort_header(html: &mut Html, view: &DashboardView) {
    let main = format!("../{}#cohorts", view.query.address().trim_end_matches('?'));
    let links = [(main, "All cohorts"), ("#size".to_owned(), "Size"), ("#rejects".to_owned(), "Rejects")];
    bar(html, view, "Pages", &[&links[..], &[("#runs".to_owned(), "Runs")]].concat());
}

fn bar(html: &mut Html, view: &DashboardView, label: &'static str, links: &[(String, &str)]) {
    html.node("header", &[("class", "bar")], |html| {
        html.leaf("p", &[("class", "brand")], "syncline");
        html.node("nav", &[("aria-label", label)], |html| {
            html.node("ul", &[], |html| {
                for (href, name) in links {
                    html.node("li", &[], |html| html.leaf("a", &[("href", href)], name));
                }
            });
        });
        html.node("p", &[("class", "target")], |html| {
            for (label, value) in &view.config.target {
                html.node("span", &[], |html| {
                    html.text(&format!("{label} "));
                    html.node("b", &[], |html| html.name(value));
                });
                html.text(" ");
            }
        });
    });
    html.newline();
}

fn sections(view: &DashboardView) -> Vec<(&'static str, &'static str)> {
    let all = [
        (true, "cohorts", "Cohorts"),
        (!view.inboxes.is_empty(), "heap", "Heap"),
        (!view.rejected_requests.is_empty(), "rejected-requests", "Rejected deliveries"),
        (!view.exports.is_empty(), "exports", "Exports"),
        (!view.segments.is_empty(), "segments", "Segments"),
        (true, "history", "History"),
    ];
    all.into_iter().filter(|(shown, ..)| *shown).map(|(_, anchor, name)| (anchor, name)).collect()
}

pub(super) fn summary(html: &mut Html, view: &DashboardView, alerts: &[Alert]) {
    let attention = alerts.iter().filter(|alert| alert.level == AlertLevel::NeedsAttention).count();
    let class = match (attention, alerts.len()) {
        (0, 0) => "summary good",
        (0, _) => "summary",
        _ => "summary bad",
    };
    html.node("section", &[("class", class), ("aria-labelledby", "summary")], |html| {
        html.leaf("h1", &[("id", "summary")], &headline(view, alerts));
        html.node("p", &[("class", "lead")], |html| html.text(&totals(view)));
        html.node("p", &[("class", "meta")], |html| role(html, view));
    });
    html.newline();
    if let Some(invalid) = &view.config.invalid {
        invalid_config(html, view, invalid);
    }
    alert_list(html, "Needs attention", alerts, AlertLevel::NeedsAttention);
    alert_list(html, "No action needed", alerts, AlertLevel::Temporary);
}

/// `12 cohorts with 34,512 members: 1 needs approval, 1 failing, 10 in sync.`
fn totals(view: &DashboardView) -> String {
    if view.cohorts.is_empty() {
        return "The config has no cohorts.".to_owned();
    }
    let members: u64 = view.cohorts.iter().filter_map(|cohort| cohort.members).sum();
    let number = |of: &str| view.cohorts.iter().filter(|cohort| label(&cohort.state) == of).count() as u64;
    let states: Vec<(u64, &str)> =
        LABELS.map(|label| (number(label), label)).into_iter().filter(|(number, _)| *number > 0).collect();
    let cohorts = counted(view.cohorts.len() as u64, "cohort");
    let members = counted(members, "member");
    match *states {
        [(1, label)] => format!("{cohorts} with {members}: {label}."),
        [(_, label)] => format!("{cohorts} with {members}, all {label}."),
        _ => {
            let states = states.iter().map(|(number, label)| format!("{} {label}", count(*number)));
            format!("{cohorts} with {members}: {}.", states.collect::<Vec<_>>().join(", "))
        }
    }
}

fn role(html: &mut Html, view: &DashboardView) {
    match &view.role {
        RoleView::Leader { since } => {
            html.text("This process has been the leader for ");
            elapsed(html, *since, view.now);
        }
        RoleView::Standby { since, holder, recorded_at } => {
            html.text("This process has been a standby for ");
            elapsed(html, *since, view.now);
            html.text(" and takes over when the leader stops");
            if let Some(holder) = holder {
                html.text(": process ");
                html.text(&holder.process.to_string());
                html.text(" on ");
                html.name(&holder.host);
                html.text(", leader for ");
                elapsed(html, holder.since, view.now);
            }
            if let Some(at) = recorded_at {
                html.text(". Sizes, states and runs are as the state records them; it was read ");
                age(html, *at, view.now);
            }
        }
    }
    html.text(". Its config was loaded ");
    age(html, view.config.loaded, view.now);
    html.text(".");
}

fn invalid_config(html: &mut Html, view: &DashboardView, invalid: &InvalidConfigView) {
    html.node("section", &[("class", "alarm"), ("id", "config"), ("aria-labelledby", "alarm")], |html| {
        html.leaf("h2", &[("id", "alarm")], "The new config is invalid and not in use");
        html.node("p", &[], |html| {
            html.text("It has ");
            html.text(&counted(invalid.problems, "problem"));
            html.text(" and was found ");
            age(html, invalid.since, view.now);
            html.text(". Until they are fixed, the config in use stays the one that was loaded ");
            age(html, view.config.loaded, view.now);
            html.text(".");
        });
        let attributes =
            [("tabindex", "0"), ("role", "region"), ("aria-label", "Problems of the new config")];
        html.leaf("pre", &attributes, invalid.text.trim_matches('\n'));
    });
    html.newline();
}

fn alert_list(html: &mut Html, title: &'static str, alerts: &[Alert], level: AlertLevel) {
    let listed: Vec<&Alert> = alerts.iter().filter(|alert| alert.level == level).collect();
    if listed.is_empty() {
        return;
    }
    let (class, id) = match level {
        AlertLevel::NeedsAttention => ("alerts bad", "needs-attention"),
        AlertLevel::Temporary => ("alerts", "no-action"),
    };
    html.node("section", &[("class", class), ("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], title);
        html.node("ul", &[], |html| {
            for alert in listed.iter().take(LISTED_MAX) {
                html.node("li", &[], |html| {
                    html.node("a", &[("href", &alert.href)], |html| html.name(&alert.subject));
                    html.text(": ");
                    html.prose(&alert.text);
                });
            }
            if listed.len() > LISTED_MAX {
                let more = count((listed.len() - LISTED_MAX) as u64);
                html.leaf("li", &[], &format!("and {more} more; see below"));
            }
        });
    });
    html.newline();
}

pub(super) fn footer(html: &mut Html, view: &DashboardView) {
    html.node("footer", &[], |html| {
        html.node("p", &[], |html| {
            html.text("As of ");
            time(html, view.now, &absolute(view.now));
            html.text(". ");
            let with = |seconds| view.query.with_refresh(seconds).address();
            match view.query.refresh_seconds {
                None => html.leaf("a", &[("href", &with(Some(60)))], "Refresh every minute"),
                Some(seconds) => {
                    html.text(&format!("Refreshes every {seconds} s. "));
                    html.leaf("a", &[("href", &with(None))], "Stop refreshing");
                }
            }
        });
        html.node("p", &[], |html| {
            html.text("syncline ");
            html.text(&view.version);
            html.text(", running for ");
            elapsed(html, view.started, view.now);
            html.text(". This page is read-only.");
        });
    });
}
