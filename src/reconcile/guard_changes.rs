//! Makes a plan of a diff and passes it through the guard, with the policy of a declared or a removed cohort.

use super::context::PlanInputs;
use super::diff_result::DiffResult;
use super::plan_error::PlanError;
use super::policy::{self, CohortNames};
use crate::config::CohortConfig;
use crate::model::{Ceilings, CohortId, ConnectionName, DeliveryMethod, GuardLimits, Timestamp};
use crate::plan::{
    self, ChangeSide, CohortNaming, GuardPolicy, GuardVerdict, MembershipPlan, PlanDigest, SourceTally, guard,
};
use crate::state::{Approval, Membership, SourceMark, Spool};

/// The changes of one cohort after the guard, and the membership that they start from.
pub(super) struct GuardedChanges {
    pub(super) verdict: GuardVerdict<Spool>,
    /// The recorded membership, with the changes that the config makes to it.
    pub(super) membership: Membership,
    /// Whether the membership must be written even if nothing is sent.
    pub(super) membership_changed: bool,
    /// The approval that lifts a violation.
    pub(super) approval: Option<Approval>,
}

impl GuardedChanges {
    /// Records the source mark unless something is blocked: then the next run must read the source again. Returns the
    /// mark that the apply records.
    pub(super) fn record_source_mark(&mut self, mark: Option<SourceMark>) -> Option<SourceMark> {
        let mark = mark.filter(|_| self.verdict.violations.is_empty());
        // A blocked run that sends nothing must not write a version: a saved plan of this version stays valid.
        let is_settled = self.verdict.violations.is_empty() && self.verdict.approved.is_in_sync();
        if is_settled && self.membership.number > 0 && self.membership.source != mark {
            self.membership.source.clone_from(&mark);
            self.membership_changed = true;
        }
        mark
    }

    /// Whether the cohort was never sent with this delivery method: Braze has no name and no part of it.
    pub(super) fn is_first_fill(&self) -> bool {
        let (membership, members) = (&self.membership, self.verdict.approved.plan().tally.members);
        membership.is_vacant() && membership.name.is_none() && membership.parts.is_empty() && members == 0
    }
}

/// Guards the changes of a cohort that the config declares.
pub(super) fn guard_declared(
    cohort: &CohortConfig,
    names: &CohortNames,
    previous: Option<Membership>,
    diff: DiffResult,
    source: Option<SourceTally>,
    inputs: PlanInputs<'_>,
) -> Result<GuardedChanges, PlanError> {
    let braze = policy::connection(&cohort.to, inputs.config)?;
    let workspace = policy::workspace(&cohort.to, braze, &cohort.delivery);
    let workspace_change =
        previous.as_ref().and_then(|known| policy::workspace_change(&known.workspace, &workspace, braze));
    let naming = naming(cohort, previous.as_ref(), inputs.clock.now());
    let plan = diff.into_plan(&cohort.id, previous.as_ref(), naming, source, (braze, &cohort.delivery));
    let again = plan.tally.added_again + plan.tally.removed_again;
    let mixed = cohort.rules.len() > 1 || plan.tally.rekeyed > 0 || again > plan.tally.settled_again;
    let plan = MembershipPlan { mixed, target: policy::target(cohort, &workspace), ..plan };
    let mut membership = previous
        .clone()
        .unwrap_or_else(|| Membership::first(inputs.run, inputs.clock.now(), workspace.clone()));
    if workspace_change.is_none() {
        membership.workspace = workspace;
        membership.protected = cohort.protect.unwrap_or(membership.protected);
        membership.removed = false;
    }
    let policy = GuardPolicy {
        limits: cohort.limits,
        ceilings: ceilings(&cohort.id, inputs),
        protected: membership.protected,
        share_base: membership.share_base,
        array_full: names.array_full(cohort, braze),
        name_taken_by: names.taken_by(cohort),
        workspace_change,
        approved: Vec::new(),
    };
    let (policy, approval) = with_approvals(&plan, policy, inputs)?;
    let verdict = guard(plan, &policy);
    let is_blocked = verdict.violations.iter().any(|violation| violation.side() == ChangeSide::Removes);
    let members = verdict.approved.plan().tally.recorded();
    membership.share_base = is_blocked.then(|| membership.share_base.unwrap_or(members));
    forget_late(&mut membership, &verdict);
    // A new share base is recorded with the additions beside the blocked removals. It is no reason to write a version:
    // if nothing is sent, the number of members stays the same.
    let share_base =
        if is_blocked { previous.as_ref().and_then(|known| known.share_base) } else { membership.share_base };
    let compared = Membership { share_base, ..membership.clone() };
    let membership_changed = previous.is_some_and(|previous| previous != compared);
    Ok(GuardedChanges { verdict, membership, membership_changed, approval })
}

