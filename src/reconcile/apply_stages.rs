//! The stages of one cohort's apply. `apply_cohort.rs` has their order.

use std::sync::Arc;

use super::context::{ApplyResources, WorkspaceClient};
use super::mirror_tables::MirrorTables;
use super::preflight::PreflightRun;
use super::report::CohortReport;
use super::run_plan::CohortPlan;
use super::triggers::TriggerRun;
use crate::apply::{self, ApplyStop, StopCause};
use crate::blocking;
use crate::model::{ChangeOp, CohortId};
use crate::state::{JournalEvent, RejectLog, StateError};

/// What the apply of one cohort works with.
pub(super) struct CohortContext {
    /// `None` if the connection has no keys, or nothing is sent to it.
    pub(super) client: Option<Arc<WorkspaceClient>>,
    /// Why nothing may be sent with the keys of the connection.
    pub(super) mismatch: Option<ApplyStop>,
    pub(super) tables: Arc<MirrorTables>,
    pub(super) resources: ApplyResources,
}

/// Starts the rejects of the run with those of the source.
pub(super) fn write_source_rejects(
    cohort: &mut CohortPlan,
    context: &CohortContext,
) -> Result<RejectLog, ApplyStop> {
    let resources = &context.resources;
    let mut rejects = resources.state.rejects(&resources.run, cohort.id.as_str());
    if let Some(found) = &mut cohort.rejects {
        found.copy_to(&mut rejects)?;
    }
    Ok(rejects)
}

/// Checks with Braze which entering users it knows, and records the answers before members are sent.
pub(super) async fn begin_preflight<'a>(
    cohort: &mut CohortPlan,
    context: &'a CohortContext,
) -> Result<Option<PreflightRun<'a>>, ApplyStop> {
    let Some(plan) = cohort.preflight.take() else { return Ok(None) };
    let profiles = context.client.as_deref().and_then(|client| client.workspace.profiles());
    let approved = &mut cohort.verdict.approved;
    let ApplyResources { state, clock, interrupt, .. } = &context.resources;
    // Its requests only read, so a stop does not wait for them.
    tokio::select! {
        begun = PreflightRun::begin(&cohort.id, plan, approved, profiles, (state, *clock)) => Ok(Some(begun?)),
        () = interrupt.requested() => Err(StopCause::Interrupted.into()),
    }
}

/// Records the due triggers before members are sent.
pub(super) fn begin_triggers<'a>(
    cohort: &mut CohortPlan,
    is_blocked: bool,
    context: &'a CohortContext,
) -> Result<Option<TriggerRun<'a>>, ApplyStop> {
    let Some(plan) = cohort.triggers.take().filter(|plan| !plan.is_idle()) else { return Ok(None) };
    Ok(Some(TriggerRun::begin(&cohort.id, plan, is_blocked, &context.resources.state)?))
}

/// Sends the approved changes, or records a membership that changed without a request.
pub(super) async fn send_members(
    cohort: CohortPlan,
    context: &CohortContext,
    rejects: &mut RejectLog,
    report: &mut CohortReport,
) -> Result<(), ApplyStop> {
    let resources = &context.resources;
    let approved = cohort.verdict.approved;
    if !approved.is_in_sync() {
        let client = context.client.as_deref().ok_or(ApplyStop::NoKeys)?;
        let delivery = approved.plan().delivery.clone();
        let destination = client.workspace.destination(&delivery).ok_or(ApplyStop::NoKeys)?;
        let planned = JournalEvent::planned(
            &cohort.id,
            approved.plan().base,
            approved.changes(ChangeOp::Add),
            approved.changes(ChangeOp::Remove),
            cohort.verdict.violations.len() as u64,
        );
        let (journal, now) = (&resources.journal, resources.clock.now());
        cohort.approval.iter().try_for_each(|used| journal.append(now, JournalEvent::approved(used)))?;
        journal.append(now, planned)?;
        let apply_context = client.apply_context(resources);
        let (membership, mark) = (cohort.membership, cohort.source_mark);
        report.outcome =
            apply::apply(approved, membership, mark, rejects, &*destination, apply_context).await;
    } else if cohort.membership_changed {
        let mut membership = cohort.membership;
        membership.number += 1;
        blocking::in_place(|| resources.state.commit(&cohort.id, &membership))?;
    }
    Ok(())
}

/// Ends the preflight check: users that were added again are no longer unknown.
pub(super) fn end_preflight(preflight: Option<PreflightRun<'_>>, report: &mut CohortReport) {
    let Some(preflight) = preflight else { return };
    let (preflight_report, recorded) = preflight.end(&report.outcome);
    report.preflight_report = Some(preflight_report);
    report.outcome.stop(recorded.map_err(Into::into));
}

/// Fires the triggers.
pub(super) async fn run_triggers(
    triggers: Option<TriggerRun<'_>>,
    id: &CohortId,
    context: &CohortContext,
    rejects: &mut RejectLog,
    report: &mut CohortReport,
) {
    let Some(mut triggers) = triggers else { return };
    let client = context.client.as_deref();
    let sending =
        client.map(|client| (client.workspace.triggers(), client.apply_context(&context.resources)));
    let ran = triggers.run(id, &report.outcome, sending, rejects, &mut report.triggered).await;
    report.outcome.stop(ran);
}

/// Marks an emptied cohort as removed, so that later runs skip it. Waits while a late request may still fill it.
pub(super) fn mark_removed(cohort: &CohortId, resources: &ApplyResources) -> Result<(), StateError> {
    let membership = resources.state.reader().version(cohort)?;
    let open = membership.filter(|membership| !membership.removed && !membership.may_gain_late_members());
    let Some(mut membership) = open else { return Ok(()) };
    membership.number += 1;
    membership.removed = true;
    membership.run = resources.run.as_str().into();
    membership.written_at = resources.clock.now();
    resources.state.commit(cohort, &membership)
}

/// Deletes the used approvals. A failure is only logged, because an approval is valid for one plan.
pub(super) fn delete_approvals(cohort: &CohortId, resources: &ApplyResources) {
    if let Err(error) = blocking::in_place(|| resources.state.remove_approvals(cohort)) {
        tracing::warn!(%cohort, "could not delete the used approval: {error}");
    }
}
