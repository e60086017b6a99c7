//! The report of a run as a value: what was sent to each cohort, what was blocked, and what failed.

use std::path::PathBuf;

use super::plan_error::FailedKind;
use super::policy::OrphanedCohort;
use super::preflight::PreflightReport;
use super::read_source::PushdownReport;
use super::run_plan::{CohortPlan, RunPlan};
use super::triggers::TriggersPlan;
use crate::apply::{ApplyOutcome, ApplyStop, TriggerOutcome};
use crate::model::{ChangeOp, CohortId, ConnectionName, DeliveryMethod, MatchTally, RunId, counted};
use crate::plan::{DiffTally, GuardViolation, PlanDigest, Sides};
use crate::state::{Approval, RunFailure, RunOutcome};

/// The report of one cohort.
#[derive(Debug)]
pub struct CohortReport {
    /// The id of the cohort.
    pub id: CohortId,
    /// Its name.
    pub name: String,
    /// The connection.
    pub connection: ConnectionName,
    /// File and line of its declaration in the config.
    pub declared_at: String,
    /// The delivery method of this run.
    pub delivery: DeliveryMethod,
    /// The delivery method of the next run, during a delivery change.
    pub next_delivery: Option<DeliveryMethod>,
    /// What the diff found.
    pub tally: DiffTally,
    /// The sides that the guard allows.
    pub sides: Sides<bool>,
    /// Why the guard blocks the rest.
    pub violations: Vec<GuardViolation>,
    /// Set if the share that leaves exceeds its limit and is not checked: the size from which it is.
    pub unchecked_share: Option<u64>,
    /// The digest of the whole plan, blocked sides included: what an approval names.
    pub whole_digest: PlanDigest,
    /// The approval that lifted a violation.
    pub approval: Option<Approval>,
    /// How the rows of the source were matched.
    pub matched: Option<MatchTally>,
    /// Whether the source was read. `false` if its files did not change.
    pub source_read: bool,
    /// How the source was compared; `None` without `diff: pushdown`.
    pub pushdown: Option<PushdownReport>,
    /// Why the mirror table could not be updated.
    pub mirror_table_error: Option<String>,
    /// What was sent.
    pub outcome: ApplyOutcome,
    /// What Braze answered to the preflight check.
    pub preflight_report: Option<PreflightReport>,
    /// The planned triggers.
    pub triggers: Option<TriggersPlan>,
    /// What was triggered, in the order of the planned triggers.
    pub triggered: Vec<TriggerOutcome>,
    /// The file with the rejects, if there are any.
    pub rejects_file: Option<PathBuf>,
}

impl CohortReport {
    /// The report of a plan before its apply.
    #[must_use]
    pub fn new(cohort: &CohortPlan) -> Self {
        let approved = &cohort.verdict.approved;
        Self {
            id: cohort.id.clone(),
            name: cohort.name.clone(),
            connection: cohort.connection.clone(),
            declared_at: cohort.declared_at.clone(),
            delivery: cohort.delivery().clone(),
            next_delivery: approved.plan().next_delivery.clone(),
            tally: approved.plan().tally,
            sides: approved.sides(),
            violations: cohort.verdict.violations.clone(),
            unchecked_share: cohort.verdict.unchecked_share,
            whole_digest: approved.plan().whole_digest(),
            approval: cohort.approval.clone(),
            matched: cohort.matched.clone(),
            source_read: cohort.source_read,
            pushdown: cohort.pushdown.clone(),
            mirror_table_error: None,
            outcome: ApplyOutcome::default(),
            preflight_report: None,
            triggers: cohort.triggers.clone(),
            triggered: Vec::new(),
            rejects_file: None,
        }
    }

