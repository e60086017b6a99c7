//! Cohort runs of the leader: when each cohort runs, and what its result changes.

use std::collections::BTreeSet;
use std::time::Instant;

use super::cohort_run::{CohortRun, CohortRunEnd, PlanTurns};
use super::context::LeaderContext;
use super::notify::{FAILURES_NOTIFIED, Notifications, Subject};
use super::queue::{RunEnd, WorkQueue};
use super::schedule;
use super::status::ConditionStatus;
use crate::config::{CohortConfig, Config, Notable, ScheduleConfig};
use crate::model::{CohortId, IdentifierKind};

/// The queue of cohort runs.
pub(super) struct CohortRuns {
    queue: WorkQueue<CohortId>,
    turns: PlanTurns,
    /// The version of the identity map that cohorts were last woken for.
    identity_version: u64,
}

impl CohortRuns {
    pub(super) fn new() -> Self {
        Self { queue: WorkQueue::new(), turns: PlanTurns::default(), identity_version: 0 }
    }

    /// The limits of concurrent plans.
    pub(super) fn turns(&self) -> &PlanTurns {
        &self.turns
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub(super) fn depth(&self, now: Instant) -> usize {
        self.queue.depth(now)
    }

    /// Makes these cohorts due now.
    pub(super) fn wake(&mut self, cohorts: impl IntoIterator<Item = CohortId>, now: Instant) {
        cohorts.into_iter().for_each(|id| self.queue.wake(id, now));
    }

    /// Wakes the cohorts that match by device or alias, because a new version of the identity map may re-key their members.
    pub(super) fn wake_for_identity(&mut self, version: Option<u64>, config: &Config, now: Instant) {
        let Some(version) = version else { return };
        if std::mem::replace(&mut self.identity_version, version) == version {
            return;
        }
        let may_rekey =
            |cohort: &&CohortConfig| cohort.rules.iter().any(|rule| rule.kind != IdentifierKind::ExternalId);
        self.wake(config.cohorts.iter().filter(may_rekey).map(|cohort| cohort.id.clone()), now);
    }

    /// Follows another config: removes the cohorts that left, and wakes the changed ones.
    pub(super) fn set_config(&mut self, config: &Config, changed: BTreeSet<CohortId>, now: Instant) {
        self.queue.retain(|id| config.cohort_ids().any(|known| known == id));
        self.wake(changed, now);
    }

    /// Takes the cohorts that are due, each with its run.
    pub(super) fn take_due(&mut self, context: &LeaderContext) -> Vec<(CohortId, CohortRun)> {
        let due = self.queue.take_due(context.clock.monotonic());
        due.into_iter().map(|id| (id.clone(), CohortRun::new(id, context, &self.turns))).collect()
    }

    /// Schedules the next run, updates the status and notifies a change of condition.
    pub(super) fn finish(
        &mut self,
        ended: CohortRunEnd,
        context: &LeaderContext,
        notifications: &mut Notifications,
    ) {
        let CohortRunEnd { cohort, end, condition, settles_again_at, .. } = ended;
        let now = context.clock.read();
        let scheduled = schedule::next_run(schedule_of(&cohort, context), settles_again_at, now);
        let (backoff, jitter) = (context.backoff(), context.jitter());
        self.queue.finish(&cohort, end, now.monotonic, scheduled, backoff, jitter);
        if !context.config.cohort_ids().any(|known| *known == cohort) {
            return; // it left the config during the run
        }
        let failures = self.queue.failures(&cohort);
        let next_run = self.queue.due(&cohort).and_then(|due| now.wall_at(due));
        let mut is_new = false;
        context.status.update_cohort(&cohort, |status| {
            is_new = status.set_condition(&condition, now.wall);
            status.next_run = next_run;
        });
        let subject = Subject::Cohort(cohort.clone());
        match &condition {
            ConditionStatus::New | ConditionStatus::Waiting(_) => {}
            ConditionStatus::InSync => notifications.recovered(subject, "in sync again"),
            ConditionStatus::Blocked(_) => {
                notifications.problem(subject, Notable::Refusal, &condition.text());
            }
            ConditionStatus::Failing(_) if end == RunEnd::Settled || failures >= FAILURES_NOTIFIED => {
                notifications.problem(subject, Notable::Failure, &condition.text());
            }
            ConditionStatus::Failing(_) => {}
        }
        if is_new {
            log(&cohort, &condition);
        }
    }
}

fn schedule_of<'a>(id: &CohortId, context: &'a LeaderContext) -> &'a ScheduleConfig {
    let own = context.cohort(id).and_then(|cohort| cohort.schedule.as_ref());
    own.unwrap_or(&context.config.watch.schedule)
}

fn log(cohort: &CohortId, condition: &ConditionStatus) {
    let text = condition.text();
    match condition {
        ConditionStatus::New => {}
        ConditionStatus::InSync => tracing::info!(%cohort, "in sync"),
        ConditionStatus::Waiting(_) => tracing::info!(%cohort, "waiting: {text}"),
        ConditionStatus::Blocked(_) => tracing::warn!(%cohort, "{text}"),
        ConditionStatus::Failing(_) => tracing::warn!(%cohort, "failing: {text}"),
    }
}
