//! Numeric dates and times as ISO 8601 text. A value out of range has no text.

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp};

const NANOS_IN_SECOND: i128 = 1_000_000_000;

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connector) enum DurationUnit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl DurationUnit {
    fn nanos(self, number: i64) -> i128 {
        i128::from(number)
            * match self {
                Self::Seconds => NANOS_IN_SECOND,
                Self::Millis => 1_000_000,
                Self::Micros => 1_000,
                Self::Nanos => 1,
            }
    }
}

/// A date from its days since 1970-01-01.
pub(in crate::connector) fn date(days: i64) -> Option<String> {
    let hours = days.checked_mul(24)?;
    let date = Date::constant(1970, 1, 1).checked_add(SignedDuration::try_from_hours(hours)?).ok()?;
    Some(date.to_string())
}

/// A time of day from the time since midnight.
pub(in crate::connector) fn time(number: i64, unit: DurationUnit) -> Option<String> {
    let nanos = i64::try_from(unit.nanos(number)).ok()?;
    let is_of_a_day = (0..86_400 * i64::try_from(NANOS_IN_SECOND).ok()?).contains(&nanos);
    let time = Time::midnight().checked_add(SignedDuration::from_nanos(nanos)).ok();
    time.filter(|_| is_of_a_day).map(|time| time.to_string())
}

/// A timestamp from the time since 1970-01-01T00:00:00Z.
pub(in crate::connector) fn timestamp(number: i64, unit: DurationUnit) -> Option<String> {
    Timestamp::from_nanosecond(unit.nanos(number)).ok().map(|time| time.to_string())
}

/// A date and time of day without a time zone.
pub(in crate::connector) fn local_timestamp(number: i64, unit: DurationUnit) -> Option<String> {
    let nanos = unit.nanos(number);
    let seconds = i64::try_from(nanos.div_euclid(NANOS_IN_SECOND)).ok()?;
    let rest = i32::try_from(nanos.rem_euclid(NANOS_IN_SECOND)).ok()?;
    let since = SignedDuration::new(seconds, rest);
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(since).ok().map(|time| time.to_string())
}

/// A duration.
pub(in crate::connector) fn duration(number: i64, unit: DurationUnit) -> Option<String> {
    let nanos = unit.nanos(number);
    let seconds = i64::try_from(nanos / NANOS_IN_SECOND).ok()?;
    Some(SignedDuration::new(seconds, i32::try_from(nanos % NANOS_IN_SECOND).ok()?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(date(20_454).as_deref(), Some("2026-01-01"));
        assert_eq!(date(-1).as_deref(), Some("1969-12-31"));
        assert_eq!(date(i64::MAX), None);
        assert_eq!(time(3_723_500, DurationUnit::Millis).as_deref(), Some("01:02:03.5"));
        assert_eq!(time(-1, DurationUnit::Micros), None);
        assert_eq!(time(86_400, DurationUnit::Seconds), None);
        assert_eq!(
            timestamp(1_767_225_600_000, DurationUnit::Millis).as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
        assert_eq!(timestamp(i64::MAX, DurationUnit::Seconds), None);
        assert_eq!(
            local_timestamp(1_767_225_600_500, DurationUnit::Millis).as_deref(),
            Some("2026-01-01T00:00:00.5")
        );
        assert_eq!(
            local_timestamp(-1, DurationUnit::Nanos).as_deref(),
            Some("1969-12-31T23:59:59.999999999")
        );
        assert_eq!(duration(3_600, DurationUnit::Seconds).as_deref(), Some("PT1H"));
    }
}
