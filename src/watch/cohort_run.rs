//! One cohort run: plan and apply of a single cohort, and the condition that results.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::context::LeaderContext;
use super::environment::{WatchEnvironment, on_thread};
use super::history;
use super::queue::RunEnd;
use super::status::{ConditionStatus, FailureStatus, WatchStatus};
use crate::apply::{ApplyStop, Interrupt, StopCause};
use crate::blocking;
use crate::config::{Config, SourceAccess};
use crate::contained::Panicked;
use crate::dashboard::{HistoryView, PlanView, PlannedView};
use crate::model::{ChangeOp, Clock, CohortId, Progress, RunId, Timestamp, counted};
use crate::reconcile::{
    self, ApplyResources, BrazeClients, CohortReport, Lane, PlanInputs, RecordedEnd, RunPlan, RunRecorder,
    RunReport,
};
use crate::state::{Membership, OutcomeRun, RunFailure, RunOutcome, StateError, StateWriter};

/// A cohort run, and everything that it works with.
#[derive(Clone)]
pub(super) struct CohortRun {
    cohort: CohortId,
    config: Arc<Config>,
    state: Arc<StateWriter>,
    braze: BrazeClients,
    sources: Arc<SourceAccess>,
    environment: Arc<dyn WatchEnvironment>,
    status: Arc<WatchStatus>,
    clock: Clock,
    turns: PlanTurns,
    interrupt: Interrupt,
}

/// The result of a cohort run.
#[derive(Debug)]
pub(super) struct CohortRunEnd {
    pub(super) cohort: CohortId,
    pub(super) end: RunEnd,
    pub(super) condition: ConditionStatus,
    /// Another process holds the lease.
    pub(super) is_lease_lost: bool,
    /// When members in doubt are to be sent again.
    pub(super) settles_again_at: Option<Timestamp>,
}

impl CohortRunEnd {
    fn new(cohort: CohortId, end: RunEnd, condition: ConditionStatus) -> Self {
        Self { cohort, end, condition, is_lease_lost: false, settles_again_at: None }
    }

    /// A run that failed for this reason. A retry may help.
    pub(super) fn failed(cohort: CohortId, reason: String) -> Self {
        Self::new(cohort, RunEnd::Failed, failing(reason, false))
    }
}

impl CohortRun {
    pub(super) fn new(cohort: CohortId, context: &LeaderContext, turns: &PlanTurns) -> Self {
        Self {
            cohort,
            config: Arc::clone(&context.config),
            state: Arc::clone(&context.state),
            braze: context.braze.clone(),
            sources: Arc::new(context.access.sources.clone()),
            environment: Arc::clone(&context.environment),
            status: Arc::clone(&context.status),
            clock: context.clock,
            turns: turns.clone(),
            interrupt: context.interrupt.clone(),
        }
    }

    /// Ends and records a run that panicked outside of its plan and its apply, which contain their panics.
    pub(super) fn panicked(&self, panicked: &Panicked) -> CohortRunEnd {
        let condition = failing(panicked.to_string(), true);
        self.record(&self.environment.new_run(), &condition);
        CohortRunEnd::new(self.cohort.clone(), RunEnd::Failed, condition)
    }

    /// Plans the cohort and applies the plan.
    pub(super) async fn run(self) -> CohortRunEnd {
        let (run, began) = (self.environment.new_run(), self.clock.monotonic());
        let span = tracing::info_span!("run", %run);
        let ended = tracing::Instrument::instrument(self.plan_and_apply(&run), span).await;
        let ended = ended.unwrap_or_else(|error| {
            let is_lease_lost = matches!(error, StateError::LeaseLost);
            let failed = CohortRunEnd::failed(self.cohort.clone(), error.to_string());
            self.record(&run, &failed.condition);
            CohortRunEnd { is_lease_lost, ..failed }
        });
        let membership = self.membership();
        let settles_again_at = membership.as_ref().and_then(Membership::resend_at);
        let uncertain_until = membership.as_ref().and_then(Membership::uncertain_until);
        self.status.update_cohort(&self.cohort, |status| status.uncertain_until = uncertain_until);
        let duration = self.clock.monotonic().saturating_duration_since(began);
        self.status.metrics().count_run(ended.condition.code(), duration);
        self.status.finished(&self.cohort);
        CohortRunEnd { settles_again_at, ..ended }
    }

