//! What is to be looked at, and when: level-triggered, one entry for each thing, one look at a time.
//!
//! Pure but for the type of its instants: time comes in. A reason to look is not kept, since a look reads
//! everything as it is then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::{CohortId, SegmentId};

/// What can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkKey {
    /// A cohort: whether it is in sync.
    Cohort(CohortId),
    /// A segment in Braze: whether it is as the config has it.
    Segment(SegmentId),
}

impl From<CohortId> for WorkKey {
    fn from(id: CohortId) -> Self {
        Self::Cohort(id)
    }
}

impl From<SegmentId> for WorkKey {
    fn from(id: SegmentId) -> Self {
        Self::Segment(id)
    }
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkEnd {
    /// Well, or waiting for a person: the next one is due when the schedule says.
    Settled,
    /// Well, and there is more to be done at once.
    Again,
    /// Badly, and it may run: it is tried again soon, and then less and less soon.
    Failed,
}

/// How failures are waited out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row; half of it is chance, `chance` being from 0 to 1.
    fn wait(&self, failures: u32, chance: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest);
        whole / 2 + (whole / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct QueueEntry {
    due: Option<Instant>,
    busy: bool,
    /// Woken while it was being looked at.
    again: bool,
    /// It left the config while it was being looked at.
    is_gone: bool,
    failures: u32,
}

/// Things by their keys.
#[derive(Debug)]
pub(super) struct WorkQueue<K> {
    entries: BTreeMap<K, QueueEntry>,
}

impl<K: Ord + Clone> WorkQueue<K> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Something may have changed: look as soon as possible.
    pub(super) fn wake(&mut self, key: impl Into<K>, now: Instant) {
        let entry = self.entries.entry(key.into()).or_default();
        if entry.busy {
            entry.again = true;
        } else {
            entry.due = Some(entry.due.map_or(now, |due| due.min(now)));
        }
    }

    /// Removes the entries that `keep` rejects. One that is busy stays until it has ended, unless `keep` accepts it
    /// again before that: then it goes on as one that never left.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|key, entry| {
            entry.is_gone = !keep(key);
            entry.busy || !entry.is_gone
        });
    }

    /// Removes an entry that was taken and is not to be looked at.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// The things to look at now. Each must be given back by [`Queue::ended`].
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        for (key, entry) in &mut self.entries {
            if !entry.busy && entry.due.is_some_and(|at| at <= now) {
                (entry.busy, entry.due) = (true, None);
                due.push(key.clone());
            }
        }
        due
    }

    /// A look ended. `scheduled` is when the next one is due at the latest, and `chance` spreads those who
    /// wait, from 0 to 1.
    pub(super) fn ended(
        &mut self,
        key: &K,
        ended: WorkEnd,
        now: Instant,
        scheduled: Option<Instant>,
        backoff: Backoff,
        chance: f64,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.is_gone {
            self.entries.remove(key);
            return;
        }
        entry.busy = false;
        entry.failures = if ended == WorkEnd::Failed { entry.failures + 1 } else { 0 };
        let retry = (entry.failures > 0).then(|| now + backoff.wait(entry.failures, chance));
        entry.due = if std::mem::take(&mut entry.again) || ended == WorkEnd::Again {
            Some(now)
        } else {
            [retry, scheduled].into_iter().flatten().min()
        };
    }

    /// When the next thing is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.busy).filter_map(|entry| entry.due).min()
    }

    /// When this one is due.
    pub(super) fn due(&self, key: &K) -> Option<Instant> {
        self.entries.get(key).and_then(|entry| entry.due)
    }

    /// How many are due or being looked at.
    pub(super) fn depth(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.busy || entry.due.is_some_and(|due| due <= now)).count()
    }

    /// How many failures in a row.
    pub(super) fn failures(&self, key: &K) -> u32 {
        self.entries.get(key).map_or(0, |entry| entry.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(60) };

    #[test]
    fn a_thing_is_looked_at_once_however_often_it_is_woken() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        queue.wake("a", now);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        assert_eq!(queue.take_due(now), Vec::<&str>::new());
        queue.ended(&"a", WorkEnd::Settled, now, None, BACKOFF, 0.5);
        assert_eq!((queue.next_due(), queue.depth(now)), (None, 0));
    }

    #[test]
    fn woken_while_it_is_looked_at_it_is_looked_at_once_more() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        queue.wake("a", now);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), Vec::<&str>::new(), "one look at a time");
        queue.ended(&"a", WorkEnd::Failed, now, None, BACKOFF, 0.0);
        assert_eq!(queue.take_due(now), ["a"]);
        queue.ended(&"a", WorkEnd::Settled, now, None, BACKOFF, 0.0);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn what_leaves_while_it_is_busy_and_comes_back_runs_again() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        let end =
            |queue: &mut WorkQueue<&str>| queue.ended(&"a", WorkEnd::Settled, now, Some(now), BACKOFF, 0.5);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        // It comes back after it has ended.
        queue.retain(|_| false);
        end(&mut queue);
        assert_eq!((queue.next_due(), queue.depth(now)), (None, 0), "nothing is left of it");
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        // It comes back before it has ended, and was woken while it was gone.
        queue.retain(|_| false);
        queue.wake("a", now);
        queue.retain(|_| true);
        end(&mut queue);
        assert_eq!(queue.take_due(now), ["a"]);
        // It was woken, and left for good.
        queue.wake("a", now);
        queue.retain(|_| false);
        end(&mut queue);
        assert_eq!(queue.take_due(now), Vec::<&str>::new());
    }

    #[test]
    fn failures_wait_longer_each_time_and_never_longer_than_the_schedule() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        let mut wait = |scheduled: Option<u64>, chance| {
            queue.wake("a", now);
            queue.take_due(now);
            let scheduled = scheduled.map(|seconds| now + Duration::from_secs(seconds));
            queue.ended(&"a", WorkEnd::Failed, now, scheduled, BACKOFF, chance);
            queue.next_due().unwrap() - now
        };
        assert_eq!(wait(None, 1.0), Duration::from_secs(5));
        assert_eq!(wait(None, 1.0), Duration::from_secs(10));
        assert_eq!(wait(Some(7), 1.0), Duration::from_secs(7));
        assert_eq!(wait(None, 0.0), Duration::from_secs(20));
        assert_eq!(wait(None, 1.0), Duration::from_secs(60));
        queue.wake("a", now);
        queue.take_due(now);
        queue.ended(&"a", WorkEnd::Settled, now, Some(now + Duration::from_secs(900)), BACKOFF, 1.0);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(900)));
        assert_eq!(queue.failures(&"a"), 0);
    }
}
