//! What is triggered for people who enter or leave, in words and as JSON.

use serde_json::{Value, json};

use crate::apply::TriggerOutcome;
use crate::cli::output::{count, counted, yellow};
use crate::foreign::escaped;
use crate::model::timestamp_text;
use crate::reconcile::{CohortReport, PreflightPlan, PreflightReport, TriggerPlan, TriggersPlan};
use crate::source::{PROPERTIES_LEN_MAX, VALUE_LEN_MAX};
use crate::state::Transition;

/// The config's word for an action.
fn word(crossing: Transition) -> &'static str {
    match crossing {
        Transition::Enter => "on_enter",
        Transition::Exit => "on_exit",
    }
}

/// What a plan says of people whom Braze did not know.
pub(super) fn strangers(strangers: Option<&PreflightPlan>) -> Vec<String> {
    let Some(strangers) = strangers else { return Vec::new() };
    let known = (strangers.known > 0).then(|| {
        format!(
            "    {} whom Braze did not know are known to it now: they are sent again",
            count(strangers.known)
        )
    });
    let unknown = (strangers.unknown > 0).then(|| {
        let (all, due) = (count(strangers.unknown), count(strangers.due));
        format!(
            "    {} {all} unknown to Braze, so not in the cohort; it is asked again for {due}",
            yellow("!")
        )
    });
    known.into_iter().chain(unknown).collect()
}

/// What Braze said of them.
fn asked(asked: Option<&PreflightReport>) -> Vec<String> {
    let Some(PreflightReport { asked, unknown, known_now, waiting, error: trouble, too_many }) = asked else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if *unknown > 0 {
        let (unknown, asked) = (count(*unknown), count(*asked));
        lines.push(format!(
            "  {} Braze does not know {unknown} of {asked} who enter; they are sent again once it does",
            yellow("!")
        ));
    }
    if *known_now > 0 {
        lines.push(format!(
            "  {} Braze knows {} now whom it did not: the next run sends them again",
            yellow("~"),
            count(*known_now)
        ));
    }
    if *waiting > *unknown {
        lines.push(format!("  {} {} unknown to Braze in all", yellow("!"), count(*waiting)));
    }
    lines.extend(
        trouble.iter().map(|why| format!("  {} whom Braze knows could not be asked: {why}", yellow("!"))),
    );
    if *too_many > 0 {
        lines.push(format!(
            "  {} {} were too many to ask Braze for, or to remember",
            yellow("!"),
            count(*too_many)
        ));
    }
    lines
}

/// What a plan triggers; nothing where there is nothing to say.
pub(super) fn planned(actions: Option<&TriggersPlan>) -> Vec<String> {
    let Some(actions) = actions else { return Vec::new() };
    let mut lines: Vec<String> = actions.triggers.iter().flat_map(one).collect();
    lines.extend(lost(actions.unanswered.len()));
    lines
}

fn one(one: &TriggerPlan) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |number: u64, text: String| parts.extend((number > 0).then_some(text));
    let people = |number: u64| counted(number, "person").replace("persons", "people");
    part(one.now.len() as u64, format!("for {} now", people(one.now.len() as u64)));
    let until =
        one.quiet_until.map(|until| format!(" until {}, the end of the quiet hours", timestamp_text(until)));
    let until = until.unwrap_or_else(|| " for the next run".to_owned());
    part(one.waiting, format!("{} wait{until}", count(one.waiting)));
    part(one.in_cool_down, format!("{} in cool-down, not again", count(one.in_cool_down)));
    part(one.expired, format!("{} too old, dropped", count(one.expired)));
    part(one.unreachable, format!("{} known by device only, not reached", count(one.unreachable)));
    part(one.first_fill, format!("not for the {} of the first fill", count(one.first_fill)));
    part(u64::from(one.too_many), "too many at once, so for none of them".to_owned());
    if parts.is_empty() {
        return Vec::new();
    }
    let line =
        format!("  {} {} triggers {}: {}", yellow(">"), word(one.transition), one.trigger, parts.join("; "));
    std::iter::once(line).chain(left_out(one)).collect()
}