    /// Whether Braze accepted a change or a trigger.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.outcome.changed_anything() || self.triggered.iter().any(|triggered| triggered.sent > 0)
    }

    /// Whether every request of the plan was sent and answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let unanswered = self.triggers.as_ref().is_some_and(|triggers| !triggers.unanswered.is_empty());
        let is_done = |done: &TriggerOutcome| done.unanswered.is_empty() && done.stop_reason.is_none();
        let unchecked = self.preflight_report.as_ref().is_some_and(|report| report.error.is_some());
        self.outcome.is_complete() && !unanswered && !unchecked && self.triggered.iter().all(is_done)
    }

    /// The outcome of the run for this cohort. `explain` gives the reasons of a block in words. `None`: the cohort was left
    /// out, because the guard blocks another one and the plan may be applied only as a whole.
    #[must_use]
    pub fn run_outcome(&self, explain: &dyn Fn(&Self) -> Vec<String>) -> Option<RunOutcome> {
        if !self.violations.is_empty() && matches!(self.outcome.stop_reason, None | Some(ApplyStop::Blocked))
        {
            let can_approve = self.violations.iter().all(GuardViolation::can_be_approved);
            let plan = can_approve.then(|| self.whole_digest.to_string());
            let (adds, removes) = (self.blocked(ChangeOp::Add), self.blocked(ChangeOp::Remove));
            return Some(RunOutcome::Blocked { reasons: explain(self), plan, adds, removes });
        }
        match &self.outcome.stop_reason {
            Some(ApplyStop::Blocked) => None,
            Some(stop) if stop.is_requested() => Some(RunOutcome::Stopped(stop.to_string())),
            Some(stop) => {
                let (reason, needs_operator) = (stop.to_string(), stop.needs_operator());
                Some(RunOutcome::Failed(RunFailure { reason, needs_operator }))
            }
            None if self.is_complete() => Some(RunOutcome::InSync),
            None => Some(RunOutcome::Failed(RunFailure { reason: self.unsettled(), needs_operator: false })),
        }
    }

    /// The number of blocked changes of one side. `None`: the guard allows the side.
    #[must_use]
    pub fn blocked(&self, op: ChangeOp) -> Option<u64> {
        (!self.sides.of(op)).then(|| self.tally.changes(op))
    }

    /// What the apply did, in a word for the log.
    fn result(&self) -> &'static str {
        match &self.outcome.stop_reason {
            _ if self.changed_anything() => "applied",
            Some(stop) if stop.is_requested() => "stopped",
            Some(ApplyStop::Blocked) => "blocked",
            Some(_) => "failed",
            None if !self.violations.is_empty() => "blocked",
            None if self.is_complete() => "in sync",
            None => "not confirmed",
        }
    }

    /// Why an apply without an early stop is not complete.
    fn unsettled(&self) -> String {
        let members = self.outcome.in_doubt + self.outcome.rejected_removals;
        let unchecked = self.preflight_report.as_ref().and_then(|report| report.error.as_ref());
        match (members, &self.outcome.first_rejection, unchecked) {
            (0, _, Some(error)) => format!("unknown users could not be checked: {error}"),
            (0, _, None) => "triggers were not all answered".to_owned(),
            (members, None, _) => format!("Braze has not confirmed {}", counted(members, "member")),
            (members, Some(detail), _) => {
                format!("Braze has not confirmed {}: {detail}", counted(members, "member"))
            }
        }
    }

    /// The number of members that Braze has accepted, after the run.
    #[must_use]
    pub fn members(&self) -> u64 {
        if self.outcome.requests() == 0 {
            return self.tally.members;
        }
        let removed = if self.sides.removes { self.tally.removed } else { 0 };
        let kept = self.outcome.rejected_removals.min(removed);
        let added_again = if self.sides.adds { self.tally.added_again } else { 0 };
        self.tally.members - removed - added_again + kept + self.outcome.added
    }
}

/// The report of a run.
#[derive(Debug)]
pub struct RunReport {
    /// The id of the run.
    pub run: RunId,
    /// The digest of the plan.
    pub digest: PlanDigest,
    /// The cohorts, in the order of the config.
    pub cohorts: Vec<CohortReport>,
    /// The cohorts that could not be planned: id and reason.
    pub failed: Vec<(CohortId, RunFailure)>,
    /// The most urgent kind among them.
    pub failed_kind: Option<FailedKind>,
    /// The cohorts that wait for the first delivery of their source: id and reason.
    pub waiting: Vec<(CohortId, String)>,
    /// The orphaned cohorts.
    pub orphaned: Vec<OrphanedCohort>,
    /// The number of requests.
    pub requests: u64,
    /// Why the end of the run could not be written to the journal.
    pub journal_error: Option<ApplyStop>,
    /// The position of each report's cohort in the plan.
    positions: Vec<usize>,
}

