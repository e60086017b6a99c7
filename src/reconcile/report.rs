//! What a run plans and what it did, as values. `cli` puts them into words.

use std::path::PathBuf;

use super::choose_triggers::TriggersPlan;
use super::plan_error::{FailedKind, PlanError};
use super::preflight::{PreflightPlan, PreflightReport};
use super::read_source::PushdownReport;
use crate::apply::{ApplyOutcome, ApplyStop, TriggerOutcome};
use crate::model::{ChangeOp, CohortId, ConnectionName, DeliveryMethod, MatchTally, RunId};
use crate::plan::{Cost, DiffTally, GuardVerdict, GuardViolation, PlanDigest, Sides, of_all};
use crate::source::{PackedList, RowRejects};
use crate::state::{Membership, SourceMark, Spool};

/// One cohort's plan with what belongs to it.
#[derive(Debug)]
pub struct CohortPlan {
    /// The cohort.
    pub id: CohortId,
    /// Its name, as it will be.
    pub name: String,
    /// The connection that it is sent to.
    pub connection: ConnectionName,
    /// Where the config declares it: file and line.
    pub declared_at: String,
    /// What may run, and why the rest may not.
    pub verdict: GuardVerdict<Spool>,
    /// How the source was matched; none where there is no source.
    pub matched: Option<MatchTally>,
    /// Whether the source was read, rather than known from its files' times.
    pub source_read: bool,
    /// The rows that could not be used.
    pub rejects: Option<RowRejects>,
    /// Some of the members who differ from others by upper and lower case only, packed.
    pub spelled: PackedList,
    /// What would let the next run leave the source unread, once everything is done.
    pub mark: Option<SourceMark>,
    /// The record that the plan starts from, with what the config changes about it.
    pub record: Membership,
    /// The record must be written even when nothing is sent.
    pub record_changed: bool,
    /// The cohort left the config and is to be emptied.
    pub empties: bool,
    /// A person has approved what the guard would have refused.
    pub is_approved: bool,
    /// What is triggered for people who enter or leave, if anything ever is.
    pub actions: Option<TriggersPlan>,
    /// How the source was compared, where it may be in the database.
    pub compared: Option<PushdownReport>,
    /// Whom Braze did not know, if it is asked.
    pub strangers: Option<PreflightPlan>,
}

/// A cohort that could not be planned.
#[derive(Debug)]
pub struct FailedCohort {
    /// Which.
    pub id: CohortId,
    /// Why.
    pub error: PlanError,
}

/// A cohort that left the config and is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedCohort {
    /// Which.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: Option<String>,
    /// How many members it has, as far as that is known.
    pub members: Option<u64>,
    /// Its connection.
    pub connection: String,
    /// It must not be emptied.
    pub protected: bool,
}

/// The plan of a whole run.
#[derive(Debug)]
pub struct RunPlan {
    /// The digest of the config that it was made from.
    pub config: String,
    /// The cohorts that could be planned, in the order of the config.
    pub cohorts: Vec<CohortPlan>,
    /// The cohorts that could not.
    pub failed: Vec<FailedCohort>,
    /// The cohorts of which their source has said nothing yet.
    pub waiting: Vec<FailedCohort>,
    /// Cohorts that left the config.
    pub orphaned: Vec<OrphanedCohort>,
}

impl CohortPlan {
    /// Whether there is nothing to send, to trigger or to write down.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let acts = self.actions.as_ref().is_some_and(|actions| !actions.is_idle());
        let is_in_step = self.verdict.approved.is_in_step() && !self.record_changed;
        is_in_step && !acts && !self.asks() && !self.builds_table()
    }

    /// Whether the table beside the source is to be made again.
    #[must_use]
    pub fn builds_table(&self) -> bool {
        matches!(&self.compared, Some(PushdownReport::Here { why }) if !why.is_permanent())
    }

    /// Whether anything would be sent or triggered.
    #[must_use]
    pub fn sends(&self) -> bool {
        !self.verdict.approved.is_in_step() || self.triggers()
    }

    /// Whether Braze is asked again for people whom it did not know.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.strangers.as_ref().is_some_and(|strangers| !strangers.is_idle())
    }

    /// Whether anything would be triggered.
    #[must_use]
    pub fn triggers(&self) -> bool {
        self.actions.as_ref().is_some_and(|actions| actions.people() > 0)
    }

    /// How it is sent.
    #[must_use]
    pub fn delivery(&self) -> &DeliveryMethod {
        &self.verdict.approved.plan().delivery
    }

    /// Takes a mark, unless something is withheld: then the source must be read again.
    pub(super) fn marked(mut self, mark: Option<SourceMark>) -> Self {
        self.mark = mark.filter(|_| self.verdict.refusals.is_empty());
        // A blocked run that sends nothing changes nothing: a saved plan that starts from this version stays good.
        let is_settled = self.verdict.refusals.is_empty() && self.verdict.approved.is_in_step();
        if is_settled && self.record.number > 0 && self.record.source != self.mark {
            self.record.source.clone_from(&self.mark);
            self.record_changed = true;
        }
        self
    }
}

