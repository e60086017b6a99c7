//! Classification of Braze's responses by status and error type, not by wording.
//!
//! Source: Braze, "Partner cohort import" (400, 401, 423), "API errors" (the rest; a 2xx may carry `errors`), "API
//! limits" (headers). Of a body, only `message` is display_text, shortened and without keys: Braze's own 401 repeats the client
//! secret.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::wire::ArrayLayout;
use crate::connector::destination::{RequestFailure, RequestOutcome, RowError};
use crate::connector::headers::{display_text, number, reset};
use crate::connector::http::{HttpError, HttpReply};
use crate::connector::rate_limit::{RateLimiter, RemainingQuota};
use crate::model::Timestamp;

/// A response of Braze: its outcome, and the rate limit that it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeReply {
    /// The outcome of the request.
    pub outcome: RequestOutcome,
    /// The remaining quota, if the response reports it.
    pub remaining: Option<RemainingQuota>,
}

impl BrazeReply {
    /// Reports the end of the request to its rate limiter. It closes before it completes, so that no other request is
    /// admitted in between.
    pub(super) fn report_to(&self, limiter: &RateLimiter, now: Timestamp) {
        if let RequestOutcome::Failed(RequestFailure::RateLimited(until)) = self.outcome {
            limiter.close(until, now);
        }
        limiter.complete(self.remaining);
    }
}

/// Classifies the result of a request.
pub(super) fn read(
    result: &Result<HttpReply, HttpError>,
    layout: &ArrayLayout,
    now: Timestamp,
) -> BrazeReply {
    let (outcome, remaining) = match result {
        Ok(response) => (classify(response, layout, now), remaining(&response.headers, now)),
        Err(error) => (RequestOutcome::Failed(error.into()), None),
    };
    BrazeReply { outcome, remaining }
}

fn classify(response: &HttpReply, layout: &ArrayLayout, now: Timestamp) -> RequestOutcome {
    let text = response.body.trim_ascii();
    let parsed = text.starts_with(b"{").then(|| serde_json::from_slice(text).ok()).flatten();
    let foreign = if text.is_empty() { "an empty body" } else { "a body that is not Braze's" };
    let is_object = parsed.is_some();
    let body: ReplyBody = parsed.unwrap_or_default();
    let message = || display_text(body.message.as_deref().unwrap_or("(no message)"));
    if response.status == 400
        && let Some(outcome) = error_of_each_row(&body, layout)
    {
        return outcome;
    }
    match response.status {
        200..=299 if is_object => accepted(&body, layout)
            .unwrap_or(RequestOutcome::Foreign(response.status, "a body without Braze's `message`")),
        200..=299 => RequestOutcome::Foreign(response.status, foreign),
        423 => RequestOutcome::Locked,
        _ => RequestOutcome::Failed(RequestFailure::of_response(response, message, now)),
    }
}

/// The envelope of every response. A body without it has no fields.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyBody {
    message: Option<String>,
    errors: Option<serde_json::Value>,
}

/// A 2xx with a JSON object. `None` if it is not Braze's, which sends a `message` with every success.
fn accepted(body: &ReplyBody, layout: &ArrayLayout) -> Option<RequestOutcome> {
    let errors = match &body.errors {
        None | Some(serde_json::Value::Null) => &[],
        Some(serde_json::Value::Array(errors)) => errors.as_slice(),
        Some(other) => std::slice::from_ref(other),
    };
    if errors.is_empty() && body.message.as_deref() == Some("success") {
        return Some(RequestOutcome::Accepted);
    }
    if errors.is_empty() && body.message.is_none() {
        return None;
    }
    let (mut rows, mut other) = (Vec::new(), None);
    // Braze's envelope of a fatal error: another message, and nothing is done.
    if let Some(message) = body.message.as_deref().filter(|message| *message != "success") {
        return Some(RequestOutcome::AcceptedWithErrors {
            rows,
            other: Some(display_text(message)),
            others_accepted: false,
        });
    }
    for error in errors {
        match parse_row_error(error, layout) {
            Some(row) => rows.push(row),
            None => other = Some(display_text(&plain(error))),
        }
    }
    let rows = unique_by_member(rows);
    // "Non-fatal errors: the data that they do not affect is processed" (Braze, "API errors"). No document says that
    // this holds for the cohort import.
    let others_accepted = layout.attributes() > 0 && other.is_none();
    Some(RequestOutcome::AcceptedWithErrors { rows, other, others_accepted })
}

