//! Configuration of generated events: their number, users and irregularities.

use serde::Deserialize;

use crate::rng::Rng;

/// Shares of events are from 0.0 to 1.0. The same mix gives the same events on every machine, as files and over
/// HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventMix {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of events, and the number of the first. Each number has its own event.
    pub events: u64,
    /// See `events`.
    pub from: u64,
    /// Event types; if empty, all types that have both formats.
    pub types: Vec<String>,
    /// Whether types with one format are included; the other format omits them.
    pub one_way: bool,
    /// Whether only fields that both formats have are used, where the schemas allow it. Otherwise each format
    /// has some fields of its own, as in Braze's samples.
    pub common: bool,
    /// Number of users.
    pub users: u64,
    /// Hours over which the events are spread.
    pub hours: u64,
    /// Share of nullable fields that are absent.
    pub absent: f64,
    /// Share of events of users without an external id.
    pub anonymous: f64,
    /// Share of events of one very active user.
    pub hot: f64,
    /// Share of events with a value replaced by `[REDACTED]`, including the external id.
    pub redacted: f64,
    /// Share of events of types outside the catalog.
    pub unknown_types: f64,
    /// Share of events with a field outside the catalog.
    pub unknown_fields: f64,
    /// Share of events from the far future or past.
    pub odd_times: f64,
    /// Share of events with a null `time`, which is required.
    pub broken: f64,
    /// Share of custom events and purchases with 890 KB of properties. Braze drops more than 900 KB.
    pub large: f64,
    /// Share of events that are sent twice.
    pub duplicates: f64,
    /// Whether events are sent in random order.
    pub shuffle: bool,
}

impl Default for EventMix {
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

impl EventMix {
    /// Numbers of the events in sending order. A duplicate follows its original within 1,000 events.
    pub(super) fn order(&self) -> Vec<u64> {
        const DISTANCE: u64 = 1_000;
        let mut positions: Vec<(u64, u64)> = Vec::new();
        for n in self.from..self.from + self.events {
            positions.push((n, n));
            let mut rng = Rng::of(!self.seed, n);
            if rng.chance(self.duplicates) {
                positions.push((n + 1 + rng.below(DISTANCE), n));
            }
        }
        positions.sort_by_key(|(position, _)| *position);
        let mut order: Vec<u64> = positions.into_iter().map(|(_, n)| n).collect();
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
    fn duplicates_follow_their_original_and_shuffle_changes_the_order() {
        let mut mix = EventMix { events: 10_000, from: 5, duplicates: 0.1, ..EventMix::default() };
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