impl RunPlan {
    pub(super) fn new(config: String) -> Self {
        Self { config, cohorts: Vec::new(), failed: Vec::new(), waiting: Vec::new(), orphaned: Vec::new() }
    }

    pub(super) fn add(&mut self, id: &CohortId, planned: Result<CohortPlan, PlanError>) {
        match planned {
            Ok(cohort) => {
                let (approved, refusals) = (&cohort.verdict.approved, cohort.verdict.refusals.len());
                let (adds, removes) = (approved.changes(ChangeOp::Add), approved.changes(ChangeOp::Remove));
                tracing::info!(cohort = %id, adds, removes, refusals, "planned");
                self.cohorts.push(cohort);
            }
            Err(error) if error.is_waiting() => {
                tracing::info!(cohort = %id, "waits: {error}");
                self.waiting.push(FailedCohort { id: id.clone(), error });
            }
            Err(error) => {
                tracing::info!(cohort = %id, "not planned");
                self.failed.push(FailedCohort { id: id.clone(), error });
            }
        }
    }

    /// Whose matter it is that some cohorts could not be planned; the most urgent of them.
    #[must_use]
    pub fn failed_kind(&self) -> Option<FailedKind> {
        self.failed.iter().map(|failed| failed.error.kind()).min()
    }

    /// The fingerprint of everything that would be sent.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        let sent =
            self.cohorts.iter().map(|cohort| &cohort.verdict.approved).filter(|plan| !plan.is_in_step());
        of_all(sent.map(crate::plan::Approved::digest))
    }

    /// Whether the guard blocks any part of it.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.cohorts.iter().any(|cohort| !cohort.verdict.refusals.is_empty())
    }

    /// Whether nothing would be sent.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        !self.cohorts.iter().any(CohortPlan::sends)
    }

    /// Whether anything would be sent to this connection.
    #[must_use]
    pub fn sends_to(&self, connection: &ConnectionName) -> bool {
        let sends =
            |cohort: &&CohortPlan| cohort.connection == *connection && (cohort.sends() || cohort.asks());
        self.cohorts.iter().any(|cohort| sends(&cohort))
    }

    /// What everything that would be sent costs.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let add = |sum: Cost, cohort: &CohortPlan| {
            let approved = &cohort.verdict.approved;
            sum.and(approved.cost(), approved.plan().requests_per_hour)
        };
        self.cohorts.iter().fold(Cost::default(), add)
    }
}

/// What became of one cohort.
#[derive(Debug)]
pub struct CohortReport {
    /// The cohort.
    pub id: CohortId,
    /// Its name.
    pub name: String,
    /// The connection.
    pub connection: ConnectionName,
    /// Where the config declares it.
    pub declared_at: String,
    /// How it is sent.
    pub delivery: DeliveryMethod,
    /// How it will be sent, once nobody is left where they were sent before.
    pub moves_to: Option<DeliveryMethod>,
    /// What the diff found.
    pub tally: DiffTally,
    /// Which sides the guard let run.
    pub sides: Sides<bool>,
    /// What the guard withheld, and why.
    pub refusals: Vec<GuardViolation>,
    /// The fingerprint of all that the plan would have sent, for an approval.
    pub whole: PlanDigest,
    /// How the source was matched.
    pub matched: Option<MatchTally>,
    /// Whether the source was read, rather than known from its files' times.
    pub source_read: bool,
    /// How the source was compared, where it may be in the database.
    pub compared: Option<PushdownReport>,
    /// Why the table beside the source could not be brought up to date, if it could not.
    pub table_trouble: Option<String>,
    /// What was done.
    pub outcome: ApplyOutcome,
    /// What Braze said of people whom it does not know, if it was asked.
    pub asked: Option<PreflightReport>,
    /// What was to be triggered.
    pub actions: Option<TriggersPlan>,
    /// What was triggered, in the order of `actions.each`.
    pub triggered: Vec<TriggerOutcome>,
    /// Where the rejects were written, if there were any.
    pub rejects_file: Option<PathBuf>,
}

impl CohortReport {
    /// Of a plan of which nothing has been done yet.
    #[must_use]
    pub fn new(cohort: &CohortPlan) -> Self {
        Self {
            id: cohort.id.clone(),
            name: cohort.name.clone(),
            connection: cohort.connection.clone(),
            declared_at: cohort.declared_at.clone(),
            delivery: cohort.delivery().clone(),
            moves_to: cohort.verdict.approved.plan().moves_to.clone(),
            tally: cohort.verdict.approved.plan().tally,
            sides: cohort.verdict.approved.sides(),
            refusals: cohort.verdict.refusals.clone(),
            whole: cohort.verdict.approved.plan().whole_digest(),
            matched: cohort.matched.clone(),
            source_read: cohort.source_read,
            compared: cohort.compared.clone(),
            table_trouble: None,
            outcome: ApplyOutcome::default(),
            asked: None,
            actions: cohort.actions.clone(),
            triggered: Vec::new(),
            rejects_file: None,
        }
    }

