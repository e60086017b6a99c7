//! The hourly limit: fixed windows that start at multiples of their length, as Braze's do.
//!
//! Headers by Braze's "API limits": limit and remaining as numbers, reset as UTC epoch seconds. Whether
//! the cohort endpoints send them is not known; here they do.

use std::time::Duration;

use crate::clock;

#[derive(Debug)]
pub(super) struct RateLimit {
    limit: u64,
    window: Duration,
    current: u64,
    used: u64,
}

/// Where a request stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// UTC epoch seconds, rounded up.
    pub(super) reset: u64,
    pub(super) exceeded: bool,
}

impl RateLimit {
    pub(super) fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, current: 0, used: 0 }
    }

    /// Counts one request.
    pub(super) fn take(&mut self) -> Quota {
        self.take_at(clock::now())
    }

    fn take_at(&mut self, now: Duration) -> Quota {
        let window = self.window.as_millis().max(1);
        let current = u64::try_from(now.as_millis() / window).unwrap_or(u64::MAX);
        if current != self.current {
            (self.current, self.used) = (current, 0);
        }
        let exceeded = self.used >= self.limit;
        self.used += u64::from(!exceeded);
        let reset = (u128::from(current) + 1) * window;
        Quota {
            limit: self.limit,
            remaining: self.limit - self.used,
            reset: u64::try_from(reset.div_ceil(1000)).unwrap_or(u64::MAX),
            exceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_and_not_rolling() {
        let mut limit = RateLimit::new(2, Duration::from_secs(3600));
        let mut at = |seconds| {
            let quota = limit.take_at(Duration::from_secs(seconds));
            (quota.remaining, quota.reset, quota.exceeded)
        };
        assert_eq!(at(3599), (1, 3600, false));
        assert_eq!(at(3600), (1, 7200, false));
        assert_eq!(at(3601), (0, 7200, false));
        assert_eq!(at(7199), (0, 7200, true));
        assert_eq!(at(7200), (1, 10_800, false));
    }
}
