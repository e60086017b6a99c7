//! Delivery change: moves a cohort to another `deliver:` than that of its recorded members.
//!
//! A membership has one delivery method, so a cohort is never delivered in two ways at once. The first run removes all
//! members by the old method. The next run finds an empty membership and fills the cohort by the new method, see
//! [`policy::at_home`]. If the change is interrupted, the membership still has the members and their old method.

use super::compare::{DiffExtras, compare};
use super::context::PlanInputs;
use super::cursors::WantedMembers;
use super::diff_result::DiffResult;
use super::guarded::{self, GuardedChanges};
use super::plan_error::PlanError;
use super::policy;
use super::read_source::{self, SourceFindings, tally_of};
use crate::config::CohortConfig;
use crate::plan::{DesiredCursor as _, GuardPolicy, MembershipPlan, SourceTally, guard};
use crate::state::Membership;

/// Whether the recorded members were delivered by another method than the config's.
pub(super) fn is_due(cohort: &CohortConfig, membership: &Membership) -> bool {
    membership.workspace.delivery != cohort.delivery
}

/// Plans to remove all members by the old method. The source is read as well: if it cannot be read, the next run could
/// not fill the cohort again.
pub(super) fn plan(
    cohort: &CohortConfig,
    membership: Membership,
    inputs: PlanInputs<'_>,
) -> Result<(SourceFindings, GuardedChanges), PlanError> {
    let mut source = read_source::read_in_full(cohort, None, inputs)?;
    while source.wanted.advance()?.is_some() {}
    let (findings, headerless_file, _) = source.finish()?;
    let tally =
        findings.matched.as_ref().map(|matched| tally_of(matched, headerless_file)).unwrap_or_default();
    let no_members = &mut WantedMembers::None;
    let diff = compare(&cohort.id, no_members, Some(&membership), DiffExtras::default(), inputs)?;
    Ok((findings, guard_change(cohort, membership, diff, tally, inputs)?))
}

/// Guards the removal of all members by the old method.
pub(super) fn guard_change(
    cohort: &CohortConfig,
    membership: Membership,
    diff: DiffResult,
    source: SourceTally,
    inputs: PlanInputs<'_>,
) -> Result<GuardedChanges, PlanError> {
    let braze = policy::connection(&cohort.to, inputs.config)?;
    let old = policy::workspace(&cohort.to, braze, &membership.workspace.delivery);
    let plan = diff.into_plan(&cohort.id, Some(&membership), None, Some(source), (braze, &old.delivery));
    let next_delivery = Some(cohort.delivery.clone());
    let plan = MembershipPlan { next_delivery, target: old.to_string(), ..plan };
    let policy = GuardPolicy {
        limits: cohort.limits,
        ceilings: guarded::ceilings(&cohort.id, inputs),
        protected: cohort.protect.unwrap_or(membership.protected),
        workspace_change: policy::workspace_change(&membership.workspace, &old, braze),
        ..GuardPolicy::default()
    };
    let (policy, is_approved) = guarded::with_approvals(&plan, policy, inputs)?;
    Ok(guarded::settle(membership, guard(plan, &policy), is_approved))
}
