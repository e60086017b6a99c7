//! Rate limiter for events to Heap, by user and by app, in rolling windows.
//!
//! Source: Heap, "Bulk Track": 1,000 events a minute for an identity, 15,000 for an app. The documents do not say how Heap
//! counts a minute. A rolling window that starts with the response is the strictest reading. Events in flight, and events
//! of requests without a response, count as accepted.
//!
//! Heap reports no quota, so this limiter counts by itself, unlike [`crate::connector::rate_limit`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A hash of a user's identity. Two users with the same hash share a limit, and nothing else.
pub type UserKey = u64;

/// Users in memory before those with empty windows are dropped.
const USERS_MIN: usize = 4_096;

/// Whether an event may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventAdmission {
    /// Now.
    Admitted,
    /// Not now: the limit of its user is used up.
    UserLimit,
    /// Not now: the limit of the app is used up.
    AppLimit,
}

#[derive(Debug, Default)]
struct RollingWindow {
    /// Accepted events by time, oldest first.
    accepted: VecDeque<(Instant, u64)>,
    /// The sum of `accepted`.
    sum: u64,
    in_flight: u64,
}

impl RollingWindow {
    fn quota(&mut self, max: u64, now: Instant, length: Duration) -> u64 {
        while let Some((at, events)) = self.accepted.front().copied() {
            if now.saturating_duration_since(at) < length {
                break;
            }
            self.sum -= events;
            self.accepted.pop_front();
        }
        max.saturating_sub(self.sum + self.in_flight)
    }

    fn add(&mut self, events: u64, now: Instant) {
        match self.accepted.back_mut() {
            Some((at, last)) if *at == now => *last += events,
            _ => self.accepted.push_back((now, events)),
        }
        self.sum += events;
    }

    /// When the oldest events leave the window.
    fn next_release(&self, length: Duration) -> Option<Instant> {
        self.accepted.front().map(|(at, _)| *at + length)
    }

    fn is_idle(&mut self, now: Instant, length: Duration) -> bool {
        self.quota(u64::MAX, now, length) == u64::MAX
    }
}

#[derive(Debug, Default)]
struct LimiterWindows {
    users: HashMap<UserKey, RollingWindow>,
    /// Users in memory before the next cleanup.
    users_max: usize,
    app: RollingWindow,
}

/// The rate limiter of one environment.
#[derive(Debug)]
pub struct EventRateLimiter {
    user_max: Option<u64>,
    app_max: Option<u64>,
    window: Duration,
    windows: Mutex<LimiterWindows>,
}

impl EventRateLimiter {
    /// A limiter with these limits of events in a window. `None`: no limit.
    #[must_use]
    pub fn new(user_max: Option<u64>, app_max: Option<u64>, window: Duration) -> Self {
        Self { user_max, app_max, window, windows: Mutex::default() }
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.user_max.is_none() && self.app_max.is_none()
    }

    /// The length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    fn lock(&self) -> MutexGuard<'_, LimiterWindows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits events, each given by its user, within the limits. Admitted events are in flight from here on.
    pub fn reserve(
        &self,
        users: impl IntoIterator<Item = UserKey>,
        now: Instant,
        admissions: &mut Vec<EventAdmission>,
    ) {
        admissions.clear();
        let mut windows = self.lock();
        windows.drop_idle(now, self.window);
        let LimiterWindows { users: known, app, .. } = &mut *windows;
        let mut app_quota = self.app_max.map_or(u64::MAX, |max| app.quota(max, now, self.window));
        for user in users {
            let admission = match self.user_max {
                _ if app_quota == 0 => EventAdmission::AppLimit,
                None => EventAdmission::Admitted,
                Some(max) => {
                    let window = known.entry(user).or_default();
                    let has_quota = window.quota(max, now, self.window) > 0;
                    window.in_flight += u64::from(has_quota);
                    if has_quota { EventAdmission::Admitted } else { EventAdmission::UserLimit }
                }
            };
            if admission == EventAdmission::Admitted {
                app.in_flight += 1;
                app_quota -= 1;
            }
            admissions.push(admission);
        }
    }

    /// Ends events in flight. If `accepted`, they count from now on.
    pub fn settle(&self, users: impl IntoIterator<Item = UserKey>, accepted: bool, now: Instant) {
        let mut windows = self.lock();
        let mut events = 0;
        for user in users {
            events += 1;
            if self.user_max.is_some() {
                let window = windows.users.entry(user).or_default();
                window.in_flight = window.in_flight.saturating_sub(1);
                if accepted {
                    window.add(1, now);
                }
            }
        }
        let app = &mut windows.app;
        app.in_flight = app.in_flight.saturating_sub(events);
        if accepted && self.app_max.is_some() && events > 0 {
            app.add(events, now);
        }
    }

