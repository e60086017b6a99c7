//! Cohort runs of the leader: when each cohort runs, and what its result changes.

use std::collections::BTreeSet;
use std::time::Instant;

use super::cohort_run::{CohortRun, CohortRunEnd, PlanTurns};
use super::context::LeaderContext;
use super::notify::{FAILURES_NOTIFIED, NotificationSubject, Notifications};
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
        let (retry, jitter) = (context.retry(), context.jitter());
        self.queue.finish(&cohort, end, now.monotonic, scheduled, retry, jitter);
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
        let subject = NotificationSubject::Cohort(cohort.clone());
        match &condition {
            ConditionStatus::New | ConditionStatus::Waiting(_) | ConditionStatus::Stopped(_) => {}
            ConditionStatus::InSync => notifications.recovered(subject, "in sync again"),
            ConditionStatus::Blocked(blocked) => notifications.blocked(subject, blocked),
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
    match condition {
        ConditionStatus::New => {}
        ConditionStatus::InSync => tracing::info!(%cohort, "in sync"),
        ConditionStatus::Waiting(reason) => tracing::info!(%cohort, "waiting: {reason}"),
        ConditionStatus::Stopped(reason) => tracing::info!(%cohort, "{reason}"),
        ConditionStatus::Blocked(blocked) => {
            let (summary, hints) = (blocked.summary(), blocked.hints().join("\n"));
            tracing::warn!(%cohort, hints, "{summary}");
        }
        ConditionStatus::Failing(failure) => {
            let (reason, hints) = (&failure.reason, failure.hints().join("\n"));
            tracing::warn!(%cohort, hints, "failing: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::watch::status::FailureStatus;
    use crate::watch::watch_fixture::{WatchFixture, advance, blocked, cohort};

    fn ended(id: &str, end: RunEnd, condition: ConditionStatus) -> CohortRunEnd {
        CohortRunEnd { cohort: cohort(id), end, condition, is_lease_lost: false, settles_again_at: None }
    }

    fn failed(id: &str) -> CohortRunEnd {
        let failure =
            FailureStatus { reason: "down".to_owned(), remedies: Vec::new(), needs_operator: false };
        ended(id, RunEnd::Failed, ConditionStatus::Failing(failure))
    }

    fn taken(runs: &mut CohortRuns, fixture: &WatchFixture) -> Vec<String> {
        runs.take_due(&fixture.context).into_iter().map(|(id, _)| id.to_string()).collect()
    }

    /// Runs of both cohorts that have just been taken.
    fn running() -> (CohortRuns, WatchFixture) {
        let (mut runs, fixture) = (CohortRuns::new(), WatchFixture::new());
        runs.wake(fixture.context.config.cohort_ids().cloned(), fixture.context.clock.monotonic());
        assert_eq!(taken(&mut runs, &fixture), ["carts", "vip"]);
        (runs, fixture)
    }

    fn finish(runs: &mut CohortRuns, end: CohortRunEnd, fixture: &mut WatchFixture) {
        runs.finish(end, &fixture.context, &mut fixture.notifications);
    }

    #[test]
    fn the_next_run_follows_the_schedule_of_the_cohort_or_of_the_config() {
        let (mut runs, mut fixture) = running();
        finish(&mut runs, ended("carts", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        assert_eq!(fixture.until(runs.next_due()), Some(3600), "once an hour");
        finish(&mut runs, ended("vip", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        assert_eq!(fixture.until(runs.next_due()), Some(600), "its own schedule");
        advance(600);
        assert_eq!(taken(&mut runs, &fixture), ["vip"]);
        let shown = fixture.context.status.lock().cohorts[&cohort("carts")].next_run;
        assert_eq!(shown, Some(Timestamp::from_second(3600).unwrap()));
    }

    #[test]
    fn a_run_that_has_more_work_or_members_in_doubt_is_followed_earlier() {
        let (mut runs, mut fixture) = running();
        finish(&mut runs, ended("vip", RunEnd::Again, ConditionStatus::InSync), &mut fixture);
        assert_eq!(taken(&mut runs, &fixture), ["vip"]);
        let settles_again_at = Some(Timestamp::from_second(120).unwrap());
        let end = ended("carts", RunEnd::Settled, ConditionStatus::InSync);
        finish(&mut runs, CohortRunEnd { settles_again_at, ..end }, &mut fixture);
        assert_eq!(fixture.until(runs.next_due()), Some(120));
    }

    #[test]
    fn a_failed_run_is_retried_with_growing_waits_until_it_succeeds() {
        let (mut runs, mut fixture) = running();
        let mut waits = Vec::new();
        for _ in 0..3 {
            finish(&mut runs, failed("vip"), &mut fixture);
            let wait = fixture.until(runs.next_due()).unwrap();
            waits.push(wait);
            advance(wait + 1);
            assert_eq!(taken(&mut runs, &fixture), ["vip"]);
        }
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
        assert_eq!(fixture.context.status.lock().cohorts[&cohort("vip")].condition.code(), "failing");
        finish(&mut runs, ended("vip", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        assert_eq!(fixture.until(runs.next_due()), Some(600));
    }

    #[test]
    fn a_blocked_cohort_is_a_problem_until_it_is_in_sync() {
        let (mut runs, mut fixture) = running();
        let subject = NotificationSubject::Cohort(cohort("vip"));
        let condition = ConditionStatus::Blocked(blocked("sha256:0"));
        finish(&mut runs, ended("vip", RunEnd::Settled, condition), &mut fixture);
        assert_eq!(fixture.notifications.problem_of(&subject), Some(Notable::Blocked));
        assert_eq!(fixture.context.status.blocked_cohorts(), [cohort("vip")]);
        advance(600);
        assert_eq!(taken(&mut runs, &fixture), ["vip"], "its schedule goes on");
        finish(&mut runs, ended("vip", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        assert_eq!(fixture.notifications.problem_of(&subject), None);
    }

    #[test]
    fn a_new_identity_map_wakes_the_cohorts_that_it_may_rekey_once() {
        let (mut runs, mut fixture) = running();
        for id in ["carts", "vip"] {
            finish(&mut runs, ended(id, RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        }
        let now = fixture.context.clock.monotonic();
        runs.wake_for_identity(None, &fixture.context.config, now);
        assert_eq!(taken(&mut runs, &fixture), Vec::<String>::new());
        runs.wake_for_identity(Some(1), &fixture.context.config, now);
        assert_eq!(taken(&mut runs, &fixture), ["vip"], "it matches by device");
        finish(&mut runs, ended("vip", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        runs.wake_for_identity(Some(1), &fixture.context.config, now);
        assert_eq!(taken(&mut runs, &fixture), Vec::<String>::new(), "the same version");
    }

    #[test]
    fn a_cohort_that_leaves_the_config_during_its_run_does_not_run_again() {
        let (mut runs, mut fixture) = running();
        fixture.change_config(|config| config.cohorts.retain(|cohort| cohort.id.as_str() != "vip"));
        runs.set_config(&fixture.context.config, BTreeSet::new(), fixture.context.clock.monotonic());
        finish(&mut runs, failed("vip"), &mut fixture);
        assert_eq!(
            (runs.next_due(), runs.depth(fixture.context.clock.monotonic())),
            (None, 1),
            "`carts` runs"
        );
        assert!(!fixture.context.status.lock().cohorts.contains_key(&cohort("vip")));
    }

    #[test]
    fn a_changed_cohort_runs_at_once_and_a_running_one_once_more() {
        let (mut runs, mut fixture) = running();
        finish(&mut runs, ended("carts", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        let changed = BTreeSet::from([cohort("carts"), cohort("vip")]);
        runs.set_config(&fixture.context.config, changed, fixture.context.clock.monotonic());
        assert_eq!(taken(&mut runs, &fixture), ["carts"], "one run of `vip` at a time");
        finish(&mut runs, ended("vip", RunEnd::Settled, ConditionStatus::InSync), &mut fixture);
        assert_eq!(taken(&mut runs, &fixture), ["vip"]);
    }
}
