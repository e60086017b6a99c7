//! A plan as Markdown, for a comment on a pull request.

use super::guard_violation::{BlockedSubject, words};
use super::{
    RenderOptions, and_more, cost_line, plan_problems, rejected, rejects_line, sample, skipped_line,
    spelled_line, unknown_line,
};
use crate::cli::hints::plan_hints;
use crate::cli::output::{count, counted};
use crate::foreign;
use crate::model::ChangeOp;
use crate::plan::CohortNaming;
use crate::reconcile::{CohortPlan, FailedCohort, RunPlan};

/// The whole plan.
pub(in crate::cli) fn markdown(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut text = String::from("## syncline plan\n\n");
    text.push_str(&if plan.is_in_sync() {
        "Nothing will be sent.\n".to_owned()
    } else {
        format!("{}.\n", cost_line(plan.cost()))
    });
    let problems = plan_problems(plan);
    if !problems.is_empty() {
        let head = if plan.is_in_sync() { "Not in sync" } else { "Incomplete" };
        text.push_str(&format!("\n**{head}: {}.**\n", problems.join("; ")));
    }
    if !plan.cohorts.is_empty() || !plan.failed.is_empty() {
        text.push_str("\n| cohort | | add | remove | unchanged | rejected |\n|---|---|--:|--:|--:|--:|\n");
    }
    for cohort in &plan.cohorts {
        text.push_str(&row(cohort));
    }
    plan.failed.iter().for_each(|failed| text.push_str(&failed_row(failed)));
    text.push_str(&notes(plan, showing));
    text.push_str(&showing.segments.markdown());
    let show = showing.show_identifiers;
    let samples: String = plan.cohorts.iter().map(|cohort| samples(cohort, show)).collect();
    if !samples.is_empty() {
        text.push_str(&format!("\n<details><summary>Samples</summary>\n\n{samples}\n</details>\n"));
    }
    if !plan.is_in_sync() {
        text.push_str(&format!("\n`{}`\n", plan.digest()));
    }
    text
}

fn row(cohort: &CohortPlan) -> String {
    let approved = &cohort.verdict.approved;
    let tally = approved.plan().tally;
    let what = match (&approved.plan().naming, approved.is_in_sync(), cohort.verdict.violations.is_empty()) {
        (_, _, false) => "**blocked in part**".to_owned(),
        (Some(CohortNaming::Create { .. }), ..) => "create".to_owned(),
        (Some(CohortNaming::Rename { from, name }), ..) => {
            format!("rename from {} to {}", foreign::markdown(from), foreign::markdown(name))
        }
        (Some(CohortNaming::Again { .. }), ..) => "send the name once more".to_owned(),
        (None, true, _) => "in sync".to_owned(),
        (None, false, _) => "change".to_owned(),
    };
    let side = |op, changes| {
        let is_blocked = changes > 0 && !*approved.sides().of(op);
        if is_blocked { format!("~~{}~~", count(changes)) } else { count(changes) }
    };
    let what = if cohort.empties { format!("empty (`removed:`), {what}") } else { what };
    let what = match &approved.plan().next_delivery {
        Some(to) => format!("delivery change to {to}: first remove from {}, {what}", cohort.delivery()),
        None => what,
    };
    let unused = cohort.matched.as_ref().map_or(0, rejected);
    format!(
        "| `{}` {} | {what} | {} | {} | {} | {} |\n",
        cohort.id,
        foreign::markdown(&cohort.name),
        side(ChangeOp::Add, tally.adds()),
        side(ChangeOp::Remove, tally.removes()),
        count(tally.unchanged),
        count(unused),
    )
}

fn failed_row(failed: &FailedCohort) -> String {
    format!("| `{}` | **not planned** | ? | ? | ? | ? |\n", failed.id)
}

fn notes(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut notes = Vec::new();
    for cohort in &plan.cohorts {
        let whole = cohort.verdict.approved.plan().whole_digest();
        let about =
            BlockedSubject { id: &cohort.id, declared_at: &cohort.declared_at, again: showing.again, whole };
        for words in words(&cohort.verdict.violations, about) {
            notes.push(format!(
                "- :no_entry: `{}`: {} blocked: {}",
                cohort.id,
                words.side,
                foreign::markdown(&words.why)
            ));
            notes.extend(words.remedies.iter().map(|remedy| format!("  - {}", foreign::markdown(remedy))));
        }
        if let Some(reasons) = cohort.matched.as_ref().and_then(rejects_line) {
            notes.push(format!("- `{}`: rejected rows: {reasons}", cohort.id));
        }
        if let Some(line) = cohort.matched.as_ref().and_then(spelled_line) {
            notes.push(format!("- `{}`: {line}", cohort.id));
        }
    }
    for waiting in &plan.waiting {
        notes.push(format!("- `{}`: waiting, {}", waiting.id, foreign::markdown(&waiting.error.to_string())));
        notes
            .extend(plan_hints(&waiting.error).iter().map(|hint| format!("  - {}", foreign::markdown(hint))));
    }
    for failed in &plan.failed {
        notes.push(format!(
            "- :x: `{}`: not planned, {}",
            failed.id,
            foreign::markdown(&failed.error.to_string())
        ));
        notes.extend(plan_hints(&failed.error).iter().map(|hint| format!("  - {}", foreign::markdown(hint))));
    }
    for left in &plan.orphaned {
        let members =
            left.members.map_or_else(|| "an unknown number of members".to_owned(), |m| counted(m, "member"));
        notes
            .push(format!("- `{}` is orphaned: it is not in the config, and Braze keeps {members}", left.id));
    }
    notes.extend(showing.unknown.iter().map(|id| format!("- :warning: {}", unknown_line(id))));
    notes.extend(skipped_line(showing.segments.config).map(|line| format!("- {line}")));
    if notes.is_empty() { String::new() } else { format!("\n{}\n", notes.join("\n")) }
}

fn samples(cohort: &CohortPlan, show_identifiers: bool) -> String {
    let plan = cohort.verdict.approved.plan();
    let list = |sign: &str, samples: &[Box<[u8]>], all: u64| {
        let code = |packed: &[u8]| foreign::markdown(&sample(packed, show_identifiers));
        let shown: Vec<String> = samples.iter().map(|packed| code(packed)).collect();
        if shown.is_empty() { String::new() } else { format!("- {sign} {}\n", and_more(&shown, all)) }
    };
    let lines = list("add", &plan.samples.adds, plan.tally.adds())
        + &list("remove", &plan.samples.removes, plan.tally.removes());
    if lines.is_empty() { lines } else { format!("`{}`\n\n{lines}\n", cohort.id) }
}