/// Properties that are left out of what is sent.
fn left_out(one: &TriggerPlan) -> Vec<String> {
    let line = |(property, users): (&str, u64)| {
        let users = counted(users, "user");
        format!(
            "  {} {}: property `{}` left out for {users}: a value is at most {} KiB, all values of a user {} KiB, and lists, objects and bytes cannot be sent",
            yellow("!"),
            word(one.transition),
            escaped(property),
            VALUE_LEN_MAX >> 10,
            PROPERTIES_LEN_MAX >> 10,
        )
    };
    one.left_out().into_iter().map(line).collect()
}

fn lost(people: usize) -> Option<String> {
    let who = counted(people as u64, "person").replace("persons", "people");
    let text =
        format!("  {} {who} triggered without an answer: perhaps done, and not done again", yellow("!"));
    (people > 0).then_some(text)
}

/// What a run triggered.
pub(super) fn done(cohort: &CohortReport) -> Vec<String> {
    let mut lines = asked(cohort.preflight_report.as_ref());
    let Some(actions) = &cohort.triggers else { return lines };
    for (one, done) in actions.triggers.iter().zip(&cohort.triggered) {
        let TriggerOutcome { sent, notice, trouble, .. } = done;
        if *sent > 0 {
            let who = counted(*sent, "person").replace("persons", "people");
            lines.push(format!(
                "  {} {} triggered {} for {who}",
                yellow(">"),
                word(one.transition),
                one.trigger
            ));
        }
        lines.extend(left_out(one));
        let said = notice
            .iter()
            .chain(trouble)
            .map(|said| format!("  {} {}: {said}", yellow("!"), word(one.transition)));
        lines.extend(said);
    }
    for (one, done) in actions.triggers.iter().zip(&cohort.triggered) {
        if let Some((_, why)) = done.rejected.first() {
            let who = counted(done.rejected.len() as u64, "recipient");
            lines.push(format!("  {} {}: {who} rejected by Braze: {why}", yellow("!"), word(one.transition)));
        }
    }
    let unanswered = cohort.triggered.iter().map(|done| done.lost.len()).sum::<usize>();
    lines.extend(lost(actions.unanswered.len() + unanswered));
    lines
}

/// What a plan triggers.
pub(super) fn plan_json(actions: Option<&TriggersPlan>) -> Value {
    let Some(actions) = actions else { return Value::Null };
    let one = |one: &TriggerPlan| {
        json!({
            "on": word(one.transition),
            "sends": one.trigger.to_string(),
            "now": one.now.len(),
            "waiting": one.waiting,
            "quiet_until": one.quiet_until.map(timestamp_text),
            "in_cool_down": one.in_cool_down,
            "expired": one.expired,
            "unreachable": one.unreachable,
            "first_fill": one.first_fill,
            "too_many": one.too_many,
            "properties_left_out": one.left_out(),
        })
    };
    json!({ "each": actions.triggers.iter().map(one).collect::<Vec<_>>(), "unanswered": actions.unanswered.len() })
}

/// What a run triggered.
pub(super) fn done_json(cohort: &CohortReport) -> Value {
    let Some(actions) = &cohort.triggers else { return Value::Null };
    let one = |(one, done): (&TriggerPlan, &TriggerOutcome)| {
        json!({
            "on": word(one.transition),
            "sends": one.trigger.to_string(),
            "sent": done.sent,
            "unanswered": done.lost.len(),
            "rejected": done.rejected.len(),
            "properties_left_out": one.left_out(),
            "notice": done.notice,
            "trouble": done.trouble,
        })
    };
    let each: Vec<Value> = actions.triggers.iter().zip(&cohort.triggered).map(one).collect();
    json!({ "each": each, "unanswered_before": actions.unanswered.len() })
}

/// What a plan says of people whom Braze did not know.
pub(super) fn strangers_json(strangers: Option<&PreflightPlan>) -> Value {
    strangers.map_or(
        Value::Null,
        |one| json!({ "sent_again": one.known, "unknown": one.unknown, "asked_again": one.due }),
    )
}

/// What Braze said of them.
pub(super) fn asked_json(asked: Option<&PreflightReport>) -> Value {
    asked.map_or(Value::Null, |one| {
        json!({
            "asked": one.asked, "unknown": one.unknown, "known_now": one.known_now, "waiting": one.waiting,
            "trouble": one.error, "too_many": one.too_many,
        })
    })
}
