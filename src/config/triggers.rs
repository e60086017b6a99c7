//! Triggers of a cohort, typed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// The kind of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerTarget {
    /// A campaign with API-triggered delivery.
    Campaign,
    /// A Canvas with API-triggered delivery.
    Canvas,
}

/// A trigger for users who enter or leave a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Campaign or Canvas.
    pub of: TriggerTarget,
    /// API identifier of the campaign or Canvas.
    pub id: String,
    /// Trigger properties: columns of the source by property name.
    pub properties: BTreeMap<String, String>,
    /// Maximum number of users per run; further users wait.
    pub at_most: u64,
    /// Minimum time between two triggers for the same user.
    pub cool_down: Duration,
    /// Age after which a waiting transition is dropped.
    pub within: Duration,
    /// Quiet hours.
    pub quiet: Option<QuietHours>,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            TriggerTarget::Campaign => write!(f, "campaign {}", self.id),
            TriggerTarget::Canvas => write!(f, "Canvas {}", self.id),
        }
    }
}

/// Hours of the day without triggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// Start.
    pub from: Time,
    /// End; on the next day if it is earlier than the start.
    pub to: Time,
    /// Time zone.
    pub time_zone: String,
}

impl QuietHours {
    /// The end of the quiet hours, if `now` is in them. With an unknown time zone, the whole day is quiet.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC);
        let here = zone.to_datetime(now);
        let time = here.time();
        let is_in = if self.from <= self.to {
            self.from <= time && time < self.to
        } else {
            time >= self.from || time < self.to
        };
        let day = if time < self.to { Some(here.date()) } else { here.date().tomorrow().ok() };
        let ends = || zone.to_timestamp(day?.to_datetime(self.to)).ok();
        is_in.then(ends).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_has_two_days() {
        let time = |text: &str| text.parse().unwrap();
        let quiet =
            |from, to| QuietHours { from: time(from), to: time(to), time_zone: "Europe/Berlin".to_owned() };
        let until =
            |quiet: &QuietHours, now: &str| quiet.until(now.parse().unwrap()).map(|end| end.to_string());
        let night = quiet("22:00:00", "08:00:00");
        assert_eq!(until(&night, "2026-01-10T20:59:00Z"), None);
        assert_eq!(until(&night, "2026-01-10T21:00:00Z").as_deref(), Some("2026-01-11T07:00:00Z"));
        assert_eq!(until(&night, "2026-01-11T06:59:00Z").as_deref(), Some("2026-01-11T07:00:00Z"));
        assert_eq!(until(&night, "2026-01-11T07:00:00Z"), None);
        let noon = quiet("12:00:00", "13:00:00");
        assert_eq!(until(&noon, "2026-07-01T10:30:00Z").as_deref(), Some("2026-07-01T11:00:00Z"));
        assert_eq!(until(&noon, "2026-07-01T11:30:00Z"), None);
    }
}
