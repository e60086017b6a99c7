//! What the headers of an answer say of time, and what may be shown of its text. For whichever vendor.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::model::Timestamp;

const MESSAGE_LEN_MAX: usize = 300;
/// Values above this are points in time; smaller ones are seconds from now (Braze, `/users/track` on MAU
/// contracts).
const EPOCH_FROM: i64 = 1_000_000_000;
/// Smaller differences of clocks are those of a header that has whole seconds.
const SKEW_FROM: i64 = 3;

/// A header that is a number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The end of the window as the vendor names it, and by our clock.
pub(super) fn reset(headers: &HeaderMap, now: Timestamp) -> Option<(i64, Timestamp)> {
    match number(headers, "x-ratelimit-reset")? {
        epoch if epoch > EPOCH_FROM => {
            let until = Timestamp::from_second(epoch).ok()?;
            // What counts is how far off the reset is by the vendor's clock, if ours differs.
            let ahead = sent_at(headers).map_or(0, |sent| sent.as_second() - now.as_second());
            let skew = if ahead.abs() < SKEW_FROM { 0 } else { ahead };
            Some((epoch, until.checked_sub(jiff::SignedDuration::from_secs(skew)).ok()?))
        }
        seconds => after(seconds, now).map(|until| (until.as_second(), until)),
    }
}

/// When the vendor answered, by its own clock.
pub(super) fn sent_at(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("date")?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

fn after(seconds: i64, now: Timestamp) -> Option<Timestamp> {
    now.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?)).ok()
}

/// When a 429 may be asked again: the first of these headers that is there.
pub(super) fn retry_at(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    number(headers, "retry-after")
        .or_else(|| number(headers, "x-ratelimit-retry-after"))
        .and_then(|seconds| after(seconds, now))
        .or_else(|| reset(headers, now).map(|(_, until)| until))
}

/// A text of a vendor's as we show it: short, in one line, and without these secrets.
pub(super) fn shown<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = text.to_owned();
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[secret]");
    }
    let mut short: String =
        text.chars().take(MESSAGE_LEN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
