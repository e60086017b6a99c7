//! Sends an approved plan and records what became of it. Decides nothing about what to send.
//!
//! # Expected flow
//! Everything that will be sent is written as runs in doubt; the cohort is named; those who leave are
//! sent, then those who enter; every hundred batches or five seconds, and at the end, a version records
//! what Braze has accepted.
//!
//! # Guarantees
//! The record changes only by Braze's word. Whatever happens between two checkpoints, a crash included,
//! leaves at most members in doubt, which the next plan settles. An apply that stops before its first request leaves
//! nothing in doubt. Removals go first, in requests of their
//! own: one person may be known by two identifiers, and must not be taken out after being put in.
//!
//! # Late requests
//! Braze may handle a request without an answer after a later run has settled its members. The record keeps the rows of
//! such requests until none can be on its way any more. The first run after that sends those members once more that stand
//! otherwise than the request asked for; the others cannot have been changed by it. In the same way the name is sent once
//! more if another name was in a request without an answer. Attributes are membership, and treated
//! alike. Events are idempotent by their key in Heap. A trigger without an answer is never repeated, so a late one is at
//! most the only one.
//!
//! # Caveats
//! Writing to the state blocks for as long as the disk or the bucket takes. Others go on meanwhile: the
//! runtime is told, and must be one of several threads.

mod ledger;
mod send;
mod send_triggers;
mod stop;

pub use send_triggers::{TriggerOutcome, trigger};
pub use stop::{ApplyStop, ConnectionHealth, Interrupt};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::RetryPolicy;
use crate::connector::braze::BrazeClient;
use crate::model::{ChangeOp, Clock, CohortId, Progress, RunId, Stage};
use crate::plan::{Approved, CohortNaming, MembershipPlan, Sides};
use crate::state::{Journal, JournalEvent, Membership, RejectLog, SourceMark, Spool, StateWriter};

use ledger::InDoubtLedger;
use send::Sender;

/// What an apply works with.
#[derive(Clone, Copy)]
pub struct ApplyContext<'a> {
    /// The workspace to write to.
    pub braze: &'a BrazeClient,
    /// Whether that workspace still answers; shared by all its cohorts.
    pub health: &'a ConnectionHealth,
    /// When to give up.
    pub retry: RetryPolicy,
    /// How long Braze may take to handle a request that had no answer.
    pub settle_again_after: Duration,
    /// The store.
    pub state: &'a StateWriter,
    /// The run's journal.
    pub journal: &'a Journal,
    /// The run.
    pub run: &'a RunId,
    /// The time.
    pub clock: Clock,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Whether a person wants to stop.
    pub interrupt: &'a Interrupt,
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct ApplyOutcome {
    /// The name that Braze took.
    pub named: Option<CohortNaming>,
    /// Members that Braze took in.
    pub added: u64,
    /// Members that Braze let go.
    pub removed: u64,
    /// Identifiers that Braze refused.
    pub refused: u64,
    /// Those of them that were to leave, and perhaps have not.
    pub refused_removals: u64,
    /// Why Braze refused the first of them, or would not take one that is in doubt.
    pub refusal: Option<String>,
    /// Members of this apply that are in doubt now.
    pub in_doubt: u64,
    /// What Braze answered, in a word for each request, and how often.
    pub answers: BTreeMap<&'static str, u64>,
    /// Why it stopped early, if it did.
    pub halt: Option<ApplyStop>,
}

impl ApplyOutcome {
    /// Requests sent, with and without an answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Stops with this reason, unless it has stopped for another one before.
    pub fn stop(&mut self, result: Result<(), ApplyStop>) {
        if let Err(halt) = result {
            self.halt.get_or_insert(halt);
        }
    }

