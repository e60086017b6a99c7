//! Times for people: absolute ones in UTC to the minute, ages in their largest unit.

use std::time::Duration;

use crate::model::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `2026-11-28 06:36 UTC`.
pub(in crate::cli) fn time_text(time: Timestamp) -> String {
    format!("{} UTC", time_short(time))
}

/// `2026-11-28 06:36`, in UTC.
pub(in crate::cli) fn time_short(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// `3 h ago`. A time that is not in the past is `just now`: the clocks of two machines differ.
pub(in crate::cli) fn age_text(time: Timestamp, now: Timestamp) -> String {
    let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    match age.as_secs() {
        0..MINUTE => "just now".to_owned(),
        seconds @ MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        seconds @ HOUR..DAY => format!("{} h ago", seconds / HOUR),
        seconds if seconds < 2 * DAY => "1 day ago".to_owned(),
        seconds => format!("{} days ago", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_their_largest_unit() {
        let now: Timestamp = "2026-11-28T06:36:59Z".parse().unwrap();
        assert_eq!(time_text(now), "2026-11-28 06:36 UTC");
        let ago = |seconds: u64| age_text(now - Duration::from_secs(seconds), now);
        assert_eq!(ago(59), "just now");
        assert_eq!(ago(60), "1 min ago");
        assert_eq!(ago(2 * HOUR), "2 h ago");
        assert_eq!(ago(DAY), "1 day ago");
        assert_eq!(ago(400 * DAY), "400 days ago");
        assert_eq!(age_text(now + Duration::from_secs(90), now), "just now");
    }
}
