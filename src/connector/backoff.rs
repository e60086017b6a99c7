//! How long to wait before asking a vendor again. For whichever vendor; when to give up is the caller's matter.

use std::time::Duration;

use crate::config::RetryPolicy;

/// The wait after so many failures: it doubles with each, and half of it is chance.
#[must_use]
pub fn backoff(retry: RetryPolicy, failures: u32) -> Duration {
    let wait = retry.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let wait = wait.min(retry.longest_wait);
    wait / 2 + jitter(wait / 2)
}

/// A random part of `most`.
#[must_use]
pub fn jitter(most: Duration) -> Duration {
    // Without randomness there is no jitter, and all the same no harm.
    most.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}