/// Guards the emptying of a cohort under `removed:`. Returns its connection, too.
pub(super) fn guard_removed(
    id: &CohortId,
    membership: Membership,
    diff: DiffResult,
    inputs: PlanInputs<'_>,
) -> Result<(ConnectionName, GuardedChanges), PlanError> {
    let (name, braze, here) = policy::recorded_connection(&membership, inputs.config)?;
    let plan = diff.into_plan(id, Some(&membership), None, None, (braze, &here.delivery));
    let plan = MembershipPlan { target: here.to_string(), ..plan };
    let policy = GuardPolicy {
        limits: GuardLimits::default(),
        ceilings: ceilings(id, inputs),
        protected: membership.protected,
        workspace_change: policy::workspace_change(&membership.workspace, &here, braze),
        ..GuardPolicy::default()
    };
    Ok((name, settle(membership, guard(plan, &policy), None)))
}

/// The guarded changes of a membership that the config does not change.
pub(super) fn settle(
    mut membership: Membership,
    verdict: GuardVerdict<Spool>,
    approval: Option<Approval>,
) -> GuardedChanges {
    let membership_changed = forget_late(&mut membership, &verdict);
    GuardedChanges { verdict, membership, membership_changed, approval }
}

/// Adds the approvals of the state to the policy, if one could lift a violation. Returns the one that does.
pub(super) fn with_approvals(
    plan: &MembershipPlan<Spool>,
    policy: GuardPolicy,
    inputs: PlanInputs<'_>,
) -> Result<(GuardPolicy, Option<Approval>), PlanError> {
    let violations = plan::violations(plan, &policy);
    if !violations.iter().any(plan::GuardViolation::can_be_approved) {
        return Ok((policy, None));
    }
    let given = inputs.state.approvals(&plan.cohort, inputs.clock.now())?;
    let approved: Vec<PlanDigest> = given.iter().filter_map(|approval| approval.plan.parse().ok()).collect();
    let policy = GuardPolicy { approved, ..policy };
    let is_approved = plan::violations(plan, &policy).len() < violations.len();
    let whole = plan.whole_digest();
    let used = given.into_iter().find(|approval| approval.plan.parse() == Ok(whole));
    Ok((policy, used.filter(|_| is_approved)))
}

/// The limits that you allowed for this run.
pub(super) fn ceilings(id: &CohortId, inputs: PlanInputs<'_>) -> Ceilings {
    inputs.ceilings.get(id).copied().unwrap_or_default()
}

/// Forgets the late requests that the plan has looked for, if nothing must be sent because of them. Otherwise the apply
/// forgets them. Returns whether the membership changed.
fn forget_late(membership: &mut Membership, verdict: &GuardVerdict<Spool>) -> bool {
    let plan = verdict.approved.plan();
    let is_over = verdict.violations.is_empty() && verdict.approved.is_in_sync();
    let Some(at) = plan.settles.filter(|_| is_over) else { return false };
    membership.remove_expired_late(at)
}

/// The request that creates or renames the cohort in Braze. A cohort in an attribute has no name there.
fn naming(cohort: &CohortConfig, previous: Option<&Membership>, now: Timestamp) -> Option<CohortNaming> {
    if cohort.delivery != DeliveryMethod::CohortImport {
        return None;
    }
    match previous.and_then(|membership| membership.name.as_ref()) {
        None => Some(CohortNaming::Create { name: cohort.name.clone() }),
        Some(name) if *name != cohort.name => {
            Some(CohortNaming::Rename { from: name.clone(), name: cohort.name.clone() })
        }
        Some(name) => {
            let is_in_doubt = previous.is_some_and(|membership| membership.is_name_in_doubt(now));
            is_in_doubt.then(|| CohortNaming::Again { name: name.clone() })
        }
    }
}
