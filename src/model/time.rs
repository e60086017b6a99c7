//! Time: the injected [`Clock`], days, and the text form of timestamps.

use std::time::Instant;

pub use jiff::Timestamp;

/// Source of wall time and monotonic time. `cli` makes the real one; tests make their own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: fn() -> Timestamp,
    monotonic: fn() -> Instant,
}

impl Clock {
    /// A clock with this wall time and the machine's monotonic time.
    #[must_use]
    pub const fn new(wall: fn() -> Timestamp) -> Self {
        Self { wall, monotonic: Instant::now }
    }

    /// A clock with both times given, for tests that must not sleep.
    #[must_use]
    pub const fn with_monotonic(wall: fn() -> Timestamp, monotonic: fn() -> Instant) -> Self {
        Self { wall, monotonic }
    }

    /// The wall time, for schedules and for everything that is written or shown.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// The monotonic time, for waits and timeouts. A change of the system's time does not affect it.
    #[must_use]
    pub fn monotonic(&self) -> Instant {
        (self.monotonic)()
    }

    /// Both times of the same moment.
    #[must_use]
    pub fn read(&self) -> ClockReading {
        ClockReading { wall: self.now(), monotonic: self.monotonic() }
    }
}

/// One moment on both clocks. It converts between wall time and monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall time.
    pub wall: Timestamp,
    /// The monotonic time.
    pub monotonic: Instant,
}

impl ClockReading {
    /// The monotonic time of a wall time. A wall time in the past counts as now.
    #[must_use]
    pub fn monotonic_at(&self, wall: Timestamp) -> Instant {
        let wait = std::time::Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default();
        // A wait that the machine cannot express is as good as none: the caller evaluates again then.
        self.monotonic.checked_add(wait).unwrap_or(self.monotonic)
    }

    /// The wall time of a monotonic time. None: it is beyond the calendar.
    #[must_use]
    pub fn wall_at(&self, monotonic: Instant) -> Option<Timestamp> {
        self.wall.checked_add(monotonic.saturating_duration_since(self.monotonic)).ok()
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
