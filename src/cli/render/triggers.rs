//! Triggers and unknown users of a cohort in plans and reports: text and JSON.

use serde_json::{Value, json};

use crate::apply::TriggerOutcome;
use crate::cli::output::{count, counted, counted_as, counted_of, yellow};
use crate::foreign::escaped;
use crate::model::timestamp_text;
use crate::reconcile::{CohortReport, PreflightPlan, PreflightReport, TriggerPlan, TriggersPlan};
use crate::source::{PROPERTIES_LEN_MAX, VALUE_LEN_MAX};
use crate::state::Transition;

/// The config key of a trigger.
fn config_key(transition: Transition) -> &'static str {
    match transition {
        Transition::Enter => "on_enter",
        Transition::Exit => "on_exit",
    }
}

/// The unknown users of a planned cohort.
pub(super) fn unknown_users(preflight: Option<&PreflightPlan>) -> Vec<String> {
    let Some(preflight) = preflight else { return Vec::new() };
    let known = (preflight.known > 0).then(|| {
        format!(
            "    {} formerly unknown to Braze, with a profile now: sent again",
            counted(preflight.known, "user")
        )
    });
    let unknown = (preflight.unknown > 0).then(|| {
        let all = counted(preflight.unknown, "user");
        let due = counted_as(preflight.due, "is looked up", "are looked up");
        format!("    {} {all} unknown to Braze, so not in the cohort; {due} again", yellow("!"))
    });
    known.into_iter().chain(unknown).collect()
}

/// The unknown users that the preflight of a run found.
fn preflight_lines(report: Option<&PreflightReport>) -> Vec<String> {
    let Some(PreflightReport { looked_up, unknown, known_now, waiting, error, too_many }) = report else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if *unknown > 0 {
        let unknown = counted_of(*unknown, *looked_up, "new member");
        lines.push(format!(
            "  {} unknown to Braze: {unknown}; sent again once there is a profile",
            yellow("!")
        ));
    }
    if *known_now > 0 {
        lines.push(format!(
            "  {} {} formerly unknown to Braze, with a profile now: the next run sends them again",
            yellow("~"),
            counted(*known_now, "user")
        ));
    }
    if *waiting > *unknown {
        lines.push(format!("  {} {} unknown to Braze in total", yellow("!"), counted(*waiting, "user")));
    }
    lines.extend(
        error.iter().map(|error| format!("  {} the lookup of unknown users failed: {error}", yellow("!"))),
    );
    if *too_many > 0 {
        lines.push(format!(
            "  {} {} over the limit: not looked up in Braze, or not recorded as unknown",
            yellow("!"),
            count(*too_many)
        ));
    }
    lines
}

/// The triggers of a planned cohort.
pub(super) fn planned(triggers: Option<&TriggersPlan>) -> Vec<String> {
    let Some(triggers) = triggers else { return Vec::new() };
    let mut lines: Vec<String> = triggers.triggers.iter().flat_map(trigger_lines).collect();
    lines.extend(unanswered_line(triggers.unanswered.len()));
    lines
}

fn trigger_lines(plan: &TriggerPlan) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |number: u64, text: String| parts.extend((number > 0).then_some(text));
    let now = plan.now.len() as u64;
    part(now, format!("for {} now", counted(now, "user")));
    let until =
        plan.quiet_until.map(|until| format!(" until {}, the end of the quiet hours", timestamp_text(until)));
    let until = until.unwrap_or_else(|| " for the next run".to_owned());
    part(plan.waiting, format!("{}{until}", counted_as(plan.waiting, "waits", "wait")));
    part(plan.in_cool_down, format!("{} in cool-down, not again", count(plan.in_cool_down)));
    part(plan.expired, format!("{} too old, dropped", count(plan.expired)));
    part(plan.unreachable, format!("{} without an external id, not triggered", count(plan.unreachable)));
    part(plan.first_fill, format!("not for the first fill: {}", counted(plan.first_fill, "user")));
    part(u64::from(plan.too_many), "too many users at once, so for none".to_owned());
    if parts.is_empty() {
        return Vec::new();
    }
    let line = format!(
        "  {} {} triggers {}: {}",
        yellow(">"),
        config_key(plan.transition),
        plan.trigger,
        parts.join("; ")
    );
    std::iter::once(line).chain(left_out(plan)).collect()
}

