//! Plans a cohort from its recorded membership alone: empties a removed cohort, or sends a cohort again.

use super::compare::{DiffExtras, compare};
use super::context::PlanInputs;
use super::cursors::WantedMembers;
use super::diff_result::DiffResult;
use super::guard_changes::guard_removed;
use super::plan_error::PlanError;
use super::read_source::SourceFindings;
use super::resync::guard_resync;
use super::run_plan::{CohortHeader, CohortPlan};
use crate::model::CohortId;
use crate::state::Membership;

/// Plans to empty a cohort under `removed:`. `None` when it is empty.
pub(super) fn plan_removed(id: &CohortId, inputs: PlanInputs<'_>) -> Result<Option<CohortPlan>, PlanError> {
    let membership = inputs.state.version(id)?.filter(|membership| !membership.removed);
    let Some(membership) = membership else { return Ok(None) };
    let no_members = &mut WantedMembers::None;
    let diff = compare(id, no_members, Some(&membership), DiffExtras::default(), inputs)?;
    empty(id, membership, diff, inputs).map(Some)
}

/// Plans to send all recorded members of a cohort again.
pub(super) fn plan_resync(
    id: &CohortId,
    membership: Membership,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let (connection, changes) = guard_resync(id, membership, inputs)?;
    let declared = inputs.config.cohorts.iter().find(|cohort| cohort.id == *id);
    let declared_at = declared.map_or_else(String::new, |cohort| cohort.declared_at.clone());
    let header = CohortHeader::recorded(id, &changes.membership, connection, declared_at);
    let findings = SourceFindings { mark: changes.membership.source.clone(), ..SourceFindings::default() };
    Ok(CohortPlan::new(header, changes, findings))
}

/// The plan that removes all members of a cohort.
pub(super) fn empty(
    id: &CohortId,
    membership: Membership,
    diff: DiffResult,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let (connection, changes) = guard_removed(id, membership, diff, inputs)?;
    let header = CohortHeader::recorded(id, &changes.membership, connection, "removed:".to_owned());
    Ok(CohortPlan { empties: true, ..CohortPlan::new(header, changes, SourceFindings::default()) })
}
