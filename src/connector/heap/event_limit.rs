//! Rate limiter for events to Heap, by person and by app, in rolling windows.
//!
//! Source: Heap, "Bulk Track": 1,000 events a minute for an identity, 15,000 for an app. The documents do not say how Heap
//! counts a minute. A rolling window that starts with the response is the strictest reading. Events in flight, and events
//! of requests without a response, count as accepted.
//!
//! Heap reports no quota, so this limiter counts by itself, unlike [`crate::connector::rate_limit`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A hash of a person's identity. Two people with the same hash share a limit, and nothing else.
pub type PersonKey = u64;

/// Persons in memory before those with empty windows are dropped.
const PERSONS_MIN: usize = 4_096;

/// Whether an event may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventAdmission {
    /// Now.
    Admitted,
    /// Not now: the limit of its person is used up.
    PersonLimit,
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
    persons: HashMap<PersonKey, RollingWindow>,
    /// Persons in memory before the next cleanup.
    persons_max: usize,
    app: RollingWindow,
}

/// The rate limiter of one environment.
#[derive(Debug)]
pub struct EventRateLimiter {
    person_max: Option<u64>,
    app_max: Option<u64>,
    window: Duration,
    windows: Mutex<LimiterWindows>,
}

impl EventRateLimiter {
    /// A limiter with these limits of events in a window. `None`: no limit.
    #[must_use]
    pub fn new(person_max: Option<u64>, app_max: Option<u64>, window: Duration) -> Self {
        Self { person_max, app_max, window, windows: Mutex::default() }
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.person_max.is_none() && self.app_max.is_none()
    }

    /// The length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    fn lock(&self) -> MutexGuard<'_, LimiterWindows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits events, each given by its person, within the limits. Admitted events are in flight from here on.
    pub fn reserve(
        &self,
        persons: impl IntoIterator<Item = PersonKey>,
        now: Instant,
        admissions: &mut Vec<EventAdmission>,
    ) {
        admissions.clear();
        let mut windows = self.lock();
        windows.drop_idle(now, self.window);
        let LimiterWindows { persons: known, app, .. } = &mut *windows;
        let mut app_quota = self.app_max.map_or(u64::MAX, |max| app.quota(max, now, self.window));
        for person in persons {
            let admission = match self.person_max {
                _ if app_quota == 0 => EventAdmission::AppLimit,
                None => EventAdmission::Admitted,
                Some(max) => {
                    let window = known.entry(person).or_default();
                    let has_quota = window.quota(max, now, self.window) > 0;
                    window.in_flight += u64::from(has_quota);
                    if has_quota { EventAdmission::Admitted } else { EventAdmission::PersonLimit }
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
    pub fn settle(&self, persons: impl IntoIterator<Item = PersonKey>, accepted: bool, now: Instant) {
        let mut windows = self.lock();
        let mut events = 0;
        for person in persons {
            events += 1;
            if self.person_max.is_some() {
                let window = windows.persons.entry(person).or_default();
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
    pub fn count_again(&self, persons: impl IntoIterator<Item = PersonKey>, now: Instant) {
        let mut windows = self.lock();
        let mut events = 0;
        for person in persons {
            events += 1;
            if self.person_max.is_some() {
                windows.persons.entry(person).or_default().add(1, now);
            }
        }
        if self.app_max.is_some() && events > 0 {
            windows.app.add(events, now);
        }
    }

    /// Whether the limit of a person is used up.
    pub fn is_exhausted(&self, person: PersonKey, now: Instant) -> bool {
        let Some(max) = self.person_max else { return false };
        self.lock().persons.get_mut(&person).is_some_and(|window| window.quota(max, now, self.window) == 0)
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

    /// The shortest wait for the limit of one of these persons.
    pub fn wait_for_any(&self, persons: impl IntoIterator<Item = PersonKey>, now: Instant) -> Duration {
        let windows = self.lock();
        let release = |person: PersonKey| windows.persons.get(&person)?.next_release(self.window);
        let soonest = persons.into_iter().map(|person| release(person).unwrap_or(now)).min();
        soonest.map_or(Duration::ZERO, |release| release.saturating_duration_since(now))
    }
}

impl LimiterWindows {
    fn drop_idle(&mut self, now: Instant, length: Duration) {
        if self.persons.len() >= self.persons_max.max(PERSONS_MIN) {
            self.persons.retain(|_, window| !window.is_idle(now, length));
            self.persons_max = 2 * self.persons.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn admitted(limiter: &EventRateLimiter, person: PersonKey, events: usize, now: Instant) -> usize {
        let mut admissions = Vec::new();
        limiter.reserve(vec![person; events], now, &mut admissions);
        let admitted = admissions.iter().filter(|one| **one == EventAdmission::Admitted).count();
        limiter.settle(vec![person; admitted], true, now);
        admitted
    }

    #[test]
    fn persons_and_the_app_have_limits() {
        let (limiter, start) = (EventRateLimiter::new(Some(10), Some(25), MINUTE), Instant::now());
        assert_eq!([1, 1, 2, 3].map(|person| admitted(&limiter, person, 12, start)), [10, 0, 10, 5]);
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
        assert_eq!(admissions, [EventAdmission::PersonLimit], "in flight");
        limiter.count_again([1; 10], start + MINUTE);
        limiter.settle([1; 10], false, start + MINUTE);
        limiter.reserve([1; 1], start + MINUTE * 3 / 2, &mut admissions);
        assert_eq!(admissions, [EventAdmission::PersonLimit], "possibly accepted");
        limiter.reserve([1; 1], start + MINUTE * 2, &mut admissions);
        assert_eq!(admissions, [EventAdmission::Admitted]);
    }

    #[test]
    fn persons_with_empty_windows_are_dropped() {
        let (limiter, start) = (EventRateLimiter::new(Some(1), None, MINUTE), Instant::now());
        for person in 0..20_000 {
            let now = start + Duration::from_millis(60) * u32::try_from(person).unwrap();
            admitted(&limiter, person, 1, now);
        }
        assert!(limiter.lock().persons.len() <= 2 * PERSONS_MIN);
    }
}
