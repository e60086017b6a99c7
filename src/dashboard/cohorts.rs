//! The cohorts: those that need somebody first, the others in the order of the config.

use super::alerts::{anchor, stale};
use super::format::{age, count, due, lasting, plural, reject, time};
use super::html::Html;
use super::plot::plot;
use super::view::{
    BlockedView, CohortStateView, CohortView, DashboardView, NextStep, OrphanedView, PlanView, RemedyView,
    SourceView,
};
use crate::model::timestamp_text;

/// The words for states, in the order in which they are counted.
pub(super) const WORDS: [&str; 8] = [
    "needs approval",
    "needs a decision",
    "failing",
    "stale",
    "waiting for Heap",
    "updating",
    "not looked at yet",
    "in sync",
];

/// A state in a word.
pub(super) fn word(state: &CohortStateView) -> &'static str {
    match state {
        CohortStateView::Withheld { approve: Some(_), .. } => WORDS[0],
        CohortStateView::Withheld { approve: None, .. } => WORDS[1],
        CohortStateView::Failing { .. } => WORDS[2],
        CohortStateView::Stale { .. } => WORDS[3],
        CohortStateView::WaitingForHeap { .. } => WORDS[4],
        CohortStateView::Updating { .. } => WORDS[5],
        CohortStateView::New => WORDS[6],
        CohortStateView::InSync => WORDS[7],
    }
}

/// How a state looks: a class with a color, and a sign for those who do not see it.
fn look(state: &CohortStateView) -> (&'static str, &'static str) {
    match state {
        CohortStateView::InSync => ("state good", "✓"),
        CohortStateView::Withheld { .. } => ("state held", "!"),
        CohortStateView::Failing { .. } => ("state failing", "✕"),
        CohortStateView::Stale { .. } => ("state held", "!"),
        CohortStateView::WaitingForHeap { .. } | CohortStateView::New => ("state idle", "…"),
        CohortStateView::Updating { .. } => ("state idle", "→"),
    }
}

fn rank(state: &CohortStateView) -> u8 {
    match state {
        CohortStateView::Withheld { .. }
        | CohortStateView::Stale { .. }
        | CohortStateView::Failing { then: NextStep::NeedsPerson, .. } => 0,
        CohortStateView::Failing { .. } => 1,
        CohortStateView::WaitingForHeap { .. } | CohortStateView::Updating { .. } | CohortStateView::New => 2,
        CohortStateView::InSync => 3,
    }
}

pub(super) fn section(html: &mut Html, board: &DashboardView) {
    html.node("section", &[("aria-labelledby", "cohorts")], |html| {
        html.leaf("h2", &[("id", "cohorts")], "Cohorts");
        if board.cohorts.is_empty() {
            let what = "No cohort yet. A cohort is a list of people that is kept in sync in Braze; \
                it is declared under `cohorts:` in the config.";
            html.node("p", &[("class", "empty")], |html| html.prose(what));
        }
        let mut sorted: Vec<&CohortView> = board.cohorts.iter().collect();
        sorted.sort_by_key(|cohort| rank(&cohort.state));
        for cohort in sorted {
            card(html, board, cohort);
        }
        orphaned(html, &board.orphaned);
    });
    html.newline();
}

fn card(html: &mut Html, board: &DashboardView, cohort: &CohortView) {
    html.node("article", &[("class", "cohort"), ("id", &anchor(cohort))], |html| {
        html.node("div", &[("class", "who")], |html| {
            html.node("h3", &[], |html| html.name(&cohort.name));
            html.node("p", &[], |html| source(html, cohort));
            html.leaf("p", &[], &format!("to Braze ({})", cohort.connection));
        });
        html.node("div", &[("class", "how")], |html| {
            let (class, sign) = look(&cohort.state);
            html.node("p", &[("class", class)], |html| {
                html.leaf("span", &[("aria-hidden", "true")], sign);
                html.text(word(&cohort.state));
            });
            when(html, board, cohort);
        });
        html.node("p", &[("class", "members")], |html| members(html, cohort));
        plot(html, cohort.id.as_str(), &cohort.name, &cohort.sizes, board.now);
        trouble(html, board, cohort);
        details(html, board, cohort);
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
        None => html.leaf("span", &[], "size not known yet"),
    }
}

fn when(html: &mut Html, board: &DashboardView, cohort: &CohortView) {
    html.node("p", &[], |html| match cohort.last_good {
        Some(last) => {
            html.text("last in sync ");
            age(html, last, board.now);
        }
        None => html.text("never in sync so far"),
    });
    if let Some(until) = cohort.uncertain_until {
        html.node("p", &[("class", "warn")], |html| {
            html.text("not certain until ");
            time(html, until, &timestamp_text(until));
            html.text(": Braze may still handle requests that had no answer");
        });
    }
    if let Some(next) = cohort.next_look {
        html.node("p", &[], |html| {
            html.text("next look ");
            time(html, next, &due(next, board.now));
        });
    }
}

/// What is the matter, and the way out.
fn trouble(html: &mut Html, board: &DashboardView, cohort: &CohortView) {
    match &cohort.state {
        CohortStateView::InSync | CohortStateView::New => {}
        CohortStateView::Updating { since } => note(html, |html| {
            html.text("Changes are on their way to Braze, begun ");
            age(html, *since, board.now);
            html.text(".");
        }),
        CohortStateView::WaitingForHeap { why } => note(html, |html| waiting(html, why.as_deref())),
        CohortStateView::Stale { after } => note(html, |html| {
            html.text(&sentence(&stale(board, cohort, *after)));
            html.text(". Look whether its source still arrives.");
        }),
        CohortStateView::Withheld { since, refusals, approve } => note(html, |html| {
            withheld(html, refusals);
            html.node("p", &[("class", "since")], |html| {
                html.text("Waiting for ");
                lasting(html, *since, board.now);
                html.text("; everything else goes on.");
            });
            ways_out(html, refusals.iter().flat_map(|refusal| &refusal.ways_out), approve.as_deref());
        }),
        CohortStateView::Failing { since, why, then, ways_out: ways } => note(html, |html| {
            html.node("p", &[], |html| html.prose(&format!("{}.", sentence(why).trim_end_matches('.'))));
            html.node("p", &[("class", "since")], |html| {
                html.text("Failing for ");
                lasting(html, *since, board.now);
                html.text("; ");
                next(html, board, *then);
            });
            ways_out(html, ways, None);
        }),
    }
}

fn waiting(html: &mut Html, why: Option<&str>) {
    html.text("Heap has told nothing of this segment yet. ");
    html.text("It does after its first sync to this address.");
    if let Some(why) = why {
        html.prose(&format!(" {}.", sentence(why).trim_end_matches('.')));
    }
}

fn note(html: &mut Html, inside: impl FnOnce(&mut Html)) {
    html.node("div", &[("class", "note")], inside);
}

fn withheld(html: &mut Html, refusals: &[BlockedView]) {
    for refusal in refusals {
        html.node("p", &[], |html| {
            html.leaf("b", &[], &format!("{} blocked: ", sentence(&refusal.what)));
            html.prose(&refusal.why);
            html.text(".");
        });
    }
}

fn next(html: &mut Html, board: &DashboardView, then: NextStep) {
    match then {
        NextStep::TriedAgain { at: Some(at) } => {
            html.text("tried again ");
            time(html, at, &due(at, board.now));
            html.text(".");
        }
        NextStep::TriedAgain { at: None } => html.text("it is tried again without you."),
        NextStep::NeedsPerson => html.text("it needs a person."),
    }
}

fn ways_out<'a>(html: &mut Html, ways: impl IntoIterator<Item = &'a RemedyView>, approve: Option<&str>) {
    let mut ways = ways.into_iter().peekable();
    if approve.is_none() && ways.peek().is_none() {
        return;
    }
    html.node("ul", &[("class", "ways")], |html| {
        if approve.is_some() {
            way_out(html, "to approve exactly this plan", approve);
        }
        for way in ways {
            way_out(html, &way.words, way.command.as_deref());
        }
    });
}

