//! One look at one cohort: a run over it alone, and what is to be said of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::queue::WorkEnd;
use super::status::{ConditionStatus, FailureStatus, WatchStatus};
use super::{WatchEnvironment, on_thread};
use crate::apply::{ApplyStop, Interrupt, StopCause};
use crate::config::{Config, SourceAccess};
use crate::dashboard::{HistoryView, PlanView};
use crate::model::{ChangeOp, CohortId, Progress, RunId, Timestamp};
use crate::reconcile::{
    self, ApplyResources, BrazeClients, CohortReport, Lane, PlanInputs, RunPlan, RunReport,
};
use crate::state::{Membership, StateError, StateWriter};

/// What a look works with.
#[derive(Clone)]
pub(super) struct CohortRunContext {
    pub(super) config: Arc<Config>,
    pub(super) state: Arc<StateWriter>,
    pub(super) links: BrazeClients,
    pub(super) secrets: Arc<SourceAccess>,
    pub(super) at: Arc<dyn WatchEnvironment>,
    pub(super) board: Arc<WatchStatus>,
    pub(super) planning: Planning,
    pub(super) interrupt: Interrupt,
}

/// How a look ended.
#[derive(Debug)]
pub(super) struct CohortRunEnd {
    pub(super) cohort: CohortId,
    pub(super) ended: WorkEnd,
    pub(super) condition: ConditionStatus,
    /// The state is somebody else's by now.
    pub(super) is_lost: bool,
    /// When members of requests without an answer are to be sent once more.
    pub(super) settles_again_at: Option<Timestamp>,
}

impl CohortRunEnd {
    /// The cohort could not be looked at, and it may run.
    pub(super) fn failed(cohort: CohortId, why: String) -> Self {
        Self {
            cohort,
            ended: WorkEnd::Failed,
            condition: failing(why, false),
            is_lost: false,
            settles_again_at: None,
        }
    }
}

/// Looks at a cohort, and does what is to be done.
pub(super) async fn look(cohort: CohortId, looking: CohortRunContext) -> CohortRunEnd {
    let (run, began) = (looking.at.new_run(), Instant::now());
    let span = tracing::info_span!("run", id = %run);
    let looked = tracing::Instrument::instrument(run_over(&cohort, &looking, run), span).await;
    let looked = looked.unwrap_or_else(|error| {
        let is_lost = matches!(error, StateError::Lost);
        CohortRunEnd { is_lost, ..CohortRunEnd::failed(cohort.clone(), error.to_string()) }
    });
    let record = late(&cohort, &looking);
    let settles_again_at = record.as_ref().and_then(Membership::resend_at);
    let uncertain_until = record.as_ref().and_then(Membership::uncertain_until);
    looking.board.cohort(&cohort, |status| status.uncertain_until = uncertain_until);
    let looked = CohortRunEnd { settles_again_at, ..looked };
    looking.board.metrics.passed(looked.condition.word(), began.elapsed());
    looking.board.finished(&cohort);
    looked
}

/// The recorded membership, which knows the requests without an answer. Without a state to read, the cohort is planned by
/// its schedule.
fn late(cohort: &CohortId, looking: &CohortRunContext) -> Option<Membership> {
    tokio::task::block_in_place(|| looking.state.reader().version(cohort)).ok().flatten()
}

async fn run_over(
    cohort: &CohortId,
    looking: &CohortRunContext,
    run: RunId,
) -> Result<CohortRunEnd, StateError> {
    let plan = planned(cohort, looking, &run).await?;
    let now = looking.at.clock().now();
    note_plan(cohort, &plan, looking, now);
    if let Some(looked) = nothing_to_do(cohort, &plan, looking) {
        return Ok(looked);
    }
    let means = ApplyResources {
        state: Arc::clone(&looking.state),
        links: looking.links.clone(),
        run,
        clock: looking.at.clock(),
        progress: Arc::clone(&looking.board) as Arc<dyn Progress>,
        interrupt: looking.interrupt.clone(),
        secrets: Arc::clone(&looking.secrets),
    };
    let span = tracing::debug_span!("apply", %cohort);
    let applied = reconcile::apply(plan, &looking.config, means);
    let report = tracing::Instrument::instrument(applied, span).await?;
    Ok(judged(cohort, &report, looking))
}

