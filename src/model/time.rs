//! Time as a value. Who needs the time is given a [`Clock`]; nobody asks the machine.

pub use jiff::Timestamp;

/// Tells the time. `cli` makes the real one; tests make their own.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// A clock that asks `now`.
    #[must_use]
    pub const fn new(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// A point in time as people write it: `2026-11-01` for midnight in UTC, `2026-11-01T06:00Z`, or any time with
/// its offset.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let midnight = || text.parse::<jiff::civil::Date>().ok().map(|day| format!("{day}T00:00:00Z"));
    text.parse().ok().or_else(|| midnight()?.parse().ok())
}

/// ISO-8601 in UTC to the millisecond: `2026-11-23T19:16:11.250Z`.
#[must_use]
pub fn timestamp_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_moment_too() {
        assert_eq!(timestamp_text(moment("2026-11-01").unwrap()), "2026-11-01T00:00:00.000Z");
        assert_eq!(timestamp_text(moment("2026-11-01T06:00Z").unwrap()), "2026-11-01T06:00:00.000Z");
        assert_eq!(moment("2026-13-01"), None);
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn timestamps_are_milliseconds_in_utc() {
        let time: Timestamp = "2026-11-23T19:16:11.2509Z".parse().unwrap();
        assert_eq!(timestamp_text(time), "2026-11-23T19:16:11.250Z");
    }
}
