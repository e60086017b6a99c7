//! A plan as text: counts and reasons first, then samples, then the cost.

use super::approval::approved_line;
use super::guard_violation::{self, BlockedSubject, unchecked_share};
use super::{
    RenderOptions, and_more, cost_line, distinct, known_members, matched_line, plan_problems, rejected,
    rejects_line, sample, skipped_line, spelled_line, unknown_line, unused_lines, warning_lines,
};
use crate::cli::hints::plan_hints;
use crate::cli::output::{bold, count, counted, counted_as, counted_of, dim, green, red, yellow};
use crate::foreign::escaped;
use crate::model::{ChangeOp, DeliveryMethod, MatchTally, Timestamp, timestamp_text};
use crate::plan::{CohortNaming, DiffTally};
use crate::reconcile::{CohortPlan, FailedCohort, OrphanedCohort, RunPlan};

/// Samples on one line.
const SHOWN: usize = 3;

/// The whole plan.
pub(in crate::cli) fn human(plan: &RunPlan, showing: &RenderOptions<'_>) -> String {
    let mut lines = vec![showing.target.line()];
    for cohort in &plan.cohorts {
        self::cohort(cohort, showing, &mut lines);
    }
    lines.extend(unplanned(plan));
    for left in &plan.orphaned {
        lines.push(orphaned(left));
    }
    lines.extend(showing.unknown.iter().map(|id| format!("{} {}", yellow("!"), unknown_line(id))));
    lines.extend(skipped_line(showing.segments.config).map(|line| dim(&line)));
    lines.extend(warning_lines(showing.segments.config));
    lines.extend(showing.segments.lines());
    lines.extend(shortened_line(plan, showing).map(|line| dim(&line)));
    lines.push(String::new());
    lines.extend(summary(plan, showing));
    lines.join("\n")
}

/// How to see the samples in full; `None` without samples.
fn shortened_line(plan: &RunPlan, showing: &RenderOptions<'_>) -> Option<String> {
    let has_samples = |cohort: &CohortPlan| {
        let tally = cohort.verdict.approved.plan().tally;
        tally.adds() + tally.removes() > 0 || !cohort.case_variants.is_empty()
    };
    let is_possible = !showing.show_identifiers && !showing.again.is_saved() && !showing.again.is_resync();
    let is_shown = is_possible && plan.cohorts.iter().any(has_samples);
    is_shown.then(|| {
        format!("Identifiers are shortened. In full: {} --show-identifiers", showing.again.command("plan"))
    })
}

/// The lines of one cohort.
pub(super) fn cohort(cohort: &CohortPlan, showing: &RenderOptions<'_>, lines: &mut Vec<String>) {
    let approved = &cohort.verdict.approved;
    let tally = approved.plan().tally;
    let by = by(cohort.delivery());
    let head =
        format!("{}  \"{}\" in {}{by}", bold(cohort.id.as_str()), escaped(&cohort.name), cohort.connection);
    if approved.is_in_sync() && cohort.verdict.violations.is_empty() {
        lines.push(format!("{head}: in sync, {}", counted(tally.members, "member")));
    } else {
        lines.push(head);
        lines.extend(
            cohort.empties.then(|| "  listed under `removed:`: all members will be removed".to_owned()),
        );
        lines.extend(delivery_change(cohort));
        lines.extend(naming(cohort));
        side(cohort, ChangeOp::Add, showing.show_identifiers, lines);
        side(cohort, ChangeOp::Remove, showing.show_identifiers, lines);
        if tally.rekeyed > 0 {
            let members = counted(tally.rekeyed, "member");
            lines.push(format!(
                "    {} {members} re-keyed, from a device or an alias to the external id (counted as add and remove)",
                yellow("↔")
            ));
        }
        if !showing.again.is_resync() {
            lines.extend(once_more(&tally));
        }
        lines.push(format!("    members {}", members(cohort)));
    }
    lines.extend(late(cohort));
    lines.extend(super::triggers::planned(cohort.triggers.as_ref()));
    lines.extend(super::triggers::unknown_users(cohort.preflight.as_ref()));
    if tally.doubt_added + tally.doubt_removed > 0 {
        let (again, out) = (count(tally.doubt_added), count(tally.doubt_removed));
        lines.push(format!("    in doubt from an earlier run: {again} to add again, {out} to remove again"));
    }
    if tally.rejected > 0 {
        lines.push(format!("    {} rejected by Braze before, not sent again", count(tally.rejected)));
        lines.push(format!("      to send them again: {}", showing.again.retrying_rejected()));
    }
    source(cohort, showing.show_identifiers, lines);
    let (id, declared_at, whole) = (&cohort.id, &cohort.declared_at, approved.plan().whole_digest());
    let about = BlockedSubject { id, declared_at, again: showing.again, whole };
    lines.extend(guard_violation::lines(&cohort.verdict.violations, about));
    lines.extend(cohort.verdict.unchecked_share.map(|from| format!("    {}", unchecked_share(from))));
    lines.extend(cohort.approval.as_ref().map(|approval| format!("    {}", approved_line(approval))));
    if !approved.is_in_sync() {
        lines.push(format!("    {}", dim(&cost_line(approved.cost()))));
    }
}

