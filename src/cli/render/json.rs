//! Results of runs in JSON: plans, reports and config problems.

use serde_json::{Value, json};

use super::approval::approval_json;
use super::guard_violation::{BlockedSubject, BlockedWords, words};
use super::{RenderOptions, ReportOptions, sample};
use crate::apply::ApplyOutcome;
pub(in crate::cli) use crate::cli::envelope::envelope;
use crate::cli::envelope::problem_list;
use crate::cli::hints::plan_hints;
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::Problems;
use crate::export::ExportReport;
use crate::model::CohortId;
use crate::model::MatchTally;
use crate::plan::{CohortNaming, Cost, DiffTally, GuardViolation};
use crate::reconcile::{
    CohortPlan, CohortReport, FailedCohort, OrphanedCohort, RunPlan, RunReport, exports_result,
};

/// A plan.
pub(in crate::cli) fn plan(plan: &RunPlan, result: &str, showing: &RenderOptions<'_>) -> String {
    let cohorts: Vec<Value> = plan.cohorts.iter().map(|c| planned(c, showing)).collect();
    let unknown: Vec<&str> = showing.unknown.iter().map(CohortId::as_str).collect();
    let waiting: Vec<Value> = plan.waiting.iter().map(failed).collect();
    let failed: Vec<Value> = plan.failed.iter().map(failed).collect();
    let left: Vec<Value> = plan.orphaned.iter().map(orphaned).collect();
    let details = json!({
        "target": showing.target.to_json(),
        "digest": plan.digest().to_string(),
        "cohorts": cohorts,
        "failed": failed,
        "waiting": waiting,
        "orphaned": left,
        "removed_not_in_state": unknown,
        "missing_keys": showing.missing_keys,
        "skipped_includes": showing.segments.config.skipped_includes,
        "segments": showing.segments.to_json(),
        "cost": cost(plan.cost()),
    });
    envelope("plan", result, &details)
}

fn planned(cohort: &CohortPlan, showing: &RenderOptions<'_>) -> Value {
    let approved = &cohort.verdict.approved;
    let plan = approved.plan();
    let whole = cohort.verdict.approved.plan().whole_digest();
    let about =
        BlockedSubject { id: &cohort.id, declared_at: &cohort.declared_at, again: showing.again, whole };
    let shown = |list: &[Box<[u8]>]| {
        list.iter().map(|packed| sample(packed, showing.show_identifiers)).collect::<Vec<String>>()
    };
    json!({
        "id": cohort.id.as_str(),
        "name": cohort.name,
        "connection": cohort.connection.as_str(),
        "base_version": plan.base,
        "listed_under_removed": cohort.empties,
        "delivery": cohort.delivery().code(),
        "delivery_change_to": plan.next_delivery.as_ref().map(crate::model::DeliveryMethod::code),
        "triggers": super::triggers::plan_json(cohort.triggers.as_ref()),
        "unknown_users": super::triggers::unknown_users_json(cohort.preflight.as_ref()),
        "naming": plan.naming.as_ref().map(naming),
        "changes": tally(&plan.tally),
        "members_after": plan.tally.recorded_after(approved.sides()),
        "sends": { "naming": approved.naming().is_some(), "removes": approved.sides().removes, "adds": approved.sides().adds },
        "source": cohort.matched.as_ref().map(|found| matched(found, cohort.source_read)),
        "pushdown": super::pushdown::to_json(cohort.pushdown.as_ref(), None),
        "blocked": blocked(&cohort.verdict.violations, about),
        "approval": cohort.approval.as_ref().map(approval_json),
        "samples": { "removes": shown(&plan.samples.removes), "adds": shown(&plan.samples.adds), "case_colliding": shown(&cohort.case_variants) },
        "cost": cost(approved.cost()),
        "digest": approved.digest().to_string(),
    })
}

fn naming(naming: &CohortNaming) -> Value {
    match naming {
        CohortNaming::Create { name } => json!({ "action": "create", "name": name }),
        CohortNaming::Rename { from, name } => json!({ "action": "rename", "from": from, "name": name }),
        CohortNaming::Again { name } => json!({ "action": "send_again", "name": name }),
    }
}

fn tally(tally: &DiffTally) -> Value {
    json!({
        "members": tally.members,
        "unchanged": tally.unchanged,
        "added": tally.added,
        "removed": tally.removed,
        "in_doubt_to_add": tally.doubt_added,
        "in_doubt_to_remove": tally.doubt_removed,
        "rejected_before": tally.rejected,
        "rekeyed": tally.rekeyed,
        "entering": tally.entering(),
        "leaving": tally.leaving(),
        "sent_again": tally.added_again,
        "removed_again": tally.removed_again,
    })
}

