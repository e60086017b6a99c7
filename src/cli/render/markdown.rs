//! A plan as Markdown, for a comment on a pull request: verdict, changes, what to do, and the rest folded.
//!
//! It is written for the people who approve a change of a cohort. GitHub rejects a comment of more than 65,536
//! characters, so each part has a budget and loses its middle where it is longer.

use super::approval::approved_line;
use super::guard_violation::{BlockedSubject, words};
use super::{
    RenderOptions, cost_line, known_members, plan as text, plan_problems, skipped_line, unknown_line,
};
use crate::cli::hints::plan_hints;
use crate::cli::output::{count, counted, counted_as, counted_of};
use crate::foreign;
use crate::model::ChangeOp;
use crate::plan::CohortNaming;
use crate::reconcile::{CohortPlan, FailedCohort, RunPlan};

/// Characters of the table.
const TABLE_LEN_MAX: usize = 16_000;
/// Characters of the remedies.
const STEPS_LEN_MAX: usize = 14_000;
/// Characters of the checked segments.
const SEGMENTS_LEN_MAX: usize = 8_000;
/// Characters of the details.
const DETAILS_LEN_MAX: usize = 18_000;
/// Characters of one line.
const LINE_LEN_MAX: usize = 1_000;

/// The whole plan.
pub(in crate::cli) fn markdown(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut text =
        format!("{}\n## {}\n\n{}\n", showing.target.marker(), heading(plan, showing), summary(plan, showing));
    text.push_str(&table(plan));
    let steps = steps(plan, showing);
    if !steps.is_empty() {
        text.push_str("\n### What to do\n\n");
        text.push_str(&without_middle(&steps, STEPS_LEN_MAX, "- …"));
    }
    let segments = showing.segments.markdown();
    let segments: Vec<String> = segments.lines().map(str::to_owned).collect();
    text.push_str(&without_middle(&segments, SEGMENTS_LEN_MAX, ""));
    text.push_str(&details(plan, showing));
    text.push_str(&target(plan, showing));
    text
}

/// Verdict and target.
fn heading(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let verdict = match (plan.failed.is_empty(), plan.is_blocked(), plan.is_in_sync()) {
        (false, ..) => ":x: Incomplete plan",
        (true, true, _) => ":no_entry: Blocked by the guard",
        (true, false, true) if showing.segments.has_drift() => ":warning: Segments not in sync",
        (true, false, true) if showing.segments.summary().is_some() => ":warning: Incomplete segment checks",
        (true, false, true) => ":white_check_mark: In sync",
        (true, false, false) => ":arrow_right: Ready to apply",
    };
    format!("{verdict}: {}", showing.target.heading())
}

/// The net effect in one sentence, and what is missing from it.
fn summary(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let all = (plan.cohorts.len() + plan.failed.len()) as u64;
    let changed = plan.changed_cohorts();
    let sum = |op, of: fn(&CohortPlan) -> u64| {
        let sent = plan.cohorts.iter().filter(|cohort| *cohort.verdict.approved.sides().of(op));
        sent.map(of).sum::<u64>()
    };
    let mut text = if plan.is_in_sync() {
        "**Nothing will be sent.**".to_owned()
    } else {
        format!(
            "**{} will change: {}, {}.** {}.",
            counted_of(changed, all, "cohort"),
            counted_as(sum(ChangeOp::Add, |cohort| tally(cohort).entering()), "user enters", "users enter"),
            counted_as(sum(ChangeOp::Remove, |cohort| tally(cohort).leaving()), "leaves", "leave"),
            cost_line(plan.cost()),
        )
    };
    let segments = showing.segments.summary().filter(|_| plan.is_in_sync());
    let problems = plan_problems(plan);
    let differs = !problems.is_empty() || showing.segments.has_drift();
    let problems: Vec<String> = problems.into_iter().chain(segments).collect();
    if !problems.is_empty() {
        let head = if plan.is_in_sync() && differs { "Not in sync" } else { "Incomplete" };
        text.push_str(&format!("\n\n**{head}: {}.**", problems.join("; ")));
    }
    text
}

fn tally(cohort: &CohortPlan) -> crate::plan::DiffTally {
    cohort.verdict.approved.plan().tally
}

/// Whether a cohort changes or is blocked.
fn is_of_interest(cohort: &CohortPlan) -> bool {
    cohort.sends() || !cohort.verdict.violations.is_empty()
}

