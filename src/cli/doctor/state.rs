//! The state: whether it can be read, who holds it, and whether it could be written.

use super::{DoctorFindings, machine};
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::output::counted;
use crate::cli::render::approval::approved_line;
use crate::cli::render::time::time_text;
use crate::cli::resources::location;
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{Config, StateLocation};
use crate::state::{LastOutcomes, OutcomeResult, StateError, StateReader};

/// The number of members of the largest cohort in the state.
pub(super) fn check(config: &Config, again: &SuggestedCommand, findings: &mut DoctorFindings) -> u64 {
    let location = location(config);
    findings.about(format!("state {location}"));
    let opened = StateReader::open(&location).map_err(CommandError::from);
    let Some(state) = findings.check("state", opened) else { return 0 };
    if state.exists() {
        let read = cohorts(&state).map_err(CommandError::from);
        let Some((cohorts, members_max)) = findings.check("state", read) else { return 0 };
        findings.passed("state", format!("can be read: {}", counted(cohorts, "cohort")));
        holder(&state, findings);
        writable(config, findings);
        match state.last_outcomes() {
            Ok(outcomes) => blocked(config, &state, &outcomes, (again, findings)),
            // No plan depends on it.
            Err(error) => findings.note(
                "outcomes",
                format!("what the guard blocks is unknown: {error}"),
                "the next run records it again",
            ),
        }
        return members_max;
    }
    findings.passed("state", "there is none yet; the first `syncline reconcile` creates it");
    writable(config, findings);
    0
}

fn cohorts(state: &StateReader) -> Result<(u64, u64), StateError> {
    let (mut cohorts, mut members_max) = (0, 0);
    for id in state.cohorts()? {
        cohorts += 1;
        let members = state.version(&id)?.and_then(|version| version.members);
        members_max = members_max.max(members.unwrap_or(0));
    }
    Ok((cohorts, members_max))
}

fn holder(state: &StateReader, findings: &mut DoctorFindings) {
    let held = state.holder(environment::clock().now()).map_err(CommandError::from);
    match findings.check("holder", held) {
        Some(Some(holder)) => findings.note(
            "holder",
            format!("held by {holder}"),
            "other commands that write wait for the lease, or end with exit code 8; a second `watch` is a standby",
        ),
        Some(None) => findings.passed("holder", "not locked"),
        None => {}
    }
}

/// The cohorts that the guard blocks, and whether they wait for an approval.
fn blocked(
    config: &Config,
    state: &StateReader,
    outcomes: &LastOutcomes,
    (again, findings): (&SuggestedCommand, &mut DoctorFindings),
) {
    for id in config.cohort_ids() {
        let Some((last, since)) = outcomes.cohort(id).and_then(|last| Some((last, last.blocked_since()?)))
        else {
            continue;
        };
        let approvals = state.approvals(id, environment::clock().now()).map_err(CommandError::from);
        let Some(approvals) = findings.check("blocked", approvals) else { continue };
        let given = approvals.iter().find(|approval| Some(&approval.plan) == last.plan.as_ref());
        let (waits, remedy) = match (&last.plan, given) {
            (_, Some(approval)) => ("", format!("{}; the next run applies it", approved_line(approval))),
            (Some(plan), None) => (
                "; it waits for an approval",
                plan.parse().map_or_else(
                    |_| again.command("status"),
                    |plan| format!("to approve exactly this plan: {}", again.approve(id, plan)),
                ),
            ),
            (None, None) => ("", format!("for what to do: {}", again.command("plan"))),
        };
        let reason = last.reason.as_deref().unwrap_or("the reason is not recorded");
        let reason = match last.result {
            OutcomeResult::Blocked => format!(": {reason}"),
            other => format!("; the last run ended as {}: {reason}", other.code()),
        };
        findings.note(
            "blocked",
            format!("{id} is blocked since {}{waits}{reason}", time_text(since.0)),
            remedy,
        );
    }
}

/// Whether it could be written, without writing.
fn writable(config: &Config, findings: &mut DoctorFindings) {
    let StateLocation::Folder(path) = &config.state else {
        findings.passed("permission", "the first run checks write access before it sends anything");
        return;
    };
    let there = machine::existing(path);
    let name = there.display();
    match machine::may_write(&there) {
        Ok(()) => findings.passed("permission", "can be written"),
        Err(error) => findings.failed(
            "permission",
            format!("{name} cannot be written: {error}"),
            "give this user write access to it, or set another folder under `state:`",
        ),
    }
}
