//! What is triggered in Braze when somebody enters a cohort or leaves it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// What can be triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerTarget {
    /// A campaign with API-triggered delivery.
    Campaign,
    /// A Canvas with API-triggered delivery.
    Canvas,
}

/// What is triggered for whoever enters, or for whoever leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What.
    pub of: TriggerTarget,
    /// Its API identifier.
    pub id: String,
    /// What it is told of each person: columns of the source by the names of the properties.
    pub properties: BTreeMap<String, String>,
    /// People for whom it is triggered in one run; the others wait.
    pub at_most: u64,
    /// How long nothing is triggered for a person again.
    pub cool_down: Duration,
    /// How long an entry is worth something: after that it is dropped.
    pub within: Duration,
    /// When nothing is triggered.
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

/// Hours of the day in which people are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// From then on.
    pub from: Time,
    /// Until then; on the next day if it is earlier.
    pub to: Time,
    /// In this time zone.
    pub time_zone: String,
}

impl QuietHours {
    /// When the quiet hours end, if it is in them now. A time zone that the machine does not know has none of the
    /// day's hours to spare.
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