/// Properties that are not sent because they are too large or of an unsupported type.
fn left_out(plan: &TriggerPlan) -> Vec<String> {
    let line = |(property, users): (&str, u64)| {
        let users = counted(users, "user");
        format!(
            "  {} {}: property `{}` left out for {users}: a value is at most {} KiB, all values of a user {} KiB, and lists, objects and bytes cannot be sent",
            yellow("!"),
            config_key(plan.transition),
            escaped(property),
            VALUE_LEN_MAX >> 10,
            PROPERTIES_LEN_MAX >> 10,
        )
    };
    plan.left_out().into_iter().map(line).collect()
}

fn unanswered_line(users: usize) -> Option<String> {
    let text = format!(
        "  {} {} triggered without an answer: perhaps executed, not repeated",
        yellow("!"),
        counted(users as u64, "user")
    );
    (users > 0).then_some(text)
}

/// The unknown users and triggers of an applied cohort.
pub(super) fn done(cohort: &CohortReport) -> Vec<String> {
    let mut lines = preflight_lines(cohort.preflight_report.as_ref());
    let Some(triggers) = &cohort.triggers else { return lines };
    for (plan, done) in triggers.triggers.iter().zip(&cohort.triggered) {
        let TriggerOutcome { sent, notice, stop_reason, .. } = done;
        if *sent > 0 {
            let users = counted(*sent, "user");
            lines.push(format!(
                "  {} {} triggered {} for {users}",
                yellow(">"),
                config_key(plan.transition),
                plan.trigger
            ));
        }
        lines.extend(left_out(plan));
        let messages = notice
            .iter()
            .chain(stop_reason)
            .map(|message| format!("  {} {}: {message}", yellow("!"), config_key(plan.transition)));
        lines.extend(messages);
    }
    for (plan, done) in triggers.triggers.iter().zip(&cohort.triggered) {
        if let Some((_, why)) = done.rejected.first() {
            let recipients = counted(done.rejected.len() as u64, "recipient");
            lines.push(format!(
                "  {} {}: {recipients} rejected by Braze: {why}",
                yellow("!"),
                config_key(plan.transition)
            ));
        }
    }
    let unanswered = cohort.triggered.iter().map(|done| done.unanswered.len()).sum::<usize>();
    lines.extend(unanswered_line(triggers.unanswered.len() + unanswered));
    lines
}

/// The JSON of the triggers of a planned cohort.
pub(super) fn plan_json(triggers: Option<&TriggersPlan>) -> Value {
    let Some(triggers) = triggers else { return Value::Null };
    let trigger = |plan: &TriggerPlan| {
        json!({
            "on": config_key(plan.transition),
            "trigger": plan.trigger.to_string(),
            "due": plan.now.len(),
            "waiting": plan.waiting,
            "quiet_until": plan.quiet_until.map(timestamp_text),
            "in_cool_down": plan.in_cool_down,
            "expired": plan.expired,
            "unreachable": plan.unreachable,
            "first_fill": plan.first_fill,
            "too_many": plan.too_many,
            "omitted_properties": plan.left_out(),
        })
    };
    json!({ "list": triggers.triggers.iter().map(trigger).collect::<Vec<_>>(), "unanswered": triggers.unanswered.len() })
}

/// The JSON of the triggers of an applied cohort.
pub(super) fn done_json(cohort: &CohortReport) -> Value {
    let Some(triggers) = &cohort.triggers else { return Value::Null };
    let trigger = |(plan, done): (&TriggerPlan, &TriggerOutcome)| {
        json!({
            "on": config_key(plan.transition),
            "trigger": plan.trigger.to_string(),
            "sent": done.sent,
            "unanswered": done.unanswered.len(),
            "rejected": done.rejected.len(),
            "omitted_properties": plan.left_out(),
            "notice": done.notice,
            "error": done.stop_reason,
        })
    };
    let list: Vec<Value> = triggers.triggers.iter().zip(&cohort.triggered).map(trigger).collect();
    json!({ "list": list, "unanswered_before": triggers.unanswered.len() })
}

/// The JSON of the unknown users of a planned cohort.
pub(super) fn unknown_users_json(preflight: Option<&PreflightPlan>) -> Value {
    preflight.map_or(
        Value::Null,
        |plan| json!({ "sent_again": plan.known, "unknown": plan.unknown, "looked_up_again": plan.due }),
    )
}

/// The JSON of the unknown users that the preflight of a run found.
pub(super) fn preflight_json(report: Option<&PreflightReport>) -> Value {
    report.map_or(Value::Null, |report| {
        json!({
            "looked_up": report.looked_up, "unknown": report.unknown, "found": report.known_now,
            "waiting": report.waiting, "error": report.error, "over_limit": report.too_many,
        })
    })
}
