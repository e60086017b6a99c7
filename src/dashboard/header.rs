//! The top of the page: who works by which config, what waits and on whom. And its foot.

use super::alerts::{Alert, AlertWait, headline};
use super::cohorts;
use super::format::{absolute, age, count, lasting, plural, time};
use super::html::Html;
use super::view::{DashboardView, IgnoredConfigView, RoleView};

/// How many things a list at the top names. When Braze is down, every cohort has the same to say.
const LISTED_MAX: usize = 12;

pub(super) fn header(html: &mut Html, board: &DashboardView) {
    html.node("header", &[("class", "bar")], |html| {
        html.leaf("p", &[("class", "brand")], "syncline");
        html.node("nav", &[("aria-label", "On this page")], |html| {
            html.node("ul", &[], |html| {
                for (anchor, name) in sections(board) {
                    let href = format!("#{anchor}");
                    html.node("li", &[], |html| html.leaf("a", &[("href", &href)], name));
                }
            });
        });
    });
    html.newline();
}

fn sections(board: &DashboardView) -> Vec<(&'static str, &'static str)> {
    let all = [
        (true, "cohorts", "Cohorts"),
        (!board.inboxes.is_empty(), "heap", "Heap"),
        (!board.exports.is_empty(), "exports", "Exports"),
        (!board.segments.is_empty(), "segments", "Segments"),
        (true, "history", "History"),
    ];
    all.into_iter().filter(|(shown, ..)| *shown).map(|(_, anchor, name)| (anchor, name)).collect()
}

pub(super) fn summary(html: &mut Html, board: &DashboardView, matters: &[Alert]) {
    let persons = matters.iter().filter(|matter| matter.waits == AlertWait::OnPerson).count();
    let mood = match (persons, matters.len()) {
        (0, 0) => "summary good",
        (0, _) => "summary",
        _ => "summary bad",
    };
    html.node("section", &[("class", mood), ("aria-labelledby", "summary")], |html| {
        html.leaf("h1", &[("id", "summary")], &headline(board, matters));
        html.node("p", &[("class", "lead")], |html| html.text(&totals(board)));
        html.node("p", &[("class", "meta")], |html| role(html, board));
    });
    html.newline();
    if let Some(ignored) = &board.config.ignored {
        alarm(html, board, ignored);
    }
    listed(html, "What needs a person", matters, AlertWait::OnPerson);
    listed(html, "What goes on without you", matters, AlertWait::OnNobody);
}

/// `12 cohorts with 34,512 members: 1 needs approval, 1 failing, 10 in sync.`
fn totals(board: &DashboardView) -> String {
    if board.cohorts.is_empty() {
        return "The config has no cohorts. Add one, and it appears here.".to_owned();
    }
    let members: u64 = board.cohorts.iter().filter_map(|cohort| cohort.members).sum();
    let states: Vec<(u64, &str)> = cohorts::WORDS
        .iter()
        .map(|word| {
            (board.cohorts.iter().filter(|cohort| cohorts::word(&cohort.state) == *word).count(), word)
        })
        .filter_map(|(number, word)| (number > 0).then_some((number as u64, *word)))
        .collect();
    let cohorts = plural(board.cohorts.len() as u64, "cohort");
    let members = plural(members, "member");
    match *states {
        [(1, word)] => format!("{cohorts} with {members}: {word}."),
        [(_, word)] => format!("{cohorts} with {members}, all of them {word}."),
        _ => {
            let states = states.iter().map(|(number, word)| format!("{} {word}", count(*number)));
            format!("{cohorts} with {members}: {}.", states.collect::<Vec<_>>().join(", "))
        }
    }
}

fn role(html: &mut Html, board: &DashboardView) {
    match &board.role {
        RoleView::Leading { since } => {
            html.text("This process has done the work for ");
            lasting(html, *since, board.now);
        }
        RoleView::StandingBy { since, holder } => {
            html.text("This process has stood by for ");
            lasting(html, *since, board.now);
            html.text(" and takes over when the other one stops");
            if let Some(holder) = holder {
                html.text(": process ");
                html.text(&holder.process.to_string());
                html.text(" on ");
                html.name(&holder.host);
                html.text(", at work for ");
                lasting(html, holder.since, board.now);
            }
        }
    }
    html.text(". Its config was loaded ");
    age(html, board.config.loaded, board.now);
    html.text(" (");
    let short: String = board.config.digest.chars().take(8).collect();
    html.leaf("code", &[("title", &board.config.digest)], &short);
    html.text(").");
}

fn alarm(html: &mut Html, board: &DashboardView, ignored: &IgnoredConfigView) {
    html.node("section", &[("class", "alarm"), ("id", "config"), ("aria-labelledby", "alarm")], |html| {
        html.leaf("h2", &[("id", "alarm")], "The new config is not in use");
        html.node("p", &[], |html| {
            html.text("It has ");
            html.text(&plural(ignored.problems, "problem"));
            html.text(" and was found ");
            age(html, ignored.since, board.now);
            html.text(". Until they are solved, everything goes on by the config that was loaded ");
            age(html, board.config.loaded, board.now);
            html.text(".");
        });
        let attributes =
            [("tabindex", "0"), ("role", "region"), ("aria-label", "Problems of the new config")];
        html.leaf("pre", &attributes, ignored.text.trim_matches('\n'));
    });
    html.newline();
}

fn listed(html: &mut Html, title: &'static str, matters: &[Alert], waits: AlertWait) {
    let some: Vec<&Alert> = matters.iter().filter(|matter| matter.waits == waits).collect();
    if some.is_empty() {
        return;
    }
    let (class, id) = match waits {
        AlertWait::OnPerson => ("matters bad", "needs-a-person"),
        AlertWait::OnNobody => ("matters", "without-you"),
    };
    html.node("section", &[("class", class), ("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], title);
        html.node("ul", &[], |html| {
            for matter in some.iter().take(LISTED_MAX) {
                html.node("li", &[], |html| {
                    let href = format!("#{}", matter.anchor);
                    html.node("a", &[("href", &href)], |html| html.name(&matter.about));
                    html.text(": ");
                    html.prose(&matter.what);
                });
            }
            if some.len() > LISTED_MAX {
                let more = count((some.len() - LISTED_MAX) as u64);
                html.leaf("li", &[], &format!("and {more} more, each told of below"));
            }
        });
    });
    html.newline();
}

pub(super) fn footer(html: &mut Html, board: &DashboardView) {
    html.node("footer", &[], |html| {
        html.node("p", &[], |html| {
            html.text("As of ");
            time(html, board.now, &absolute(board.now));
            html.text(". ");
            match board.refresh_seconds {
                None => html.leaf("a", &[("href", "?refresh=60")], "Refresh every minute"),
                Some(seconds) => {
                    html.text(&format!("Refreshes every {seconds} s. "));
                    html.leaf("a", &[("href", "?")], "Stop refreshing");
                }
            }
        });
        html.node("p", &[], |html| {
            html.text("syncline ");
            html.text(&board.version);
            html.text(", running for ");
            lasting(html, board.started, board.now);
            html.text(". This page only shows; it changes nothing.");
        });
    });
}
