//! The unknown users of a cohort in a plan: which are due for another question, and which are known by now.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use crate::config::{CohortConfig, PreflightConfig};
use crate::model::{ChangeOp, Identifier, MemberKey, Timestamp};
use crate::plan::ApprovedPlan;
use crate::reconcile::context::PlanInputs;
use crate::state::{OutboxUser, Spool, StateError, UnknownUser, UnknownUsers};

/// The unknown users of a cohort.
#[derive(Clone, Debug)]
pub struct PreflightPlan {
    pub(super) settings: PreflightConfig,
    pub(super) list: UnknownUsers,
    /// Whether the list differs from the recorded one.
    pub(super) is_changed: bool,
    /// Users that Braze knows by now. They are added again.
    pub known: u64,
    /// Users that Braze is asked for again.
    pub due: u64,
    /// Users that Braze did not know.
    pub unknown: u64,
}

impl PreflightPlan {
    /// Whether there is nothing to ask and nothing to record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.due == 0 && !self.is_changed
    }
}

/// The keys of the recorded members that Braze knows by now.
pub(in crate::reconcile) fn known_now(
    cohort: &CohortConfig,
    inputs: PlanInputs<'_>,
) -> Result<BTreeSet<MemberKey>, StateError> {
    if cohort.preflight.is_none() {
        return Ok(BTreeSet::new());
    }
    let list = inputs.state.unknown_users(&cohort.id)?;
    let key = |unknown: &UnknownUser| {
        let mut packed = Vec::new();
        unknown.user.identifier().pack_into(&mut packed);
        MemberKey::of(inputs.state.seed(), &packed)
    };
    Ok(list.users.iter().filter(|unknown| unknown.has_profile).map(key).collect())
}

/// The unknown users of a cohort without those that these changes remove. `None` without `preflight:`.
pub(in crate::reconcile) fn plan(
    cohort: &CohortConfig,
    approved: &mut ApprovedPlan<Spool>,
    inputs: PlanInputs<'_>,
) -> Result<Option<PreflightPlan>, StateError> {
    let Some(settings) = cohort.preflight else { return Ok(None) };
    let (mut list, now) = (inputs.state.unknown_users(&cohort.id)?, inputs.clock.now());
    let before = list.users.len();
    if !list.users.is_empty() && approved.changes(ChangeOp::Remove) > 0 {
        let users: BTreeSet<OutboxUser> = list.users.iter().map(|unknown| unknown.user.clone()).collect();
        let mut removed = BTreeSet::new();
        approved.list_mut(ChangeOp::Remove).for_each(|packed| {
            let user = Identifier::unpack(packed).ok().map(|(user, _)| OutboxUser::from(user));
            removed.extend(user.filter(|user| users.contains(user)));
            Ok(())
        })?;
        list.users.retain(|unknown| !removed.contains(&unknown.user));
    }
    let count = |is: &dyn Fn(&UnknownUser) -> bool| list.users.iter().filter(|user| is(user)).count() as u64;
    Ok(Some(PreflightPlan {
        settings,
        is_changed: list.users.len() != before,
        known: count(&|unknown| unknown.has_profile),
        due: count(&|unknown| is_due(unknown, settings, now)),
        unknown: count(&|unknown| !unknown.has_profile),
        list,
    }))
}

/// Whether Braze must be asked for this user again. A check far in the future was recorded by a wrong clock.
pub(super) fn is_due(unknown: &UnknownUser, settings: PreflightConfig, now: Timestamp) -> bool {
    let wait = SignedDuration::try_from(settings.retry_unknown).unwrap_or(SignedDuration::MAX);
    !unknown.has_profile && now.duration_since(unknown.checked_at.0).abs() >= wait
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reconcile::run_fixture::{RunFixture, advance, external, now};
    use crate::state::CheckTime;

    fn unknown(value: &str, has_profile: bool) -> UnknownUser {
        let (since, checked_at) = (CheckTime(now()), CheckTime(now()));
        UnknownUser { user: external(value).into(), since, checked_at, has_profile }
    }

    #[test]
    fn a_check_that_a_wrong_clock_recorded_does_not_delay_the_next_one() {
        let settings = PreflightConfig { sample: None, retry_unknown: Duration::from_secs(3600) };
        let checked = |at| UnknownUser { checked_at: CheckTime(at), ..unknown("bob", false) };
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        for (at, due) in [(now() - hours(1), true), (now(), false), (now() + hours(20), true)] {
            assert_eq!(is_due(&checked(at), settings, now()), due);
        }
    }

    /// Three members. `bob` and `cyd` were unknown, and `cyd` has a profile now.
    fn fixture() -> RunFixture {
        let fixture = RunFixture::new("    preflight: { retry_unknown: 24h }\n");
        fixture.record(ChangeOp::Add, &["ada", "bob", "cyd"].map(external), true);
        let users = vec![unknown("bob", false), unknown("cyd", true)];
        let mut list = UnknownUsers { users, ..UnknownUsers::default() };
        fixture.state.put_unknown_users(fixture.id(), &mut list).unwrap();
        fixture
    }

    fn numbers(plan: &PreflightPlan) -> (u64, u64, u64, bool) {
        (plan.known, plan.due, plan.unknown, plan.is_changed)
    }

    #[test]
    fn a_user_with_a_profile_is_added_again() {
        let fixture = fixture();
        fixture.source(&["ada,", "bob,", "cyd,"]);
        let mut plan = fixture.plan();
        let approved = &mut plan.verdict.approved;
        assert_eq!((approved.changes(ChangeOp::Add), approved.changes(ChangeOp::Remove)), (1, 0));
        assert_eq!(crate::reconcile::run_fixture::values(approved.list_mut(ChangeOp::Add)), ["cyd"]);
        assert_eq!(numbers(plan.preflight.as_ref().unwrap()), (1, 0, 1, false));
    }

    #[test]
    fn an_unknown_user_is_due_after_the_configured_time() {
        let fixture = fixture();
        fixture.source(&["ada,", "bob,", "cyd,"]);
        for (hours, due) in [(23, 0), (1, 1)] {
            advance(Duration::from_secs(hours * 3600));
            let plan = fixture.plan().preflight.unwrap();
            assert_eq!((numbers(&plan), plan.is_idle()), ((1, due, 1, false), due == 0));
        }
    }

    #[test]
    fn a_removed_user_leaves_the_list() {
        let fixture = fixture();
        fixture.source(&["ada,", "cyd,"]);
        let plan = fixture.plan().preflight.unwrap();
        assert_eq!((numbers(&plan), plan.is_idle()), ((1, 0, 0, true), false));
        assert!(plan.list.users.iter().all(|unknown| unknown.user.identifier().value == "cyd"));
    }

    #[test]
    fn a_cohort_without_preflight_has_no_plan_of_it() {
        let mut fixture = fixture();
        fixture.reconfigure("");
        fixture.source(&["ada,", "bob,", "cyd,"]);
        let plan = fixture.plan();
        assert!(plan.preflight.is_none() && !plan.sends(), "{plan:?}");
        assert!(known_now(fixture.cohort(), fixture.inputs()).unwrap().is_empty());
    }
}
