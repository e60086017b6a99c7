//! Heap's rate limits, as rolling windows; how Heap counts them is not documented, and this is the strictest.
//!
//! Source: Heap, "Track" and "Add User Properties" (30 requests in 30 seconds for an identity), "Bulk Track"
//! (1,000 events a minute for an identity, 15,000 for an app).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

const SINGLES_MAX: u64 = 30;
const IDENTITY_EVENTS_MAX: u64 = 1_000;
const APP_EVENTS_MAX: u64 = 15_000;
/// Windows that are kept at least before those that have nothing in them are thrown out.
const WINDOWS_MIN: usize = 10_000;

/// What happened lately.
#[derive(Debug, Default)]
struct Window {
    taken: VecDeque<(Duration, u64)>,
    sum: u64,
}

impl Window {
    fn room(&mut self, max: u64, now: Duration, length: Duration) -> u64 {
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

/// Windows by whose they are.
#[derive(Debug, Default)]
struct Windows {
    all: HashMap<String, Window>,
    /// How many there may be before the next clearing out: twice what the last one left.
    max: usize,
}

impl Windows {
    fn at(&mut self, who: &str, now: Duration, length: Duration) -> &mut Window {
        if !self.all.contains_key(who) && self.all.len() >= self.max.max(WINDOWS_MIN) {
            self.all.retain(|_, window| window.room(u64::MAX, now, length) < u64::MAX);
            self.max = self.all.len() * 2;
        }
        self.all.entry(who.to_owned()).or_default()
    }
}

/// All windows of an app.
#[derive(Debug, Default)]
pub(super) struct Rates {
    singles: Windows,
    identities: Windows,
    app: Window,
}

impl Rates {
    /// Whether one more single request for `who` is within the limit; if so, it counts.
    pub(super) fn single(&mut self, call: &str, who: &str, now: Duration, minute: Duration) -> bool {
        let window = self.singles.at(&format!("{call} {who}"), now, minute / 2);
        let fits = window.room(SINGLES_MAX, now, minute / 2) > 0;
        if fits {
            window.take(1, now);
        }
        fits
    }

    /// Which of these events, each by whose it is, are within the limits; those count. With `all`, either
    /// every event fits or none does.
    pub(super) fn bulk(&mut self, whose: &[String], all: bool, now: Duration, minute: Duration) -> Vec<bool> {
        let mut room = self.app.room(APP_EVENTS_MAX, now, minute);
        let mut rooms: HashMap<&str, (u64, u64)> = HashMap::new();
        let mut fits = Vec::with_capacity(whose.len());
        for who in whose {
            let (left, taken) = rooms.entry(who).or_insert_with(|| {
                let window = self.identities.at(who, now, minute);
                (window.room(IDENTITY_EVENTS_MAX, now, minute), 0)
            });
            let fit = room > 0 && *taken < *left;
            *taken += u64::from(fit);
            room -= u64::from(fit);
            fits.push(fit);
        }
        if all && fits.contains(&false) {
            return vec![false; whose.len()];
        }
        for (who, (_, taken)) in rooms {
            self.identities.at(who, now, minute).take(taken, now);
        }
        self.app.take(fits.iter().filter(|fit| **fit).count() as u64, now);
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn fitting(rates: &mut Rates, who: &str, n: usize, all: bool, second: u64) -> usize {
        let whose = vec![who.to_owned(); n];
        let fits = rates.bulk(&whose, all, Duration::from_secs(second), MINUTE);
        fits.into_iter().filter(|fit| *fit).count()
    }

    #[test]
    fn windows_roll() {
        let mut rates = Rates::default();
        let mut single = |second| rates.single("track", "a", Duration::from_secs(second), MINUTE);
        assert_eq!((0..40).filter(|_| single(1_000)).count(), 30);
        assert!(!single(1_029));
        assert!(single(1_030));
    }

    #[test]
    fn an_identity_and_the_app_have_their_limits() {
        let mut rates = Rates::default();
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
