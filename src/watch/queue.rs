//! Work queue: which keys are due, and when. One entry for each key, one run of a key at a time.
//!
//! Level-triggered: an entry has no reason, because a run reads the current state. Pure: time comes in as a parameter.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::retry::RetryPolicy;

/// How a run ended, for scheduling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// It succeeded, or an operator must act. The next run follows the schedule.
    Settled,
    /// It succeeded, and more work is due at once.
    Again,
    /// It failed, and a retry may help. Retries back off.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct QueueEntry {
    due: Option<Instant>,
    is_running: bool,
    /// It was woken while it was running.
    is_woken: bool,
    /// It left the config while it was running.
    is_removed: bool,
    failures: u32,
}

/// Work by key.
#[derive(Debug)]
pub(super) struct WorkQueue<K> {
    entries: BTreeMap<K, QueueEntry>,
}

impl<K: Ord + Clone> WorkQueue<K> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Makes a key due at `at`, or earlier if it is due earlier. A running key runs once more after its run.
    pub(super) fn wake(&mut self, key: K, at: Instant) {
        let entry = self.entries.entry(key).or_default();
        if entry.is_running {
            entry.is_woken = true;
        } else {
            entry.due = Some(entry.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Removes the keys that `keep` rejects. A running key stays until its run has ended; if `keep` accepts it again
    /// before that, it stays for good.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|key, entry| {
            entry.is_removed = !keep(key);
            entry.is_running || !entry.is_removed
        });
    }

    /// Removes a key that was taken and does not run.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Takes the keys that are due. The caller reports the end of each run with [`Self::finish`].
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        for (key, entry) in &mut self.entries {
            if !entry.is_running && entry.due.is_some_and(|at| at <= now) {
                (entry.is_running, entry.due) = (true, None);
                due.push(key.clone());
            }
        }
        due
    }

    /// Records the end of a run and schedules the next one, at `scheduled` at the latest. `jitter` is from 0 to 1.
    pub(super) fn finish(
        &mut self,
        key: &K,
        end: RunEnd,
        now: Instant,
        scheduled: Option<Instant>,
        retry: RetryPolicy,
        jitter: f64,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.is_removed {
            self.entries.remove(key);
            return;
        }
        entry.is_running = false;
        entry.failures = if end == RunEnd::Failed { entry.failures + 1 } else { 0 };
        let retry = (entry.failures > 0).then(|| now + retry.wait(entry.failures, jitter));
        entry.due = if std::mem::take(&mut entry.is_woken) || end == RunEnd::Again {
            Some(now)
        } else {
            [retry, scheduled].into_iter().flatten().min()
        };
    }

    /// When the next key is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.is_running).filter_map(|entry| entry.due).min()
    }

    /// When this key is due.
    pub(super) fn due(&self, key: &K) -> Option<Instant> {
        self.entries.get(key).and_then(|entry| entry.due)
    }

    /// The number of keys that are due or running.
    pub(super) fn depth(&self, now: Instant) -> usize {
        let is_active = |entry: &&QueueEntry| entry.is_running || entry.due.is_some_and(|due| due <= now);
        self.entries.values().filter(is_active).count()
    }

    /// The number of failures in a row.
    pub(super) fn failures(&self, key: &K) -> u32 {
        self.entries.get(key).map_or(0, |entry| entry.failures)
    }
}

/// A task that runs once at a time. A request during a run makes it run once more.
#[derive(Debug, Default)]
pub(super) struct SingleTask {
    is_running: bool,
    is_requested: bool,
}

impl SingleTask {
    /// Requests a run. Returns whether the caller must start it now.
    pub(super) fn request(&mut self) -> bool {
        let was_running = std::mem::replace(&mut self.is_running, true);
        self.is_requested |= was_running;
        !was_running
    }

    /// Records the end of a run. Returns whether another one was requested meanwhile.
    pub(super) fn finish(&mut self) -> bool {
        self.is_running = false;
        std::mem::take(&mut self.is_requested)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RETRY: RetryPolicy = RetryPolicy {
        attempts: u32::MAX,
        first_wait: Duration::from_secs(5),
        longest_wait: Duration::from_secs(60),
    };

    #[test]
    fn a_key_that_is_woken_twice_runs_once() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        queue.wake("a", now);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        assert_eq!(queue.take_due(now), Vec::<&str>::new());
        queue.finish(&"a", RunEnd::Settled, now, None, RETRY, 0.5);
        assert_eq!((queue.next_due(), queue.depth(now)), (None, 0));
    }

    #[test]
    fn a_key_that_is_woken_while_it_runs_runs_once_more() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        queue.wake("a", now);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), Vec::<&str>::new(), "one run at a time");
        queue.finish(&"a", RunEnd::Failed, now, None, RETRY, 0.0);
        assert_eq!(queue.take_due(now), ["a"]);
        queue.finish(&"a", RunEnd::Settled, now, None, RETRY, 0.0);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn a_key_that_is_removed_while_it_runs_and_added_again_runs_again() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        let finish =
            |queue: &mut WorkQueue<&str>| queue.finish(&"a", RunEnd::Settled, now, Some(now), RETRY, 0.5);
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        // Added again after the run has ended.
        queue.retain(|_| false);
        finish(&mut queue);
        assert_eq!((queue.next_due(), queue.depth(now)), (None, 0), "the entry is removed");
        queue.wake("a", now);
        assert_eq!(queue.take_due(now), ["a"]);
        // Added again before the run has ended, and woken while it was removed.
        queue.retain(|_| false);
        queue.wake("a", now);
        queue.retain(|_| true);
        finish(&mut queue);
        assert_eq!(queue.take_due(now), ["a"]);
        // Woken, then removed for good.
        queue.wake("a", now);
        queue.retain(|_| false);
        finish(&mut queue);
        assert_eq!(queue.take_due(now), Vec::<&str>::new());
    }

    #[test]
    fn retries_back_off_and_the_schedule_limits_the_wait() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        let mut wait = |scheduled: Option<u64>, jitter| {
            queue.wake("a", now);
            queue.take_due(now);
            let scheduled = scheduled.map(|seconds| now + Duration::from_secs(seconds));
            queue.finish(&"a", RunEnd::Failed, now, scheduled, RETRY, jitter);
            queue.next_due().unwrap() - now
        };
        assert_eq!(wait(None, 1.0), Duration::from_secs(5));
        assert_eq!(wait(None, 1.0), Duration::from_secs(10));
        assert_eq!(wait(Some(7), 1.0), Duration::from_secs(7));
        assert_eq!(wait(None, 0.0), Duration::from_secs(20));
        assert_eq!(wait(None, 1.0), Duration::from_secs(60));
        queue.wake("a", now);
        queue.take_due(now);
        queue.finish(&"a", RunEnd::Settled, now, Some(now + Duration::from_secs(900)), RETRY, 1.0);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(900)));
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[test]
    fn a_key_that_has_more_work_is_due_at_once() {
        let (mut queue, now) = (WorkQueue::new(), Instant::now());
        queue.wake("a", now);
        queue.take_due(now);
        queue.finish(&"a", RunEnd::Again, now, Some(now + Duration::from_secs(900)), RETRY, 0.5);
        assert_eq!(queue.due(&"a"), Some(now));
    }

    #[test]
    fn a_single_task_that_is_requested_while_it_runs_runs_once_more() {
        let mut task = SingleTask::default();
        assert!(task.request());
        assert!(!task.request() && !task.request());
        assert!(task.finish(), "requested during the run");
        assert!(task.request());
        assert!(!task.finish());
    }
}
