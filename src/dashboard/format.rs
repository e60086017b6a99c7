//! Text forms of numbers, ages, plans and codes.

use super::html::Html;
use super::view::PlannedView;
use crate::model::{Timestamp, duration_words, timestamp_text};
pub(super) use crate::model::{count, counted, counted_as};

/// `640 bytes`, `3.4 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return counted(number, "byte");
    }
    #[allow(clippy::cast_precision_loss, reason = "one decimal for people to read")]
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// The changes of a plan: `+3 −0`, `blocked: +0 −45`. None: it has no changes.
pub(super) fn planned_text(plan: PlannedView) -> Option<String> {
    let PlannedView { adds, removes, blocked_adds, blocked_removes } = plan;
    let text = |adds: u64, removes: u64| format!("+{} −{}", count(adds), count(removes));
    match (adds + removes > 0, blocked_adds + blocked_removes > 0) {
        (false, false) => None,
        (true, false) => Some(text(adds, removes)),
        (false, true) => Some(format!("blocked: {}", text(blocked_adds, blocked_removes))),
        (true, true) => {
            Some(format!("{}; blocked: {}", text(adds, removes), text(blocked_adds, blocked_removes)))
        }
    }
}

/// The distance to a time: `just now`, `5 minutes ago`, `in 5 minutes`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(then);
    let time = passed.unsigned_abs();
    match (passed.is_negative(), time.as_secs()) {
        (_, 0..5) => "just now".to_owned(),
        (false, _) => format!("{} ago", duration_words(time)),
        (true, _) => format!("in {}", duration_words(time)),
    }
}

/// When a run is due: `in 5 minutes`, `now`.
pub(super) fn due(then: Timestamp, now: Timestamp) -> String {
    if then.duration_since(now).as_secs() < 5 { "now".to_owned() } else { ago(then, now) }
}

/// `24 Nov 2026, 19:16:11 UTC`.
pub(super) fn absolute(time: Timestamp) -> String {
    time.strftime("%-d %b %Y, %H:%M:%S UTC").to_string()
}

/// A text with the exact time as its title.
pub(super) fn time(html: &mut Html, time: Timestamp, text: &str) {
    let attributes = [("datetime", &*timestamp_text(time)), ("title", &absolute(time))];
    html.leaf("time", &attributes, text);
}

/// The distance to a time, with the exact time as its title.
pub(super) fn age(html: &mut Html, then: Timestamp, now: Timestamp) {
    time(html, then, &ago(then, now));
}

/// The duration since a time, with the exact time as its title.
pub(super) fn elapsed(html: &mut Html, since: Timestamp, now: Timestamp) {
    time(html, since, &duration_words(now.duration_since(since).unsigned_abs()));
}

/// The result of a run in words; other codes stay as they are.
pub(super) fn result_text(word: &str) -> &str {
    match word {
        "applied" => "updated",
        "applied_in_part" => "partly updated",
        "in_sync" => "in sync",
        "blocked" => "blocked",
        "waiting" => "waiting for Heap",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(
            [0, 1, 2].map(|n| counted_as(n, "entry", "entries")),
            ["0 entries", "1 entry", "2 entries"]
        );
        assert_eq!(
            [0, 1, 1023, 1024, 1536].map(bytes),
            ["0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "1.5 KiB"]
        );
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn ages() {
        let cases = [
            (0, "just now"),
            (4, "just now"),
            (-4, "just now"),
            (5, "5 seconds ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (3599, "59 minutes ago"),
            (3600, "1 hour ago"),
            (47 * 3600, "47 hours ago"),
            (48 * 3600, "2 days ago"),
            (400 * 86_400, "400 days ago"),
            (-90, "in 1 minute"),
            (-172_800, "in 2 days"),
        ];
        for (passed, text) in cases {
            assert_eq!(ago(at(0), at(passed)), text, "{passed}");
        }
        assert_eq!(ago(Timestamp::MIN, Timestamp::MAX).split(' ').nth(1), Some("days"));
        assert_eq!([-100, 0, 4, 5].map(|s| due(at(s), at(0))), ["now", "now", "now", "in 5 seconds"]);
    }

    #[test]
    fn a_time_has_the_exact_time_as_its_title() {
        let mut html = Html::default();
        age(&mut html, "2026-11-04T09:06:01.5Z".parse().unwrap(), "2026-11-04T09:08:05Z".parse().unwrap());
        assert_eq!(
            html.into_string(),
            "<time datetime=\"2026-11-04T09:06:01.500Z\" title=\"4 Nov 2026, 09:06:01 UTC\">2 minutes ago</time>"
        );
    }

    #[test]
    fn codes_without_words_stay_as_they_are() {
        assert_eq!(result_text("applied"), "updated");
        assert_eq!(result_text("interrupted"), "interrupted");
    }
}
