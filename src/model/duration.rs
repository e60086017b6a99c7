//! Durations as text. There are two forms on purpose: with abbreviated units and in two of them where a wait or a run is
//! measured, and in words and one unit where a sentence says roughly how long something has lasted.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A measured duration: `0.3 s`, `4 s`, `5 min 20 s`, `2 h 5 min`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    if duration < Duration::from_millis(950) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    match (duration + Duration::from_millis(500)).as_secs() {
        seconds @ 0..MINUTE => format!("{seconds} s"),
        seconds @ MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        seconds => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
    }
}

/// A duration in its largest suitable unit: `12 seconds`, `1 minute`, `3 hours`, `2 days`.
#[must_use]
pub fn duration_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0..MINUTE => (seconds, "second"),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..172_800 => (seconds / HOUR, "hour"),
        _ => (seconds / DAY, "day"),
    };
    super::counted(number, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_durations_have_the_precision_that_people_need() {
        let text = |millis| duration_text(Duration::from_millis(millis));
        let texts = [0, 12, 300, 949, 950, 4_400, 59_400, 59_600, 320_000, 7_500_000].map(text);
        let expected = [
            "0.0 s",
            "0.0 s",
            "0.3 s",
            "0.9 s",
            "1 s",
            "4 s",
            "59 s",
            "1 min 0 s",
            "5 min 20 s",
            "2 h 5 min",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn durations_in_words_have_their_largest_unit() {
        let text = |seconds| duration_words(Duration::from_secs(seconds));
        let texts = [1, 59, MINUTE, HOUR - 1, HOUR, 47 * HOUR, 2 * DAY, 400 * DAY].map(text);
        let expected =
            ["1 second", "59 seconds", "1 minute", "59 minutes", "1 hour", "47 hours", "2 days", "400 days"];
        assert_eq!(texts, expected);
    }
}