    /// The recorded membership, which knows the requests without a reply. If it cannot be read, the schedule alone decides
    /// when the next run is due.
    fn membership(&self) -> Option<Membership> {
        blocking::in_place(|| self.state.reader().version(&self.cohort)).ok().flatten()
    }

    async fn plan_and_apply(&self, run: &RunId) -> Result<CohortRunEnd, StateError> {
        let plan = self.plan(run).await?;
        self.show_plan(&plan);
        if let Some(ended) = self.end_without_apply(&plan) {
            self.record(run, &ended.condition);
            return Ok(ended);
        }
        let recorder = self.recorder(run)?;
        let resources = ApplyResources {
            state: Arc::clone(&self.state),
            clients: self.braze.clone(),
            run: run.clone(),
            journal: recorder.journal(),
            clock: self.clock,
            progress: Arc::clone(&self.status) as Arc<dyn Progress>,
            interrupt: self.interrupt.clone(),
            secrets: Arc::clone(&self.sources),
        };
        let report = reconcile::apply(plan, &self.config, resources).await?;
        let ended = self.end_of_apply(&report);
        let end = RecordedEnd {
            result: report.result().to_owned(),
            requests: report.requests,
            cohorts: vec![(self.cohort.clone(), outcome(&ended.condition, RunOutcome::Failed))],
            exports: Vec::new(),
        };
        blocking::in_place(|| recorder.end(&end, &self.config))?;
        Ok(ended)
    }

    fn recorder(&self, run: &RunId) -> Result<RunRecorder, StateError> {
        RunRecorder::begin(&self.state, run, self.clock, &self.config, self.environment.origin())
    }

    /// Records a run that applied nothing. A failure to record it is logged.
    fn record(&self, run: &RunId, condition: &ConditionStatus) {
        let outcome = outcome(condition, RunOutcome::NotPlanned);
        let is_failed = matches!(outcome, RunOutcome::NotPlanned(_));
        // A failure that repeats is journaled once, not in each run.
        let is_journaled = is_failed && !self.status.has_condition(&self.cohort, condition);
        if let (true, ConditionStatus::Failing(failure)) = (is_journaled, condition) {
            self.status.add_history(HistoryView {
                at: self.clock.now(),
                run: run.clone(),
                cohort: Some(self.cohort.clone()),
                planned: None,
                added: 0,
                removed: 0,
                result: history::FAILED.to_owned(),
                error: Some(failure.reason.clone()),
            });
        }
        let cohorts = vec![(self.cohort.clone(), outcome)];
        let recorded = blocking::in_place(|| {
            if is_journaled {
                let end = RecordedEnd { result: "failed".to_owned(), cohorts, ..RecordedEnd::default() };
                return self.recorder(run)?.end(&end, &self.config);
            }
            let origin = self.environment.origin();
            let of = OutcomeRun { run, command: &origin.command, at: self.clock.now() };
            self.state.record_outcomes(of, &cohorts, &[])
        });
        if let Err(error) = recorded {
            tracing::warn!(cohort = %self.cohort, "the outcome of the run could not be recorded: {error}");
        }
    }

    /// Makes the plan on its own thread, once it is this run's turn.
    async fn plan(&self, run: &RunId) -> Result<RunPlan, StateError> {
        let declared = self.config.cohorts.iter().find(|declared| declared.id == self.cohort);
        let lane = declared.map_or(Lane::Local, |declared| Lane::of(declared, &self.config));
        let _turn = self.turns.wait(lane).await;
        let (this, run, only) = (self.clone(), run.clone(), [self.cohort.clone()]);
        let work = move || {
            reconcile::plan(PlanInputs {
                config: &this.config,
                state: this.state.reader(),
                secrets: &this.sources,
                ceilings: &BTreeMap::new(),
                only: &only,
                retry_rejected: false,
                run: &run,
                clock: this.clock,
                progress: &*this.status,
            })
        };
        on_thread(work).await.unwrap_or(Err(StateError::LeaseLost))
    }