/// What keeps plans apart: each lane has its turns, and none is made before the identity sources were read once.
#[derive(Clone, Default)]
pub(super) struct Planning {
    lanes: Arc<Mutex<BTreeMap<Lane, Arc<Semaphore>>>>,
    first_learning: Arc<RwLock<()>>,
}

impl Planning {
    /// Holds back all plans until the guard is dropped. None: some are being made already.
    pub(super) fn hold_back(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.first_learning).try_write_owned().ok()
    }

    /// Waits for the turn of a plan that reads from this lane.
    async fn turn(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        drop(self.first_learning.read().await);
        let at_once = lane.at_once();
        let turns = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(lane).or_insert_with(|| Arc::new(Semaphore::new(at_once))))
        };
        turns.acquire_owned().await.ok()
    }
}

/// Plans on a thread of its own, when it is its turn.
async fn planned(cohort: &CohortId, looking: &CohortRunContext, run: &RunId) -> Result<RunPlan, StateError> {
    let declared = looking.config.cohorts.iter().find(|declared| declared.id == *cohort);
    let lane = declared.map_or(Lane::Local, |declared| Lane::of(declared, &looking.config));
    let _turn = looking.planning.turn(lane).await;
    let (looking, run, only) = (looking.clone(), run.clone(), [cohort.clone()]);
    let span = tracing::debug_span!("plan", cohort = %only[0]);
    let work = move || {
        let _entered = span.enter();
        reconcile::plan(PlanInputs {
            config: &looking.config,
            state: looking.state.reader(),
            secrets: &looking.secrets,
            ceilings: &BTreeMap::new(),
            only: &only,
            retry_rejected: false,
            run: &run,
            clock: looking.at.clock(),
            progress: &*looking.board,
        })
    };
    on_thread(work).await.unwrap_or(Err(StateError::Lost))
}

fn note_plan(id: &CohortId, plan: &RunPlan, looking: &CohortRunContext, now: Timestamp) {
    let Some(cohort) = plan.cohorts.first() else { return };
    let approved = &cohort.verdict.approved;
    let tally = approved.plan().tally;
    let rejects = cohort.matched.as_ref().map(|matched| matched.rejects.clone());
    if cohort.source_read
        && let Some(rejects) = &rejects
    {
        let each = rejects.iter().map(|(reason, number)| (reason.as_str(), *number));
        looking.board.metrics.rejected(id.as_str(), each);
    }
    looking.board.cohort(id, |status| {
        status.last_plan = Some(PlanView {
            at: now,
            adds: approved.changes(ChangeOp::Add),
            removes: approved.changes(ChangeOp::Remove),
            unchanged: tally.unchanged,
            requests: approved.cost().requests,
        });
        status.has(tally.members, now);
        status.rejects = rejects.unwrap_or_default();
        status.refused = tally.rejected;
    });
}

