//! Times for people: absolute ones in UTC to the minute, ages and durations in their largest unit.

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

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(in crate::cli) fn duration_text(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..MINUTE => format!("{seconds} s"),
        seconds @ MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        seconds => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_durations_have_their_largest_units() {
        let now: Timestamp = "2026-11-28T06:36:59Z".parse().unwrap();
        assert_eq!(time_text(now), "2026-11-28 06:36 UTC");
        let ago = |seconds: u64| age_text(now - Duration::from_secs(seconds), now);
        assert_eq!(ago(59), "just now");
        assert_eq!(ago(60), "1 min ago");
        assert_eq!(ago(2 * HOUR), "2 h ago");
        assert_eq!(ago(DAY), "1 day ago");
        assert_eq!(ago(400 * DAY), "400 days ago");
        assert_eq!(age_text(now + Duration::from_secs(90), now), "just now");
        let took = |millis: u64| duration_text(Duration::from_millis(millis));
        assert_eq!([took(420), took(12_900), took(200_000)], ["0.4 s", "12 s", "3 min 20 s"]);
        assert_eq!(took(7_500_000), "2 h 5 min");
    }
}