    /// The line of the journal that says how the cohort ended.
    #[must_use]
    pub fn finished(&self, cohort: &CohortId) -> JournalEvent {
        JournalEvent::Finished {
            cohort: cohort.to_string(),
            added: self.added,
            removed: self.removed,
            refused: self.refused,
            in_doubt: self.in_doubt,
            error: self.halt.as_ref().map(ToString::to_string),
        }
    }

    /// Whether Braze took anything at all.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.named.is_some() || self.added > 0 || self.removed > 0
    }

    /// Whether nothing stopped it, nobody is in doubt, and whoever was to leave has left.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.halt.is_none() && self.in_doubt == 0 && self.refused_removals == 0
    }
}

/// Applies an approved plan. `record` is the version that the plan starts from, or the first one of a
/// new cohort; `mark` is recorded if everything comes to be as planned. Identifiers that Braze refuses go to
/// `rejects`.
pub async fn apply(
    approved: Approved<Spool>,
    record: Membership,
    mark: Option<SourceMark>,
    rejects: &mut RejectLog,
    context: ApplyContext<'_>,
) -> ApplyOutcome {
    let cohort = approved.plan().cohort.clone();
    let mut outcome = ApplyOutcome::default();
    let halt = run(approved, record, mark, rejects, context, &mut outcome).await;
    outcome.halt = halt.err();
    context.progress.finished(&cohort);
    outcome
}

/// Runs what blocks, while the runtime's other work moves to another thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

async fn run(
    approved: Approved<Spool>,
    record: Membership,
    mark: Option<SourceMark>,
    rejects: &mut RejectLog,
    context: ApplyContext<'_>,
    outcome: &mut ApplyOutcome,
) -> Result<(), ApplyStop> {
    let (naming, sides) = (approved.naming().cloned(), approved.sides());
    let total = approved.changes(ChangeOp::Remove) + approved.changes(ChangeOp::Add);
    let mut plan = approved.into_plan();
    let (cohort, delivery) = (plan.cohort.clone(), plan.delivery.clone());
    let ledger = {
        let name = naming.as_ref().map(CohortNaming::name);
        blocking(|| InDoubtLedger::open(&mut plan, sides, name, record, context))?
    };
    let mut sender = Sender {
        cohort: &cohort,
        delivery: &delivery,
        context,
        ledger,
        rejects,
        outcome,
        suspects: Vec::new(),
        unanswered: false,
    };
    let mut result = sender.name(naming).await;
    if result.is_ok() {
        result = send_all(&mut sender, &mut plan, sides, total).await;
    }
    if result.is_err() && sender.outcome.requests() == 0 {
        return result.and(blocking(|| sender.ledger.withdraw()).map_err(Into::into));
    }
    // Also after a halt: what was acknowledged so far is recorded.
    sender.ledger.end();
    sender.outcome.in_doubt = sender.ledger.in_doubt();
    if result.is_ok() && sender.outcome.is_whole() && sender.outcome.refused == 0 {
        sender.ledger.mark(mark);
    }
    result.and(sender.checkpoint())
}

async fn send_all(
    sender: &mut Sender<'_>,
    plan: &mut MembershipPlan<Spool>,
    sides: Sides<bool>,
    total: u64,
) -> Result<(), ApplyStop> {
    let batch_len = usize::try_from(plan.batch_len_max).unwrap_or(1);
    let mut done = 0;
    for op in [ChangeOp::Remove, ChangeOp::Add] {
        if !*sides.of(op) {
            continue;
        }
        // Whoever is removed after being added, under another identifier, is out for good.
        if op == ChangeOp::Add
            && plan.mixed
            && !plan.changes.adds.is_empty()
            && sender.has_unsettled_removals()
        {
            return Err(ApplyStop::Unsettled);
        }
        let mut batches = plan.changes.of_mut(op).batches(batch_len)?;
        while let Some(batch) = batches.next_batch()? {
            sender.send(op, &batch).await?;
            done += batch.len() as u64;
            sender.context.progress.at(sender.cohort, Stage::Sending { total }, done);
        }
    }
    Ok(())
}