    /// Shows the numbers of the plan in status and metrics.
    fn show_plan(&self, plan: &RunPlan) {
        let Some(cohort) = plan.cohorts.first() else { return };
        let now = self.clock.now();
        let approved = &cohort.verdict.approved;
        let tally = approved.plan().tally;
        let rejects = cohort.matched.as_ref().map(|matched| matched.rejects.clone());
        if cohort.source_read
            && let Some(rejects) = &rejects
        {
            let reasons = rejects.iter().map(|(reason, number)| (reason.as_str(), *number));
            self.status.metrics().count_rejects(self.cohort.as_str(), reasons);
        }
        self.status.update_cohort(&self.cohort, |status| {
            status.last_plan = Some(PlanView {
                at: now,
                changes: PlannedView {
                    adds: approved.changes(ChangeOp::Add),
                    removes: approved.changes(ChangeOp::Remove),
                    blocked_adds: approved.blocked(ChangeOp::Add).unwrap_or(0),
                    blocked_removes: approved.blocked(ChangeOp::Remove).unwrap_or(0),
                },
                unchanged: tally.unchanged,
                requests: approved.cost().requests,
            });
            status.set_members(tally.members, now);
            status.rejects = rejects.unwrap_or_default();
            status.rejected = tally.rejected;
        });
    }

    /// The result, if there is nothing to send and nothing to record.
    fn end_without_apply(&self, plan: &RunPlan) -> Option<CohortRunEnd> {
        let ended = |end, condition| Some(CohortRunEnd::new(self.cohort.clone(), end, condition));
        if let Some(failed) = plan.failed.first() {
            let (reason, remedies) = self.environment.explain_plan_error(&failed.error);
            let failure = FailureStatus { reason, remedies, needs_operator: failed.error.needs_operator() };
            return ended(RunEnd::Failed, ConditionStatus::Failing(failure));
        }
        if let Some(waiting) = plan.waiting.first() {
            let (reason, _) = self.environment.explain_plan_error(&waiting.error);
            return ended(RunEnd::Settled, ConditionStatus::Waiting(reason));
        }
        match plan.cohorts.first() {
            // Listed under `removed:`, and already empty.
            None => ended(RunEnd::Settled, ConditionStatus::InSync),
            Some(cohort) if !cohort.is_idle() => None,
            Some(cohort) if cohort.verdict.violations.is_empty() => {
                ended(RunEnd::Settled, ConditionStatus::InSync)
            }
            // A plan that stays blocked is recorded once, not in each run.
            Some(cohort) => {
                let report = CohortReport::new(cohort);
                let blocked = ConditionStatus::Blocked(self.environment.explain_blocked(&report));
                match self.status.has_condition(&self.cohort, &blocked) {
                    true => ended(RunEnd::Settled, blocked),
                    false => None,
                }
            }
        }
    }

    fn end_of_apply(&self, report: &RunReport) -> CohortRunEnd {
        let now = self.clock.now();
        let Some(cohort) = report.cohorts.first() else {
            return CohortRunEnd::new(self.cohort.clone(), RunEnd::Settled, ConditionStatus::InSync);
        };
        let outcome = &cohort.outcome;
        self.status.metrics().count_apply(cohort);
        self.status.update_cohort(&self.cohort, |status| {
            status.set_members(cohort.members(), now);
            status.in_doubt = outcome.in_doubt;
            status.rejected = cohort.tally.rejected + outcome.rejected;
            status.rejects_file = cohort.rejects_file.as_ref().map(|file| file.display().to_string());
        });
        let (end, condition) = self.condition_after(cohort);
        if outcome.changed_anything() || outcome.stop_reason.is_some() || !cohort.violations.is_empty() {
            let (result, error) = match &condition {
                ConditionStatus::Failing(failure) => (history::FAILED, Some(failure.reason.clone())),
                ConditionStatus::Blocked(blocked) => (history::BLOCKED, Some(blocked.summary())),
                ConditionStatus::Stopped(reason) => (history::STOPPED, Some(reason.clone())),
                _ => (report.result(), None),
            };
            self.status.add_history(HistoryView {
                at: now,
                run: report.run.clone(),
                cohort: Some(self.cohort.clone()),
                planned: self.planned(),
                added: outcome.added,
                removed: outcome.removed,
                result: result.to_owned(),
                error,
            });
        }
        let is_lease_lost = matches!(outcome.stop_reason, Some(ApplyStop::Local(StopCause::LeaseLost)));
        CohortRunEnd { is_lease_lost, ..CohortRunEnd::new(self.cohort.clone(), end, condition) }
    }

