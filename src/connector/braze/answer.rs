//! What Braze answered, read for what it means and not for how it is worded.
//!
//! Source: Braze, "Partner cohort import" (400, 401, 423), "API errors" (the rest; a 2xx may carry
//! `errors`), "API limits" (headers). A body is shown only as its `message`, shortened, and with the keys
//! removed from it: Braze's own 401 repeats the client secret.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::super::headers::{number, redirected, reset, retry_at, shown};
use super::super::http::{self, HttpError};
use super::wire::ArrayLayout;
use crate::model::Timestamp;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrazeReply {
    /// Done.
    Accepted,
    /// Done, except that Braze complains.
    AcceptedWithErrors {
        /// Complaints about members that it names.
        named: Vec<RowError>,
        /// A complaint that names no member; what it is about is not known.
        other: Option<String>,
        /// Whether whoever is not named is done, by Braze's word.
        rest_done: bool,
    },
    /// 400: not done, because of something in it.
    BadRequest(String),
    /// 413: not done, too large.
    TooLarge,
    /// 401 or 403: not done, and no other request with these keys will be.
    Unauthorized(String),
    /// 423: not done, another write is under way.
    Locked,
    /// 429: not done. When the limit resets, if Braze says so.
    RateLimited(Option<Timestamp>),
    /// 408 or 5xx: perhaps done.
    Unavailable(u16),
    /// A 2xx without Braze's body: a proxy, a portal or a wrong endpoint answered. Perhaps done.
    Foreign(u16, &'static str),
    /// Any other status: not done, and asking again will not help.
    Unexpected(u16, String),
    /// No answer: perhaps done.
    NoAnswer(String),
    /// Not reached: not done.
    NotReached(String),
}

/// A complaint about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Its place among the members of the request.
    pub member: usize,
    /// What Braze says.
    pub message: String,
    /// Whether asking again may help.
    pub again: bool,
}

/// An answer with what it says about the rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyDetails {
    /// The answer.
    pub answer: BrazeReply,
    /// What is left of the limit, if Braze says so.
    pub left: Option<RemainingQuota>,
}

/// What is left of the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingQuota {
    /// Requests.
    pub requests: u64,
    /// The end of the window as Braze names it, which tells windows apart.
    pub window: i64,
    /// The end of the window by our clock.
    pub until: Timestamp,
}

impl BrazeReply {
    /// Whether Braze may have done what was asked, or may still do it.
    #[must_use]
    pub fn may_be_handled_later(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Unavailable(_) | Self::Foreign(..))
    }

    /// The answer in a word, for the journal.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedWithErrors { .. } => "accepted_with_errors",
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge => "too_large",
            Self::Unauthorized(_) => "unauthorized",
            Self::Locked => "locked",
            Self::RateLimited(_) => "rate_limited",
            Self::Unavailable(_) => "unavailable",
            Self::Foreign(..) => "foreign",
            Self::Unexpected(..) => "unexpected",
            Self::NoAnswer(_) => "no_answer",
            Self::NotReached(_) => "not_reached",
        }
    }
}

/// Reads an answer.
pub(super) fn read(
    result: &Result<http::HttpReply, HttpError>,
    layout: &ArrayLayout,
    now: Timestamp,
) -> ReplyDetails {
    match result {
        Ok(answer) => {
            ReplyDetails { left: left(&answer.headers, now), answer: classify(answer, layout, now) }
        }
        Err(HttpError::NoAnswer(why)) => {
            ReplyDetails { answer: BrazeReply::NoAnswer(why.clone()), left: None }
        }
        Err(HttpError::NotReached(why) | HttpError::Client(why)) => {
            ReplyDetails { answer: BrazeReply::NotReached(why.clone()), left: None }
        }
    }
}

fn classify(answer: &http::HttpReply, layout: &ArrayLayout, now: Timestamp) -> BrazeReply {
    let text = answer.body.trim_ascii();
    let parsed = text.starts_with(b"{").then(|| serde_json::from_slice(text).ok()).flatten();
    let foreign = if text.is_empty() { "an empty body" } else { "a body that is not Braze's" };
    let is_object = parsed.is_some();
    let body: ReplyBody = parsed.unwrap_or_default();
    let message = || shown(body.message.as_deref().unwrap_or("(no message)"));
    match answer.status {
        200..=299 if is_object => accepted(&body, layout)
            .unwrap_or(BrazeReply::Foreign(answer.status, "a body without Braze's `message`")),
        200..=299 => BrazeReply::Foreign(answer.status, foreign),
        300..=399 => BrazeReply::Unexpected(answer.status, shown(&redirected(&answer.headers))),
        400 => all_named(&body, layout).unwrap_or_else(|| BrazeReply::BadRequest(message())),
        401 | 403 => BrazeReply::Unauthorized(message()),
        413 => BrazeReply::TooLarge,
        423 => BrazeReply::Locked,
        429 => BrazeReply::RateLimited(retry_at(&answer.headers, now)),
        408 | 500..=599 => BrazeReply::Unavailable(answer.status),
        status => BrazeReply::Unexpected(status, message()),
    }
}

