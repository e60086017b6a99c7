//! How many events may go to Heap now: of one person, and of all together, in any window of time.
//!
//! Source: Heap, "Bulk Track": 1,000 events a minute for an identity, 15,000 for an app. How Heap counts a
//! minute is not documented; a rolling window that begins with the answer is the strictest reading. What is
//! under way, and what may have been taken without an answer, counts as taken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A person, as budgets and queues know them: a hash of the identity. Two people with one share a budget, and
/// nothing else.
pub type PersonKey = u64;

/// Persons that are kept at least before those with nothing in their window are forgotten.
const PERSONS_MIN: usize = 4_096;

/// Whether one event may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Now.
    Now,
    /// Its person has had enough for now.
    PersonFull,
    /// All together have.
    AllFull,
}

#[derive(Debug, Default)]
struct LimitWindow {
    taken: VecDeque<(Instant, u64)>,
    sum: u64,
    under_way: u64,
}

impl LimitWindow {
    fn room(&mut self, max: u64, now: Instant, length: Duration) -> u64 {
        while let Some((at, number)) = self.taken.front().copied() {
            if now.saturating_duration_since(at) < length {
                break;
            }
            self.sum -= number;
            self.taken.pop_front();
        }
        max.saturating_sub(self.sum + self.under_way)
    }

    fn take(&mut self, number: u64, now: Instant) {
        match self.taken.back_mut() {
            Some((at, taken)) if *at == now => *taken += number,
            _ => self.taken.push_back((now, number)),
        }
        self.sum += number;
    }

    fn is_idle(&mut self, now: Instant, length: Duration) -> bool {
        self.room(u64::MAX, now, length) == u64::MAX
    }
}

#[derive(Debug, Default)]
struct LimitWindows {
    persons: HashMap<PersonKey, LimitWindow>,
    /// How many there may be before the next forgetting.
    persons_max: usize,
    all: LimitWindow,
}

/// The budget of one environment.
#[derive(Debug)]
pub struct HeapRateLimiter {
    person_max: Option<u64>,
    all_max: Option<u64>,
    window: Duration,
    windows: Mutex<LimitWindows>,
}

impl HeapRateLimiter {
    /// A budget of so many events in a window; none: without end.
    #[must_use]
    pub fn new(person_max: Option<u64>, all_max: Option<u64>, window: Duration) -> Self {
        Self { person_max, all_max, window, windows: Mutex::default() }
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.person_max.is_none() && self.all_max.is_none()
    }

    /// The length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    fn lock(&self) -> MutexGuard<'_, LimitWindows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these events, each by its person, may go now. Those that may are under way from here on.
    pub fn reserve(&self, persons: impl IntoIterator<Item = PersonKey>, now: Instant, fits: &mut Vec<Fit>) {
        fits.clear();
        let mut windows = self.lock();
        windows.forget_the_idle(now, self.window);
        let LimitWindows { persons: known, all, .. } = &mut *windows;
        let mut room = self.all_max.map_or(u64::MAX, |max| all.room(max, now, self.window));
        for person in persons {
            let fit = match self.person_max {
                _ if room == 0 => Fit::AllFull,
                None => Fit::Now,
                Some(max) => {
                    let window = known.entry(person).or_default();
                    let fits = window.room(max, now, self.window) > 0;
                    window.under_way += u64::from(fits);
                    if fits { Fit::Now } else { Fit::PersonFull }
                }
            };
            if fit == Fit::Now {
                all.under_way += 1;
                room -= 1;
            }
            fits.push(fit);
        }
    }

    /// What was under way of these persons has its answer. `taken`: it counts from now on.
    pub fn settle(&self, persons: impl IntoIterator<Item = PersonKey>, taken: bool, now: Instant) {
        let mut windows = self.lock();
        let mut number = 0;
        for person in persons {
            number += 1;
            if self.person_max.is_some() {
                let window = windows.persons.entry(person).or_default();
                window.under_way = window.under_way.saturating_sub(1);
                if taken {
                    window.take(1, now);
                }
            }
        }
        let all = &mut windows.all;
        all.under_way = all.under_way.saturating_sub(number);
        if taken && self.all_max.is_some() && number > 0 {
            all.take(number, now);
        }
    }

