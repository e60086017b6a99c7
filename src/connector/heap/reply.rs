//! Classification of Heap's responses.
//!
//! Source: Heap, "Track": 200, or 400 with a text. 413, 429 and 5xx are undocumented, and have their HTTP meaning. The
//! body of a success varies: `{}`, `OK`, empty, and 204 were observed. An HTML page is not Heap's: a proxy or a portal
//! responded, and the events are sent again.

use crate::connector::destination::RequestFailure;
use crate::connector::headers::display_text;
use crate::connector::http::{HttpError, HttpReply};
use crate::model::Timestamp;

/// Classifies the result of a request.
pub(super) fn read(result: &Result<HttpReply, HttpError>, now: Timestamp) -> Result<(), RequestFailure> {
    let response = result.as_ref()?;
    let text = || display_text(String::from_utf8_lossy(&response.body).trim());
    match response.status {
        200..=299 if is_html(response) => {
            let message = "a page of HTML, which is not Heap's answer; check `endpoint:` and proxies";
            Err(RequestFailure::Unexpected(response.status, message.to_owned()))
        }
        200..=299 => Ok(()),
        _ => Err(RequestFailure::of_response(response, text, now)),
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

    fn reply(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> Result<(), RequestFailure> {
        let pair =
            |(k, v): &(&'static str, &'static str)| (HeaderName::from_static(k), HeaderValue::from_static(v));
        let headers: HeaderMap = headers.iter().map(pair).collect();
        read(&Ok(HttpReply { status, headers, body: body.as_bytes().to_vec() }), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_page_of_html_is_not_heaps_answer() {
        for (status, body) in [(200, "{}"), (200, "OK"), (200, ""), (204, "")] {
            assert_eq!(reply(status, &[], body), Ok(()), "{status} {body}");
        }
        assert_eq!(reply(200, &[("content-type", "text/html")], ""), Ok(()), "an empty body is no page");
        for body in ["<html>Log in</html>", "\n<!DOCTYPE html>"] {
            assert!(matches!(reply(200, &[], body), Err(RequestFailure::Unexpected(200, _))), "{body}");
        }
        let page = reply(200, &[("content-type", "text/html; charset=utf-8")], "Log in");
        assert!(matches!(page, Err(RequestFailure::Unexpected(200, _))));
    }

    #[test]
    fn a_redirect_names_its_target_without_secrets() {
        let location = "https://user:canary@other.example/api/track?token=canary#canary";
        let Err(RequestFailure::Unexpected(301, text)) = reply(301, &[("location", location)], "") else {
            panic!()
        };
        assert!(text.contains("redirected to https://other.example/api/track;"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(reply(408, &[], ""), Err(RequestFailure::Unavailable(408)));
    }
}
