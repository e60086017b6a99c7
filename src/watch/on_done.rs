//! What the leader makes of what has ended: when it looks again, what it tells, and whom.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cohort_run::CohortRunEnd;
use super::endpoints::{IngestEnd, cohorts_of, show};
use super::exports::of_export;
use super::leader::Leader;
use super::notify::{Notification, of_cohort};
use super::queue::{Backoff, WorkEnd, WorkKey};
use super::status::ConditionStatus;
use super::{schedule, settings};
use crate::config::Notable;
use crate::model::{CohortId, EndpointName, Timestamp};
use crate::state::StateError;

/// How long a door must be quiet before what came through it is folded, and the longest that it waits.
const FOLD_AFTER: Duration = Duration::from_millis(150);
const FOLD_WITHIN: Duration = Duration::from_secs(2);
/// When a fold that failed is tried again.
const FOLD_AGAIN: Duration = Duration::from_secs(5);
/// A failure that lasts for so many tries is told.
pub(super) const FAILURES_TOLD: u32 = 3;

impl Leader {
    /// A look has ended.
    pub(super) fn looked(&mut self, looked: CohortRunEnd) {
        let CohortRunEnd { cohort, ended, condition, is_lost, settles_again_at } = looked;
        self.is_lost |= is_lost;
        let now = self.at.clock().now();
        let next = schedule::next(self.schedule_of(&cohort), now);
        // One that is over waits for something else: the schedule looks again.
        let next = next.into_iter().chain(settles_again_at.filter(|at| *at > now)).min();
        let until = next.map(|next| Instant::now() + schedule::until(next, now));
        let backoff =
            Backoff { first: self.config.watch.first_wait, longest: self.config.watch.longest_wait };
        let key = WorkKey::from(cohort.clone());
        self.queue.ended(&key, ended, Instant::now(), until, backoff, chance(self.at.random()));
        if !settings::cohorts(&self.config).any(|known| *known == cohort) {
            return; // it left the config meanwhile
        }
        let failures = self.queue.failures(&key);
        let due = self.queue.due(&key).map(|due| due.saturating_duration_since(Instant::now()));
        let mut is_new = false;
        self.shared.board.cohort(&cohort, |status| {
            is_new = status.turn(&condition, now);
            status.next_look = due.and_then(|due| now.checked_add(due).ok());
        });
        let about = of_cohort(&cohort);
        match &condition {
            ConditionStatus::New | ConditionStatus::Waiting(_) => {}
            ConditionStatus::InSync => self.tell(&about, None, "in sync again"),
            ConditionStatus::Refused(_) => self.tell(&about, Some(Notable::Refusal), &condition.text()),
            ConditionStatus::Failing(_) if ended == WorkEnd::Settled || failures >= FAILURES_TOLD => {
                self.tell(&about, Some(Notable::Failure), &condition.text());
            }
            ConditionStatus::Failing(_) => {}
        }
        if is_new {
            log(&cohort, &condition);
        }
    }

    pub(super) fn schedule_of(&self, id: &CohortId) -> &crate::config::ScheduleConfig {
        let own = self.config.cohorts.iter().find(|cohort| cohort.id == *id);
        own.and_then(|cohort| cohort.schedule.as_ref()).unwrap_or(&self.config.watch.schedule)
    }

    /// These endpoints received deliveries: those of a Heap are ingested when it is quiet, or soon in any case.
    pub(super) fn delivered(&mut self, received: &BTreeSet<EndpointName>) {
        let now = Instant::now();
        for name in self.config.heap.keys().filter(|name| received.contains(&EndpointName::of_heap(name))) {
            let fold = self.folds.entry(name.clone()).or_default();
            let since = *fold.waits_since.get_or_insert(now);
            fold.due = Some((now + FOLD_AFTER).min(since + FOLD_WITHIN));
        }
    }

    /// A fold has ended.
    pub(super) fn folded(&mut self, end: IngestEnd) {
        let now = Instant::now();
        let Some(fold) = self.folds.get_mut(&end.heap) else { return };
        fold.is_running = false;
        match &end.folded {
            Err(error) => {
                self.is_lost |= matches!(**error, StateError::Lost);
                tracing::warn!(heap = %end.heap, "what Heap has told is not used yet: {error}");
                fold.due = Some(now + FOLD_AGAIN);
            }
            Ok(folded) => {
                let wall = self.at.clock().now();
                fold.deadline = folded.next_deadline.map(|at| now + schedule::until(at, wall));
                if folded.deliveries + folded.invalid > 0 {
                    tracing::info!(
                        heap = %end.heap, deliveries = folded.deliveries, known = folded.duplicates,
                        put_aside = folded.invalid, segments = folded.segments.len(), "Heap has told"
                    );
                }
                self.shared.board.metrics.folded(end.heap.as_str(), folded);
                if let Some(status) = self.shared.board.lock().heaps.get_mut(&end.heap) {
                    status.waiting_since = None;
                }
                show(&end.heap, end.segments, &self.shared.board, self.inboxes.held(&end.heap));
                cohorts_of(&end.heap, folded, &self.config).for_each(|id| self.queue.wake(id.clone(), now));
            }
        }
    }

    /// Tells those who want to know, if it is new.
    pub(super) fn tell(&mut self, about: &str, trouble: Option<Notable>, text: &str) {
        if let Some(kind) = self.told.turn(about, trouble) {
            let (about, text) = (about.to_owned(), text.to_owned());
            self.notifier.tell(&Notification { kind, about, text, at: self.at.clock().now() });
        }
    }

    pub(super) fn refused(&self) -> Vec<CohortId> {
        let inner = self.shared.board.lock();
        let is_refused = |condition: &ConditionStatus| matches!(condition, ConditionStatus::Refused(_));
        inner.cohorts.iter().filter(|(_, s)| is_refused(&s.condition)).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn note_stale(&mut self, now: Timestamp) {
        let (mut stale, after) = (Vec::new(), self.config.watch.stale_after);
        {
            let mut inner = self.shared.board.lock();
            for (id, status) in &mut inner.cohorts {
                let since = status.last_good.unwrap_or(status.known_since);
                status.is_stale = schedule::until(now, since) > after;
                stale.extend(status.is_stale.then(|| (of_cohort(id), since)));
            }
            for (id, status) in &mut inner.exports {
                let since = status.last_good.unwrap_or(status.known_since);
                status.is_stale = schedule::until(now, since) > after;
                stale.extend(status.is_stale.then(|| (of_export(id), since)));
            }
        }
        for (about, since) in stale {
            let text = format!("no good run for {}", lasted(schedule::until(now, since)));
            self.tell(&about, Some(Notable::Staleness), &text);
        }
    }
}

/// A length of time in its largest whole unit.
pub(super) fn lasted(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7200 => (seconds / 60, "minutes"),
        _ => (seconds / 3600, "hours"),
    };
    format!("{number} {unit}")
}

fn log(cohort: &CohortId, condition: &ConditionStatus) {
    let text = condition.text();
    match condition {
        ConditionStatus::New => {}
        ConditionStatus::InSync => tracing::info!(%cohort, "in sync"),
        ConditionStatus::Waiting(_) => tracing::info!(%cohort, "waits: {text}"),
        ConditionStatus::Refused(_) => tracing::warn!(%cohort, "{text}"),
        ConditionStatus::Failing(_) => tracing::warn!(%cohort, "fails: {text}"),
    }
}

/// A number from 0 to 1.
#[allow(clippy::cast_precision_loss, reason = "chance needs no precision")]
pub(super) fn chance(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
