//! Sending a cohort again, all of it, by its record: for a Braze that has lost or changed what it had.
//!
//! Every member is added again, and everybody whom the record still knows to have been let go is removed
//! again. No source is read, so nobody is added or removed who was not before; whoever is in doubt is left to
//! the next run.

use super::compare::{ChangeSpools, DiffResult};
use super::plan_cohort;
use super::report::{CohortPlan, RunPlan};
use super::{PlanError, PlanInputs, policy};
use crate::model::{ChangeOp, CohortId, Standing};
use crate::plan::{ChangeSink as _, CohortNaming, DiffTally, GuardPolicy, MembershipPlan, guard};
use crate::state::Membership;

/// Plans to send a cohort again. None: the record has nothing of it.
pub(super) fn plan(id: &CohortId, inputs: PlanInputs<'_>) -> Result<Option<RunPlan>, PlanError> {
    let Some(record) = inputs.state.version(id)? else { return Ok(None) };
    let mut plan = RunPlan::new(inputs.config.digest.clone());
    plan.cohorts.push(cohort(id, record, inputs)?);
    Ok(Some(plan))
}

fn cohort(id: &CohortId, record: Membership, inputs: PlanInputs<'_>) -> Result<CohortPlan, PlanError> {
    let (connection, braze, here) = plan_cohort::at(&record, inputs)?;
    let diff = everybody(id, &record, inputs)?;
    let naming = record.name.clone().map(|name| CohortNaming::Create { name });
    let plan = diff.into_plan(id, Some(&record), naming, None, (braze, &here.delivery));
    let plan = MembershipPlan { mixed: true, target: here.to_string(), ..plan };
    let policy =
        GuardPolicy { moved: policy::moved(&record.workspace, &here, braze), ..GuardPolicy::default() };
    let declared = inputs.config.cohorts.iter().find(|cohort| cohort.id == *id);
    Ok(CohortPlan {
        id: id.clone(),
        name: record.name.clone().unwrap_or_else(|| id.to_string()),
        connection,
        declared_at: declared.map_or_else(String::new, |cohort| cohort.declared_at.clone()),
        verdict: guard(plan, &policy),
        matched: None,
        source_read: false,
        rejects: None,
        spelled: Vec::new(),
        mark: record.source.clone(),
        record,
        record_changed: false,
        is_approved: false,
        actions: None,
        compared: None,
        strangers: None,
        empties: false,
    })
}

/// Everybody in the record, as a change.
fn everybody(id: &CohortId, record: &Membership, inputs: PlanInputs<'_>) -> Result<DiffResult, PlanError> {
    let mut cursor = inputs.state.members(id, Some(record))?;
    let (mut tally, mut changes) = (DiffTally::default(), ChangeSpools::default());
    while let Some((_, standing)) = cursor.advance_any()? {
        match standing {
            Some(Standing::Member) => {
                tally.members += 1;
                tally.sent_again += 1;
                changes.change(ChangeOp::Add, cursor.packed()?)?;
            }
            None => {
                tally.let_go_again += 1;
                changes.change(ChangeOp::Remove, cursor.packed()?)?;
            }
            Some(Standing::InDoubt) => tally.left_in_doubt += 1,
            Some(Standing::Refused | Standing::Disputed) => tally.refused += 1,
        }
    }
    Ok(DiffResult { tally, changes, settles: None })
}
