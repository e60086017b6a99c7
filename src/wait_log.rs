//! Log lines of waits: for the response to a request, before the next attempt, and for a rate limit. The progress line
//! shows the same events.

use std::time::Duration;

use tracing::Span;

use crate::model::duration_text;

/// The target of these lines.
pub const WAIT_TARGET: &str = "syncline::waits";

/// The target of the lines of requests.
const RESPONSE_TARGET: &str = "syncline::requests";
/// The span of a request, with the fields `method` and `endpoint`.
pub const REQUEST_SPAN: &str = "request";
/// Headers with a vendor's id of the request. The first one is logged.
const REQUEST_IDS: [&str; 5] =
    ["x-request-id", "request-id", "x-amz-request-id", "x-ms-request-id", "x-guploader-uploadid"];

/// Waits for a rate limit from this length on are warnings. Shorter ones come with every window of a few seconds.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// The span of a request. `endpoint` has no query and no credentials.
#[must_use]
pub fn request_span(method: &str, endpoint: &str) -> Span {
    let span = tracing::debug_span!(REQUEST_SPAN, method, endpoint);
    span.in_scope(|| tracing::trace!(target: RESPONSE_TARGET, "request begins"));
    span
}

/// Logs the response to a request, within its span. `header` returns a header without secrets.
pub fn log_response(status: u16, header: impl Fn(&str) -> Option<String>) {
    let (retry_after, request_id) = (header("retry-after"), REQUEST_IDS.into_iter().find_map(&header));
    tracing::debug!(target: RESPONSE_TARGET, status, retry_after, request_id, "request");
}

/// Logs a request without a response, within its span.
pub fn log_no_response(error: &str) {
    tracing::debug!(target: RESPONSE_TARGET, error, "request");
}

/// Logs the wait before the next attempt. `cause` is a clause, such as `Braze does not answer: timed out`.
/// `attempt` is the number of the next attempt; without `attempts`, their number has no limit.
pub fn log_retry(vendor: &str, cause: &str, attempt: u32, attempts: Option<u32>, wait: Duration) {
    let (wait_ms, next) = (millis(wait), next_attempt(attempt, attempts));
    let text = format!("{cause}; {next} in {}", duration_text(wait));
    tracing::warn!(target: WAIT_TARGET, vendor, cause, attempt, attempts, wait_ms, "{text}");
}

/// Logs the failure of a request that a client library repeats, up to `retries` times, after waits of its own.
pub fn log_repeated(vendor: &str, cause: &str, retries: usize) {
    tracing::warn!(target: WAIT_TARGET, vendor, cause, retries, "{cause}; up to {retries} further attempts");
}

/// Logs a wait for a rate limit.
pub fn log_rate_limit(vendor: &str, cause: &str, wait: Duration) {
    let wait_ms = millis(wait);
    let text = format!("{cause}; the next request in {}", duration_text(wait));
    if wait < LONG_WAIT {
        tracing::info!(target: WAIT_TARGET, vendor, cause, wait_ms, "{text}");
    } else {
        tracing::warn!(target: WAIT_TARGET, vendor, cause, wait_ms, "{text}");
    }
}

/// `attempt 3 of 8`.
fn next_attempt(attempt: u32, attempts: Option<u32>) -> String {
    attempts.map_or_else(|| format!("attempt {attempt}"), |all| format!("attempt {attempt} of {all}"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_attempts_is_shown_if_there_is_one() {
        assert_eq!(next_attempt(3, Some(8)), "attempt 3 of 8");
        assert_eq!(next_attempt(3, None), "attempt 3");
    }
}