/// A row for each cohort that changes or has a problem, and a line for the others.
fn table(plan: &RunPlan) -> String {
    let has_row = |cohort: &&CohortPlan| is_of_interest(cohort);
    let is_blocked = |cohort: &&CohortPlan| !cohort.verdict.violations.is_empty();
    let rows: Vec<String> = plan
        .failed
        .iter()
        .map(failed_row)
        .chain(plan.cohorts.iter().filter(has_row).filter(is_blocked).map(row))
        .chain(plan.cohorts.iter().filter(has_row).filter(|cohort| !is_blocked(cohort)).map(row))
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str("\n| cohort | change | members now → after | enter | leave |\n|---|---|--:|--:|--:|\n");
        text.push_str(&without_middle(&rows, TABLE_LEN_MAX, "| … | | | | |"));
    }
    let others = plan.cohorts.iter().filter(|cohort| !has_row(cohort)).count() as u64;
    if others > 0 {
        let verb = if others == 1 { "is" } else { "are" };
        let more = if rows.is_empty() { "" } else { "other " };
        text.push_str(&format!("\n{} {verb} in sync.\n", counted(others, &format!("{more}cohort"))));
    }
    text
}

fn row(cohort: &CohortPlan) -> String {
    let approved = &cohort.verdict.approved;
    let (tally, sides) = (tally(cohort), approved.sides());
    let side = |op, users: u64| {
        let is_blocked = users > 0 && !*sides.of(op);
        if is_blocked { format!("~~{}~~", count(users)) } else { count(users) }
    };
    format!(
        "| {} (`{}`) | {} | {} → {} | {} | {} |",
        shortened(&cohort.name),
        cohort.id,
        change(cohort),
        count(tally.recorded()),
        count(tally.recorded_after(sides)),
        side(ChangeOp::Add, tally.entering()),
        side(ChangeOp::Remove, tally.leaving()),
    )
}

/// The kind of change, in words.
fn change(cohort: &CohortPlan) -> String {
    let plan = cohort.verdict.approved.plan();
    let mut parts = Vec::new();
    if !cohort.verdict.violations.is_empty() {
        parts.push(":no_entry: **blocked**".to_owned());
    }
    parts.extend(cohort.empties.then(|| "empty it (`removed:`)".to_owned()));
    parts.extend(
        plan.next_delivery.as_ref().map(|to| {
            format!("delivery change from {} to {to}: first remove all members", cohort.delivery())
        }),
    );
    parts.extend(plan.naming.as_ref().map(|naming| match naming {
        CohortNaming::Create { .. } => "new cohort".to_owned(),
        CohortNaming::Rename { from, name } => {
            format!("rename from {} to {}", shortened(from), shortened(name))
        }
        CohortNaming::Again { .. } => "send the name again".to_owned(),
    }));
    if cohort.fires_triggers() {
        parts.push("starts campaigns or Canvases".to_owned());
    }
    if parts.is_empty() {
        parts.push(if plan.is_in_sync() { "in sync" } else { "members change" }.to_owned());
    }
    parts.join(", ")
}

fn failed_row(failed: &FailedCohort) -> String {
    format!("| `{}` | :x: **could not be planned** | ? | ? | ? |", failed.id)
}

/// Remedies for everything that needs a decision, as a list.
fn steps(plan: &RunPlan, showing: &RenderOptions<'_>) -> Vec<String> {
    let mut steps = Vec::new();
    for failed in &plan.failed {
        let error = sentence(&failed.error.to_string());
        let location = failed.declared_at.as_ref().map(|at| format!(" ({})", shortened(at)));
        let location = location.unwrap_or_default();
        steps.push(format!("- :x: `{}`{location}: not planned, {error}", failed.id));
        steps.extend(plan_hints(&failed.error).iter().map(|hint| remedy(hint)));
    }
    for cohort in &plan.cohorts {
        let whole = cohort.verdict.approved.plan().whole_digest();
        let (id, declared_at) = (&cohort.id, &cohort.declared_at);
        let about = BlockedSubject { id, declared_at, again: showing.again, whole };
        for words in words(&cohort.verdict.violations, about) {
            let reason = sentence(&words.reason);
            steps.push(format!("- :no_entry: `{id}`: {} blocked: {reason}", words.side));
            steps.extend(words.remedies.iter().map(|text| remedy(text)));
        }
        let approved = cohort.approval.as_ref().map(|approval| shortened(&approved_line(approval)));
        steps.extend(approved.map(|text| format!("- :white_check_mark: `{id}`: {text}")));
    }
    for waiting in &plan.waiting {
        let error = sentence(&waiting.error.to_string());
        steps.push(format!("- :hourglass: `{}`: waits, {error}", waiting.id));
        steps.extend(plan_hints(&waiting.error).iter().map(|hint| remedy(hint)));
    }
    for left in &plan.orphaned {
        let members = known_members(left.members);
        steps
            .push(format!("- `{}` is orphaned: it is not in the config, and Braze keeps {members}", left.id));
    }
    steps.extend(showing.unknown.iter().map(|id| format!("- :warning: {}", unknown_line(id))));
    steps.extend(skipped_line(showing.segments.config).map(|line| format!("- {line}")));
    let warnings = showing.segments.config.warnings();
    steps.extend(warnings.iter().map(|warning| format!("- :warning: {}", sentence(warning))));
    steps
}

fn remedy(text: &str) -> String {
    format!("  - {}", sentence(text))
}

