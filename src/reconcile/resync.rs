//! Resync: sends all recorded members again, for a Braze workspace that lost or changed them.
//!
//! Every member is added again, and every removed member that the state still records is removed again. The source is
//! not read, so the membership stays the same. Members in doubt are left to the next run.

use super::context::PlanInputs;
use super::diff_result::{ChangeSpools, DiffResult};
use super::guard_changes::GuardedChanges;
use super::plan_error::PlanError;
use super::policy;
use crate::model::{ChangeOp, CohortId, ConnectionName, MemberStanding};
use crate::plan::{ChangeSink as _, CohortNaming, DiffTally, GuardPolicy, MembershipPlan, guard};
use crate::state::Membership;

/// Plans to send a cohort again. Returns its connection and the changes.
pub(super) fn guard_resync(
    id: &CohortId,
    membership: Membership,
    inputs: PlanInputs<'_>,
) -> Result<(ConnectionName, GuardedChanges), PlanError> {
    let (connection, braze, here) = policy::recorded_connection(&membership, inputs.config)?;
    let diff = all_again(id, &membership, inputs)?;
    let naming = membership.name.clone().map(|name| CohortNaming::Create { name });
    let plan = diff.into_plan(id, Some(&membership), naming, None, (braze, &here.delivery));
    let plan = MembershipPlan { mixed: true, target: here.to_string(), ..plan };
    let policy = GuardPolicy {
        workspace_change: policy::workspace_change(&membership.workspace, &here, braze),
        ..GuardPolicy::default()
    };
    let verdict = guard(plan, &policy);
    Ok((connection, GuardedChanges { verdict, membership, membership_changed: false, approval: None }))
}

/// Every recorded member as a change.
fn all_again(
    id: &CohortId,
    membership: &Membership,
    inputs: PlanInputs<'_>,
) -> Result<DiffResult, PlanError> {
    let mut cursor = inputs.state.members(id, Some(membership))?;
    let (mut tally, mut changes) = (DiffTally::default(), ChangeSpools::default());
    while let Some((_, standing)) = cursor.advance_any()? {
        match standing {
            Some(MemberStanding::Member) => {
                tally.members += 1;
                tally.added_again += 1;
                changes.change(ChangeOp::Add, cursor.packed()?)?;
            }
            None => {
                tally.removed_again += 1;
                changes.change(ChangeOp::Remove, cursor.packed()?)?;
            }
            Some(MemberStanding::InDoubt) => tally.left_in_doubt += 1,
            Some(MemberStanding::Rejected | MemberStanding::Disputed) => tally.rejected += 1,
        }
    }
    Ok(DiffResult { tally, changes, settles: None })
}
