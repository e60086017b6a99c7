//! Rate limit in fixed windows that start at multiples of their length, as Braze's do.
//!
//! Headers as in Braze, "API limits": limit and remaining as numbers, reset as UTC epoch seconds. Whether the
//! cohort endpoints send them is unknown; here they do.

use std::time::Duration;

use crate::clock;

#[derive(Debug)]
pub(super) struct FixedWindow {
    limit: u64,
    window: Duration,
    window_number: u64,
    used: u64,
}

/// State of the window after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowStatus {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// UTC epoch seconds, rounded up.
    pub(super) reset: u64,
    pub(super) exceeded: bool,
}

impl FixedWindow {
    pub(super) fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, window_number: 0, used: 0 }
    }

    /// Counts one request.
    pub(super) fn count_request(&mut self) -> WindowStatus {
        self.count_at(clock::now())
    }

    fn count_at(&mut self, now: Duration) -> WindowStatus {
        let window = self.window.as_millis().max(1);
        let window_number = u64::try_from(now.as_millis() / window).unwrap_or(u64::MAX);
        if window_number != self.window_number {
            (self.window_number, self.used) = (window_number, 0);
        }
        let exceeded = self.used >= self.limit;
        self.used += u64::from(!exceeded);
        let reset = (u128::from(window_number) + 1) * window;
        WindowStatus {
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
        let mut limit = FixedWindow::new(2, Duration::from_secs(3600));
        let mut at = |seconds| {
            let status = limit.count_at(Duration::from_secs(seconds));
            (status.remaining, status.reset, status.exceeded)
        };
        assert_eq!(at(3599), (1, 3600, false));
        assert_eq!(at(3600), (1, 7200, false));
        assert_eq!(at(3601), (0, 7200, false));
        assert_eq!(at(7199), (0, 7200, true));
        assert_eq!(at(7200), (1, 10_800, false));
    }
}
