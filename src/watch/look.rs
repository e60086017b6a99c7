//! One look at one cohort: a pass over it alone, and what is to be said of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::board::{Board, Condition, Failing};
use super::queue::Ended;
use super::{Surroundings, on_thread};
use crate::apply::{Halt, Interrupt};
use crate::config::{Config, SourceAccess};
use crate::dashboard::{Past, Plan};
use crate::model::{CohortId, Op, PassId, Progress, Timestamp};
use crate::reconcile::{self, CohortReport, Inputs, Lane, Links, Means, PassPlan, PassReport};
use crate::state::{StateError, StateWriter, Version};

/// What a look works with.
#[derive(Clone)]
pub(super) struct Looking {
    pub(super) config: Arc<Config>,
    pub(super) state: Arc<StateWriter>,
    pub(super) links: Links,
    pub(super) secrets: Arc<SourceAccess>,
    pub(super) at: Arc<dyn Surroundings>,
    pub(super) board: Arc<Board>,
    pub(super) planning: Planning,
    pub(super) interrupt: Interrupt,
}

/// How a look ended.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) cohort: CohortId,
    pub(super) ended: Ended,
    pub(super) condition: Condition,
    /// The state is somebody else's by now.
    pub(super) is_lost: bool,
    /// When members of requests without an answer are to be sent once more.
    pub(super) settles_again_at: Option<Timestamp>,
}

impl Looked {
    /// The cohort could not be looked at, and it may pass.
    pub(super) fn failed(cohort: CohortId, why: String) -> Self {
        Self {
            cohort,
            ended: Ended::Failed,
            condition: failing(why, false),
            is_lost: false,
            settles_again_at: None,
        }
    }
}

/// Looks at a cohort, and does what is to be done.
pub(super) async fn look(cohort: CohortId, looking: Looking) -> Looked {
    let (pass, began) = (looking.at.new_pass(), Instant::now());
    let span = tracing::info_span!("pass", id = %pass);
    let looked = tracing::Instrument::instrument(pass_over(&cohort, &looking, pass), span).await;
    let looked = looked.unwrap_or_else(|error| {
        let is_lost = matches!(error, StateError::Lost);
        Looked { is_lost, ..Looked::failed(cohort.clone(), error.to_string()) }
    });
    let record = late(&cohort, &looking);
    let settles_again_at = record.as_ref().and_then(Version::settles_again_at);
    let uncertain_until = record.as_ref().and_then(Version::uncertain_until);
    looking.board.cohort(&cohort, |status| status.uncertain_until = uncertain_until);
    let looked = Looked { settles_again_at, ..looked };
    looking.board.metrics.passed(looked.condition.word(), began.elapsed());
    looking.board.finished(&cohort);
    looked
}

/// The recorded membership, which knows the requests without an answer. Without a state to read, the cohort is planned by
/// its schedule.
fn late(cohort: &CohortId, looking: &Looking) -> Option<Version> {
    tokio::task::block_in_place(|| looking.state.reader().version(cohort)).ok().flatten()
}

async fn pass_over(cohort: &CohortId, looking: &Looking, pass: PassId) -> Result<Looked, StateError> {
    let plan = planned(cohort, looking, &pass).await?;
    let now = looking.at.clock().now();
    note_plan(cohort, &plan, looking, now);
    if let Some(looked) = nothing_to_do(cohort, &plan, looking) {
        return Ok(looked);
    }
    let means = Means {
        state: Arc::clone(&looking.state),
        links: looking.links.clone(),
        pass,
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
async fn planned(cohort: &CohortId, looking: &Looking, pass: &PassId) -> Result<PassPlan, StateError> {
    let declared = looking.config.cohorts.iter().find(|declared| declared.id == *cohort);
    let lane = declared.map_or(Lane::Local, |declared| Lane::of(declared, &looking.config));
    let _turn = looking.planning.turn(lane).await;
    let (looking, pass, only) = (looking.clone(), pass.clone(), [cohort.clone()]);
    let span = tracing::debug_span!("plan", cohort = %only[0]);
    let work = move || {
        let _entered = span.enter();
        reconcile::plan(Inputs {
            config: &looking.config,
            state: looking.state.reader(),
            secrets: &looking.secrets,
            ceilings: &BTreeMap::new(),
            only: &only,
            retry_refused: false,
            pass: &pass,
            clock: looking.at.clock(),
            progress: &*looking.board,
        })
    };
    on_thread(work).await.unwrap_or(Err(StateError::Lost))
}

fn note_plan(id: &CohortId, plan: &PassPlan, looking: &Looking, now: Timestamp) {
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
        status.last_plan = Some(Plan {
            at: now,
            adds: approved.changes(Op::Add),
            removes: approved.changes(Op::Remove),
            unchanged: tally.unchanged,
            requests: approved.cost().requests,
        });
        status.has(tally.members, now);
        status.rejects = rejects.unwrap_or_default();
        status.refused = tally.refused;
    });
}

