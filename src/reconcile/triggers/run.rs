//! Runs the triggers of a cohort: recorded before members are sent, triggered once the members are settled.
//!
//! # Guarantees
//! A trigger fires only for a user with a fitting recorded membership at that moment: an entry for a settled member, an
//! exit for a user who is settled to be out. The list of due triggers is written before the membership is committed, so
//! after a crash in between it may name users who never entered or left: those are dropped here.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::TriggersPlan;
use crate::apply::{self, ApplyContext, ApplyOutcome, ApplyStop, TriggerOutcome, TriggerRequest};
use crate::blocking;
use crate::connector::destination::TriggerEndpoint;
use crate::model::{CohortId, MemberKey, MemberStanding};
use crate::state::{DueTrigger, Reject, RejectLog, StateError, StateReader, StateWriter, Transition};

/// The triggers of a cohort while its members are sent.
pub(in crate::reconcile) struct TriggerRun<'a> {
    plan: TriggersPlan,
    /// Whether the guard blocks a change, so that the membership of due users may still change.
    is_blocked: bool,
    state: &'a StateWriter,
}

impl<'a> TriggerRun<'a> {
    /// Records the list of due triggers. Requests of earlier runs without an answer are no longer on it.
    pub(in crate::reconcile) fn begin(
        cohort: &CohortId,
        mut plan: TriggersPlan,
        is_blocked: bool,
        state: &'a StateWriter,
    ) -> Result<Self, StateError> {
        blocking::in_place(|| state.put_outbox(cohort, &mut plan.outbox))?;
        Ok(Self { plan, is_blocked, state })
    }

    /// Fires the chosen triggers, unless sending members stopped early. `sending` is `None` without keys. `done` has an outcome for each trigger that was
    /// tried, in the order of the plan, also after an error.
    pub(in crate::reconcile) async fn run(
        &mut self,
        cohort: &CohortId,
        outcome: &ApplyOutcome,
        sending: Option<(&dyn TriggerEndpoint, ApplyContext<'_>)>,
        rejects: &mut RejectLog,
        done: &mut Vec<TriggerOutcome>,
    ) -> Result<(), ApplyStop> {
        reject_unanswered(&self.plan.unanswered, rejects)?;
        if outcome.stop_reason.is_some() {
            return Ok(self.take_back(cohort, outcome)?);
        }
        if self.plan.users() == 0 {
            return Ok(());
        }
        let (endpoint, context) = sending.ok_or(ApplyStop::NoKeys)?;
        blocking::in_place(|| self.drop_unsettled(cohort))?;
        for at in 0..self.plan.triggers.len() {
            done.push(TriggerOutcome::default());
            let Some(last) = done.last_mut() else { continue };
            let plan = &self.plan.triggers[at];
            let (transition, trigger, users) = (plan.transition, &plan.trigger, &plan.now);
            let request = TriggerRequest { cohort, transition, trigger, users };
            let result = if plan.now.is_empty() {
                Ok(())
            } else {
                apply::trigger(request, endpoint, &mut self.plan.outbox, context, last).await
            };
            reject_unanswered(&last.unanswered, rejects)?;
            reject_recipients(&last.rejected, rejects)?;
            result?;
        }
        Ok(())
    }

    /// Drops the users with a recorded membership that does not fit, and records the shorter list.
    fn drop_unsettled(&mut self, cohort: &CohortId) -> Result<(), StateError> {
        let state = self.state.reader();
        let users: Vec<&DueTrigger> = self.plan.triggers.iter().flat_map(|plan| &plan.now).collect();
        let standings = standings(cohort, &users, state)?;
        let is_blocked = self.is_blocked;
        let fit =
            |due: &DueTrigger| fit(due.transition, standings.get(&key_of(due, state)).copied(), is_blocked);
        let mut dropped: Vec<DueTrigger> = Vec::new();
        for plan in &mut self.plan.triggers {
            dropped.extend(plan.now.iter().filter(|due| fit(due) == PropertyFit::Never).cloned());
            plan.now.retain(|due| fit(due) == PropertyFit::Now);
        }
        if dropped.is_empty() {
            return Ok(());
        }
        tracing::info!(%cohort, users = dropped.len(), "triggers dropped: their users did not enter or leave");
        self.plan.outbox.due.retain(|due| !dropped.contains(due));
        self.state.put_outbox(cohort, &mut self.plan.outbox)
    }

    /// Takes the new due triggers back if nothing was sent: then there was no transition.
    fn take_back(&mut self, cohort: &CohortId, outcome: &ApplyOutcome) -> Result<(), StateError> {
        if !outcome.changed_anything() && outcome.in_doubt == 0 {
            let new = &self.plan.new;
            self.plan.outbox.due.retain(|due| !new.contains(due));
            blocking::in_place(|| self.state.put_outbox(cohort, &mut self.plan.outbox))?;
        }
        Ok(())
    }
}

/// Whether a trigger may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PropertyFit {
    Now,
    /// The membership is not settled yet: it stays due.
    Later,
    /// There was no such transition.
    Never,
}

