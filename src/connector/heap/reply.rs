//! Classification of Heap's responses.
//!
//! Source: Heap, "Track": 200, or 400 with a text. 413, 429 and 5xx are undocumented, and have their HTTP meaning. The
//! body of a success varies: `{}`, `OK`, empty, and 204 were observed. An HTML page is not Heap's: a proxy or a portal
//! responded, and the events are sent again.

use crate::connector::headers::{display_text, redirect_message, retry_at};
use crate::connector::http::{HttpError, HttpReply};
use crate::foreign::without_users;
use crate::model::Timestamp;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapReply {
    /// Accepted.
    Accepted,
    /// 400: not accepted, because of something in the request.
    BadRequest(String),
    /// 413: not accepted, too large.
    TooLarge,
    /// 401 or 403: not accepted; other requests will fail too.
    Unauthorized(String),
    /// 429: not accepted. The time of the next attempt, if the response names it.
    RateLimited(Option<Timestamp>),
    /// 408 or 5xx: possibly accepted.
    Unavailable(u16),
    /// Any other status: not accepted, and a retry is useless.
    Unexpected(u16, String),
    /// No response: possibly accepted.
    NoAnswer(String),
    /// Not reached: not accepted.
    NotReached(String),
}

impl HeapReply {
    /// The same reply without the identities of a request in its message: it goes to logs and reports.
    #[must_use]
    pub fn without_users<'a>(mut self, users: impl Iterator<Item = &'a str>) -> Self {
        if let Self::BadRequest(text) | Self::Unauthorized(text) | Self::Unexpected(_, text) = &mut self {
            *text = without_users(text, users);
        }
        self
    }

    /// Whether its message may repeat the request.
    #[must_use]
    pub fn has_message(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::Unauthorized(_) | Self::Unexpected(..))
    }

    /// Why another attempt may succeed, as a clause. `None` if no attempt follows.
    #[must_use]
    pub fn retry_cause(&self) -> Option<String> {
        match self {
            Self::RateLimited(_) => Some("Heap limits the rate (429)".to_owned()),
            Self::Unavailable(status) => Some(format!("Heap responds with status {status}")),
            Self::NoAnswer(why) | Self::NotReached(why) => Some(format!("Heap does not answer: {why}")),
            _ => None,
        }
    }

    /// The code of the outcome in the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge => "too_large",
            Self::Unauthorized(_) => "unauthorized",
            Self::RateLimited(_) => "rate_limited",
            Self::Unavailable(_) => "unavailable",
            Self::Unexpected(..) => "unexpected",
            Self::NoAnswer(_) => "no_answer",
            Self::NotReached(_) => "not_reached",
        }
    }
}

pub(super) fn read(result: Result<HttpReply, HttpError>, now: Timestamp) -> HeapReply {
    let response = match result {
        Ok(response) => response,
        Err(HttpError::NoAnswer(why)) => return HeapReply::NoAnswer(why),
        Err(HttpError::NotReached(why) | HttpError::Client(why)) => return HeapReply::NotReached(why),
    };
    let text = || display_text(String::from_utf8_lossy(&response.body).trim());
    match response.status {
        200..=299 if is_html(&response) => {
            let message = "a page of HTML, which is not Heap's answer; check `endpoint:` and proxies";
            HeapReply::Unexpected(response.status, message.to_owned())
        }
        200..=299 => HeapReply::Accepted,
        300..=399 => {
            HeapReply::Unexpected(response.status, display_text(&redirect_message(&response.headers)))
        }
        400 => HeapReply::BadRequest(text()),
        401 | 403 => HeapReply::Unauthorized(text()),
        413 => HeapReply::TooLarge,
        429 => HeapReply::RateLimited(retry_at(&response.headers, now)),
        408 | 500..=599 => HeapReply::Unavailable(response.status),
        status => HeapReply::Unexpected(status, text()),
    }
}

fn is_html(response: &HttpReply) -> bool {
    let content_type = response.headers.get("content-type").and_then(|value| value.to_str().ok());
    let says_html = content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("text/html"));
    (says_html && !response.body.trim_ascii().is_empty()) || response.body.trim_ascii().starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> HeapReply {
        let pair =
            |(k, v): &(&'static str, &'static str)| (HeaderName::from_static(k), HeaderValue::from_static(v));
        let headers: HeaderMap = headers.iter().map(pair).collect();
        read(Ok(HttpReply { status, headers, body: body.as_bytes().to_vec() }), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_page_of_html_is_not_heaps_answer() {
        for (status, body) in [(200, "{}"), (200, "OK"), (200, ""), (204, "")] {
            assert_eq!(reply(status, &[], body), HeapReply::Accepted, "{status} {body}");
        }
        assert_eq!(
            reply(200, &[("content-type", "text/html")], ""),
            HeapReply::Accepted,
            "an empty body is no page"
        );
        for body in ["<html>Log in</html>", "\n<!DOCTYPE html>"] {
            assert!(matches!(reply(200, &[], body), HeapReply::Unexpected(200, _)), "{body}");
        }
        let page = reply(200, &[("content-type", "text/html; charset=utf-8")], "Log in");
        assert!(matches!(page, HeapReply::Unexpected(200, _)));
    }

    #[test]
    fn a_redirect_names_its_target_without_secrets() {
        let location = "https://user:canary@other.example/api/track?token=canary#canary";
        let HeapReply::Unexpected(301, text) = reply(301, &[("location", location)], "") else { panic!() };
        assert!(text.contains("redirected to https://other.example/api/track;"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(reply(408, &[], ""), HeapReply::Unavailable(408));
    }
}
