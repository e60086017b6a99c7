//! Holds requests back while the rate limit is used up.
//!
//! Braze's windows are fixed and start at the full hour, so trying again before the reset is of no use
//! (Braze, "API limits"). All cohorts of a workspace share one limit and so one gate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::answer::{Answer, Reply};
use crate::model::Timestamp;

/// The limit resets later than anybody wants to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// When it resets.
    pub until: Timestamp,
}

/// The gate of one workspace.
#[derive(Debug)]
pub struct Gate {
    longest_wait: Duration,
    closed_until: Mutex<Option<Timestamp>>,
}

impl Gate {
    pub(super) fn new(longest_wait: Duration) -> Self {
        Self { longest_wait, closed_until: Mutex::new(None) }
    }

    /// Takes note of what an answer says about the limit.
    pub(super) fn learn(&self, reply: &Reply, now: Timestamp) {
        let closed = match (&reply.answer, reply.window) {
            (Answer::RateLimited(Some(at)), _) => Some(*at),
            (Answer::RateLimited(None), _) => Some(self.next_hour(now)),
            (_, Some((0, reset))) => Some(reset),
            _ => None,
        };
        if let Some(at) = closed {
            let mut until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
            *until = Some(until.map_or(at, |until| until.max(at)));
        }
    }

    /// Without a word on when the limit resets: at the full hour, or as late as one is willing to wait.
    fn next_hour(&self, now: Timestamp) -> Timestamp {
        let left = 3600 - now.as_second().rem_euclid(3600);
        let wait = Duration::from_secs(left.unsigned_abs()).min(self.longest_wait);
        now.checked_add(wait).unwrap_or(now)
    }

    /// How long to wait before the next request.
    ///
    /// # Errors
    /// [`TooLong`] when that is longer than anybody wants to wait.
    pub fn wait(&self, now: Timestamp) -> Result<Duration, TooLong> {
        let until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = until else { return Ok(Duration::ZERO) };
        let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
        if wait > self.longest_wait { Err(TooLong { until }) } else { Ok(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wait_after(answer: Answer, window: Option<(u64, Timestamp)>) -> Result<u64, i64> {
        let gate = Gate::new(Duration::from_secs(900));
        gate.learn(&Reply { answer, window }, at(7000));
        gate.wait(at(7000)).map(|wait| wait.as_secs()).map_err(|late| late.until.as_second())
    }

    #[test]
    fn closed_until_the_reset() {
        assert_eq!(wait_after(Answer::Accepted, Some((1, at(7200)))), Ok(0));
        assert_eq!(wait_after(Answer::Accepted, Some((0, at(7200)))), Ok(200));
        assert_eq!(wait_after(Answer::RateLimited(Some(at(7003))), None), Ok(3));
        assert_eq!(wait_after(Answer::RateLimited(None), None), Ok(200), "the full hour");
        assert_eq!(wait_after(Answer::RateLimited(Some(at(8000))), None), Err(8000));
        assert_eq!(wait_after(Answer::RateLimited(Some(at(6000))), None), Ok(0));
    }
}
