//! Runs the triggers of a cohort: recorded before members are sent, triggered once the members are settled.
//!
//! # Guarantees
//! A trigger fires only for a user whose recorded membership fits it at that moment: an entry for a settled member, an
//! exit for a user who is settled to be out. The list of due triggers is written before the membership is committed, so
//! after a crash in between it may name users who never entered or left: those are dropped here.

use std::collections::BTreeMap;

use super::choose_triggers::TriggersPlan;
use crate::apply::{self, ApplyContext, ApplyOutcome, ApplyStop, TriggerOutcome, TriggerRequest};
use crate::connector::braze::BrazeClient;
use crate::model::{CohortId, MemberKey, Standing};
use crate::state::{DueTrigger, Reject, RejectLog, StateError, StateReader, Transition};

use super::ApplyResources;

/// The triggers of a cohort while its members are sent.
pub(super) struct TriggerRun<'a> {
    plan: TriggersPlan,
    /// The guard withholds something, so that who is in or out may still change by this plan.
    is_blocked: bool,
    means: &'a ApplyResources,
}

impl<'a> TriggerRun<'a> {
    /// Records what is due, and that requests without an answer are never repeated.
    pub(super) fn begin(
        cohort: &CohortId,
        mut plan: TriggersPlan,
        is_blocked: bool,
        means: &'a ApplyResources,
    ) -> Result<Self, StateError> {
        tokio::task::block_in_place(|| means.state.put_outbox(cohort, &mut plan.outbox))?;
        Ok(Self { plan, is_blocked, means })
    }

    /// Triggers what was chosen, unless sending members stopped early. What was done is in `done`, in the order of the
    /// plan's actions, also after an error.
    pub(super) async fn carry_out(
        &mut self,
        cohort: &CohortId,
        outcome: &ApplyOutcome,
        braze: Option<&BrazeClient>,
        context: Option<ApplyContext<'_>>,
        rejects: &mut RejectLog,
        done: &mut Vec<TriggerOutcome>,
    ) -> Result<(), ApplyStop> {
        unanswered(&self.plan.lost, rejects)?;
        if outcome.halt.is_some() {
            return Ok(self.put_off(cohort, outcome)?);
        }
        if self.plan.people() == 0 {
            return Ok(());
        }
        let (braze, context) = braze.zip(context).ok_or(ApplyStop::NoKeys)?;
        tokio::task::block_in_place(|| self.keep_settled(cohort))?;
        for at in 0..self.plan.each.len() {
            done.push(TriggerOutcome::default());
            let Some(last) = done.last_mut() else { continue };
            let one = &self.plan.each[at];
            let request =
                TriggerRequest { cohort, transition: one.crossing, trigger: &one.action, users: &one.now };
            let result = if one.now.is_empty() {
                Ok(())
            } else {
                apply::trigger(request, braze, &mut self.plan.outbox, context, last).await
            };
            unanswered(&last.lost, rejects)?;
            rejected(&last.rejected, rejects)?;
            result?;
        }
        Ok(())
    }

    /// Leaves out everyone whose recorded membership does not fit, and records it.
    fn keep_settled(&mut self, cohort: &CohortId) -> Result<(), StateError> {
        let state = self.means.state.reader();
        let people: Vec<&DueTrigger> = self.plan.each.iter().flat_map(|one| &one.now).collect();
        let standings = standings(cohort, &people, state)?;
        let is_blocked = self.is_blocked;
        let fit =
            |due: &DueTrigger| fit(due.crossing, standings.get(&key_of(due, state)).copied(), is_blocked);
        let mut dropped: Vec<DueTrigger> = Vec::new();
        for one in &mut self.plan.each {
            dropped.extend(one.now.iter().filter(|due| fit(due) == Fit::Never).cloned());
            one.now.retain(|due| fit(due) == Fit::Now);
        }
        if dropped.is_empty() {
            return Ok(());
        }
        tracing::info!(%cohort, people = dropped.len(), "triggers dropped: their users did not enter or leave");
        self.plan.outbox.due.retain(|due| !dropped.contains(due));
        self.means.state.put_outbox(cohort, &mut self.plan.outbox)
    }

    /// Takes new entries back if nothing was sent: then there was no transition.
    fn put_off(&mut self, cohort: &CohortId, outcome: &ApplyOutcome) -> Result<(), StateError> {
        if !outcome.changed_anything() && outcome.in_doubt == 0 {
            let new = &self.plan.new;
            self.plan.outbox.due.retain(|due| !new.contains(due));
            tokio::task::block_in_place(|| self.means.state.put_outbox(cohort, &mut self.plan.outbox))?;
        }
        Ok(())
    }
}

/// Whether a trigger may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Now,
    /// The membership is not settled yet: it stays due.
    Later,
    /// There was no such transition.
    Never,
}

fn fit(crossing: Transition, standing: Option<Standing>, is_blocked: bool) -> Fit {
    match (crossing, standing) {
        (Transition::Enter, Some(Standing::Member)) | (Transition::Exit, None | Some(Standing::Refused)) => {
            Fit::Now
        }
        (_, Some(Standing::InDoubt)) | (Transition::Exit, Some(Standing::Disputed)) => Fit::Later,
        (Transition::Enter, None | Some(Standing::Refused | Standing::Disputed))
        | (Transition::Exit, Some(Standing::Member)) => {
            if is_blocked {
                Fit::Later
            } else {
                Fit::Never
            }
        }
    }
}

fn key_of(due: &DueTrigger, state: &StateReader) -> MemberKey {
    let mut packed = Vec::new();
    due.who.identifier().pack_into(&mut packed);
    MemberKey::of(state.seed(), &packed)
}

/// How these people stand in the recorded membership. People whom it does not have are left out.
fn standings(
    cohort: &CohortId,
    people: &[&DueTrigger],
    state: &StateReader,
) -> Result<BTreeMap<MemberKey, Standing>, StateError> {
    let mut keys: Vec<MemberKey> = people.iter().map(|due| key_of(due, state)).collect();
    keys.sort_unstable();
    let mut found = BTreeMap::new();
    let version = state.version(cohort)?;
    let mut members = state.members(cohort, version.as_ref())?;
    let mut at = members.advance()?;
    for key in keys {
        while at.is_some_and(|(known, _)| known < key) {
            members.skip(members.ahead().partition_point(|ahead| *ahead < key));
            at = members.advance()?;
        }
        found.extend(at.filter(|(known, _)| *known == key));
    }
    Ok(found)
}

/// Keeps the recipients of requests without an answer.
fn unanswered(lost: &[DueTrigger], rejects: &mut RejectLog) -> Result<(), StateError> {
    let detail = "triggered, and there was no answer: it may have been done, and is not done again";
    lost.iter().try_for_each(|due| keep("action_unanswered", detail, due, rejects))
}

/// Keeps the recipients that Braze rejects.
fn rejected(people: &[(DueTrigger, String)], rejects: &mut RejectLog) -> Result<(), StateError> {
    people.iter().try_for_each(|(due, why)| keep("action_rejected", why, due, rejects))
}

fn keep(
    reason: &'static str,
    detail: &str,
    due: &DueTrigger,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    let column = match due.crossing {
        Transition::Enter => "on_enter",
        Transition::Exit => "on_exit",
    };
    let value = due.who.identifier().in_full();
    rejects.push(&Reject { reason, detail, column, value: &value, ..Reject::default() }.line())
}
