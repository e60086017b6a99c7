//! Which events are made: how many, of whom, and how awkward.

use serde::Deserialize;

use crate::rng::Rng;

/// Shares are of events, 0.0 to 1.0. The same mix gives the same events on every machine, whichever way
/// out they take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Seed of the random numbers.
    pub seed: u64,
    /// How many events, and the number of the first. Events of other numbers are other events.
    pub events: u64,
    /// See `events`.
    pub from: u64,
    /// Event types; all that come both ways if there are none.
    pub types: Vec<String>,
    /// Types that come only as files or only over HTTP are in it as well; the other way leaves them out.
    pub one_way: bool,
    /// Fields are in both forms or in neither, as far as the schemas allow; otherwise each form has some
    /// of its own, as in Braze's samples.
    pub common: bool,
    /// People.
    pub users: u64,
    /// Hours over which the events are spread.
    pub hours: u64,
    /// Nullable fields that an event does not have.
    pub absent: f64,
    /// Events of people without an external id.
    pub anonymous: f64,
    /// Events of the one person who does more than all others.
    pub hot: f64,
    /// Events with a value replaced by `[REDACTED]`, the external id among them.
    pub redacted: f64,
    /// Events of types that the catalogue does not know.
    pub unknown_types: f64,
    /// Events with a field that the catalogue does not know.
    pub unknown_fields: f64,
    /// Events from far in the future or the past.
    pub odd_times: f64,
    /// Events with a null for their time, which is required.
    pub broken: f64,
    /// Custom events and purchases with 890 KB of properties. Braze drops what has more than 900 KB.
    pub large: f64,
    /// Events that come twice.
    pub duplicates: f64,
    /// Events come in any order.
    pub shuffle: bool,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            seed: 0,
            events: 1_000,
            from: 0,
            types: Vec::new(),
            one_way: false,
            common: false,
            users: 1_000,
            hours: 6,
            absent: 0.2,
            anonymous: 0.1,
            hot: 0.0,
            redacted: 0.02,
            unknown_types: 0.01,
            unknown_fields: 0.02,
            odd_times: 0.002,
            broken: 0.0,
            large: 0.0,
            duplicates: 0.0,
            shuffle: false,
        }
    }
}

impl Mix {
    /// Numbers of events in the order in which they come; a duplicate follows its original within a
    /// thousand others.
    pub(super) fn order(&self) -> Vec<u64> {
        const DISTANCE: u64 = 1_000;
        let mut places: Vec<(u64, u64)> = Vec::new();
        for n in self.from..self.from + self.events {
            places.push((n, n));
            let mut rng = Rng::of(!self.seed, n);
            if rng.share(self.duplicates) {
                places.push((n + 1 + rng.below(DISTANCE), n));
            }
        }
        places.sort_by_key(|(place, _)| *place);
        let mut order: Vec<u64> = places.into_iter().map(|(_, n)| n).collect();
        if self.shuffle {
            Rng::of(self.seed, u64::MAX).shuffle(&mut order);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_follow_and_shuffles_mix() {
        let mut mix = Mix { events: 10_000, from: 5, duplicates: 0.1, ..Mix::default() };
        let order = mix.order();
        assert!((10_900..11_100).contains(&order.len()), "{}", order.len());
        mix.shuffle = true;
        let mut shuffled = mix.order();
        assert_ne!(order, shuffled);
        shuffled.sort_unstable();
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, shuffled);
        sorted.dedup();
        assert!(sorted.iter().copied().eq(5..10_005));
    }
}
