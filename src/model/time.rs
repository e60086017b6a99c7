//! Time as a value. Functions that need the time take a [`Clock`].

pub use jiff::Timestamp;

/// A source of the current time. `cli` passes the real one; tests pass their own.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// Creates a clock that calls `now`.
    #[must_use]
    pub const fn new(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// A day in UTC, as `yyyymmdd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The UTC day of a point in time.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let date = time.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let part = |part: i8| u32::from(part.unsigned_abs());
        Self(u32::from(date.year().unsigned_abs()) * 10_000 + part(date.month()) * 100 + part(date.day()))
    }

    /// Parses the day at the start of a text such as `2026-11-20`; more may follow.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |len: usize| parts.next().filter(|part| part.len() == len)?.parse::<u32>().ok();
        Some(Self(part(4)? * 10_000 + part(2)? * 100 + part(2)?))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

/// Parses a point in time: `2026-11-01` for midnight in UTC, `2026-11-01T06:00Z`, or any time with an offset.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let midnight = || text.parse::<jiff::civil::Date>().ok().map(|day| format!("{day}T00:00:00Z"));
    text.parse().ok().or_else(|| midnight()?.parse().ok())
}

/// Formats a time as ISO 8601 in UTC to the millisecond: `2026-11-23T19:16:11.250Z`.
#[must_use]
pub fn timestamp_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_parsed_as_midnight() {
        assert_eq!(timestamp_text(parse_time("2026-11-01").unwrap()), "2026-11-01T00:00:00.000Z");
        assert_eq!(timestamp_text(parse_time("2026-11-01T06:00Z").unwrap()), "2026-11-01T06:00:00.000Z");
        assert_eq!(parse_time("2026-13-01"), None);
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn timestamps_have_milliseconds_in_utc() {
        let time: Timestamp = "2026-11-23T19:16:11.2509Z".parse().unwrap();
        assert_eq!(timestamp_text(time), "2026-11-23T19:16:11.250Z");
    }
}