/// The envelope of every answer; a body that is none says nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyBody {
    message: Option<String>,
    errors: Option<serde_json::Value>,
}

/// A 2xx with a JSON object. None: nothing in it is Braze's, which answers every success with a `message`.
fn accepted(body: &ReplyBody, layout: &ArrayLayout) -> Option<BrazeReply> {
    let errors = match &body.errors {
        None | Some(serde_json::Value::Null) => &[],
        Some(serde_json::Value::Array(errors)) => errors.as_slice(),
        Some(other) => std::slice::from_ref(other),
    };
    if errors.is_empty() && body.message.as_deref() == Some("success") {
        return Some(BrazeReply::Accepted);
    }
    if errors.is_empty() && body.message.is_none() {
        return None;
    }
    let (mut named, mut other) = (Vec::new(), None);
    // Braze's envelope of a fatal error: another message, and nothing was done.
    if let Some(message) = body.message.as_deref().filter(|message| *message != "success") {
        return Some(BrazeReply::AcceptedWithErrors { named, other: Some(shown(message)), rest_done: false });
    }
    for error in errors {
        match row_error(error, layout) {
            Some(row) => named.push(row),
            None => other = Some(shown(&plain(error))),
        }
    }
    let named = once_each(named);
    // "Non-fatal errors: the data that they do not affect is processed" (Braze, "API errors"). That this holds for
    // the cohort import as well is nowhere said.
    let rest_done = layout.attributes() > 0 && other.is_none();
    Some(BrazeReply::AcceptedWithErrors { named, other, rest_done })
}

/// A 400 that says of every single object what is wrong with it (Braze, "Track users").
fn all_named(body: &ReplyBody, layout: &ArrayLayout) -> Option<BrazeReply> {
    let errors = body.errors.as_ref()?.as_array().filter(|_| layout.attributes() > 0)?;
    let mut named = Vec::new();
    for error in errors {
        named.push(row_error(error, layout)?);
    }
    let named = once_each(named);
    let is_all = named.len() == layout.attributes();
    is_all.then_some(BrazeReply::AcceptedWithErrors { named, other: None, rest_done: true })
}

/// One error for each member, in the order of the answer: Braze may name a member more than once. An error that is
/// final counts before one that may run.
fn once_each(errors: Vec<RowError>) -> Vec<RowError> {
    let mut once: Vec<RowError> = Vec::with_capacity(errors.len());
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    for error in errors {
        match places.get(&error.member) {
            None => {
                places.insert(error.member, once.len());
                once.push(error);
            }
            Some(place) if once[*place].again && !error.again => once[*place] = error,
            Some(_) => {}
        }
    }
    once
}

