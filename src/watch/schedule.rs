//! When something is due next, by a schedule. Knows no clock.

use std::cmp::Ordering;
use std::time::Duration;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::ZonedDateTime;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::config::ScheduleConfig;
use crate::model::Timestamp;

/// The next time after `now`; none if there is none that the calendar knows.
pub(super) fn next(schedule: &ScheduleConfig, now: Timestamp) -> Option<Timestamp> {
    match schedule {
        ScheduleConfig::Every(length) => now.checked_add(*length).ok(),
        ScheduleConfig::Cron { at, time_zone } => {
            let zone = TimeZone::get(time_zone).ok()?;
            let cron: Cron = at.parse().ok()?;
            let now = WallClock(now.to_zoned_datetime(zone));
            let next = cron.find_next_occurrence(&now, false).ok()?;
            Some(next.0.timestamp())
        }
    }
}

/// How long it is until then.
pub(super) fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A time on a wall somewhere, as the library of cron's times takes it.
#[derive(Clone, Debug, PartialEq)]
struct WallClock(ZonedDateTime);

impl CronDateTime for WallClock {
    fn to_civil(&self) -> CivilDateTime {
        let (date, time) = (self.0.date(), self.0.time());
        let part = |number: i8| u32::from(number.unsigned_abs());
        // Both libraries count the parts alike, and these are valid already.
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::from(date.year()), part(date.month()), part(date.day())),
            CivilTime::from_parts_unchecked(part(time.hour()), part(time.minute()), part(time.second())),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |number: u32| i8::try_from(number).unwrap_or(i8::MAX);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day, hour) = (part(civil.month()), part(civil.day()), part(civil.hour()));
        let wall = DateTime::new(year, month, day, hour, part(civil.minute()), part(civil.second()), 0);
        let wall = wall.map_err(|_| CronError::InvalidDate)?;
        let there = self.0.time_zone().to_ambiguous_zoned_datetime(wall);
        let found = |time: Result<ZonedDateTime, jiff::Error>| {
            time.map(WallClock).map_err(|_| CronError::InvalidTime)
        };
        Ok(match there.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(found(there.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(found(there.clone().earlier())?, found(there.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(jiff::SignedDuration::from_secs(seconds)).ok().map(WallClock)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(at: &str, time_zone: &str, now: &str) -> String {
        let schedule = ScheduleConfig::Cron { at: at.to_owned(), time_zone: time_zone.to_owned() };
        next(&schedule, now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn cron_follows_its_time_zone_through_the_change_of_clocks() {
        assert_eq!(after("0 4 * * *", "UTC", "2026-11-24T03:59:00Z"), "2026-11-24T04:00:00Z");
        assert_eq!(after("0 4 * * *", "Europe/Berlin", "2026-11-24T03:59:00Z"), "2026-11-25T03:00:00Z");
        assert_eq!(after("0 4 * * *", "Europe/Berlin", "2026-06-24T03:59:00Z"), "2026-06-25T02:00:00Z");
        assert_eq!(after("0 */4 * * MON-FRI", "UTC", "2026-11-27T21:00:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(
            after("0 4 * * *", "UTC", "2026-11-24T04:00:00Z"),
            "2026-11-25T04:00:00Z",
            "not now again"
        );
    }

    #[test]
    fn every_so_often_is_counted_from_now() {
        let now: Timestamp = "2026-11-24T03:59:00Z".parse().unwrap();
        let next = next(&ScheduleConfig::Every(Duration::from_secs(900)), now).unwrap();
        assert_eq!(until(next, now), Duration::from_secs(900));
        assert_eq!(until(now, next), Duration::ZERO);
    }
}
