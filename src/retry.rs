//! Retries: counts failed attempts and computes the wait before the next one. The caller waits, because only it knows
//! what ends a wait early: an interrupt, a lost lease, a rate limit or a deadline.

use std::time::Duration;

use crate::{random, wait_log};

/// How often something is tried, and the waits between the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum number of attempts, at least one.
    pub attempts: u32,
    /// The wait after the first failure.
    pub first_wait: Duration,
    /// The longest single wait.
    pub longest_wait: Duration,
}

impl RetryPolicy {
    /// The wait after this many failures. It doubles with each failure, and half of it is random: `jitter` is from 0
    /// to 1.
    #[must_use]
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let wait = self.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let wait = wait.min(self.longest_wait);
        wait / 2 + (wait / 2).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// The retries of one request.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    policy: RetryPolicy,
    failures: u32,
}

impl Retry {
    /// No attempt has failed yet.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Counts a failed attempt. Returns the wait before the next one, or `None` once all attempts have failed.
    #[must_use]
    pub fn next_wait(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        (self.failures < self.policy.attempts).then(|| self.policy.wait(self.failures, random::share()))
    }

    /// Logs the wait before the next attempt. `cause` is a clause, such as `Braze responds with status 503`.
    pub fn log_wait(&self, vendor: &str, cause: &str, wait: Duration) {
        let attempts = Some(self.policy.attempts).filter(|attempts| *attempts < u32::MAX);
        wait_log::log_retry(vendor, cause, self.failures.saturating_add(1), attempts, wait);
    }
}

/// A random duration up to `max`.
#[must_use]
pub fn jitter(max: Duration) -> Duration {
    max.mul_f64(random::share())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_maximum_and_ends_with_the_last_attempt() {
        let (first_wait, longest_wait) = (Duration::from_secs(1), Duration::from_secs(3));
        let policy = RetryPolicy { attempts: 4, first_wait, longest_wait };
        let mut retry = Retry::new(policy);
        for (failures, most) in (1..).zip([1, 2, 3]) {
            let (wait, most) = (retry.next_wait().unwrap(), Duration::from_secs(most));
            assert!(wait >= most / 2 && wait <= most, "{wait:?}");
            assert_eq!([0.0, 1.0].map(|jitter| policy.wait(failures, jitter)), [most / 2, most]);
        }
        assert_eq!(retry.next_wait(), None);
        assert_eq!(retry.next_wait(), None);
        assert_eq!(policy.wait(u32::MAX, 2.0), longest_wait);
    }
}
