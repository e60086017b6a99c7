//! Rate limiter that follows the quota that a vendor reports in its responses.
//!
//! Braze's windows are fixed and begin on the hour, so a retry before the reset is useless (Braze, "API limits"). The
//! reported quota counts for all cohorts of a workspace. Requests in flight count as used, so that concurrent requests do
//! not exceed the limit together. [`crate::connector::heap::EventRateLimiter`] counts events where the vendor reports no
//! quota.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::Timestamp;

/// The wait when responses in flight will report the remaining quota.
const SOON: Duration = Duration::from_millis(20);

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now. The caller must report the end of the request to the limiter.
    Go,
    /// Not before this wait.
    Wait(Duration),
    /// The limit resets at this time, which is beyond the longest wait.
    TooLong(Timestamp),
}

/// The remaining quota of a rate limit, as a response reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingQuota {
    /// Requests.
    pub requests: u64,
    /// The end of the window in the vendor's own notation, which identifies the window.
    pub window: i64,
    /// The end of the window by this process's clock.
    pub until: Timestamp,
}

/// The rate limiter of one endpoint, shared by all cohorts of a workspace.
#[derive(Debug)]
pub struct RateLimiter {
    longest_wait: Duration,
    /// The length of the vendor's window, for responses that do not name its end.
    window_len: Duration,
    state: Mutex<LimiterState>,
}

#[derive(Debug, Default)]
struct LimiterState {
    /// The last reported quota.
    remaining: Option<RemainingQuota>,
    /// Requests without a response yet.
    in_flight: u64,
    /// After a 429: no request is sent before this time.
    closed_until: Option<Timestamp>,
}

impl RateLimiter {
    /// A limiter with windows of an hour.
    #[must_use]
    pub fn hourly(longest_wait: Duration) -> Self {
        Self::with_window(longest_wait, Duration::from_secs(3600))
    }

    /// A limiter with windows of this length, which begin at multiples of it.
    #[must_use]
    pub fn with_window(longest_wait: Duration, window_len: Duration) -> Self {
        Self { longest_wait, window_len, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one more request if the quota allows it, and counts it as in flight.
    pub fn admit(&self, now: Timestamp) -> Admission {
        let mut state = self.state();
        state.remaining = state.remaining.filter(|quota| quota.until > now);
        let exhausted = state.remaining.filter(|quota| quota.requests <= state.in_flight);
        let closed = state.closed_until.filter(|until| *until > now);
        match (closed, exhausted.map(|quota| quota.until)) {
            (None, None) => {
                state.in_flight += 1;
                Admission::Go
            }
            (None, Some(_)) if state.in_flight > 0 => Admission::Wait(SOON),
            (closed, exhausted) => self.wait_until(closed.max(exhausted).unwrap_or(now), now),
        }
    }

    fn wait_until(&self, until: Timestamp, now: Timestamp) -> Admission {
        let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
        if wait > self.longest_wait { Admission::TooLong(until) } else { Admission::Wait(wait) }
    }

    /// The last reported quota.
    #[must_use]
    pub fn remaining(&self) -> Option<RemainingQuota> {
        self.state().remaining
    }

    /// When the limiter admits requests again after a 429.
    #[must_use]
    pub fn reopening(&self, now: Timestamp) -> Admission {
        match self.state().closed_until.filter(|until| *until > now) {
            None => Admission::Go,
            Some(until) => self.wait_until(until, now),
        }
    }

    /// Ends an admitted request that was not sent, or that has no response.
    pub fn release(&self) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
    }

    /// Ends an admitted request, with the quota that its response reports. Responses arrive in any order: within one
    /// window the smallest number is the latest.
    pub fn complete(&self, reported: Option<RemainingQuota>) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        let Some(reported) = reported else { return };
        state.remaining = Some(match state.remaining {
            Some(known) if known.window == reported.window => {
                RemainingQuota { requests: known.requests.min(reported.requests), ..reported }
            }
            Some(known) if known.window > reported.window => known,
            _ => reported,
        });
    }

    /// Admits no request before `until`, after a 429. Without a time: before the next window, or the longest wait.
    pub fn close(&self, until: Option<Timestamp>, now: Timestamp) {
        let until = until.unwrap_or_else(|| self.next_window(now));
        let mut state = self.state();
        state.closed_until = state.closed_until.max(Some(until));
    }

    fn next_window(&self, now: Timestamp) -> Timestamp {
        let window = i64::try_from(self.window_len.as_secs()).unwrap_or(3600).max(1);
        let left = window - now.as_second().rem_euclid(window);
        let wait = Duration::from_secs(left.unsigned_abs()).min(self.longest_wait);
        now.checked_add(wait).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn limiter() -> RateLimiter {
        RateLimiter::hourly(Duration::from_secs(900))
    }

    fn quota(requests: u64, reset: i64) -> RemainingQuota {
        RemainingQuota { requests, window: reset, until: at(reset) }
    }

    fn after(reported: Option<RemainingQuota>, closed: Option<Option<Timestamp>>) -> Admission {
        let limiter = limiter();
        assert_eq!(limiter.admit(at(7000)), Admission::Go);
        limiter.complete(reported);
        if let Some(until) = closed {
            limiter.close(until, at(7000));
        }
        limiter.admit(at(7000))
    }

    #[test]
    fn requests_wait_for_the_reset() {
        let wait = |seconds| Admission::Wait(Duration::from_secs(seconds));
        assert_eq!(after(None, None), Admission::Go);
        assert_eq!(after(Some(quota(1, 7200)), None), Admission::Go);
        assert_eq!(after(Some(quota(0, 7200)), None), wait(200));
        assert_eq!(after(None, Some(Some(at(7003)))), wait(3));
        assert_eq!(after(None, Some(None)), wait(200), "the full hour");
        assert_eq!(after(None, Some(Some(at(8000)))), Admission::TooLong(at(8000)));
        assert_eq!(after(None, Some(Some(at(6000)))), Admission::Go);
    }

    #[test]
    fn requests_in_flight_count_as_used() {
        let limiter = limiter();
        assert_eq!(
            [limiter.admit(at(7000)), limiter.admit(at(7000))],
            [Admission::Go; 2],
            "no quota known yet"
        );
        limiter.complete(Some(quota(2, 7200)));
        assert_eq!(limiter.admit(at(7000)), Admission::Go);
        assert_eq!(limiter.admit(at(7000)), Admission::Wait(SOON), "two remaining, and two in flight");
        limiter.complete(Some(quota(0, 7200)));
        limiter.complete(Some(quota(1, 7200))); // an older response that arrives late
        assert_eq!(limiter.admit(at(7000)), Admission::Wait(Duration::from_secs(200)));
        assert_eq!(limiter.admit(at(7200)), Admission::Go, "a new window");
    }
}
