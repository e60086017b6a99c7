//! Retries: counts failed attempts and computes the wait before the next one.

use std::time::Duration;

use crate::config::RetryPolicy;
use crate::wait_log;

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

    /// Counts a failed attempt. Returns the backoff before the next one, or `None` once all attempts have failed.
    #[must_use]
    pub fn next_wait(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        (self.failures < self.policy.attempts).then(|| backoff(self.policy, self.failures))
    }

    /// Logs the wait before the next attempt. `cause` is a clause, such as `Braze responds with status 503`.
    pub fn log_wait(&self, vendor: &str, cause: &str, wait: Duration) {
        let attempts = Some(self.policy.attempts).filter(|attempts| *attempts < u32::MAX);
        wait_log::log_retry(vendor, cause, self.failures.saturating_add(1), attempts, wait);
    }
}

/// The wait after this many failures. It doubles with each failure, and half of it is random.
#[must_use]
pub fn backoff(policy: RetryPolicy, failures: u32) -> Duration {
    let wait = policy.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let wait = wait.min(policy.longest_wait);
    wait / 2 + jitter(wait / 2)
}

/// A random duration up to `max`.
#[must_use]
pub fn jitter(max: Duration) -> Duration {
    // Without a random number there is no jitter, which is harmless.
    max.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_maximum_and_ends_with_the_last_attempt() {
        let (first_wait, longest_wait) = (Duration::from_secs(1), Duration::from_secs(3));
        let mut retry = Retry::new(RetryPolicy { attempts: 4, first_wait, longest_wait });
        for most in [1, 2, 3] {
            let (wait, most) = (retry.next_wait().unwrap(), Duration::from_secs(most));
            assert!(wait >= most / 2 && wait <= most, "{wait:?}");
        }
        assert_eq!(retry.next_wait(), None);
        assert_eq!(retry.next_wait(), None);
    }
}
