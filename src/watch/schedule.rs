//! When the next run is due, by a schedule. Pure: it reads no clock.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::ZonedDateTime;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::config::ScheduleConfig;
use crate::model::{ClockReading, Timestamp};

/// The first time after `now` by a schedule. None: the calendar has no such time.
pub(super) fn next(schedule: &ScheduleConfig, now: Timestamp) -> Option<Timestamp> {
    match schedule {
        ScheduleConfig::Every(length) => now.checked_add(*length).ok(),
        ScheduleConfig::Cron { at, time_zone } => {
            let zone = TimeZone::get(time_zone).ok()?;
            let cron: Cron = at.parse().ok()?;
            let now = LocalTime(now.to_zoned_datetime(zone));
            let next = cron.find_next_occurrence(&now, false).ok()?;
            Some(next.0.timestamp())
        }
    }
}

/// When the next run is due: by the schedule, or at `earlier` if that is in the future and before it.
pub(super) fn next_run(
    schedule: &ScheduleConfig,
    earlier: Option<Timestamp>,
    now: ClockReading,
) -> Option<Instant> {
    let scheduled = next(schedule, now.wall);
    // A time that has passed was not enough for a result: the schedule tries again.
    let earlier = earlier.filter(|at| *at > now.wall);
    scheduled.into_iter().chain(earlier).min().map(|at| now.monotonic_at(at))
}

/// The time from `now` until `then`; zero if `then` has passed.
pub(super) fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A local time, in the form that the cron library needs.
#[derive(Clone, Debug, PartialEq)]
struct LocalTime(ZonedDateTime);

impl CronDateTime for LocalTime {
    fn to_civil(&self) -> CivilDateTime {
        let (date, time) = (self.0.date(), self.0.time());
        let part = |number: i8| u32::from(number.unsigned_abs());
        // Both libraries count the parts in the same manner, and these parts are valid.
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
        let zoned = self.0.time_zone().to_ambiguous_zoned_datetime(wall);
        let found = |time: Result<ZonedDateTime, jiff::Error>| {
            time.map(LocalTime).map_err(|_| CronError::InvalidTime)
        };
        Ok(match zoned.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(found(zoned.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(found(zoned.clone().earlier())?, found(zoned.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(jiff::SignedDuration::from_secs(seconds)).ok().map(LocalTime)
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
    fn cron_follows_daylight_saving_time() {
        assert_eq!(after("0 4 * * *", "UTC", "2026-11-24T03:59:00Z"), "2026-11-24T04:00:00Z");
        assert_eq!(after("0 4 * * *", "Europe/Berlin", "2026-11-24T03:59:00Z"), "2026-11-25T03:00:00Z");
        assert_eq!(after("0 4 * * *", "Europe/Berlin", "2026-06-24T03:59:00Z"), "2026-06-25T02:00:00Z");
        assert_eq!(after("0 */4 * * MON-FRI", "UTC", "2026-11-27T21:00:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(
            after("0 4 * * *", "UTC", "2026-11-24T04:00:00Z"),
            "2026-11-25T04:00:00Z",
            "not the same time again"
        );
    }

    #[test]
    fn an_interval_counts_from_now() {
        let now: Timestamp = "2026-11-24T03:59:00Z".parse().unwrap();
        let next = next(&ScheduleConfig::Every(Duration::from_secs(900)), now).unwrap();
        assert_eq!(until(next, now), Duration::from_secs(900));
        assert_eq!(until(now, next), Duration::ZERO);
    }

    fn reading(wall: &str) -> ClockReading {
        ClockReading { wall: wall.parse().unwrap(), monotonic: Instant::now() }
    }

    #[test]
    fn members_in_doubt_are_settled_before_the_schedule_is_due() {
        let (daily, now) =
            (ScheduleConfig::Every(Duration::from_secs(86_400)), reading("2026-11-24T03:00:00Z"));
        let settle = |at: &str| next_run(&daily, Some(at.parse().unwrap()), now).unwrap() - now.monotonic;
        assert_eq!(settle("2026-11-24T03:02:00Z"), Duration::from_secs(120));
        assert_eq!(settle("2026-11-26T03:00:00Z"), Duration::from_secs(86_400), "the schedule is earlier");
        assert_eq!(settle("2026-11-24T02:59:00Z"), Duration::from_secs(86_400), "it has passed");
        assert_eq!(next_run(&daily, None, now).unwrap() - now.monotonic, Duration::from_secs(86_400));
    }

    #[test]
    fn a_schedule_without_a_next_time_leaves_the_time_to_settle() {
        let never = ScheduleConfig::Cron { at: "0 0 30 2 *".to_owned(), time_zone: "UTC".to_owned() };
        let now = reading("2026-11-24T03:00:00Z");
        assert_eq!(next_run(&never, None, now), None);
        let at = Some("2026-11-24T03:02:00Z".parse().unwrap());
        assert_eq!(next_run(&never, at, now).unwrap() - now.monotonic, Duration::from_secs(120));
    }
}