impl RunReport {
    pub(super) fn new(run: &RunId, plan: &RunPlan) -> Self {
        Self {
            run: run.clone(),
            digest: plan.digest(),
            cohorts: Vec::with_capacity(plan.cohorts.len()),
            failed: plan.failed.iter().map(|failed| (failed.id.clone(), failed.failure())).collect(),
            failed_kind: plan.failed_kind(),
            waiting: plan
                .waiting
                .iter()
                .map(|waiting| (waiting.id.clone(), waiting.error.to_string()))
                .collect(),
            orphaned: plan.orphaned.clone(),
            requests: 0,
            journal_error: None,
            positions: Vec::new(),
        }
    }

    /// The report of a plan that the guard blocks when it may be applied only as a whole. Nothing is sent, and no
    /// membership changes.
    #[must_use]
    pub fn blocked(plan: &RunPlan, run: &RunId) -> Self {
        let mut report = Self::new(run, plan);
        for (position, cohort) in plan.cohorts.iter().enumerate() {
            let mut unsent = CohortReport::new(cohort);
            unsent.outcome.stop_reason = cohort.sends().then_some(ApplyStop::Blocked);
            report.insert(position, unsent);
        }
        report
    }

    /// Inserts a cohort in the order of the plan. Cohorts finish in any order.
    pub(super) fn insert(&mut self, position: usize, cohort: CohortReport) {
        let ApplyOutcome { added, removed, rejected, in_doubt, .. } = cohort.outcome;
        let (blocked_adds, blocked_removes) =
            (cohort.blocked(ChangeOp::Add), cohort.blocked(ChangeOp::Remove));
        let (stopped, result) = (cohort.outcome.stop_reason.is_some(), cohort.result());
        tracing::info!(
            cohort = %cohort.id, added, removed, blocked_adds, blocked_removes, rejected, in_doubt, stopped, "{result}"
        );
        let at = self.positions.partition_point(|earlier| *earlier < position);
        self.positions.insert(at, position);
        self.cohorts.insert(at, cohort);
    }

    /// Why cohorts and the run itself stopped early.
    pub fn stop_reasons(&self) -> impl Iterator<Item = &ApplyStop> {
        self.cohorts
            .iter()
            .filter_map(|cohort| cohort.outcome.stop_reason.as_ref())
            .chain(&self.journal_error)
    }

    /// The outcomes of all cohorts, for the journal and `status`.
    #[must_use]
    pub fn run_outcomes(
        &self,
        explain: &dyn Fn(&CohortReport) -> Vec<String>,
    ) -> Vec<(CohortId, RunOutcome)> {
        let planned =
            self.cohorts.iter().filter_map(|cohort| Some((cohort.id.clone(), cohort.run_outcome(explain)?)));
        let failed =
            self.failed.iter().map(|(id, failure)| (id.clone(), RunOutcome::NotPlanned(failure.clone())));
        let waiting =
            self.waiting.iter().map(|(id, reason)| (id.clone(), RunOutcome::Waiting(reason.clone())));
        planned.chain(failed).chain(waiting).collect()
    }

    /// Whether Braze accepted a change or a trigger.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.cohorts.iter().any(CohortReport::changed_anything)
    }

    /// Whether nothing is blocked, failed or in doubt.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
            && self.journal_error.is_none()
            && self.cohorts.iter().all(|cohort| cohort.violations.is_empty() && cohort.is_complete())
    }

    /// The result as the JSON output and the journal show it.
    #[must_use]
    pub fn result(&self) -> &'static str {
        match (self.changed_anything(), self.is_complete()) {
            (true, true) => "applied",
            (true, false) => "applied_in_part",
            (false, true) => "in_sync",
            (false, false)
                if self.failed.is_empty()
                    && self.stop_reasons().next().is_some()
                    && self.stop_reasons().all(ApplyStop::is_requested) =>
            {
                "stopped"
            }
            (false, false)
                if !self.failed.is_empty() || self.stop_reasons().any(|stop| *stop != ApplyStop::Blocked) =>
            {
                "failed"
            }
            (false, false) if self.cohorts.iter().any(|cohort| !cohort.violations.is_empty()) => "blocked",
            // Braze rejected a part of a request, and the rest of it is in doubt.
            (false, false) => "applied_in_part",
        }
    }
}