fn row_error(error: &serde_json::Value, layout: &ArrayLayout) -> Option<RowError> {
    let index = usize::try_from(error.get("index")?.as_u64()?).ok()?;
    let member = layout.member(error.get("input_array")?.as_str()?, index)?;
    let kind = error.get("type").map(plain).unwrap_or_default();
    Some(RowError { member, again: is_passing(&kind), message: shown(&kind) })
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Braze's documented item errors are all about the item itself and stay; what reads like trouble on
/// Braze's side may run.
fn is_passing(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    ["internal", "timeout", "timed out", "temporar", "try again", "unavailable", "rate limit", "locked"]
        .iter()
        .any(|sign| kind.contains(sign))
}

fn left(headers: &HeaderMap, now: Timestamp) -> Option<RemainingQuota> {
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

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ReplyDetails {
        let keys = super::super::ImportKeys {
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
        let answer = http::HttpReply { status, headers, body: body.as_bytes().to_vec() };
        read(&Ok(answer), &layout, Timestamp::from_second(NOW).unwrap())
    }

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<i64> {
        match reply(429, headers, "").answer {
            BrazeReply::RateLimited(at) => at.map(|at| at.as_second() - NOW),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_success_says_so_and_errors_in_it_are_read() {
        assert_eq!(reply(201, &[], r#"{"message":"success"}"#).answer, BrazeReply::Accepted);
        assert_eq!(reply(200, &[], r#"{"message":"success","errors":[]}"#).answer, BrazeReply::Accepted);
        let body = r#"{"message":"success","errors":[
            {"type":"EXTERNAL_USER_ID_TOO_LARGE","input_array":"user_ids","index":1},
            {"type":"internal error, try again","input_array":"device_ids","index":0}]}"#;
        let row = |member, message: &str, again| RowError { member, message: message.to_owned(), again };
        let named =
            vec![row(2, "EXTERNAL_USER_ID_TOO_LARGE", false), row(0, "internal error, try again", true)];
        assert_eq!(
            reply(201, &[], body).answer,
            BrazeReply::AcceptedWithErrors { named, other: None, rest_done: false }
        );
        let twice = r#"{"message":"success","errors":[
            {"type":"internal error, try again","input_array":"user_ids","index":1},
            {"type":"EXTERNAL_USER_ID_TOO_LARGE","input_array":"user_ids","index":1},
            {"type":"ANOTHER","input_array":"user_ids","index":1}]}"#;
        let named = vec![row(2, "EXTERNAL_USER_ID_TOO_LARGE", false)];
        let once = BrazeReply::AcceptedWithErrors { named, other: None, rest_done: false };
        assert_eq!(reply(201, &[], twice).answer, once, "a member is rejected once");
        let vague = r#"{"message":"success","errors":["something went wrong"]}"#;
        let other = |text: &str| BrazeReply::AcceptedWithErrors {
            named: vec![],
            other: Some(text.to_owned()),
            rest_done: false,
        };
        assert_eq!(reply(201, &[], vague).answer, other("something went wrong"));
        assert_eq!(reply(201, &[], r#"{"errors":"read only"}"#).answer, other("read only"));
        assert_eq!(reply(201, &[], r#"{"errors":{"a":1}}"#).answer, other(r#"{"a":1}"#));
        let fatal = r#"{"message":"fatal","errors":[{"type":"x","input_array":"user_ids","index":0}]}"#;
        assert_eq!(reply(200, &[], fatal).answer, other("fatal"));
        assert_eq!(reply(200, &[], r#"{"message":"queued"}"#).answer, other("queued"));
    }

    #[test]
    fn a_success_without_brazes_body_is_not_brazes() {
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
                    matches!(reply(status, &[], body).answer, BrazeReply::Foreign(at, _) if at == status),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn a_redirect_says_where_to_and_a_408_may_have_been_done() {
        let moved =
            reply(301, &[("location", "https://rest.iad-03.braze.example/partners?canary=1")], "").answer;
        let text = "redirected to https://rest.iad-03.braze.example/partners; set `endpoint:` to the address that answers";
        assert_eq!(moved, BrazeReply::Unexpected(301, text.to_owned()));
        assert_eq!(reply(408, &[], "").answer, BrazeReply::Unavailable(408));
    }

    #[test]
    fn a_message_never_repeats_a_key() {
        let body = r#"{"message":"Partner not enabled for client with client secret: canary-1"}"#;
        let shown = "Partner not enabled for client with client secret: [secret]".to_owned();
        assert_eq!(reply(401, &[], body).answer, BrazeReply::Unauthorized(shown));
        let long = format!(r#"{{"message":"{}canary-2"}}"#, "x".repeat(295));
        assert!(!format!("{:?}", reply(400, &[], &long)).contains("cana"), "not even in part");
    }

    #[test]
    fn the_wait_after_429_comes_from_the_first_header_that_is_there() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("x-ratelimit-reset", "1592427600")]), Some(2600));
        let slow_clock = [("x-ratelimit-reset", "1592427600"), ("date", "Wed, 17 Jun 2020 20:50:00 GMT")];
        assert_eq!(wait(&slow_clock), Some(600), "ten minutes by Braze's clock, whatever ours says");
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
    fn the_window_is_read_on_every_answer() {
        let headers = [("x-ratelimit-remaining", "249938"), ("x-ratelimit-reset", "1592427600")];
        let reset = Timestamp::from_second(1_592_427_600).unwrap();
        let left = RemainingQuota { requests: 249_938, window: 1_592_427_600, until: reset };
        assert_eq!(reply(201, &headers, "").left, Some(left));
        assert_eq!(reply(401, &[("x-ratelimit-remaining", ""), ("x-ratelimit-reset", "")], "").left, None);
    }
}