    /// Whether Braze took anything at all.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.outcome.changed_anything() || self.triggered.iter().any(|done| done.sent > 0)
    }

    /// Whether everything that was to be sent and triggered was, and had an answer.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let unanswered = self.actions.as_ref().is_some_and(|actions| !actions.lost.is_empty());
        let is_done = |done: &TriggerOutcome| done.lost.is_empty() && done.trouble.is_none();
        let unasked = self.asked.as_ref().is_some_and(|asked| asked.trouble.is_some());
        self.outcome.is_whole() && !unanswered && !unasked && self.triggered.iter().all(is_done)
    }

    /// Members after the run, as far as Braze has accepted them.
    #[must_use]
    pub fn members(&self) -> u64 {
        if self.outcome.requests() == 0 {
            return self.tally.members;
        }
        let gone = if self.sides.removes { self.tally.removed } else { 0 };
        let kept = self.outcome.refused_removals.min(gone);
        let again = if self.sides.adds { self.tally.sent_again } else { 0 };
        self.tally.members - gone - again + kept + self.outcome.added
    }
}

fn told(failed: &[FailedCohort]) -> Vec<(CohortId, String)> {
    failed.iter().map(|failed| (failed.id.clone(), failed.error.to_string())).collect()
}

/// What a run did.
#[derive(Debug)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// The digest of what was to be sent.
    pub digest: PlanDigest,
    /// What became of each cohort, in the order of the config.
    pub cohorts: Vec<CohortReport>,
    /// Cohorts that could not be planned: id and reason.
    pub failed: Vec<(CohortId, String)>,
    /// Whose matter the most urgent of those is.
    pub failed_kind: Option<FailedKind>,
    /// Cohorts of which their source has said nothing yet: id, and what is waited for.
    pub waiting: Vec<(CohortId, String)>,
    /// Cohorts that left the config.
    pub orphaned: Vec<OrphanedCohort>,
    /// Requests sent.
    pub requests: u64,
    /// Why the end of the run could not be recorded in the journal, if it could not.
    pub halt: Option<ApplyStop>,
    places: Vec<usize>,
}

impl RunReport {
    pub(super) fn new(run: &RunId, plan: &RunPlan) -> Self {
        Self {
            run: run.clone(),
            digest: plan.digest(),
            cohorts: Vec::with_capacity(plan.cohorts.len()),
            failed: told(&plan.failed),
            failed_kind: plan.failed_kind(),
            waiting: told(&plan.waiting),
            orphaned: plan.orphaned.clone(),
            requests: 0,
            halt: None,
            places: Vec::new(),
        }
    }

    /// Cohorts finish in any order; the report keeps the config's.
    pub(super) fn put(&mut self, place: usize, cohort: CohortReport) {
        let ApplyOutcome { added, removed, refused, in_doubt, .. } = cohort.outcome;
        let stopped = cohort.outcome.halt.is_some();
        tracing::info!(cohort = %cohort.id, added, removed, refused, in_doubt, stopped, "applied");
        let at = self.places.partition_point(|earlier| *earlier < place);
        self.places.insert(at, place);
        self.cohorts.insert(at, cohort);
    }

    /// The halts of all cohorts, and that of the run itself.
    pub fn halts(&self) -> impl Iterator<Item = &ApplyStop> {
        self.cohorts.iter().filter_map(|cohort| cohort.outcome.halt.as_ref()).chain(&self.halt)
    }

    /// Whether Braze took anything at all in this run.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.cohorts.iter().any(CohortReport::changed_anything)
    }

    /// Whether anything is withheld, missing or in doubt.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
            && self.halt.is_none()
            && self.cohorts.iter().all(|cohort| cohort.refusals.is_empty() && cohort.is_whole())
    }

    /// The result in a word, as JSON and the journal have it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.changed_anything(), self.is_whole()) {
            (true, true) => "applied",
            (true, false) => "applied_in_part",
            (false, true) => "in_sync",
            (false, false)
                if !self.failed.is_empty() || self.halts().any(|halt| *halt != ApplyStop::Blocked) =>
            {
                "failed"
            }
            (false, false) if self.cohorts.iter().any(|cohort| !cohort.refusals.is_empty()) => "blocked",
            // Braze took a request and complained: whatever it did of it is in doubt.
            (false, false) => "applied_in_part",
        }
    }
}