    /// These may have been taken, and are still under way.
    pub fn count_again(&self, persons: impl IntoIterator<Item = PersonKey>, now: Instant) {
        let mut windows = self.lock();
        let mut number = 0;
        for person in persons {
            number += 1;
            if self.person_max.is_some() {
                windows.persons.entry(person).or_default().take(1, now);
            }
        }
        if self.all_max.is_some() && number > 0 {
            windows.all.take(number, now);
        }
    }

    /// Whether nothing more of a person may go now.
    pub fn is_full(&self, person: PersonKey, now: Instant) -> bool {
        let Some(max) = self.person_max else { return false };
        self.lock().persons.get_mut(&person).is_some_and(|window| window.room(max, now, self.window) == 0)
    }

    /// How long until something of all together may go. Zero: now, or as soon as something has its answer.
    pub fn wait_for_all(&self, now: Instant) -> Duration {
        let mut windows = self.lock();
        match self.all_max {
            Some(max) if windows.all.room(max, now, self.window) == 0 => {
                let oldest = windows.all.taken.front().map(|(at, _)| *at + self.window);
                oldest.map_or(Duration::ZERO, |free| free.saturating_duration_since(now))
            }
            _ => Duration::ZERO,
        }
    }

    /// How long until one of these persons may go on.
    pub fn wait_for_any(&self, persons: impl IntoIterator<Item = PersonKey>, now: Instant) -> Duration {
        let windows = self.lock();
        let free =
            |person: PersonKey| windows.persons.get(&person)?.taken.front().map(|(at, _)| *at + self.window);
        let soonest = persons.into_iter().map(|person| free(person).unwrap_or(now)).min();
        soonest.map_or(Duration::ZERO, |free| free.saturating_duration_since(now))
    }
}

impl LimitWindows {
    fn forget_the_idle(&mut self, now: Instant, length: Duration) {
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

    fn fits(budget: &HeapRateLimiter, person: PersonKey, number: usize, now: Instant) -> usize {
        let mut fits = Vec::new();
        budget.reserve(vec![person; number], now, &mut fits);
        let fitting = fits.iter().filter(|fit| **fit == Fit::Now).count();
        budget.settle(vec![person; fitting], true, now);
        fitting
    }

    #[test]
    fn a_person_has_a_limit_and_so_have_all() {
        let (budget, start) = (HeapRateLimiter::new(Some(10), Some(25), MINUTE), Instant::now());
        assert_eq!([1, 1, 2, 3].map(|person| fits(&budget, person, 12, start)), [10, 0, 10, 5]);
        assert_eq!(budget.wait_for_all(start + MINUTE / 2), MINUTE / 2);
        assert_eq!(budget.wait_for_any([1, 3], start + MINUTE / 4), MINUTE * 3 / 4);
        assert_eq!(fits(&budget, 1, 12, start + MINUTE), 10, "the window has rolled on");
    }

    #[test]
    fn what_is_under_way_or_may_be_taken_counts() {
        let (budget, start, mut fits) =
            (HeapRateLimiter::new(Some(10), None, MINUTE), Instant::now(), Vec::new());
        budget.reserve([1; 10], start, &mut fits);
        budget.reserve([1; 1], start + MINUTE, &mut fits);
        assert_eq!(fits, [Fit::PersonFull], "an answer is still out");
        budget.count_again([1; 10], start + MINUTE);
        budget.settle([1; 10], false, start + MINUTE);
        budget.reserve([1; 1], start + MINUTE * 3 / 2, &mut fits);
        assert_eq!(fits, [Fit::PersonFull], "it may have been taken");
        budget.reserve([1; 1], start + MINUTE * 2, &mut fits);
        assert_eq!(fits, [Fit::Now]);
    }

    #[test]
    fn persons_without_anything_are_forgotten() {
        let (budget, start) = (HeapRateLimiter::new(Some(1), None, MINUTE), Instant::now());
        for person in 0..20_000 {
            let now = start + Duration::from_millis(60) * u32::try_from(person).unwrap();
            fits(&budget, person, 1, now);
        }
        assert!(budget.lock().persons.len() <= 2 * PERSONS_MIN);
    }
}