    /// Counts events that may have been accepted and remain in flight, because they are sent again.
    pub fn count_again(&self, users: impl IntoIterator<Item = UserKey>, now: Instant) {
        let mut windows = self.lock();
        let mut events = 0;
        for user in users {
            events += 1;
            if self.user_max.is_some() {
                windows.users.entry(user).or_default().add(1, now);
            }
        }
        if self.app_max.is_some() && events > 0 {
            windows.app.add(events, now);
        }
    }

    /// Whether the limit of a user is used up.
    pub fn is_exhausted(&self, user: UserKey, now: Instant) -> bool {
        let Some(max) = self.user_max else { return false };
        self.lock().users.get_mut(&user).is_some_and(|window| window.quota(max, now, self.window) == 0)
    }

    /// The wait for the app's limit. Zero if there is none, or until a response arrives.
    pub fn wait_for_app(&self, now: Instant) -> Duration {
        let mut windows = self.lock();
        match self.app_max {
            Some(max) if windows.app.quota(max, now, self.window) == 0 => {
                let release = windows.app.next_release(self.window);
                release.map_or(Duration::ZERO, |release| release.saturating_duration_since(now))
            }
            _ => Duration::ZERO,
        }
    }

    /// The shortest wait for the limit of one of these users.
    pub fn wait_for_any(&self, users: impl IntoIterator<Item = UserKey>, now: Instant) -> Duration {
        let windows = self.lock();
        let release = |user: UserKey| windows.users.get(&user)?.next_release(self.window);
        let soonest = users.into_iter().map(|user| release(user).unwrap_or(now)).min();
        soonest.map_or(Duration::ZERO, |release| release.saturating_duration_since(now))
    }
}

impl LimiterWindows {
    fn drop_idle(&mut self, now: Instant, length: Duration) {
        if self.users.len() >= self.users_max.max(USERS_MIN) {
            self.users.retain(|_, window| !window.is_idle(now, length));
            self.users_max = 2 * self.users.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn admitted(limiter: &EventRateLimiter, user: UserKey, events: usize, now: Instant) -> usize {
        let mut admissions = Vec::new();
        limiter.reserve(vec![user; events], now, &mut admissions);
        let admitted = admissions.iter().filter(|one| **one == EventAdmission::Admitted).count();
        limiter.settle(vec![user; admitted], true, now);
        admitted
    }

    #[test]
    fn users_and_the_app_have_limits() {
        let (limiter, start) = (EventRateLimiter::new(Some(10), Some(25), MINUTE), Instant::now());
        assert_eq!([1, 1, 2, 3].map(|user| admitted(&limiter, user, 12, start)), [10, 0, 10, 5]);
        assert_eq!(limiter.wait_for_app(start + MINUTE / 2), MINUTE / 2);
        assert_eq!(limiter.wait_for_any([1, 3], start + MINUTE / 4), MINUTE * 3 / 4);
        assert_eq!(admitted(&limiter, 1, 12, start + MINUTE), 10, "the window has rolled on");
    }

    #[test]
    fn events_in_flight_and_without_a_response_count() {
        let (limiter, start, mut admissions) =
            (EventRateLimiter::new(Some(10), None, MINUTE), Instant::now(), Vec::new());
        limiter.reserve([1; 10], start, &mut admissions);
        limiter.reserve([1; 1], start + MINUTE, &mut admissions);
        assert_eq!(admissions, [EventAdmission::UserLimit], "in flight");
        limiter.count_again([1; 10], start + MINUTE);
        limiter.settle([1; 10], false, start + MINUTE);
        limiter.reserve([1; 1], start + MINUTE * 3 / 2, &mut admissions);
        assert_eq!(admissions, [EventAdmission::UserLimit], "possibly accepted");
        limiter.reserve([1; 1], start + MINUTE * 2, &mut admissions);
        assert_eq!(admissions, [EventAdmission::Admitted]);
    }

    #[test]
    fn users_with_empty_windows_are_dropped() {
        let (limiter, start) = (EventRateLimiter::new(Some(1), None, MINUTE), Instant::now());
        for user in 0..20_000 {
            let now = start + Duration::from_millis(60) * u32::try_from(user).unwrap();
            admitted(&limiter, user, 1, now);
        }
        assert!(limiter.lock().users.len() <= 2 * USERS_MIN);
    }
}
