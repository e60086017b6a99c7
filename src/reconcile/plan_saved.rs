//! Plans a cohort from a plan file: rebuilds its plan with the numbers of the state.

use std::path::Path;

use super::context::PlanInputs;
use super::delivery_change::DeliveryChange;
use super::guard_changes::guard_declared;
use super::plan_cohort::with_stages;
use super::plan_error::PlanError;
use super::plan_file::{self, PlanFileCohort, PlanFileError, SavedCohort};
use super::plan_recorded;
use super::policy::{self, CohortNames};
use super::read_source::{SourceFindings, tally_of};
use super::run_plan::{CohortHeader, CohortPlan};
use super::triggers::Transitions;
use crate::config::CohortConfig;
use crate::plan::Sides;
use crate::source::SortedSet;
use crate::state::Membership;

/// Rebuilds the plan of a cohort from a plan file, with the numbers of the state.
pub(super) fn plan_saved(
    path: &Path,
    saved: SavedCohort,
    names: &CohortNames,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanFileError> {
    let damaged = |error: PlanError| PlanFileError::damaged(path, error.to_string());
    let SavedCohort { id, head, sides } = saved;
    let previous = inputs.state.version(&id)?;
    if previous.as_ref().map_or(0, |membership| membership.number) != head.base {
        return Err(PlanFileError::Stale(format!("cohort {id} has been applied since it was made")));
    }
    let unknown = || PlanFileError::damaged(path, format!("cohort {id} is not in the config"));
    if head.empties {
        let membership = previous.ok_or_else(unknown)?;
        let diff = plan_file::recount(&id, &head, sides, Some(&membership), inputs).map_err(damaged)?;
        return plan_recorded::empty(&id, membership, diff, inputs).map_err(damaged);
    }
    let declared = inputs.config.cohorts.iter().find(|declared| declared.id == id);
    let declared = declared.ok_or_else(unknown)?;
    resume_declared(declared, previous, (head, sides), names, inputs).map_err(damaged)
}

fn resume_declared(
    cohort: &CohortConfig,
    previous: Option<Membership>,
    (head, sides): (PlanFileCohort, Sides<SortedSet>),
    names: &CohortNames,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let braze = policy::connection(&cohort.to, inputs.config)?;
    let previous = previous.map(|membership| policy::in_configured_workspace(membership, cohort, braze));
    let diff = plan_file::recount(&cohort.id, &head, sides, previous.as_ref(), inputs)?;
    let PlanFileCohort { due, matched, headerless_file, .. } = head;
    let source = matched.as_ref().map(|matched| tally_of(matched, headerless_file));
    let findings = SourceFindings { matched, ..SourceFindings::default() };
    if let Some(change) = DeliveryChange::due(cohort, previous.as_ref()) {
        let changes = change.guard(cohort, diff, source.unwrap_or_default(), inputs)?;
        return Ok(CohortPlan::new(CohortHeader::declared(cohort), changes, findings));
    }
    let mut changes = guard_declared(cohort, names, previous, diff, source, inputs)?;
    let transitions = Transitions::saved(cohort, due, &mut changes.verdict.approved, inputs)?;
    with_stages(cohort, changes, findings, transitions, inputs)
}
