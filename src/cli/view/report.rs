//! What a pass did, for people: a line for each cohort, what was withheld or went wrong, and the sum.

use super::plan::left_behind;
use super::refusal::words;
use super::{rejected, rejects_line};
use crate::cli::output::{bold, count, counted, dim, green, red, yellow};
use crate::plan::Naming;
use crate::reconcile::{CohortReport, PassReport};

/// The whole report. `failed` are the cohorts that could not be planned, in words already.
pub(in crate::cli) fn human(report: &PassReport, failed: &[String]) -> String {
    let mut lines = Vec::new();
    for cohort in &report.cohorts {
        self::cohort(cohort, &mut lines);
    }
    lines.extend(failed.iter().cloned());
    lines.extend(report.left_behind.iter().map(left_behind));
    lines.push(String::new());
    lines.push(summary(report));
    lines.join("\n")
}

fn cohort(cohort: &CohortReport, lines: &mut Vec<String>) {
    lines.push(format!("{}  {}", bold(cohort.id.as_str()), what(cohort)));
    let outcome = &cohort.outcome;
    if outcome.refused > 0 {
        let why = outcome.refusal.as_deref().unwrap_or_default();
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
        lines.push(format!("  {} {who} could not be removed; the next pass tries again", yellow("!")));
    }
    if cohort.tally.refused > 0 {
        let who = counted(cohort.tally.refused, "identifier");
        lines
            .push(format!("  {} {who} refused before and not sent; --retry-refused asks again", yellow("!")));
    }
    if let Some(halt) = &outcome.halt {
        lines.push(format!("  {} {halt}", red("stopped:")));
    }
    if outcome.in_doubt > 0 {
        lines.push(format!(
            "  {} {} in doubt; the next pass settles them",
            yellow("!"),
            counted(outcome.in_doubt, "member")
        ));
    }
    for refusal in &cohort.refusals {
        let words = words(refusal, &cohort.id, &cohort.declared_at);
        lines.push(format!("  {} {}", yellow(&format!("! {} withheld:", words.withheld)), words.why));
        lines.extend(words.way_out.iter().map(|way| format!("      {way}")));
    }
    if let Some((reasons, rows)) = cohort.matched.as_ref().and_then(|m| Some((rejects_line(m)?, rejected(m))))
    {
        lines.push(format!("  {} {} not used: {reasons}", yellow("!"), counted(rows, "row")));
    }
    if let Some(file) = &cohort.rejects_file {
        lines.push(dim(&format!("    {}", file.display())));
    }
}

fn what(cohort: &CohortReport) -> String {
    let outcome = &cohort.outcome;
    let mut parts = Vec::new();
    match &outcome.named {
        Some(Naming::Create { name }) => parts.push(format!("created \"{name}\"")),
        Some(Naming::Rename { from, name }) => parts.push(format!("renamed \"{from}\" to \"{name}\"")),
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

fn summary(report: &PassReport) -> String {
    let sum = |f: fn(&CohortReport) -> u64| report.cohorts.iter().map(f).sum::<u64>();
    let cohorts = counted(report.cohorts.len() as u64, "cohort");
    let requests = counted(report.requests, "request");
    let done = format!(
        "{cohorts}, {} added, {} removed, {requests}",
        count(sum(|c| c.outcome.added)),
        count(sum(|c| c.outcome.removed)),
    );
    match report.word() {
        "in_step" => {
            let members = counted(sum(CohortReport::members), "member");
            format!("{} {cohorts}, {members}, {requests} to Braze.", green("In step:"))
        }
        "applied" => format!("{} {done}.", green("Applied:")),
        "applied_in_part" => format!("{} {done}.", yellow("Applied in part:")),
        "refused" => format!("{} nothing was sent.", yellow("Refused:")),
        _ => format!("{} {done}.", red("Failed:")),
    }
}
