//! One budget of requests for everything that goes to one workspace.
//!
//! Braze's windows are fixed and start at the full hour, so trying again before the reset is of no use
//! (Braze, "API limits"). What an answer says is left counts for all cohorts, and what is under way counts as
//! used, so that several at once do not run into the limit together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answer::{BrazeReply, RemainingQuota, ReplyDetails};
use crate::model::Timestamp;

/// How soon to look again when the answers under way will tell what is left.
const SOON: Duration = Duration::from_millis(20);

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now. Its answer must be learned from.
    Go,
    /// After this long, it may be asked again.
    Wait(Duration),
    /// The limit resets then, later than anybody wants to wait.
    TooLong(Timestamp),
}

/// The gate of one workspace.
#[derive(Debug)]
pub struct RateLimiter {
    longest_wait: Duration,
    /// How long the vendor's window is, where an answer does not say when it ends.
    window_len: Duration,
    window: Mutex<HourWindow>,
}

#[derive(Debug, Default)]
struct HourWindow {
    /// Requests that are left until the reset, if Braze has said so.
    left: Option<RemainingQuota>,
    /// Requests without an answer yet.
    under_way: u64,
    /// After a 429: nothing goes before this.
    closed_until: Option<Timestamp>,
}

impl RateLimiter {
    /// A gate whose windows are hours.
    pub(super) fn new(longest_wait: Duration) -> Self {
        Self::of_windows(longest_wait, Duration::from_secs(3600))
    }

    /// A gate whose windows are so long, from a full multiple of it on.
    pub(super) fn of_windows(longest_wait: Duration, window_len: Duration) -> Self {
        Self { longest_wait, window_len, window: Mutex::default() }
    }

    fn window(&self) -> MutexGuard<'_, HourWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether one more request may go, and counts it if so.
    pub fn admit(&self, now: Timestamp) -> Admission {
        let mut window = self.window();
        window.left = window.left.filter(|left| left.until > now);
        let exhausted = window.left.filter(|left| left.requests <= window.under_way).map(|left| left.until);
        let closed = window.closed_until.filter(|until| *until > now);
        match (closed, exhausted) {
            (None, None) => {
                window.under_way += 1;
                Admission::Go
            }
            (None, Some(_)) if window.under_way > 0 => Admission::Wait(SOON),
            (closed, exhausted) => self.until(closed.max(exhausted), now),
        }
    }

    fn until(&self, until: Option<Timestamp>, now: Timestamp) -> Admission {
        let until = until.unwrap_or(now);
        let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
        if wait > self.longest_wait { Admission::TooLong(until) } else { Admission::Wait(wait) }
    }

    /// What was left of the limit by the last answers.
    pub(super) fn left(&self) -> Option<RemainingQuota> {
        self.window().left
    }

    /// A request that was let go is not sent after all.
    pub fn forget(&self) {
        let mut window = self.window();
        window.under_way = window.under_way.saturating_sub(1);
    }

    /// Whether a 429 keeps everybody waiting.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.window().closed_until.is_some_and(|until| until > now)
    }

    /// Takes note of what an answer says about the limit. Answers come in any order: within one window the
    /// smallest number is the newest.
    pub(super) fn learn(&self, reply: &ReplyDetails, now: Timestamp) {
        let mut window = self.window();
        window.under_way = window.under_way.saturating_sub(1);
        if let Some(left) = reply.left {
            window.left = Some(match window.left {
                Some(known) if known.window == left.window => {
                    RemainingQuota { requests: known.requests.min(left.requests), ..left }
                }
                Some(known) if known.window > left.window => known,
                _ => left,
            });
        }
        let closed = match reply.answer {
            BrazeReply::RateLimited(Some(at)) => Some(at),
            BrazeReply::RateLimited(None) => Some(self.next_window(now)),
            _ => None,
        };
        window.closed_until = window.closed_until.max(closed);
    }

    /// Without a word on when the limit resets: with the next window, or as late as one is willing to wait.
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

    fn gate() -> RateLimiter {
        RateLimiter::new(Duration::from_secs(900))
    }

    fn left(requests: u64, reset: i64) -> RemainingQuota {
        RemainingQuota { requests, window: reset, until: at(reset) }
    }

    fn after(answer: BrazeReply, left: Option<RemainingQuota>) -> Admission {
        let gate = gate();
        assert_eq!(gate.admit(at(7000)), Admission::Go);
        gate.learn(&ReplyDetails { answer, left }, at(7000));
        gate.admit(at(7000))
    }

    #[test]
    fn closed_until_the_reset() {
        let wait = |seconds| Admission::Wait(Duration::from_secs(seconds));
        assert_eq!(after(BrazeReply::Accepted, None), Admission::Go);
        assert_eq!(after(BrazeReply::Accepted, Some(left(1, 7200))), Admission::Go);
        assert_eq!(after(BrazeReply::Accepted, Some(left(0, 7200))), wait(200));
        assert_eq!(after(BrazeReply::RateLimited(Some(at(7003))), None), wait(3));
        assert_eq!(after(BrazeReply::RateLimited(None), None), wait(200), "the full hour");
        assert_eq!(after(BrazeReply::RateLimited(Some(at(8000))), None), Admission::TooLong(at(8000)));
        assert_eq!(after(BrazeReply::RateLimited(Some(at(6000))), None), Admission::Go);
    }

    #[test]
    fn what_is_under_way_counts_as_used() {
        let gate = gate();
        let answered = |requests, reset| {
            gate.learn(
                &ReplyDetails { answer: BrazeReply::Accepted, left: Some(left(requests, reset)) },
                at(7000),
            );
        };
        assert_eq!([gate.admit(at(7000)), gate.admit(at(7000))], [Admission::Go; 2], "nothing is known yet");
        answered(2, 7200);
        assert_eq!(gate.admit(at(7000)), Admission::Go);
        assert_eq!(gate.admit(at(7000)), Admission::Wait(SOON), "two left, and two under way");
        answered(0, 7200);
        answered(1, 7200); // an older answer that comes late
        assert_eq!(gate.admit(at(7000)), Admission::Wait(Duration::from_secs(200)));
        assert_eq!(gate.admit(at(7200)), Admission::Go, "a new window");
    }
}
