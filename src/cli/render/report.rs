//! What a run did, for people: a line for each cohort, what was withheld or went wrong, and the sum.

use super::guard_violation::{BlockedSubject, words};
use super::plan::left_behind;
use super::{rejected, rejects_line, spelled_line, troubles};
use crate::apply::ApplyStop;
use crate::cli::exit::Exit;
use crate::cli::output::{bold, count, counted, counted_of, dim, green, red, yellow};
use crate::cli::suggested_command::SuggestedCommand;
use crate::export::ExportReport;
use crate::foreign::escaped;
use crate::plan::CohortNaming;
use crate::reconcile::{CohortReport, RunReport};

/// The whole report. `failed` are the cohorts that could not be planned, in words already; `exit` is
/// how the program will end, so that words and code say the same.
pub(in crate::cli) fn human(
    report: &RunReport,
    failed: &[String],
    exports: &[ExportReport],
    exit: Exit,
    again: &SuggestedCommand,
) -> String {
    let mut lines = Vec::new();
    for cohort in &report.cohorts {
        self::cohort(cohort, again, &mut lines);
    }
    lines.extend(failed.iter().cloned());
    lines.extend(report.left_behind.iter().map(left_behind));
    lines.extend(super::export::lines(exports));
    lines.extend(report.halt.iter().map(|halt| format!("{} {halt}", red("not recorded in the journal:"))));
    lines.push(String::new());
    lines.push(summary(report, exports, exit));
    lines.join("\n")
}

fn cohort(cohort: &CohortReport, again: &SuggestedCommand, lines: &mut Vec<String>) {
    lines.push(format!("{}  {}", bold(cohort.id.as_str()), what(cohort)));
    let outcome = &cohort.outcome;
    if outcome.refused > 0 {
        let why = escaped(outcome.refusal.as_deref().unwrap_or_default());
        lines.push(format!(
            "  {} {} refused by Braze: {why}",
            yellow("!"),
            counted(outcome.refused, "identifier")
        ));
    } else if let Some(why) = &outcome.refusal {
        lines.push(format!(
            "  {} Braze refuses an identifier, and took no other to compare: {why}",
            yellow("!")
        ));
    }
    if outcome.refused_removals > 0 {
        let who = counted(outcome.refused_removals, "member");
        lines.push(format!("  {} {who} could not be removed; the next run tries again", yellow("!")));
    }
    if let Some(to) = &cohort.moves_to {
        let from = &cohort.delivery;
        lines.push(if outcome.is_whole() && cohort.refusals.is_empty() {
            format!(
                "  {} nobody is left by {from}; to fill it by {to}: {}",
                yellow("~"),
                again.command("reconcile")
            )
        } else {
            format!(
                "  {} some may be left by {from}; it is not filled by {to} before they are gone",
                yellow("~")
            )
        });
    }
    if cohort.tally.refused > 0 {
        let who = counted(cohort.tally.refused, "identifier");
        lines
            .push(format!("  {} {who} refused before and not sent; --retry-refused asks again", yellow("!")));
    }
    lines.extend(super::triggers::done(cohort));
    lines.extend(super::pushdown::line(cohort.compared.as_ref()));
    lines.extend(cohort.table_trouble.as_deref().map(super::pushdown::trouble));
    if let Some(halt) = &outcome.halt {
        lines.push(format!("  {} {}", red("stopped:"), escaped(&halt.to_string())));
        lines.extend(workspace_ways(halt, again).into_iter().map(|way| format!("      {way}")));
    }
    if outcome.in_doubt > 0 {
        lines.push(format!(
            "  {} {} in doubt; the next run settles them",
            yellow("!"),
            counted(outcome.in_doubt, "member")
        ));
    }
    let about =
        BlockedSubject { id: &cohort.id, declared_at: &cohort.declared_at, again, whole: cohort.whole };
    for words in words(&cohort.refusals, about) {
        lines.push(format!("  {} {}", yellow(&format!("! {} withheld:", words.withheld)), words.why));
        lines.extend(words.way_out.iter().map(|way| format!("      {way}")));
    }
    if let Some((reasons, rows)) = cohort.matched.as_ref().and_then(|m| Some((rejects_line(m)?, rejected(m))))
    {
        lines.push(format!("  {} {} not used: {reasons}", yellow("!"), counted(rows, "row")));
    }
    let spelled = cohort.matched.as_ref().and_then(spelled_line);
    lines.extend(spelled.map(|line| format!("  {} {line}", yellow("!"))));
    if let Some(file) = &cohort.rejects_file {
        lines.push(dim(&format!("    {}", escaped(&file.to_string_lossy()))));
    }
}

fn what(cohort: &CohortReport) -> String {
    let outcome = &cohort.outcome;
    let mut parts = Vec::new();
    match &outcome.named {
        Some(CohortNaming::Create { name }) => parts.push(format!("created \"{}\"", escaped(name))),
        Some(CohortNaming::Rename { from, name }) => {
            parts.push(format!("renamed \"{}\" to \"{}\"", escaped(from), escaped(name)));
        }
        Some(CohortNaming::Again { name }) => parts.push(format!("named \"{}\" once more", escaped(name))),
        None => {}
    }
    if outcome.added > 0 {
        parts.push(format!("added {}", green(&count(outcome.added))));
    }
    if outcome.removed > 0 {
        parts.push(format!("removed {}", red(&count(outcome.removed))));
    }
    let members = counted(cohort.members(), "member");
    match (parts.is_empty(), outcome.halt.is_some(), cohort.refusals.is_empty()) {
        (false, ..) => format!("{}; {members}", parts.join(", ")),
        (true, false, true) => format!("in step, {members}"),
        (true, ..) => format!("unchanged, {members}"),
    }
}

/// The ways out when the keys are of another workspace than the state.
pub(in crate::cli) fn workspace_ways(halt: &ApplyStop, again: &SuggestedCommand) -> Vec<String> {
    let ApplyStop::OtherWorkspace { connection, .. } = halt else { return Vec::new() };
    vec![
        format!("if it is a new key of the same workspace: {}", again.adopt(connection)),
        "if it is another workspace: nobody of the record is there; give it a `state:` of its own, as an entry of \
         `environments:` does"
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
            let head = green("In step:");
            return format!("{head} {cohorts}, {members}, {requests} to Braze{exported}.");
        }
        (Exit::Done, true) => green("Applied:"),
        (Exit::Stopped, _) => yellow("Stopped:"),
        (Exit::Part, _) => yellow("Applied in part:"),
        (Exit::Refused, true) => yellow("Refused in part:"),
        (Exit::Refused, false) => yellow("Refused:"),
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
    let amiss: String = amiss(report, all).iter().map(|trouble| format!("; {trouble}")).collect();
    format!("{head} {done}{amiss}{exported}.")
}

/// What kept the run from being whole.
fn amiss(report: &RunReport, all: u64) -> Vec<String> {
    let cohorts = |so: fn(&CohortReport) -> bool| report.cohorts.iter().filter(|c| so(c)).count() as u64;
    let mut parts = troubles(report.failed.len() as u64, cohorts(|c| !c.refusals.is_empty()), all);
    let (stopped, in_doubt) = (cohorts(|c| c.outcome.halt.is_some()), cohorts(|c| c.outcome.in_doubt > 0));
    if stopped > 0 {
        parts.push(format!("{} stopped early", counted_of(stopped, all, "cohort")));
    }
    if in_doubt > 0 {
        let members = report.cohorts.iter().map(|c| c.outcome.in_doubt).sum();
        parts.push(format!("{} in doubt", counted(members, "member")));
    }
    parts
}