fn fit(transition: Transition, standing: Option<MemberStanding>, is_blocked: bool) -> PropertyFit {
    match (transition, standing) {
        (Transition::Enter, Some(MemberStanding::Member))
        | (Transition::Exit, None | Some(MemberStanding::Rejected)) => PropertyFit::Now,
        (_, Some(MemberStanding::InDoubt)) | (Transition::Exit, Some(MemberStanding::Disputed)) => {
            PropertyFit::Later
        }
        (Transition::Enter, None | Some(MemberStanding::Rejected | MemberStanding::Disputed))
        | (Transition::Exit, Some(MemberStanding::Member)) => {
            if is_blocked {
                PropertyFit::Later
            } else {
                PropertyFit::Never
            }
        }
    }
}

fn key_of(due: &DueTrigger, state: &StateReader) -> MemberKey {
    state.key_of(&due.user.identifier())
}

/// The standings of these users in the recorded membership. Users without a record are missing.
fn standings(
    cohort: &CohortId,
    users: &[&DueTrigger],
    state: &StateReader,
) -> Result<BTreeMap<MemberKey, MemberStanding>, StateError> {
    let keys: BTreeSet<MemberKey> = users.iter().map(|due| key_of(due, state)).collect();
    let Some(version) = state.version(cohort)? else { return Ok(BTreeMap::new()) };
    let found = state.find_members(cohort, &version, &keys)?.into_iter();
    Ok(found.filter_map(|(key, member)| Some((key, member.standing?))).collect())
}

/// Writes the recipients of requests without an answer to the rejects.
fn reject_unanswered(unanswered: &[DueTrigger], rejects: &mut RejectLog) -> Result<(), StateError> {
    let detail = "triggered without an answer from Braze: it may have fired, and is not sent again";
    unanswered.iter().try_for_each(|due| write_reject("trigger_unanswered", detail, due, rejects))
}

/// Writes the recipients that Braze rejected to the rejects.
fn reject_recipients(recipients: &[(DueTrigger, String)], rejects: &mut RejectLog) -> Result<(), StateError> {
    recipients.iter().try_for_each(|(due, why)| write_reject("trigger_rejected", why, due, rejects))
}

fn write_reject(
    reason: &'static str,
    detail: &str,
    due: &DueTrigger,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    let column = match due.transition {
        Transition::Enter => "on_enter",
        Transition::Exit => "on_exit",
    };
    let value = due.user.identifier().in_full();
    rejects.push(&Reject { reason, detail, column, value: &value, ..Reject::default() }.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_fires_only_for_a_settled_transition() {
        let enter = [
            (None, PropertyFit::Never),
            (Some(MemberStanding::Member), PropertyFit::Now),
            (Some(MemberStanding::InDoubt), PropertyFit::Later),
            (Some(MemberStanding::Rejected), PropertyFit::Never),
            (Some(MemberStanding::Disputed), PropertyFit::Never),
        ];
        let exit = [
            (None, PropertyFit::Now),
            (Some(MemberStanding::Member), PropertyFit::Never),
            (Some(MemberStanding::InDoubt), PropertyFit::Later),
            (Some(MemberStanding::Rejected), PropertyFit::Now),
            (Some(MemberStanding::Disputed), PropertyFit::Later),
        ];
        for (transition, cases) in [(Transition::Enter, enter), (Transition::Exit, exit)] {
            for (standing, expected) in cases {
                assert_eq!(fit(transition, standing, false), expected, "{transition:?} {standing:?}");
                let blocked = if expected == PropertyFit::Never { PropertyFit::Later } else { expected };
                assert_eq!(fit(transition, standing, true), blocked, "{transition:?} {standing:?}");
            }
        }
    }
}