fn way_out(html: &mut Html, words: &str, command: Option<&str>) {
    html.node("li", &[], |html| {
        html.prose(&sentence(words));
        if let Some(command) = command {
            html.text(": ");
            html.leaf("code", &[("class", "command")], command);
        }
    });
}

/// Fragments begin in lower case; on a page of their own they are sentences.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn details(html: &mut Html, board: &DashboardView, cohort: &CohortView) {
    let rejected: u64 = cohort.rejects.values().sum();
    html.node("details", &[], |html| {
        html.node("summary", &[], |html| {
            html.text(&cohort.plan.as_ref().map_or_else(|| "Not planned yet".to_owned(), in_short));
            if rejected > 0 {
                html.text(" · ");
                html.leaf("span", &[("class", "warn")], &format!("{} not used", plural(rejected, "row")));
            }
        });
        html.node("dl", &[], |html| {
            entry(html, "Id", |html| html.leaf("code", &[], cohort.id.as_str()));
            entry(html, "Declared at", |html| html.leaf("code", &[], &cohort.declared_at));
            if let Some(plan) = &cohort.plan {
                entry(html, "Last plan", |html| in_full(html, board, plan));
            }
            if cohort.in_doubt > 0 {
                let what = format!("{}; the next run settles them", plural(cohort.in_doubt, "member"));
                entry(html, "Without an answer from Braze", |html| html.text(&what));
            }
            if cohort.refused > 0 {
                entry(html, "Refused by Braze", |html| html.text(&plural(cohort.refused, "identifier")));
            }
            if rejected > 0 {
                entry(html, "Rows not used", |html| rejects(html, cohort));
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

fn in_full(html: &mut Html, board: &DashboardView, plan: &PlanView) {
    html.text(&format!(
        "{} to add, {} to remove, {} unchanged; {}, made ",
        count(plan.adds),
        count(plan.removes),
        count(plan.unchanged),
        plural(plan.requests, "request"),
    ));
    age(html, plan.at, board.now);
}

fn rejects(html: &mut Html, cohort: &CohortView) {
    html.node("ul", &[], |html| {
        for (reason, number) in &cohort.rejects {
            html.node("li", &[], |html| {
                html.text(&count(*number));
                html.text(" × ");
                match reject(reason) {
                    Some(words) => html.leaf("span", &[("title", reason)], words),
                    None => html.leaf("code", &[], reason),
                }
            });
        }
    });
    if let Some(file) = &cohort.rejects_file {
        html.text("Each of them is in ");
        html.leaf("code", &[], file);
    }
}

fn orphaned(html: &mut Html, cohorts: &[OrphanedView]) {
    if cohorts.is_empty() {
        return;
    }
    html.node("article", &[("class", "box")], |html| {
        html.leaf("h3", &[], "Orphaned");
        let why = "These are not in the config any more. Their members stay in Braze until `removed:` says otherwise.";
        html.node("p", &[], |html| html.prose(why));
        html.node("ul", &[], |html| {
            for cohort in cohorts {
                let size = cohort.members.map(|number| plural(number, "member"));
                html.node("li", &[], |html| {
                    html.leaf("code", &[], cohort.id.as_str());
                    if let Some(name) = &cohort.name {
                        html.text(" ");
                        html.name(name);
                    }
                    html.text(&format!(": {}", size.as_deref().unwrap_or("size not known")));
                });
            }
        });
    });
}
