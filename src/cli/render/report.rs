//! The report of a run as text: one line per cohort, then blocked changes, errors and the summary.

use super::approval::approved_line;
use super::guard_violation::{self, BlockedSubject, unchecked_share};
use super::plan::orphaned;
use super::{ReportOptions, problem_counts, rejected, rejects_line, spelled_line};
use crate::apply::ApplyStop;
use crate::cli::exit::Exit;
use crate::cli::output::{bold, count, counted, counted_of, dim, green, red, yellow};
use crate::cli::suggested_command::SuggestedCommand;
use crate::export::ExportReport;
use crate::foreign::escaped;
use crate::plan::CohortNaming;
use crate::reconcile::{CohortReport, RunReport};

/// The complete report. `failed` contains the rendered cohorts that could not be planned. `exit` is the exit code of the
/// program, so that text and code agree.
pub(in crate::cli) fn human(
    report: &RunReport,
    failed: &[String],
    exports: &[ExportReport],
    exit: Exit,
    showing: ReportOptions<'_>,
) -> String {
    let mut lines = vec![showing.target.line()];
    for cohort in &report.cohorts {
        self::cohort(cohort, showing.again, &mut lines);
    }
    lines.extend(failed.iter().cloned());
    lines.extend(report.orphaned.iter().map(orphaned));
    lines.extend(super::export::lines(exports));
    lines.extend(
        report.journal_error.iter().map(|stop| format!("{} {stop}", red("not recorded in the journal:"))),
    );
    lines.push(String::new());
    lines.push(summary(report, exports, exit));
    lines.join("\n")
}

fn cohort(cohort: &CohortReport, again: &SuggestedCommand, lines: &mut Vec<String>) {
    lines.push(format!("{}  {}", bold(cohort.id.as_str()), what(cohort)));
    let outcome = &cohort.outcome;
    if outcome.rejected > 0 {
        let why = escaped(outcome.first_rejection.as_deref().unwrap_or_default());
        lines.push(format!(
            "  {} {} rejected by Braze: {why}",
            yellow("!"),
            counted(outcome.rejected, "identifier")
        ));
    } else if let Some(why) = &outcome.first_rejection {
        lines.push(format!(
            "  {} Braze rejects an identifier, and accepted no other to compare with: {why}",
            yellow("!")
        ));
    }
    if outcome.rejected_removals > 0 {
        let who = counted(outcome.rejected_removals, "member");
        lines.push(format!("  {} {who} could not be removed; the next run tries again", yellow("!")));
    }
    lines.extend(delivery_change(cohort, again));
    if cohort.tally.rejected > 0 {
        let who = counted(cohort.tally.rejected, "identifier");
        lines.push(format!(
            "  {} {who} rejected by Braze before, not sent; --retry-rejected sends again",
            yellow("!")
        ));
    }
    lines.extend(super::triggers::done(cohort));
    lines.extend(super::pushdown::line(cohort.pushdown.as_ref()));
    lines.extend(cohort.mirror_table_error.as_deref().map(super::pushdown::table_error_line));
    if let Some(stop) = &outcome.stop_reason {
        lines.push(match stop.is_requested() {
            true => format!("  {} {stop}", yellow("!")),
            false => format!("  {} {}", red("stopped:"), escaped(&stop.to_string())),
        });
        lines.extend(workspace_remedies(stop, again).into_iter().map(|remedy| format!("      {remedy}")));
    }
    if outcome.in_doubt > 0 {
        lines.push(format!(
            "  {} {} in doubt; the next run settles them",
            yellow("!"),
            counted(outcome.in_doubt, "member")
        ));
    }
    let about = BlockedSubject {
        id: &cohort.id,
        declared_at: &cohort.declared_at,
        again,
        whole: cohort.whole_digest,
    };
    lines.extend(guard_violation::lines(&cohort.violations, about));
    lines.extend(cohort.unchecked_share.map(|from| format!("  {}", unchecked_share(from))));
    lines.extend(cohort.approval.as_ref().map(|approval| format!("    {}", approved_line(approval))));
    if let Some((reasons, rows)) = cohort.matched.as_ref().and_then(|m| Some((rejects_line(m)?, rejected(m))))
    {
        lines.push(format!("  {} {} rejected: {reasons}", yellow("!"), counted(rows, "row")));
    }
    let spelled = cohort.matched.as_ref().and_then(spelled_line);
    lines.extend(spelled.map(|line| format!("  {} {line}", yellow("!"))));
    if let Some(file) = &cohort.rejects_file {
        lines.push(dim(&format!("    {}", escaped(&file.to_string_lossy()))));
    }
}