/// `5,200 → 5,137: 100 enter, 163 leave`, and what is blocked.
fn members(cohort: &CohortPlan) -> String {
    let (tally, sides) = (cohort.verdict.approved.plan().tally, cohort.verdict.approved.sides());
    let movements = [(sides.adds, tally.entering(), "enter"), (sides.removes, tally.leaving(), "leave")];
    let (sent, blocked): (Vec<String>, Vec<Option<String>>) = movements
        .into_iter()
        .map(|(is_sent, users, verb)| match (is_sent, users) {
            (true, _) | (false, 0) => (counted_as(users, &format!("{verb}s"), verb), None),
            (false, _) => (format!("0 {verb}"), Some(format!("{} would {verb}", count(users)))),
        })
        .unzip();
    let blocked: Vec<String> = blocked.into_iter().flatten().collect();
    format!(
        "{} → {}: {}{}",
        count(tally.recorded()),
        count(tally.recorded_after(sides)),
        sent.join(", "),
        if blocked.is_empty() { String::new() } else { format!("; blocked: {}", blocked.join(", ")) },
    )
}

/// Members that unanswered requests may have changed, or may still change.
fn late(cohort: &CohortPlan) -> Vec<String> {
    let plan = cohort.verdict.approved.plan();
    let mut lines = Vec::new();
    if plan.tally.settled_again > 0 {
        let who = counted(plan.tally.settled_again, "member");
        lines.push(format!(
            "    {} {who} of these again: Braze may have processed an unanswered request late",
            yellow("↔")
        ));
    }
    let until = cohort.membership.uncertain_until();
    if let Some(until) = until.filter(|until| plan.settles.is_none_or(|at| *until > at)) {
        lines.push(format!("    {} {}", yellow("!"), uncertain_line(until)));
    }
    lines
}

/// Text for the time until which the membership of a cohort is uncertain.
pub(in crate::cli) fn uncertain_line(until: Timestamp) -> String {
    format!(
        "not certain until {}: Braze may still process unanswered requests; the first run after that sends their \
         members and the name again where needed",
        timestamp_text(until)
    )
}

/// Members that are sent again because Braze knows them by several identifiers.
fn once_more(tally: &DiffTally) -> Vec<String> {
    let mut lines = Vec::new();
    if tally.settled_again > 0 {
        return lines; // said by its own line
    }
    if tally.added_again > 0 {
        let who = counted(tally.added_again, "member");
        lines.push(format!("    {} {who} of the added again: one of their aliases is removed", yellow("↔")));
    }
    if tally.removed_again > 0 {
        let count = count(tally.removed_again);
        lines.push(format!(
            "    {} {count} of the removed were sent by device; they are removed by external id too",
            yellow("↔")
        ));
    }
    lines
}

/// The delivery method of a cohort, if it is not the default.
pub(in crate::cli) fn by(delivery: &DeliveryMethod) -> String {
    delivery.attribute().map_or_else(String::new, |_| format!(", by {delivery}"))
}

fn delivery_change(cohort: &CohortPlan) -> Option<String> {
    let plan = cohort.verdict.approved.plan();
    let to = plan.next_delivery.as_ref()?;
    let users = cohort.matched.as_ref().map_or(0, named);
    Some(format!(
        "  {} delivery change from {} to {to}: this run removes all members, the next run sends {}",
        yellow("~"),
        plan.delivery,
        counted(users, "member"),
    ))
}

/// The number of users in a source.
fn named(matched: &MatchTally) -> u64 {
    matched.rows.saturating_sub(rejected(matched) + matched.duplicates)
}

fn naming(cohort: &CohortPlan) -> Option<String> {
    let blocked = if cohort.verdict.approved.naming().is_some() { "" } else { " (blocked)" };
    Some(match cohort.verdict.approved.plan().naming.as_ref()? {
        CohortNaming::Create { .. } => format!("  {} create the cohort{blocked}", green("+")),
        CohortNaming::Rename { from, name } => {
            let (from, name) = (escaped(from), escaped(name));
            format!("  {} rename \"{from}\" to \"{name}\"{blocked}", yellow("~"))
        }
        CohortNaming::Again { name } => format!(
            "  {} send the name \"{}\" again{blocked}: Braze may have processed an unanswered request late",
            yellow("~"),
            escaped(name)
        ),
    })
}

fn side(cohort: &CohortPlan, op: ChangeOp, show_identifiers: bool, lines: &mut Vec<String>) {
    let approved = &cohort.verdict.approved;
    let plan = approved.plan();
    let (sign, changes, samples) = match op {
        ChangeOp::Add => (green("+"), plan.tally.adds(), &plan.samples.adds),
        ChangeOp::Remove => (red("-"), plan.tally.removes(), &plan.samples.removes),
    };
    if changes == 0 {
        return;
    }
    let blocked = if *approved.sides().of(op) { "" } else { " (blocked)" };
    let shown = samples.iter().take(SHOWN);
    let shown = distinct(shown.map(|packed| sample(packed, show_identifiers)));
    let more = changes.saturating_sub(samples.len().min(SHOWN) as u64);
    lines.push(format!(
        "  {sign} {} {}{blocked}  {}",
        op.as_str(),
        count(changes),
        dim(&and_more(&shown, more))
    ));
}

