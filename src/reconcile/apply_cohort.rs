//! Applies the plan of one cohort, stage by stage: preflight, due triggers, members, triggers, mirror table, journal.
//!
//! # Guarantees
//! The order of the stages is the order of durability. Due triggers are on disk before members are sent, and members
//! are settled before a trigger fires. The mirror table follows the recorded membership. The journal line comes last.

use super::apply_stages::{self as stages, CohortContext};
use super::mirror_tables::{self, MirrorBefore};
use super::report::CohortReport;
use super::run_plan::CohortPlan;
use crate::apply::ApplyStop;
use crate::blocking;

/// Applies the plan of one cohort.
pub(super) async fn apply_cohort(cohort: CohortPlan, context: &CohortContext) -> CohortReport {
    let mut report = CohortReport::new(&cohort);
    let (id, sends) = (cohort.id.clone(), cohort.sends());
    let uses_keys = sends || cohort.runs_preflight();
    let changes_membership = !cohort.verdict.approved.is_in_sync() || cohort.membership_changed;
    let before = MirrorBefore::of(&cohort.membership, cohort.pushdown.as_ref());
    if uses_keys && context.mismatch.is_some() {
        report.outcome.stop_reason.clone_from(&context.mismatch);
    } else {
        let sent = run_stages(cohort, context, &mut report).await;
        report.outcome.stop(sent);
        blocking::in_place(|| {
            report.mirror_table_error = context.tables.keep(&id, &before, &context.resources);
            // After the table: its update reads the parts that this run has written.
            if changes_membership && let Err(error) = mirror_tables::tidy(&id, &context.resources) {
                tracing::warn!(cohort = %id, "the recorded membership could not be tidied: {error}");
            }
        });
    }
    if sends || report.outcome.stop_reason.is_some() {
        let finished = report.outcome.finished(&id);
        let journaled = context.resources.journal.append(context.resources.clock.now(), finished);
        report.outcome.stop(journaled.map_err(Into::into));
    }
    context.resources.progress.finished(&id);
    report
}

/// The stages from the rejects of the source to the triggers. What was done before an error is in the report.
async fn run_stages(
    mut cohort: CohortPlan,
    context: &CohortContext,
    report: &mut CohortReport,
) -> Result<(), ApplyStop> {
    let (id, empties, is_approved) = (cohort.id.clone(), cohort.empties, cohort.approval.is_some());
    let is_blocked = !cohort.verdict.violations.is_empty();
    let mut rejects = stages::write_source_rejects(&mut cohort, context)?;
    let preflight = stages::begin_preflight(&mut cohort, context).await?;
    let triggers = stages::begin_triggers(&mut cohort, is_blocked, context)?;
    stages::send_members(cohort, context, &mut rejects, report).await?;
    // Requests may have been sent by now. An error stops the later stages and must not lose the report.
    stages::end_preflight(preflight, report);
    stages::run_triggers(triggers, &id, context, &mut rejects, report).await;
    if empties && report.outcome.is_complete() && !is_blocked {
        let closed = stages::mark_removed(&id, &context.resources);
        report.outcome.stop(closed.map_err(Into::into));
    }
    if is_approved && report.outcome.is_complete() {
        stages::delete_approvals(&id, &context.resources);
    }
    match rejects.finish() {
        Ok(file) => report.rejects_file = file,
        Err(error) => report.outcome.stop(Err(error.into())),
    }
    Ok(())
}