/// How it ends when there is nothing to send and nothing to write down.
fn nothing_to_do(id: &CohortId, plan: &RunPlan, looking: &CohortRunContext) -> Option<CohortRunEnd> {
    let looked = |ended, condition| CohortRunEnd {
        cohort: id.clone(),
        ended,
        condition,
        is_lost: false,
        settles_again_at: None,
    };
    if let Some(failed) = plan.failed.first() {
        let (why, ways_out) = looking.at.plan_error(&failed.error);
        let failing = FailureStatus { why, ways_out, needs_person: false };
        return Some(looked(WorkEnd::Failed, ConditionStatus::Failing(failing)));
    }
    if let Some(waiting) = plan.waiting.first() {
        let (why, _) = looking.at.plan_error(&waiting.error);
        return Some(looked(WorkEnd::Settled, ConditionStatus::Waiting(why)));
    }
    match plan.cohorts.first() {
        // Under `removed:`, and gone already.
        None => Some(looked(WorkEnd::Settled, ConditionStatus::InSync)),
        Some(cohort) if !cohort.is_idle() => None,
        Some(cohort) if cohort.verdict.violations.is_empty() => {
            Some(looked(WorkEnd::Settled, ConditionStatus::InSync))
        }
        // What stays refused is written down once, and not with every look.
        Some(cohort) => {
            let refused = ConditionStatus::Refused(looking.at.refusals(&CohortReport::new(cohort)));
            let is_known = looking.board.stands(id, &refused);
            is_known.then(|| looked(WorkEnd::Settled, refused))
        }
    }
}

fn judged(id: &CohortId, report: &RunReport, looking: &CohortRunContext) -> CohortRunEnd {
    let now = looking.at.clock().now();
    let looked = |ended, condition| CohortRunEnd {
        cohort: id.clone(),
        ended,
        condition,
        is_lost: false,
        settles_again_at: None,
    };
    let Some(cohort) = report.cohorts.first() else {
        return looked(WorkEnd::Settled, ConditionStatus::InSync);
    };
    let outcome = &cohort.outcome;
    looking.board.metrics.applied(cohort);
    looking.board.cohort(id, |status| {
        status.has(cohort.members(), now);
        status.in_doubt = outcome.in_doubt;
        status.refused = cohort.tally.rejected + outcome.refused;
        status.rejects_file = cohort.rejects_file.as_ref().map(|file| file.display().to_string());
    });
    if outcome.changed_anything() || outcome.halt.is_some() {
        looking.board.passed(HistoryView {
            at: now,
            run: report.run.clone(),
            cohort: id.clone(),
            added: outcome.added,
            removed: outcome.removed,
            result: report.result().to_owned(),
            error: outcome.halt.as_ref().map(ToString::to_string),
        });
    }
    let (ended, condition) = judgement(cohort, looking);
    CohortRunEnd {
        is_lost: matches!(outcome.halt, Some(ApplyStop::Local(StopCause::LeaseLost))),
        ..looked(ended, condition)
    }
}

/// Whether it will run by itself, and what is to be said.
fn judgement(cohort: &CohortReport, looking: &CohortRunContext) -> (WorkEnd, ConditionStatus) {
    let outcome = &cohort.outcome;
    if let Some(halt) = &outcome.halt {
        // Keys that are refused are refused again until somebody changes them.
        let is_final = matches!(
            halt,
            ApplyStop::Unauthorized(_) | ApplyStop::NoKeys | ApplyStop::Local(StopCause::Interrupted)
        );
        let ended = if is_final { WorkEnd::Settled } else { WorkEnd::Failed };
        return (ended, failing(halt.to_string(), is_final));
    }
    if !cohort.violations.is_empty() {
        return (WorkEnd::Settled, ConditionStatus::Refused(looking.at.refusals(cohort)));
    }
    if outcome.in_doubt > 0 || outcome.refused_removals > 0 {
        let who = outcome.in_doubt + outcome.refused_removals;
        let why = outcome.refusal.clone().unwrap_or_default();
        return (WorkEnd::Failed, failing(format!("Braze has not settled {who} members: {why}"), false));
    }
    // It has left the one way of delivery, and enters the other.
    let is_known_now = cohort.preflight_report.as_ref().is_some_and(|asked| asked.known_now > 0);
    let ended =
        if cohort.next_delivery.is_some() || is_known_now { WorkEnd::Again } else { WorkEnd::Settled };
    (ended, ConditionStatus::InSync)
}

fn failing(why: String, needs_person: bool) -> ConditionStatus {
    ConditionStatus::Failing(FailureStatus { why, ways_out: Vec::new(), needs_person })
}
