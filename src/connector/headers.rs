//! Response headers of all vendors: rate limits, retry times, redirects. Also shortens messages for display.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::foreign::cleaned;
use crate::model::Timestamp;

const MESSAGE_LEN_MAX: usize = 300;
/// Larger values are points in time, smaller ones are seconds from now (Braze, `/users/track` on MAU contracts).
const EPOCH_FROM: i64 = 1_000_000_000;
/// Smaller clock differences are ignored, because the header has whole seconds.
const SKEW_FROM: i64 = 3;

/// A numeric header. A fraction is rounded up.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    text.parse().ok().or_else(|| rounded_up(text.parse().ok()?))
}

#[allow(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn rounded_up(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 1e15).then(|| number.ceil() as i64)
}

/// The end of the rate limit's window: as reported, and by this process's clock.
pub(super) fn reset(headers: &HeaderMap, now: Timestamp) -> Option<(i64, Timestamp)> {
    match number(headers, "x-ratelimit-reset")? {
        epoch if epoch > EPOCH_FROM => {
            Some((epoch, to_local_clock(Timestamp::from_second(epoch).ok()?, headers, now)?))
        }
        seconds => after(seconds, now).map(|until| (until.as_second(), until)),
    }
}

/// Converts a time of the vendor's clock to this process's clock, by the response's `Date`.
fn to_local_clock(at: Timestamp, headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let ahead = sent_at(headers).map_or(0, |sent| sent.as_second() - now.as_second());
    let skew = if ahead.abs() < SKEW_FROM { 0 } else { ahead };
    at.checked_sub(jiff::SignedDuration::from_secs(skew)).ok()
}

/// The time of the response by the vendor's clock.
pub(super) fn sent_at(headers: &HeaderMap) -> Option<Timestamp> {
    date(headers, "date")
}

/// A date header in one of HTTP's three formats.
fn date(headers: &HeaderMap, name: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()?;
    Timestamp::try_from(at).ok()
}

fn after(seconds: i64, now: Timestamp) -> Option<Timestamp> {
    now.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?)).ok()
}

/// The time of the next attempt after a 429, from the first valid header. `Retry-After` is a number of seconds or a date
/// (RFC 9110); Braze's own headers are numbers.
pub(super) fn retry_at(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let seconds = |name| number(headers, name).and_then(|seconds| after(seconds, now));
    let by_date = || date(headers, "retry-after").and_then(|at| to_local_clock(at, headers, now));
    seconds("retry-after")
        .or_else(by_date)
        .or_else(|| seconds("x-ratelimit-retry-after"))
        .or_else(|| reset(headers, now).map(|(_, until)| until))
}

/// The target of a redirect without query, fragment and credentials, which may be secret.
fn redirect_target(headers: &HeaderMap) -> Option<String> {
    let location = headers.get("location")?.to_str().ok()?.trim();
    let plain = location.split(['?', '#']).next().unwrap_or_default();
    let plain = match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => plain.to_owned(),
    };
    (!plain.is_empty()).then_some(plain)
}

/// The message for a redirect. The client follows none, because it would send keys and identifiers to another server.
pub(super) fn redirect_message(headers: &HeaderMap) -> String {
    match redirect_target(headers) {
        Some(to) => format!("redirected to {to}; set `endpoint:` to the address that responds"),
        None => "redirected, without a `Location` header; check `endpoint:`".to_owned(),
    }
}

/// A vendor's text for display: short, in one line, without secrets.
pub(super) fn display_text(text: &str) -> String {
    let text = cleaned(text);
    let mut short: String = text.chars().take(MESSAGE_LEN_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