/// A sentence of the program: commands, and what stands between backticks, are code. A sentence with foreign text that
/// could be markup, a link or a mention is code as a whole.
pub(super) fn sentence(text: &str) -> String {
    let text = &*cut(text, LINE_LEN_MAX);
    let (prose, command) = match text.find(": syncline ") {
        Some(at) => (&text[..at], Some(&text[at + 2..])),
        None => (text, None),
    };
    let is_plain = |part: &&str| {
        part.chars().all(|c| c.is_alphanumeric() || " .,;:()%'/?-".contains(c))
            && !["://", "www.", "GH-"].iter().any(|link| part.contains(link))
    };
    let parts: Vec<&str> = prose.split('`').collect();
    if parts.len().is_multiple_of(2) || !parts.iter().step_by(2).all(is_plain) {
        return shortened(text);
    }
    let mut sentence = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at % 2 == 0 { sentence.push_str(part) } else { sentence.push_str(&shortened(part)) }
    }
    if let Some(command) = command {
        sentence.push_str(": ");
        sentence.push_str(&shortened(command));
    }
    sentence
}

/// The changed cohorts as the terminal shows them: samples, rejected rows, triggers, cost.
fn details(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut lines = Vec::new();
    for cohort in &plan.cohorts {
        if is_of_interest(cohort)
            || cohort.matched.as_ref().is_some_and(|matched| super::rejected(matched) > 0)
        {
            text::cohort(cohort, showing, &mut lines);
        }
    }
    let plain = anstream::adapter::strip_str(&lines.join("\n")).to_string();
    let plain: Vec<String> = plain.lines().map(|line| cut(&foreign::escaped(line), LINE_LEN_MAX)).collect();
    if plain.is_empty() {
        return String::new();
    }
    let body = without_middle(&plain, DETAILS_LEN_MAX, "…");
    let fence = "`".repeat(longest_fence(&body).max(2) + 1);
    format!(
        "\n<details><summary>Details: samples, rejected rows, cost</summary>\n\n{fence}text\n{body}{fence}\n\n</details>\n"
    )
}

/// The target, the digest and the command that applies exactly this plan.
fn target(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut text = String::from("\n<details><summary>Environment, digest and command</summary>\n\n");
    for (label, part) in showing.target.parts() {
        text.push_str(&format!("- {label}: {}\n", shortened(&part)));
    }
    if !plan.is_in_sync() {
        text.push_str(&format!("- digest: `{}`\n", plan.digest()));
        let command = format!("{} --expect {}", showing.again.command("reconcile"), plan.digest());
        let fence = "`".repeat(longest_fence(&command).max(2) + 1);
        let what = if plan.is_blocked() { "what is not blocked" } else { "exactly this plan" };
        text.push_str(&format!("\nTo apply {what}:\n\n{fence}sh\n{command}\n{fence}\n"));
    }
    text.push_str("\n</details>\n");
    text
}

/// Foreign text as a code span of limited length.
fn shortened(text: &str) -> String {
    foreign::markdown(&cut(text, LINE_LEN_MAX))
}

fn cut(text: &str, len_max: usize) -> String {
    match text.char_indices().nth(len_max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn longest_fence(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Lines, each with its line break. If they are longer than `len_max` characters, the middle is replaced by `gap` and
/// the number of lines that it had.
fn without_middle(lines: &[String], len_max: usize, gap: &str) -> String {
    let len = |line: &String| line.chars().count() + 1;
    let all = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    if lines.iter().map(len).sum::<usize>() <= len_max {
        return all(lines);
    }
    let half = len_max / 2;
    let fitting = |lines: &mut dyn Iterator<Item = &String>| {
        let mut left = half;
        lines.take_while(|line| left.checked_sub(len(line)).inspect(|rest| left = *rest).is_some()).count()
    };
    let (first, last) = (fitting(&mut lines.iter()), fitting(&mut lines.iter().rev()));
    let omitted = count((lines.len() - first - last) as u64);
    let gap =
        if gap.is_empty() { String::new() } else { gap.replace('…', &format!("… {omitted} more …")) };
    format!("{}{gap}\n{}", all(&lines[..first]), all(&lines[lines.len() - last..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_loses_its_middle() {
        let lines: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
        assert_eq!(without_middle(&lines, 70, "…").lines().count(), 10);
        let cut = without_middle(&lines, 40, "- …");
        assert_eq!(cut, "line 0\nline 1\n- … 6 more …\nline 8\nline 9\n");
        let long = vec!["x".repeat(100); 3];
        assert_eq!(without_middle(&long, 40, "…"), "… 3 more …\n");
    }

    #[test]
    fn budgets_fit_a_comment() {
        let sum = TABLE_LEN_MAX + STEPS_LEN_MAX + SEGMENTS_LEN_MAX + DETAILS_LEN_MAX;
        assert!(sum + 3 * LINE_LEN_MAX < 60_000);
    }
}