fn matched(matched: &MatchTally, read: bool) -> Value {
    json!({ "read": read, "rows": matched.rows, "files": matched.files, "skipped_files": matched.skipped_files,
        "duplicates": matched.duplicates, "rekeyed": matched.rekeyed,
        "ambiguous": matched.ambiguous, "case_colliding": matched.case_colliding,
        "invisible": matched.shapes.invisible, "rejects": matched.rejects })
}

fn blocked(list: &[GuardViolation], about: BlockedSubject<'_>) -> Vec<Value> {
    let one = |words: BlockedWords| json!({ "code": words.code.as_str(), "side": words.side, "reason": words.reason, "remedies": words.remedies });
    words(list, about).into_iter().map(one).collect()
}

fn failed(failed: &FailedCohort) -> Value {
    json!({
        "id": failed.id.as_str(),
        "error": failed.error.to_string(),
        "declared_at": failed.declared_at,
        "hints": plan_hints(&failed.error),
    })
}

fn orphaned(left: &OrphanedCohort) -> Value {
    json!({ "id": left.id.as_str(), "name": left.name, "members": left.members, "protected": left.protected })
}

fn cost(cost: Cost) -> Value {
    json!({
        "requests": cost.requests,
        "data_points": cost.data_points,
        "min_seconds": cost.min_time.as_secs(),
    })
}

/// The report of a run.
pub(in crate::cli) fn report(
    report: &RunReport,
    exports: &[ExportReport],
    showing: ReportOptions<'_>,
) -> String {
    let cohorts: Vec<Value> = report.cohorts.iter().map(|cohort| done(cohort, showing.again)).collect();
    let list = |list: &[(CohortId, String)]| -> Vec<Value> {
        list.iter().map(|(id, error)| json!({ "id": id.as_str(), "error": error })).collect()
    };
    let failed: Vec<Value> = report
        .failed
        .iter()
        .map(|(id, failure)| json!({ "id": id.as_str(), "error": failure.reason }))
        .collect();
    let waiting = list(&report.waiting);
    let left: Vec<Value> = report.orphaned.iter().map(orphaned).collect();
    let details = json!({
        "target": showing.target.to_json(),
        "run": report.run.as_str(),
        "digest": report.digest.to_string(),
        "cohorts": cohorts,
        "failed": failed,
        "waiting": waiting,
        "orphaned": left,
        "requests": report.requests,
        "exports": super::export::to_json(exports),
    });
    envelope("reconcile", result(report, exports), &details)
}

/// The result code of cohorts and exports together.
pub(in crate::cli) fn result(report: &RunReport, exports: &[ExportReport]) -> &'static str {
    let changed = exports.iter().any(ExportReport::changed_anything);
    match (report.result(), changed, exports.iter().all(ExportReport::is_complete)) {
        ("in_sync", true, true) => "applied",
        ("applied" | "in_sync", _, true) => report.result(),
        ("in_sync", false, false) => exports_result(exports),
        ("applied" | "in_sync", ..) | (_, true, _) => "applied_in_part",
        (word, ..) => word,
    }
}

fn done(cohort: &CohortReport, again: &SuggestedCommand) -> Value {
    let about = BlockedSubject {
        id: &cohort.id,
        declared_at: &cohort.declared_at,
        again,
        whole: cohort.whole_digest,
    };
    let ApplyOutcome {
        named,
        added,
        removed,
        rejected,
        rejected_removals,
        first_rejection,
        in_doubt,
        stop_reason,
        requests_by_outcome,
    } = &cohort.outcome;
    json!({
        "id": cohort.id.as_str(),
        "name": cohort.name,
        "connection": cohort.connection.as_str(),
        "delivery": cohort.delivery.code(),
        "delivery_change_to": cohort.next_delivery.as_ref().map(crate::model::DeliveryMethod::code),
        "triggers": super::triggers::done_json(cohort),
        "unknown_users": super::triggers::preflight_json(cohort.preflight_report.as_ref()),
        "named": named.as_ref().map(naming),
        "added": added,
        "removed": removed,
        "unchanged": cohort.tally.unchanged,
        "members": cohort.members(),
        "rejected_by_braze": rejected,
        "rejected_removals": rejected_removals,
        "rejected_before": cohort.tally.rejected,
        "first_rejection": first_rejection,
        "in_doubt": in_doubt,
        "requests_by_outcome": requests_by_outcome,
        "error": stop_reason.as_ref().map(ToString::to_string),
        "source": cohort.matched.as_ref().map(|found| matched(found, cohort.source_read)),
        "pushdown": super::pushdown::to_json(cohort.pushdown.as_ref(), cohort.mirror_table_error.as_deref()),
        "blocked": blocked(&cohort.violations, about),
        "approval": cohort.approval.as_ref().map(approval_json),
        "rejects_file": cohort.rejects_file,
    })
}

/// The problems of a config.
pub(in crate::cli) fn problems(problems: &Problems) -> String {
    envelope("validate", "invalid", &json!({ "problems": problem_list(problems) }))
}
