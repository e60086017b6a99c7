//! Carries out what a plan triggers: written down before members are sent, triggered once they are settled.

use super::actions::ActionPlan;
use crate::apply::{self, Context, Outcome, Triggered};
use crate::model::CohortId;
use crate::state::{Crossing, Due, Reject, RejectLog, StateError};

use super::Means;

/// The actions of a cohort while its members are sent.
pub(super) struct Acting<'a> {
    plan: ActionPlan,
    means: &'a Means,
}

impl<'a> Acting<'a> {
    /// Writes down what is due, and that what was under way never is again.
    pub(super) fn begin(
        cohort: &CohortId,
        mut plan: ActionPlan,
        means: &'a Means,
    ) -> Result<Self, StateError> {
        tokio::task::block_in_place(|| means.state.put_outbox(cohort, &mut plan.outbox))?;
        Ok(Self { plan, means })
    }

    /// Triggers what was chosen, if everything that was sent is settled.
    pub(super) async fn carry_out(
        &mut self,
        cohort: &CohortId,
        outcome: &Outcome,
        context: Option<Context<'_>>,
        rejects: &mut RejectLog,
    ) -> Result<Vec<Triggered>, StateError> {
        unanswered(&self.plan.lost, rejects)?;
        if !outcome.is_whole() {
            return self.put_off(cohort, outcome);
        }
        let Some(context) = context else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for one in &self.plan.each {
            let done = if one.now.is_empty() {
                Triggered::default()
            } else {
                let what = (one.crossing, &one.action);
                apply::trigger(cohort, what, &one.now, &mut self.plan.outbox, context).await?
            };
            unanswered(&done.lost, rejects)?;
            all.push(done);
        }
        Ok(all)
    }

    /// If nothing at all was sent, nobody has crossed.
    fn put_off(&mut self, cohort: &CohortId, outcome: &Outcome) -> Result<Vec<Triggered>, StateError> {
        if !outcome.changed_anything() && outcome.in_doubt == 0 {
            let new = &self.plan.new;
            self.plan.outbox.due.retain(|due| !new.contains(due));
            tokio::task::block_in_place(|| self.means.state.put_outbox(cohort, &mut self.plan.outbox))?;
        }
        Ok(Vec::new())
    }
}

/// Keeps for whom there was no answer.
fn unanswered(lost: &[Due], rejects: &mut RejectLog) -> Result<(), StateError> {
    for due in lost {
        let (column, value) = match due.crossing {
            Crossing::Enter => ("on_enter", due.who.identifier().in_full()),
            Crossing::Exit => ("on_exit", due.who.identifier().in_full()),
        };
        let detail = "triggered, and there was no answer: it may have been done, and is not done again";
        let reject =
            Reject { reason: "action_unanswered", detail, column, value: &value, ..Reject::default() };
        rejects.push(&reject.line())?;
    }
    Ok(())
}