/// How it ends when there is nothing to send and nothing to write down.
fn nothing_to_do(id: &CohortId, plan: &PassPlan, looking: &Looking) -> Option<Looked> {
    let looked = |ended, condition| Looked {
        cohort: id.clone(),
        ended,
        condition,
        is_lost: false,
        settles_again_at: None,
    };
    if let Some(failed) = plan.failed.first() {
        let (why, ways_out) = looking.at.plan_error(&failed.error);
        let failing = Failing { why, ways_out, needs_person: false };
        return Some(looked(Ended::Failed, Condition::Failing(failing)));
    }
    if let Some(waiting) = plan.waiting.first() {
        let (why, _) = looking.at.plan_error(&waiting.error);
        return Some(looked(Ended::Settled, Condition::Waiting(why)));
    }
    match plan.cohorts.first() {
        // Under `removed:`, and gone already.
        None => Some(looked(Ended::Settled, Condition::InStep)),
        Some(cohort) if !cohort.is_idle() => None,
        Some(cohort) if cohort.verdict.refusals.is_empty() => Some(looked(Ended::Settled, Condition::InStep)),
        // What stays refused is written down once, and not with every look.
        Some(cohort) => {
            let refused = Condition::Refused(looking.at.refusals(&CohortReport::new(cohort)));
            let is_known = looking.board.stands(id, &refused);
            is_known.then(|| looked(Ended::Settled, refused))
        }
    }
}

fn judged(id: &CohortId, report: &PassReport, looking: &Looking) -> Looked {
    let now = looking.at.clock().now();
    let looked = |ended, condition| Looked {
        cohort: id.clone(),
        ended,
        condition,
        is_lost: false,
        settles_again_at: None,
    };
    let Some(cohort) = report.cohorts.first() else {
        return looked(Ended::Settled, Condition::InStep);
    };
    let outcome = &cohort.outcome;
    looking.board.metrics.applied(cohort);
    looking.board.cohort(id, |status| {
        status.has(cohort.members(), now);
        status.in_doubt = outcome.in_doubt;
        status.refused = cohort.tally.refused + outcome.refused;
        status.rejects_file = cohort.rejects_file.as_ref().map(|file| file.display().to_string());
    });
    if outcome.changed_anything() || outcome.halt.is_some() {
        looking.board.passed(Past {
            at: now,
            pass: report.pass.clone(),
            cohort: id.clone(),
            added: outcome.added,
            removed: outcome.removed,
            result: report.word().to_owned(),
            error: outcome.halt.as_ref().map(ToString::to_string),
        });
    }
    let (ended, condition) = judgement(cohort, looking);
    Looked { is_lost: matches!(outcome.halt, Some(Halt::LeaseLost)), ..looked(ended, condition) }
}

/// Whether it will pass by itself, and what is to be said.
fn judgement(cohort: &CohortReport, looking: &Looking) -> (Ended, Condition) {
    let outcome = &cohort.outcome;
    if let Some(halt) = &outcome.halt {
        // Keys that are refused are refused again until somebody changes them.
        let is_final = matches!(halt, Halt::Unauthorized(_) | Halt::NoKeys | Halt::Interrupted);
        let ended = if is_final { Ended::Settled } else { Ended::Failed };
        return (ended, failing(halt.to_string(), is_final));
    }
    if !cohort.refusals.is_empty() {
        return (Ended::Settled, Condition::Refused(looking.at.refusals(cohort)));
    }
    if outcome.in_doubt > 0 || outcome.refused_removals > 0 {
        let who = outcome.in_doubt + outcome.refused_removals;
        let why = outcome.refusal.clone().unwrap_or_default();
        return (Ended::Failed, failing(format!("Braze has not settled {who} members: {why}"), false));
    }
    // It has left the one way of delivery, and enters the other.
    let is_known_now = cohort.asked.as_ref().is_some_and(|asked| asked.known_now > 0);
    let ended = if cohort.moves_to.is_some() || is_known_now { Ended::Again } else { Ended::Settled };
    (ended, Condition::InStep)
}

fn failing(why: String, needs_person: bool) -> Condition {
    Condition::Failing(Failing { why, ways_out: Vec::new(), needs_person })
}
