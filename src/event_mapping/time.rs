//! Event times: Braze's seconds or milliseconds, written as text for Heap.

use super::outcome::{EventRejectReason, Rejection};
use crate::model::Timestamp;

/// A number as the event has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum EventNumber<'a> {
    Whole(i64),
    /// A JSON number or a text.
    Token(&'a str),
}

/// The first and the last second of the years 1 to 9999.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const DAY: i64 = 24 * 60 * 60;

/// The time of an event in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTime(i64);

impl EventTime {
    /// Reads `time` in seconds, refined by `time_ms` if both are in the same second; or `time_ms` alone.
    pub(super) fn read(
        time: Option<EventNumber<'_>>,
        time_ms: Option<EventNumber<'_>>,
    ) -> Result<Self, Rejection> {
        let exact = time_ms.and_then(|count| millis(count, 1));
        let Some(count) = time else {
            return match (exact, time_ms) {
                (Some(exact), _) => Self::checked(exact),
                (None, Some(count)) => Err(bad(EventRejectReason::BadTime, count)),
                (None, None) => Err(Rejection::new(EventRejectReason::NoTime, "neither time nor time_ms")),
            };
        };
        let Some(coarse) = millis(count, 1000) else { return Err(bad(EventRejectReason::BadTime, count)) };
        let is_same = |exact: &i64| exact.div_euclid(1000) == coarse.div_euclid(1000);
        Self::checked(exact.filter(is_same).unwrap_or(coarse))
    }

    fn checked(millis: i64) -> Result<Self, Rejection> {
        if RANGE.contains(&millis.div_euclid(1000)) {
            Ok(Self(millis))
        } else {
            Err(Rejection::new(EventRejectReason::TimeOutOfRange, format!("{} seconds", millis / 1000)))
        }
    }

    /// The time in seconds since 1970.
    pub(super) fn second(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Rejects a time too far in the future of `now`.
    pub(super) fn held_to(self, now: Timestamp, future_seconds_max: Option<u32>) -> Result<Self, Rejection> {
        let ahead = self.0 / 1000 - now.as_second();
        match future_seconds_max {
            Some(max) if ahead > i64::from(max) => {
                let mut text = Vec::new();
                self.write(&mut text);
                let text = String::from_utf8_lossy(&text).into_owned();
                Err(Rejection::new(
                    EventRejectReason::TimeInFuture,
                    format!("{text} is {} days ahead", ahead / DAY),
                ))
            }
            _ => Ok(self),
        }
    }

    /// Appends `2026-11-23T19:16:11.250Z`.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let seconds = self.0.div_euclid(1000);
        let (year, month, day) = date(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        digits(out, year, 4, b'-');
        digits(out, month, 2, b'-');
        digits(out, day, 2, b'T');
        digits(out, second / 3600, 2, b':');
        digits(out, second / 60 % 60, 2, b':');
        digits(out, second % 60, 2, b'.');
        digits(out, self.0.rem_euclid(1000), 3, b'Z');
    }
}

fn bad(reason: EventRejectReason, count: EventNumber<'_>) -> Rejection {
    match count {
        EventNumber::Whole(whole) => Rejection::new(reason, whole.to_string()),
        EventNumber::Token(token) => Rejection::new(reason, token.chars().take(40).collect::<String>()),
    }
}

/// Converts seconds (`scale` 1000) or milliseconds (1) to milliseconds; `None` if the value is not a number. Large values
/// saturate.
fn millis(count: EventNumber<'_>, scale: i64) -> Option<i64> {
    match count {
        EventNumber::Whole(whole) => Some(whole.saturating_mul(scale)),
        EventNumber::Token(token) => {
            let token = token.trim();
            if let Ok(whole) = token.parse::<i64>() {
                return Some(whole.saturating_mul(scale));
            }
            #[allow(clippy::cast_precision_loss, reason = "1 or 1000")]
            let value = token.parse::<f64>().ok().filter(|value| value.is_finite())? * scale as f64;
            #[allow(clippy::cast_possible_truncation, reason = "saturates, and is then out of range")]
            Some(value.floor() as i64)
        }
    }
}

/// Year, month and day of a day since 1970 in the Gregorian calendar. Years start in March, so that the leap day comes
/// last: 400 years have 146,097 days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Appends a number with a fixed number of digits, at most four, and a sign.
#[inline]
fn digits(out: &mut Vec<u8>, value: i64, width: usize, sign: u8) {
    let (mut rest, mut text) = (value.unsigned_abs(), [b'0', b'0', b'0', b'0', sign]);
    for digit in text[4 - width..4].iter_mut().rev() {
        #[allow(clippy::cast_possible_truncation, reason = "a digit")]
        let value = (rest % 10) as u8;
        *digit += value;
        rest /= 10;
    }
    out.extend_from_slice(&text[4 - width..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp_text;
    use proptest::prelude::*;

    fn text(when: EventTime) -> String {
        let mut out = Vec::new();
        when.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn as_the_judge_writes_it(millis in -62_135_596_800_000i64..=253_402_207_200_000) {
            let judged = timestamp_text(Timestamp::from_millisecond(millis).unwrap());
            prop_assert_eq!(text(EventTime(millis)), judged);
        }
    }

    fn check(time: Option<&str>, time_ms: Option<&str>, expected: Result<&str, EventRejectReason>) {
        let found = EventTime::read(time.map(EventNumber::Token), time_ms.map(EventNumber::Token));
        assert_eq!(
            found.map(text).map_err(|no| no.reason),
            expected.map(str::to_owned),
            "{time:?} {time_ms:?}"
        );
    }

    #[test]
    fn milliseconds_refine_seconds() {
        check(Some("1767225600"), None, Ok("2026-01-01T00:00:00.000Z"));
        check(Some("1767225600"), Some("1767225600250"), Ok("2026-01-01T00:00:00.250Z"));
        check(Some("1767225600"), Some("5"), Ok("2026-01-01T00:00:00.000Z"));
        check(None, Some("1767225600250"), Ok("2026-01-01T00:00:00.250Z"));
        check(Some("1767225600.5"), None, Ok("2026-01-01T00:00:00.500Z"));
        check(Some("-1"), None, Ok("1969-12-31T23:59:59.000Z"));
        check(Some("0"), None, Ok("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn what_is_no_time() {
        check(None, None, Err(EventRejectReason::NoTime));
        check(Some("yesterday"), None, Err(EventRejectReason::BadTime));
        check(None, Some("x"), Err(EventRejectReason::BadTime));
        check(Some("1767225600000"), None, Err(EventRejectReason::TimeOutOfRange));
        check(Some("9e300"), None, Err(EventRejectReason::TimeOutOfRange));
    }

    #[test]
    fn the_future_has_a_bound() {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let at =
            |seconds: i64| EventTime::read(Some(EventNumber::Whole(1_767_225_600 + seconds)), None).unwrap();
        let week = Some(7 * 86_400);
        assert!(at(7 * 86_400).held_to(now, week).is_ok());
        let no = at(7 * 86_400 + 1).held_to(now, week).unwrap_err();
        assert_eq!(
            (no.reason, no.detail.as_str()),
            (EventRejectReason::TimeInFuture, "2026-01-08T00:00:01.000Z is 7 days ahead")
        );
        assert!(at(1_000_000_000).held_to(now, None).is_ok());
        assert!(at(-1_767_225_600).held_to(now, week).is_ok());
    }
}
