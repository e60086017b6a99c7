//! A plan as Markdown, for a comment on a pull request.

use super::refusal::words;
use super::{cost_line, rejected, rejects_line, sample};
use crate::cli::error::plan_hint;
use crate::cli::output::{count, counted};
use crate::model::Op;
use crate::plan::Naming;
use crate::reconcile::{CohortPlan, PassPlan};

/// The whole plan.
pub(in crate::cli) fn markdown(plan: &PassPlan, show_identifiers: bool) -> String {
    let mut text = String::from("## syncline plan\n\n");
    text.push_str(&if plan.is_in_step() {
        "Nothing will be sent.\n".to_owned()
    } else {
        format!("{}.\n", cost_line(plan.cost()))
    });
    if !plan.cohorts.is_empty() {
        text.push_str("\n| cohort | | add | remove | unchanged | not used |\n|---|---|--:|--:|--:|--:|\n");
    }
    for cohort in &plan.cohorts {
        text.push_str(&row(cohort));
    }
    text.push_str(&notes(plan));
    let samples: String = plan.cohorts.iter().map(|cohort| samples(cohort, show_identifiers)).collect();
    if !samples.is_empty() {
        text.push_str(&format!("\n<details><summary>Samples</summary>\n\n{samples}\n</details>\n"));
    }
    if !plan.is_in_step() {
        text.push_str(&format!("\n`{}`\n", plan.digest()));
    }
    text
}

fn row(cohort: &CohortPlan) -> String {
    let approved = &cohort.verdict.approved;
    let tally = approved.plan().tally;
    let what = match (&approved.plan().naming, approved.is_in_step(), cohort.verdict.refusals.is_empty()) {
        (_, _, false) => "**refused in part**".to_owned(),
        (Some(Naming::Create { .. }), ..) => "create".to_owned(),
        (Some(Naming::Rename { from, name }), ..) => {
            format!("rename from {}", cell(&format!("{from} to {name}")))
        }
        (None, true, _) => "in step".to_owned(),
        (None, false, _) => "change".to_owned(),
    };
    let side = |op, changes| {
        let withheld = changes > 0 && !*approved.sides().of(op);
        if withheld { format!("~~{}~~", count(changes)) } else { count(changes) }
    };
    let unused = cohort.matched.as_ref().map_or(0, rejected);
    format!(
        "| `{}` {} | {what} | {} | {} | {} | {} |\n",
        cohort.id,
        cell(&cohort.name),
        side(Op::Add, tally.adds()),
        side(Op::Remove, tally.removes()),
        count(tally.unchanged),
        count(unused),
    )
}

/// Text inside a table: nothing in it ends the cell.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

fn notes(plan: &PassPlan) -> String {
    let mut notes = Vec::new();
    for cohort in &plan.cohorts {
        for refusal in &cohort.verdict.refusals {
            let words = words(refusal, &cohort.id, &cohort.declared_at);
            notes.push(format!(
                "- :no_entry: `{}`: {} withheld, {}",
                cohort.id,
                words.withheld,
                cell(&words.why)
            ));
            notes.extend(words.way_out.iter().map(|way| format!("  - {way}")));
        }
        if let Some(reasons) = cohort.matched.as_ref().and_then(rejects_line) {
            notes.push(format!("- `{}`: rows not used: {reasons}", cohort.id));
        }
    }
    for failed in &plan.failed {
        notes.push(format!("- :x: `{}`: not planned, {}", failed.id, cell(&failed.error.to_string())));
        notes.extend(plan_hint(&failed.error).map(|hint| format!("  - {hint}")));
    }
    for left in &plan.left_behind {
        let members =
            left.members.map_or_else(|| "an unknown number of members".to_owned(), |m| counted(m, "member"));
        notes.push(format!("- `{}` left the config and is kept, with {members}", left.id));
    }
    if notes.is_empty() { String::new() } else { format!("\n{}\n", notes.join("\n")) }
}

fn samples(cohort: &CohortPlan, show_identifiers: bool) -> String {
    let samples = &cohort.verdict.approved.plan().samples;
    let line = |sign: &str, packed: &[u8]| {
        format!("- {sign} `{}`\n", sample(packed, show_identifiers).replace('`', "'"))
    };
    let lines: String = samples
        .adds
        .iter()
        .map(|p| line("add", p))
        .chain(samples.removes.iter().map(|p| line("remove", p)))
        .collect();
    if lines.is_empty() { lines } else { format!("`{}`\n\n{lines}\n", cohort.id) }
}