/// A 400 with an error for every single object (Braze, "Track users").
fn error_of_each_row(body: &ReplyBody, layout: &ArrayLayout) -> Option<RequestOutcome> {
    let errors = body.errors.as_ref()?.as_array().filter(|_| layout.attributes() > 0)?;
    let rows: Option<Vec<RowError>> = errors.iter().map(|error| parse_row_error(error, layout)).collect();
    let rows = unique_by_member(rows?);
    let is_complete = rows.len() == layout.attributes();
    is_complete.then_some(RequestOutcome::AcceptedWithErrors { rows, other: None, others_accepted: true })
}

/// One error for each member, in the order of the response: Braze may name a member more than once. A final error
/// replaces a transient one.
fn unique_by_member(errors: Vec<RowError>) -> Vec<RowError> {
    let mut unique: Vec<RowError> = Vec::with_capacity(errors.len());
    let mut indexes: BTreeMap<usize, usize> = BTreeMap::new();
    for error in errors {
        match indexes.get(&error.member) {
            None => {
                indexes.insert(error.member, unique.len());
                unique.push(error);
            }
            Some(index) if unique[*index].is_transient && !error.is_transient => unique[*index] = error,
            Some(_) => {}
        }
    }
    unique
}

fn parse_row_error(error: &serde_json::Value, layout: &ArrayLayout) -> Option<RowError> {
    let index = usize::try_from(error.get("index")?.as_u64()?).ok()?;
    let member = layout.member(error.get("input_array")?.as_str()?, index)?;
    let kind = error.get("type").map(plain).unwrap_or_default();
    Some(RowError { member, is_transient: is_transient(&kind), message: display_text(&kind) })
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Braze's documented row errors are about the row itself, so they are final. An error that names a failure on Braze's
/// side is transient.
fn is_transient(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    ["internal", "timeout", "timed out", "temporar", "try again", "unavailable", "rate limit", "locked"]
        .iter()
        .any(|word| kind.contains(word))
}

fn remaining(headers: &HeaderMap, now: Timestamp) -> Option<RemainingQuota> {
    let requests = u64::try_from(number(headers, "x-ratelimit-remaining")?).ok()?;
    let (window, until) = reset(headers, now)?;
    Some(RemainingQuota { requests, window, until })
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::Secret;
    use crate::model::{ChangeOp, CohortId, Identifier, IdentifierKind};

    const NOW: i64 = 1_592_425_000;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> BrazeReply {
        let keys = super::super::keys::ImportKeys {
            data_import: Secret::new("canary-1".to_owned()),
            partner_api: Secret::new("canary-2".to_owned()),
        };
        let id = |kind, value| Identifier { kind, label: "", value };
        let members = [
            id(IdentifierKind::DeviceId, "d1"),
            id(IdentifierKind::ExternalId, "u1"),
            id(IdentifierKind::ExternalId, "u2"),
        ];
        let cohort = CohortId::new("c").unwrap();
        let (_, layout) = super::super::wire::change(&keys, &cohort, ChangeOp::Add, &members);
        let headers =
            headers.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        let response = HttpReply { status, headers, body: body.as_bytes().to_vec() };
        read(&Ok(response), &layout, Timestamp::from_second(NOW).unwrap())
    }

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<i64> {
        match reply(429, headers, "").outcome {
            RequestOutcome::Failed(RequestFailure::RateLimited(at)) => at.map(|at| at.as_second() - NOW),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_success_is_accepted_and_its_errors_are_parsed() {
        assert_eq!(reply(201, &[], r#"{"message":"success"}"#).outcome, RequestOutcome::Accepted);
        assert_eq!(reply(200, &[], r#"{"message":"success","errors":[]}"#).outcome, RequestOutcome::Accepted);
        let body = r#"{"message":"success","errors":[
            {"type":"EXTERNAL_USER_ID_TOO_LARGE","input_array":"user_ids","index":1},
            {"type":"internal error, try again","input_array":"device_ids","index":0}]}"#;
        let row = |member, message: &str, is_transient| RowError {
            member,
            message: message.to_owned(),
            is_transient,
        };
        let rows =
            vec![row(2, "EXTERNAL_USER_ID_TOO_LARGE", false), row(0, "internal error, try again", true)];
        assert_eq!(
            reply(201, &[], body).outcome,
            RequestOutcome::AcceptedWithErrors { rows, other: None, others_accepted: false }
        );
        let twice = r#"{"message":"success","errors":[
            {"type":"internal error, try again","input_array":"user_ids","index":1},
            {"type":"EXTERNAL_USER_ID_TOO_LARGE","input_array":"user_ids","index":1},
            {"type":"ANOTHER","input_array":"user_ids","index":1}]}"#;
        let rows = vec![row(2, "EXTERNAL_USER_ID_TOO_LARGE", false)];
        let once = RequestOutcome::AcceptedWithErrors { rows, other: None, others_accepted: false };
        assert_eq!(reply(201, &[], twice).outcome, once, "a member is rejected once");
        let vague = r#"{"message":"success","errors":["something went wrong"]}"#;
        let other = |text: &str| RequestOutcome::AcceptedWithErrors {
            rows: vec![],
            other: Some(text.to_owned()),
            others_accepted: false,
        };
        assert_eq!(reply(201, &[], vague).outcome, other("something went wrong"));
        assert_eq!(reply(201, &[], r#"{"errors":"read only"}"#).outcome, other("read only"));
        assert_eq!(reply(201, &[], r#"{"errors":{"a":1}}"#).outcome, other(r#"{"a":1}"#));
        let fatal = r#"{"message":"fatal","errors":[{"type":"x","input_array":"user_ids","index":0}]}"#;
        assert_eq!(reply(200, &[], fatal).outcome, other("fatal"));
        assert_eq!(reply(200, &[], r#"{"message":"queued"}"#).outcome, other("queued"));
    }

    #[test]
    fn a_success_without_brazes_body_is_foreign() {
        let bodies = [
            "",
            " ",
            "<html>Please log in</html>",
            "ok",
            "[]",
            "{}",
            r#"{"errors":null}"#,
            r#"{"message":"succ"#,
        ];
        for status in [200, 201, 202, 204] {
            for body in bodies {
                assert!(
                    matches!(reply(status, &[], body).outcome, RequestOutcome::Foreign(at, _) if at == status),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn a_redirect_names_its_target_and_a_408_may_have_been_done() {
        let moved =
            reply(301, &[("location", "https://rest.iad-03.braze.example/partners?canary=1")], "").outcome;
        let text = "redirected to https://rest.iad-03.braze.example/partners; set `endpoint:` to the address that responds";
        assert_eq!(moved, RequestOutcome::Failed(RequestFailure::Unexpected(301, text.to_owned())));
        assert_eq!(reply(408, &[], "").outcome, RequestOutcome::Failed(RequestFailure::Unavailable(408)));
    }

    #[test]
    fn a_message_never_repeats_a_key() {
        let body = r#"{"message":"Partner not enabled for client with client secret: canary-1"}"#;
        let shown = "Partner not enabled for client with client secret: [secret]".to_owned();
        assert_eq!(
            reply(401, &[], body).outcome,
            RequestOutcome::Failed(RequestFailure::Unauthorized(shown))
        );
        let long = format!(r#"{{"message":"{}canary-2"}}"#, "x".repeat(295));
        assert!(!format!("{:?}", reply(400, &[], &long)).contains("cana"), "not even in part");
    }

    #[test]
    fn the_wait_after_429_comes_from_the_first_header_present() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("x-ratelimit-reset", "1592427600")]), Some(2600));
        let slow_clock = [("x-ratelimit-reset", "1592427600"), ("date", "Wed, 17 Jun 2020 20:50:00 GMT")];
        assert_eq!(wait(&slow_clock), Some(600), "ten minutes by Braze's clock");
        assert_eq!(wait(&[("x-ratelimit-reset", "30")]), Some(30));
        assert_eq!(wait(&[("x-ratelimit-reset", "30"), ("x-ratelimit-retry-after", "7")]), Some(7));
        assert_eq!(wait(&[("x-ratelimit-retry-after", "7"), ("retry-after", "3")]), Some(3));
        assert_eq!(wait(&[("x-ratelimit-reset", "")]), None);
        assert_eq!(wait(&[("retry-after", "1.2")]), Some(2), "a fraction is rounded up");
        assert_eq!(wait(&[("retry-after", "soon"), ("x-ratelimit-retry-after", "0.5")]), Some(1));
        for date in
            ["Wed, 17 Jun 2020 20:17:10 GMT", "Wednesday, 17-Jun-20 20:17:10 GMT", "Wed Jun 17 20:17:10 2020"]
        {
            assert_eq!(wait(&[("retry-after", date)]), Some(30), "{date}");
        }
        let slow_clock =
            [("retry-after", "Wed, 17 Jun 2020 21:00:00 GMT"), ("date", "Wed, 17 Jun 2020 20:59:00 GMT")];
        assert_eq!(wait(&slow_clock), Some(60), "a minute by Braze's clock");
    }

    #[test]
    fn every_response_reports_the_window() {
        let headers = [("x-ratelimit-remaining", "249938"), ("x-ratelimit-reset", "1592427600")];
        let reset = Timestamp::from_second(1_592_427_600).unwrap();
        let remaining = RemainingQuota { requests: 249_938, window: 1_592_427_600, until: reset };
        assert_eq!(reply(201, &headers, "").remaining, Some(remaining));
        assert_eq!(
            reply(401, &[("x-ratelimit-remaining", ""), ("x-ratelimit-reset", "")], "").remaining,
            None
        );
    }
}
