//! The cost of a plan before it is sent.

use std::time::Duration;

/// Requests, data points, and the least time that the rate limit implies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests to the vendor.
    pub requests: u64,
    /// Braze data points: one for each identifier that is sent, even if it changes nothing (Braze, partner best
    /// practices).
    pub data_points: u64,
    /// The least time that the hourly limit allows, from the start of an hour.
    pub min_time: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Cost {
    /// The cost of `namings` requests and of batches over each of `sides`.
    #[must_use]
    pub fn of(namings: u64, sides: [u64; 2], batch_len_max: u64, requests_per_hour: u64) -> Self {
        let batches: u64 = sides.iter().map(|members| members.div_ceil(batch_len_max.max(1))).sum();
        Self { requests: namings + batches, data_points: sides.iter().sum(), min_time: Duration::ZERO }
            .limited_to(requests_per_hour)
    }

    /// The same cost under another hourly limit.
    #[must_use]
    pub fn limited_to(self, requests_per_hour: u64) -> Self {
        let full_hours = self.requests.saturating_sub(1) / requests_per_hour.max(1);
        let full_hours = u32::try_from(full_hours).unwrap_or(u32::MAX);
        Self { min_time: HOUR.saturating_mul(full_hours), ..self }
    }

    /// Both costs together, under the same hourly limit.
    #[must_use]
    pub fn and(self, other: Self, requests_per_hour: u64) -> Self {
        let requests = self.requests + other.requests;
        let data_points = self.data_points + other.data_points;
        Self { requests, data_points, min_time: Duration::ZERO }.limited_to(requests_per_hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_requests() {
        let cost = Cost::of(1, [1, 1001], 1000, 250_000);
        assert_eq!((cost.requests, cost.data_points), (1 + 1 + 2, 1002));
    }

    #[test]
    fn requests_within_the_hourly_limit_take_no_time() {
        let time = |requests, limit| Cost::of(requests, [0, 0], 1, limit).min_time;
        assert_eq!(time(10, 10), Duration::ZERO);
        assert_eq!(time(11, 10), HOUR);
        assert_eq!(time(31, 10), 3 * HOUR);
    }
}