/// The next step of a delivery change.
fn delivery_change(cohort: &CohortReport, again: &SuggestedCommand) -> Option<String> {
    let (from, to) = (&cohort.delivery, cohort.next_delivery.as_ref()?);
    Some(if cohort.outcome.is_complete() && cohort.violations.is_empty() {
        format!(
            "  {} no member is left in {from}; to send them by {to}: {}",
            yellow("~"),
            again.command("reconcile")
        )
    } else {
        format!(
            "  {} not all members are removed from {from} yet; they are sent by {to} once all are",
            yellow("~")
        )
    })
}

fn what(cohort: &CohortReport) -> String {
    let outcome = &cohort.outcome;
    let mut parts = Vec::new();
    match &outcome.named {
        Some(CohortNaming::Create { name }) => parts.push(format!("created \"{}\"", escaped(name))),
        Some(CohortNaming::Rename { from, name }) => {
            parts.push(format!("renamed \"{}\" to \"{}\"", escaped(from), escaped(name)));
        }
        Some(CohortNaming::Again { name }) => {
            parts.push(format!("sent the name \"{}\" again", escaped(name)));
        }
        None => {}
    }
    if outcome.added > 0 {
        parts.push(format!("added {}", green(&count(outcome.added))));
    }
    if outcome.removed > 0 {
        parts.push(format!("removed {}", red(&count(outcome.removed))));
    }
    let members = counted(cohort.members(), "member");
    match (parts.is_empty(), outcome.stop_reason.is_some(), cohort.violations.is_empty()) {
        (false, ..) => format!("{}; {members}", parts.join(", ")),
        (true, false, true) => format!("in sync, {members}"),
        (true, ..) => format!("unchanged, {members}"),
    }
}

/// Remedies if the keys belong to another workspace than the state.
pub(in crate::cli) fn workspace_remedies(stop: &ApplyStop, again: &SuggestedCommand) -> Vec<String> {
    let ApplyStop::OtherWorkspace { connection, .. } = stop else { return Vec::new() };
    vec![
        format!("if it is a new key of the same workspace: {}", again.adopt(connection)),
        "if it is another workspace: it has none of the recorded members; give it its own `state:`, for example as an \
         entry of `environments:`"
            .to_owned(),
    ]
}

fn summary(report: &RunReport, exports: &[ExportReport], exit: Exit) -> String {
    let exported = match exports {
        [] => String::new(),
        exports => format!("; {}", super::export::in_short(exports)),
    };
    let changed = report.changed_anything() || exports.iter().any(ExportReport::changed_anything);
    let sum = |f: fn(&CohortReport) -> u64| report.cohorts.iter().map(f).sum::<u64>();
    let all = (report.cohorts.len() + report.failed.len()) as u64;
    let requests = counted(report.requests, "request");
    let head = match (exit, changed) {
        (Exit::Done, false) => {
            let (cohorts, members) = (counted(all, "cohort"), counted(sum(CohortReport::members), "member"));
            let head = green("In sync:");
            return format!("{head} {cohorts}, {members}, {requests} to Braze{exported}.");
        }
        (Exit::Done, true) => green("Applied:"),
        (Exit::Stopped, _) => yellow("Stopped:"),
        (Exit::Part, _) => yellow("Applied in part:"),
        (Exit::Blocked, true) => yellow("Blocked in part:"),
        (Exit::Blocked, false) => yellow("Blocked:"),
        (_, true) => red("Failed in part:"),
        (_, false) => red("Failed:"),
    };
    let changed = report.cohorts.iter().filter(|cohort| cohort.outcome.changed_anything()).count() as u64;
    let done = match (changed, report.requests) {
        (0, 0) => "nothing was sent".to_owned(),
        (0, _) => format!("nothing was changed, {requests}"),
        _ => format!(
            "{}, {} added, {} removed, {requests}",
            counted_of(changed, all, "cohort"),
            count(sum(|c| c.outcome.added)),
            count(sum(|c| c.outcome.removed)),
        ),
    };
    let incomplete: String = incomplete_parts(report, all).iter().map(|part| format!("; {part}")).collect();
    format!("{head} {done}{incomplete}{exported}.")
}

/// The reasons why the run is incomplete.
fn incomplete_parts(report: &RunReport, all: u64) -> Vec<String> {
    let cohorts = |so: fn(&CohortReport) -> bool| report.cohorts.iter().filter(|c| so(c)).count() as u64;
    let mut parts = problem_counts(report.failed.len() as u64, cohorts(|c| !c.violations.is_empty()), all);
    let (stopped, in_doubt) =
        (cohorts(|c| c.outcome.stop_reason.is_some()), cohorts(|c| c.outcome.in_doubt > 0));
    if stopped > 0 {
        parts.push(format!("{} stopped early", counted_of(stopped, all, "cohort")));
    }
    if in_doubt > 0 {
        let members = report.cohorts.iter().map(|c| c.outcome.in_doubt).sum();
        parts.push(format!("{} in doubt", counted(members, "member")));
    }
    parts
}