fn source(cohort: &CohortPlan, show_identifiers: bool, lines: &mut Vec<String>) {
    let Some(matched) = &cohort.matched else { return };
    lines.extend(super::pushdown::line(cohort.pushdown.as_ref()));
    let plan = cohort.verdict.approved.plan();
    let users = if plan.next_delivery.is_some() { named(matched) } else { plan.tally.desired() };
    lines.push(format!("    {}", dim(&matched_line(matched, users))));
    if let Some(reasons) = rejects_line(matched) {
        let rows = counted(rejected(matched), "row");
        lines.push(format!("    {} {rows} rejected: {reasons}", yellow("!")));
        lines.extend(unused_lines(matched, "      "));
    }
    if let Some(line) = spelled_line(matched) {
        lines.push(format!("    {} {line}", yellow("!")));
        let shown = distinct(cohort.case_variants.iter().map(|packed| sample(packed, show_identifiers)));
        lines.extend((!shown.is_empty()).then(|| dim(&format!("      such as {}", shown.join(", ")))));
    }
}

/// Text for each cohort that could not be planned, or that waits because its source has delivered no data yet.
pub(in crate::cli) fn unplanned(plan: &RunPlan) -> Vec<String> {
    let failed = plan.failed.iter().map(|failed| unplanned_cohort(failed, &red("not planned:")));
    failed.chain(plan.waiting.iter().map(|waiting| unplanned_cohort(waiting, &yellow("waits:")))).collect()
}

fn unplanned_cohort(FailedCohort { id, error, declared_at }: &FailedCohort, head: &str) -> String {
    let location = declared_at.as_ref().map(|at| format!(" ({})", escaped(at))).unwrap_or_default();
    let hint: String = plan_hints(error).iter().map(|hint| format!("\n      {hint}")).collect();
    format!("{}  {head} {}{location}{hint}", bold(id.as_str()), escaped(&error.to_string()))
}

/// Text for a cohort that is no longer in the config.
pub(super) fn orphaned(left: &OrphanedCohort) -> String {
    let OrphanedCohort { id, name, members, connection, protected } = left;
    let name =
        name.as_deref().map(|name| format!("  \"{}\" in {connection}", escaped(name))).unwrap_or_default();
    let members = known_members(*members);
    let protected = if *protected { " (protected)" } else { "" };
    format!(
        "{}{name}: {} not in the config, {members} stay in Braze{protected}\n      to remove them: `removed: [{{ cohort: {id}, members: remove }}]`",
        bold(id.as_str()),
        yellow("orphaned,"),
    )
}

fn summary(plan: &RunPlan, showing: &RenderOptions<'_>) -> Vec<String> {
    let (problems, all) = (plan_problems(plan), (plan.cohorts.len() + plan.failed.len()) as u64);
    if plan.is_in_sync() {
        let is_in_sync = problems.is_empty() && !showing.segments.has_drift();
        let problems: Vec<String> = problems.into_iter().chain(showing.segments.summary()).collect();
        // A segment without evidence is no sign that anything differs.
        return vec![match is_in_sync {
            true => {
                let cohorts = format!("{} {}, nothing to send", green("In sync:"), counted(all, "cohort"));
                let notes: String = problems.iter().map(|problem| format!("; {problem}")).collect();
                format!("{cohorts}{notes}.")
            }
            false => format!("{} nothing would be sent; {}.", red("Not in sync:"), problems.join("; ")),
        }];
    }
    let sent = |op| plan.cohorts.iter().map(|cohort| cohort.verdict.approved.changes(op)).sum::<u64>();
    let changed = plan.changed_cohorts();
    let mut lines = vec![format!(
        "{} {} to change: {} to add, {} to remove; {}.",
        bold("Plan:"),
        counted_of(changed, all, "cohort"),
        count(sent(ChangeOp::Add)),
        count(sent(ChangeOp::Remove)),
        cost_line(plan.cost()),
    )];
    if !problems.is_empty() {
        lines.push(format!("{} {}.", red("Incomplete:"), problems.join("; ")));
    }
    let segments = showing.segments.summary();
    lines.extend(segments.map(|segments| format!("{} {segments}.", red("Segment checks:"))));
    lines.extend(ways_to_apply(plan, showing));
    let missing = showing.missing_keys.iter();
    lines.extend(missing.map(|key| format!("{} to apply it: {}", yellow("!"), escaped(key))));
    lines
}

fn ways_to_apply(plan: &RunPlan, showing: &RenderOptions<'_>) -> Vec<String> {
    let apply = showing.again.command("reconcile");
    if showing.again.is_saved() || showing.again.is_resync() {
        return vec![format!("Apply it:           {apply}")];
    }
    let it = if plan.is_blocked() { "Apply the rest:  " } else { "Apply it:        " };
    vec![format!("{it}   {apply}"), format!("Only if unchanged:  {apply} --expect {}", plan.digest())]
}
