//! Delivery change: moves a cohort to another `deliver:` than that of its recorded members.
//!
//! A membership has one delivery method, so a cohort is never delivered in two ways at once. The first run removes all
//! members by the old method. The next run finds an empty membership and fills the cohort by the new method, see
//! [`policy::in_configured_workspace`]. If the change is interrupted, the membership still has the members and their old method.
//!
//! No member enters or leaves, so a delivery change has no preflight check and no triggers. Due triggers wait.

use super::compare::{DiffExtras, compare};
use super::context::PlanInputs;
use super::cursors::WantedMembers;
use super::diff_result::DiffResult;
use super::guard_changes::{self, GuardedChanges};
use super::plan_error::PlanError;
use super::policy;
use super::read_source::{self, SourceFindings, tally_of};
use crate::config::CohortConfig;
use crate::model::DeliveryMethod;
use crate::plan::{DesiredCursor as _, GuardPolicy, MembershipPlan, SourceTally, guard};
use crate::state::Membership;

/// A delivery change that is due.
#[derive(Debug)]
pub(super) struct DeliveryChange {
    /// The recorded members, with their old delivery method.
    membership: Membership,
    /// The delivery method of the next run.
    next: DeliveryMethod,
}

impl DeliveryChange {
    /// The change, if the recorded members were delivered by another method than the config's.
    pub(super) fn due(cohort: &CohortConfig, previous: Option<&Membership>) -> Option<Self> {
        let known = previous.filter(|membership| membership.workspace.delivery != cohort.delivery);
        known.map(|membership| Self { membership: membership.clone(), next: cohort.delivery.clone() })
    }

    /// Plans to remove all members by the old method. The source is read as well: if it cannot be read, the next run
    /// could not fill the cohort again.
    pub(super) fn plan(
        self,
        cohort: &CohortConfig,
        inputs: PlanInputs<'_>,
    ) -> Result<(SourceFindings, GuardedChanges), PlanError> {
        let mut source = read_source::read_in_full(cohort, None, inputs)?;
        while source.wanted.advance()?.is_some() {}
        let (findings, headerless_file, _) = source.finish()?;
        let tally = findings.matched.as_ref().map(|matched| tally_of(matched, headerless_file));
        let no_members = &mut WantedMembers::None;
        let diff = compare(&cohort.id, no_members, Some(&self.membership), DiffExtras::default(), inputs)?;
        Ok((findings, self.guard(cohort, diff, tally.unwrap_or_default(), inputs)?))
    }

    /// Guards the removal of all members by the old method.
    pub(super) fn guard(
        self,
        cohort: &CohortConfig,
        diff: DiffResult,
        source: SourceTally,
        inputs: PlanInputs<'_>,
    ) -> Result<GuardedChanges, PlanError> {
        let Self { membership, next } = self;
        let braze = policy::connection(&cohort.to, inputs.config)?;
        let old = policy::workspace(&cohort.to, braze, &membership.workspace.delivery);
        let plan = diff.into_plan(&cohort.id, Some(&membership), None, Some(source), (braze, &old.delivery));
        let plan = MembershipPlan { next_delivery: Some(next), target: old.to_string(), ..plan };
        let policy = GuardPolicy {
            limits: cohort.limits,
            ceilings: guard_changes::ceilings(&cohort.id, inputs),
            protected: cohort.protect.unwrap_or(membership.protected),
            workspace_change: policy::workspace_change(&membership.workspace, &old, braze),
            ..GuardPolicy::default()
        };
        let (policy, approval) = guard_changes::with_approvals(&plan, policy, inputs)?;
        Ok(guard_changes::settle(membership, guard(plan, &policy), approval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChangeOp;
    use crate::reconcile::plan_run::{resume, save};
    use crate::reconcile::run_fixture::{RunFixture, external, now, values};
    use crate::reconcile::run_plan::{CohortPlan, RunPlan};
    use crate::state::{CheckTime, DueTrigger, Outbox, Transition};

    const KEYS: &str = "    deliver: attribute
    preflight: {}
    on_enter: { campaign: welcome }
    on_exit: { campaign: goodbye }
";

    /// Two members by cohort import, the first with a due trigger, and a config that delivers an attribute.
    fn fixture() -> RunFixture {
        let fixture = RunFixture::new(KEYS);
        fixture.record(ChangeOp::Add, &["ada", "bob"].map(external), true);
        let due = DueTrigger {
            transition: Transition::Enter,
            user: external("ada").into(),
            at: CheckTime(now()),
            properties: Default::default(),
            omitted: Vec::new(),
        };
        let mut outbox = Outbox { due: vec![due], ..Outbox::default() };
        fixture.state.put_outbox(fixture.id(), &mut outbox).unwrap();
        fixture.source(&["ada,", "bob,", "cyd,"]);
        fixture
    }

    fn assert_empties_the_old_delivery(mut plan: CohortPlan, fixture: &RunFixture) {
        let approved = &mut plan.verdict.approved;
        assert_eq!(values(approved.list_mut(ChangeOp::Remove)), ["ada", "bob"]);
        assert_eq!(values(approved.list_mut(ChangeOp::Add)), Vec::<String>::new());
        assert_eq!(approved.plan().delivery, DeliveryMethod::CohortImport);
        assert_eq!(approved.plan().next_delivery.as_ref(), Some(&fixture.cohort().delivery));
        assert!(plan.triggers.is_none() && plan.preflight.is_none(), "no user enters or leaves: {plan:?}");
    }

    #[test]
    fn a_delivery_change_removes_all_members_and_has_no_other_stage() {
        let fixture = fixture();
        assert_empties_the_old_delivery(fixture.plan(), &fixture);
    }

    #[test]
    fn a_saved_delivery_change_is_the_same_plan() {
        let fixture = fixture();
        let (planned, path) = (fixture.plan(), fixture.path("plan"));
        let digest = planned.verdict.approved.digest();
        let mut run = RunPlan::new(fixture.config.digest.clone());
        run.cohorts.push(planned);
        save(&mut run, &path, fixture.state.reader()).unwrap();
        let resumed = resume(&path, fixture.inputs()).unwrap().cohorts.pop().unwrap();
        assert_eq!(resumed.verdict.approved.digest(), digest);
        assert_empties_the_old_delivery(resumed, &fixture);
    }

    #[test]
    fn the_change_is_due_until_no_member_has_the_old_delivery() {
        let fixture = fixture();
        let recorded = fixture.membership();
        assert!(DeliveryChange::due(fixture.cohort(), Some(&recorded)).is_some());
        assert!(DeliveryChange::due(fixture.cohort(), None).is_none());
        fixture.record(ChangeOp::Remove, &["ada", "bob"].map(external), true);
        let braze = &fixture.config.braze[&fixture.cohort().to];
        let emptied = policy::in_configured_workspace(fixture.membership(), fixture.cohort(), braze);
        assert!(DeliveryChange::due(fixture.cohort(), Some(&emptied)).is_none());
        let mut plan = fixture.plan();
        assert_eq!(values(plan.verdict.approved.list_mut(ChangeOp::Add)), ["ada", "bob", "cyd"]);
    }

    #[test]
    fn a_source_that_cannot_be_read_stops_the_change() {
        let fixture = fixture();
        let change = DeliveryChange::due(fixture.cohort(), Some(&fixture.membership())).unwrap();
        std::fs::remove_file(fixture.path("carts.csv")).unwrap();
        assert!(change.plan(fixture.cohort(), fixture.inputs()).is_err());
    }
}
