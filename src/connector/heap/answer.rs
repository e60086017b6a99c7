//! What Heap answered, read for what it means.
//!
//! Source: Heap, "Track": 200, or 400 with a text. No document knows of 413, 429 or 5xx; they are read as HTTP
//! means them. The body of a success is not fixed: `{}`, `OK`, nothing and 204 were all seen. Only a page of HTML is
//! certain not to be Heap's: a proxy or a portal answered, and the events are sent again.

use super::super::headers::{redirected, retry_at, shown};
use super::super::http::{self, HttpError};
use crate::model::Timestamp;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapReply {
    /// Taken.
    Taken,
    /// 400: not taken, because of something in it.
    BadRequest(String),
    /// 413: not taken, too large.
    TooLarge,
    /// 401 or 403: not taken, and no other request will be.
    Unauthorized(String),
    /// 429: not taken. When it may be asked again, if Heap says so.
    RateLimited(Option<Timestamp>),
    /// 5xx: perhaps taken.
    Unavailable(u16),
    /// Any other status: not taken, and asking again will not help.
    Unexpected(u16, String),
    /// No answer: perhaps taken.
    NoAnswer(String),
    /// Not reached: not taken.
    NotReached(String),
}

impl HeapReply {
    /// The answer in a word, for journal and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Taken => "accepted",
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

pub(super) fn read(result: Result<http::HttpReply, HttpError>, now: Timestamp) -> HeapReply {
    let answer = match result {
        Ok(answer) => answer,
        Err(HttpError::NoAnswer(why)) => return HeapReply::NoAnswer(why),
        Err(HttpError::NotReached(why) | HttpError::Client(why)) => return HeapReply::NotReached(why),
    };
    let text = || shown(String::from_utf8_lossy(&answer.body).trim());
    match answer.status {
        200..=299 if is_page(&answer) => {
            let what = "a page of HTML, which is not Heap's answer; check `endpoint:` and proxies";
            HeapReply::Unexpected(answer.status, what.to_owned())
        }
        200..=299 => HeapReply::Taken,
        300..=399 => HeapReply::Unexpected(answer.status, shown(&redirected(&answer.headers))),
        400 => HeapReply::BadRequest(text()),
        401 | 403 => HeapReply::Unauthorized(text()),
        413 => HeapReply::TooLarge,
        429 => HeapReply::RateLimited(retry_at(&answer.headers, now)),
        408 | 500..=599 => HeapReply::Unavailable(answer.status),
        status => HeapReply::Unexpected(status, text()),
    }
}

fn is_page(answer: &http::HttpReply) -> bool {
    let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
    let says_html = content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("text/html"));
    (says_html && !answer.body.trim_ascii().is_empty()) || answer.body.trim_ascii().starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> HeapReply {
        let pair =
            |(k, v): &(&'static str, &'static str)| (HeaderName::from_static(k), HeaderValue::from_static(v));
        let headers: HeaderMap = headers.iter().map(pair).collect();
        read(Ok(http::HttpReply { status, headers, body: body.as_bytes().to_vec() }), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_page_of_html_is_not_heaps_answer() {
        for (status, body) in [(200, "{}"), (200, "OK"), (200, ""), (204, "")] {
            assert_eq!(answer(status, &[], body), HeapReply::Taken, "{status} {body}");
        }
        assert_eq!(answer(200, &[("content-type", "text/html")], ""), HeapReply::Taken, "nothing is no page");
        for body in ["<html>Log in</html>", "\n<!DOCTYPE html>"] {
            assert!(matches!(answer(200, &[], body), HeapReply::Unexpected(200, _)), "{body}");
        }
        let page = answer(200, &[("content-type", "text/html; charset=utf-8")], "Log in");
        assert!(matches!(page, HeapReply::Unexpected(200, _)));
    }

    #[test]
    fn a_redirect_says_where_to_without_secrets() {
        let location = "https://user:canary@other.example/api/track?token=canary#canary";
        let HeapReply::Unexpected(301, text) = answer(301, &[("location", location)], "") else { panic!() };
        assert!(text.contains("redirected to https://other.example/api/track;"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(answer(408, &[], ""), HeapReply::Unavailable(408));
    }
}
