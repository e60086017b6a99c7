//! The unknown users of a cohort in a plan: which are due for another question, and which are known by now.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use crate::config::{CohortConfig, PreflightConfig};
use crate::model::{ChangeOp, Identifier, MemberKey, Timestamp};
use crate::plan::Approved;
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
    approved: &mut Approved<Spool>,
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

/// Whether Braze must be asked for this user again.
pub(super) fn is_due(unknown: &UnknownUser, settings: PreflightConfig, now: Timestamp) -> bool {
    let wait = SignedDuration::try_from(settings.retry_unknown).unwrap_or(SignedDuration::MAX);
    !unknown.has_profile && now.duration_since(unknown.checked_at.0) >= wait
}
