//! Applies an approved plan: writes it in doubt, names the cohort, sends removals and additions, commits.

use super::context::{ApplyContext, ApplyOutcome};
use super::ledger::InDoubtLedger;
use super::sender::Sender;
use super::stop::ApplyStop;
use crate::blocking;
use crate::connector::destination::Destination;
use crate::model::{ChangeOp, Stage};
use crate::plan::{ApprovedPlan, CohortNaming, MembershipPlan, Sides};
use crate::state::{Membership, RejectLog, SourceMark, Spool};

/// Applies an approved plan. `membership` is the plan's base, or the first version of a new cohort. `source_mark` is
/// recorded if the whole plan was applied. Rejected identifiers are written to `rejects`.
pub async fn apply(
    approved: ApprovedPlan<Spool>,
    membership: Membership,
    source_mark: Option<SourceMark>,
    rejects: &mut RejectLog,
    destination: &dyn Destination,
    context: ApplyContext<'_>,
) -> ApplyOutcome {
    let mut outcome = ApplyOutcome::default();
    let (naming, sides) = (approved.naming().cloned(), approved.sides());
    let mut plan = approved.into_plan();
    let cohort = plan.cohort.clone();
    let name = naming.as_ref().map(CohortNaming::name);
    let opened = blocking::in_place(|| InDoubtLedger::open(&mut plan, sides, name, membership, context));
    let result = match opened {
        Ok(ledger) => {
            let sender = Sender::new(&cohort, destination, context, ledger, rejects, &mut outcome);
            send_and_commit(sender, naming, &mut plan, sides, source_mark).await
        }
        Err(error) => Err(error),
    };
    outcome.stop(result);
    context.progress.finished(&cohort);
    outcome
}

async fn send_and_commit(
    mut sender: Sender<'_>,
    naming: Option<CohortNaming>,
    plan: &mut MembershipPlan<Spool>,
    sides: Sides<bool>,
    source_mark: Option<SourceMark>,
) -> Result<(), ApplyStop> {
    let mut result = sender.name_cohort(naming).await;
    if result.is_ok() {
        result = send_changes(&mut sender, plan, sides).await;
    }
    if result.is_err() && sender.nothing_done {
        sender.outcome.in_doubt = sender.ledger.initial_doubt();
        return result.and(blocking::in_place(|| sender.ledger.withdraw()).map_err(Into::into));
    }
    // A stop must not lose the accepted changes.
    sender.ledger.finish();
    sender.outcome.in_doubt = sender.ledger.in_doubt();
    if result.is_ok() && sender.outcome.is_complete() && sender.outcome.rejected == 0 {
        sender.ledger.set_source_mark(source_mark);
    }
    result.and(sender.checkpoint())
}

async fn send_changes(
    sender: &mut Sender<'_>,
    plan: &mut MembershipPlan<Spool>,
    sides: Sides<bool>,
) -> Result<(), ApplyStop> {
    let batch_len = usize::try_from(plan.batch_len_max).unwrap_or(1);
    let sent_sides = || [ChangeOp::Remove, ChangeOp::Add].into_iter().filter(|op| *sides.of(*op));
    let total = sent_sides().map(|op| plan.changes.of(op).len()).sum();
    let mut done = 0;
    for op in sent_sides() {
        // A user who is removed under another identifier after the addition would be out.
        let has_additions = op == ChangeOp::Add && !plan.changes.adds.is_empty();
        if has_additions && plan.mixed && sender.ledger.has_unsettled_removals() {
            return Err(ApplyStop::Unsettled);
        }
        let mut batches = plan.changes.of_mut(op).batches(batch_len)?;
        while let Some(batch) = batches.next_batch()? {
            sender.send(op, &batch).await?;
            done += batch.len() as u64;
            sender.report_progress(Stage::Sending { total }, done);
        }
    }
    Ok(())
}
