//! Heap's rate limits as rolling windows. Heap does not document how it counts; this is the strictest reading.
//!
//! Source: Heap, "Track" and "Add User Properties" (30 requests in 30 seconds per identity), "Bulk Track"
//! (1,000 events a minute per identity, 15,000 per app).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

const SINGLES_MAX: u64 = 30;
const IDENTITY_EVENTS_MAX: u64 = 1_000;
const APP_EVENTS_MAX: u64 = 15_000;
/// Windows kept before empty ones are removed.
const WINDOWS_MIN: usize = 10_000;

/// Requests or events of the last window length.
#[derive(Debug, Default)]
struct RollingWindow {
    taken: VecDeque<(Duration, u64)>,
    sum: u64,
}

impl RollingWindow {
    fn capacity(&mut self, max: u64, now: Duration, length: Duration) -> u64 {
        while let Some((at, n)) = self.taken.front().copied() {
            if now.saturating_sub(at) < length {
                break;
            }
            self.sum -= n;
            self.taken.pop_front();
        }
        max.saturating_sub(self.sum)
    }

    fn take(&mut self, n: u64, now: Duration) {
        if n > 0 {
            self.taken.push_back((now, n));
            self.sum += n;
        }
    }
}

/// Windows by user.
#[derive(Debug, Default)]
struct WindowMap {
    all: HashMap<String, RollingWindow>,
    /// Windows kept before the next removal: twice what the last one left.
    max: usize,
}

impl WindowMap {
    fn at(&mut self, user: &str, now: Duration, length: Duration) -> &mut RollingWindow {
        if !self.all.contains_key(user) && self.all.len() >= self.max.max(WINDOWS_MIN) {
            self.all.retain(|_, window| window.capacity(u64::MAX, now, length) < u64::MAX);
            self.max = self.all.len() * 2;
        }
        self.all.entry(user.to_owned()).or_default()
    }
}

/// The rate limits of an app.
#[derive(Debug, Default)]
pub(super) struct RollingLimits {
    singles: WindowMap,
    identities: WindowMap,
    app: RollingWindow,
}

impl RollingLimits {
    /// Counts a single request of `user` if it is within the limit. Returns whether it is.
    pub(super) fn single(&mut self, call: &str, user: &str, now: Duration, minute: Duration) -> bool {
        let window = self.singles.at(&format!("{call} {user}"), now, minute / 2);
        let fits = window.capacity(SINGLES_MAX, now, minute / 2) > 0;
        if fits {
            window.take(1, now);
        }
        fits
    }

    /// Which of these events, given by user, are within the limits. Those are counted. With `all`, either every
    /// event fits or none does.
    pub(super) fn bulk(&mut self, users: &[String], all: bool, now: Duration, minute: Duration) -> Vec<bool> {
        let mut capacity = self.app.capacity(APP_EVENTS_MAX, now, minute);
        let mut capacities: HashMap<&str, (u64, u64)> = HashMap::new();
        let mut fits = Vec::with_capacity(users.len());
        for user in users {
            let (left, taken) = capacities.entry(user).or_insert_with(|| {
                let window = self.identities.at(user, now, minute);
                (window.capacity(IDENTITY_EVENTS_MAX, now, minute), 0)
            });
            let fit = capacity > 0 && *taken < *left;
            *taken += u64::from(fit);
            capacity -= u64::from(fit);
            fits.push(fit);
        }
        if all && fits.contains(&false) {
            return vec![false; users.len()];
        }
        for (user, (_, taken)) in capacities {
            self.identities.at(user, now, minute).take(taken, now);
        }
        self.app.take(fits.iter().filter(|fit| **fit).count() as u64, now);
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn fitting(rates: &mut RollingLimits, user: &str, n: usize, all: bool, second: u64) -> usize {
        let users = vec![user.to_owned(); n];
        let fits = rates.bulk(&users, all, Duration::from_secs(second), MINUTE);
        fits.into_iter().filter(|fit| *fit).count()
    }

    #[test]
    fn a_limit_frees_up_as_requests_leave_the_window() {
        let mut rates = RollingLimits::default();
        let mut single = |second| rates.single("track", "a", Duration::from_secs(second), MINUTE);
        assert_eq!((0..40).filter(|_| single(1_000)).count(), 30);
        assert!(!single(1_029));
        assert!(single(1_030));
    }

    #[test]
    fn identities_and_the_app_have_separate_limits() {
        let mut rates = RollingLimits::default();
        assert_eq!(fitting(&mut rates, "a", 600, true, 0), 600);
        assert_eq!(fitting(&mut rates, "a", 600, true, 1), 0, "all or nothing");
        assert_eq!(fitting(&mut rates, "a", 600, false, 1), 400, "as many as fit");
        for n in 0..14 {
            assert_eq!(fitting(&mut rates, &format!("b{n}"), 1_000, true, 2), 1_000);
        }
        assert_eq!(fitting(&mut rates, "c", 1, true, 59), 0, "the app is full");
        assert_eq!(fitting(&mut rates, "a", 600, true, 60), 600, "the first 600 are a minute old");
    }
}