    /// The changes of the last plan.
    fn planned(&self) -> Option<PlannedView> {
        Some(self.status.lock().cohorts.get(&self.cohort)?.last_plan?.changes)
    }

    /// The condition after an apply, and whether a retry may help.
    fn condition_after(&self, cohort: &CohortReport) -> (RunEnd, ConditionStatus) {
        let outcome = &cohort.outcome;
        if let Some(stop) = &outcome.stop_reason {
            if stop.is_requested() {
                return (RunEnd::Settled, ConditionStatus::Stopped(stop.to_string()));
            }
            // Rejected keys stay rejected until an operator changes them.
            let is_final = matches!(stop, ApplyStop::Unauthorized(_) | ApplyStop::NoKeys);
            let end = if is_final { RunEnd::Settled } else { RunEnd::Failed };
            return (end, failing(stop.to_string(), stop.needs_operator()));
        }
        if !cohort.violations.is_empty() {
            let blocked = self.environment.explain_blocked(cohort);
            return (RunEnd::Settled, ConditionStatus::Blocked(blocked));
        }
        if outcome.in_doubt > 0 || outcome.rejected_removals > 0 {
            let members = outcome.in_doubt + outcome.rejected_removals;
            let detail = outcome.first_rejection.clone().unwrap_or_default();
            let reason = format!("Braze has not confirmed {}: {detail}", counted(members, "member"));
            return (RunEnd::Failed, failing(reason, false));
        }
        // A delivery change needs a second run, which fills the new delivery. Known users need a run that adds them.
        let is_known_now = cohort.preflight_report.as_ref().is_some_and(|asked| asked.known_now > 0);
        let has_more = cohort.next_delivery.is_some() || is_known_now;
        (if has_more { RunEnd::Again } else { RunEnd::Settled }, ConditionStatus::InSync)
    }
}

/// Limits concurrent plans: each lane has its own limit, and no plan starts before the first identity import has ended.
#[derive(Clone, Default)]
pub(super) struct PlanTurns {
    lanes: Arc<Mutex<BTreeMap<Lane, Arc<Semaphore>>>>,
    first_import: Arc<RwLock<()>>,
}

impl PlanTurns {
    /// Delays all plans until the guard is dropped. None: a plan is being made already.
    pub(super) fn pause(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.first_import).try_write_owned().ok()
    }

    /// Waits for the turn of a plan in this lane.
    async fn wait(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        drop(self.first_import.read().await);
        let limit = lane.at_once();
        let turns = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(lane).or_insert_with(|| Arc::new(Semaphore::new(limit))))
        };
        turns.acquire_owned().await.ok()
    }
}

/// The outcome that the state records. `failure` is the kind of a failure.
fn outcome(condition: &ConditionStatus, failure: fn(RunFailure) -> RunOutcome) -> RunOutcome {
    match condition {
        ConditionStatus::New | ConditionStatus::InSync => RunOutcome::InSync,
        ConditionStatus::Waiting(reason) => RunOutcome::Waiting(reason.clone()),
        ConditionStatus::Blocked(blocked) => RunOutcome::Blocked {
            reasons: blocked.blocks.iter().map(ToString::to_string).collect(),
            plan: blocked.approve_command.is_some().then(|| blocked.digest.clone()),
            adds: blocked.adds,
            removes: blocked.removes,
        },
        ConditionStatus::Failing(FailureStatus { reason, needs_operator, .. }) => {
            failure(RunFailure { reason: reason.clone(), needs_operator: *needs_operator })
        }
        ConditionStatus::Stopped(reason) => RunOutcome::Stopped(reason.clone()),
    }
}

fn failing(reason: String, needs_operator: bool) -> ConditionStatus {
    ConditionStatus::Failing(FailureStatus { reason, remedies: Vec::new(), needs_operator })
}
