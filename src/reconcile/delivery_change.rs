//! A cohort whose way of delivery is another now: first everybody leaves by the old way.
//!
//! A record says of everybody how they were delivered by one thing alone, so a cohort is never delivered in two
//! ways at once. Whatever stops the move leaves a record that knows whom to take out of where. Once it is empty,
//! the next plan fills the cohort by the new way, see [`policy::at_home`].

use super::PlanInputs;
use super::compare::{DiffExtras, DiffResult, compare};
use super::cursors::WantedMembers;
use super::plan_cohort;
use super::policy::{self};
use super::report::CohortPlan;
use super::{PlanError, plan_cohort::tally_of};
use crate::config::CohortConfig;
use crate::model::MatchTally;
use crate::plan::{GuardPolicy, MembershipPlan, SourceTally, guard};
use crate::source::{self, DesiredError, DesiredMembers};
use crate::state::Membership;

/// Whether the record's members were delivered in another way than the config's.
pub(super) fn is_due(cohort: &CohortConfig, record: &Membership) -> bool {
    record.workspace.delivery != cohort.delivery
}

/// Plans that everybody leaves by the old way. The source is read all the same: while it cannot be, nobody could enter
/// by the new one.
pub(super) fn plan(
    cohort: &CohortConfig,
    record: Membership,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let read = source::read(cohort, inputs.from(), inputs.progress)?;
    let DesiredMembers { set, mut case_variants, summary, rejects, rekeyed_rows, ambiguous_rows, .. } = read;
    let mut members = set.into_members();
    while let Some(key) = members.advance().map_err(DesiredError::Scratch)? {
        case_variants.visit(&[key]);
    }
    let (case_colliding, spelled) = case_variants.finish().map_err(DesiredError::Scratch)?;
    let matched = rejects.tally(&summary, members.duplicates(), rekeyed_rows);
    let matched = MatchTally { ambiguous: ambiguous_rows, case_colliding: Some(case_colliding), ..matched };
    let source = tally_of(&matched, summary.headerless_file);
    let diff = compare(&cohort.id, &mut WantedMembers::Nobody, Some(&record), DiffExtras::default(), inputs)?;
    let plan = judged(cohort, record, diff, source, inputs)?;
    Ok(CohortPlan { matched: Some(matched), source_read: true, rejects: Some(rejects), spelled, ..plan })
}

/// Makes a plan of a cohort's move and holds it to its policy.
pub(super) fn judged(
    cohort: &CohortConfig,
    record: Membership,
    diff: DiffResult,
    source: SourceTally,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let braze = plan_cohort::connection(&cohort.to, inputs)?;
    let old = policy::workspace(&cohort.to, braze, &record.workspace.delivery);
    let plan = diff.into_plan(&cohort.id, Some(&record), None, Some(source), (braze, &old.delivery));
    let plan = MembershipPlan { moves_to: Some(cohort.delivery.clone()), target: old.to_string(), ..plan };
    let policy = GuardPolicy {
        limits: cohort.limits,
        ceilings: plan_cohort::ceilings(&cohort.id, inputs),
        protected: cohort.protect.unwrap_or(record.protected),
        moved: policy::moved(&record.workspace, &old, braze),
        ..GuardPolicy::default()
    };
    let (policy, is_approved) = plan_cohort::with_approvals(&plan, policy, inputs)?;
    let verdict = guard(plan, &policy);
    let mut record = record;
    let record_changed = plan_cohort::forget_late(&mut record, &verdict);
    Ok(CohortPlan {
        id: cohort.id.clone(),
        name: cohort.name.clone(),
        connection: cohort.to.clone(),
        declared_at: cohort.declared_at.clone(),
        verdict,
        matched: None,
        source_read: false,
        rejects: None,
        spelled: Vec::new(),
        mark: None,
        record_changed,
        record,
        empties: false,
        is_approved,
        actions: None,
        compared: None,
        strangers: None,
    })
}
