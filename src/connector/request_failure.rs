//! Failures of requests that change something, by the meaning of their status for every vendor.

use super::headers::{display_text, redirect_message, retry_at};
use super::http::{HttpError, HttpReply};
use crate::foreign::without_users;
use crate::model::Timestamp;

/// The failure of a request. Its text is the vendor's message, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// 400: not done, because of something in the request.
    #[error("{0}")]
    BadRequest(String),
    /// 413: not done, too large.
    #[error("too large (413)")]
    TooLarge,
    /// 401 or 403: not done; other requests with these keys will fail too.
    #[error("{0}")]
    Unauthorized(String),
    /// 429: not done. The reset of the limit, if the response names it.
    #[error("the rate limit is used up")]
    RateLimited(Option<Timestamp>),
    /// 408 or 5xx: possibly done.
    #[error("status {0}")]
    Unavailable(u16),
    /// Any other status: not done, and a retry is useless.
    #[error("{1}")]
    Unexpected(u16, String),
    /// No response: possibly done.
    #[error("no answer ({0})")]
    NoAnswer(String),
    /// Not reached: not done.
    #[error("not reached ({0})")]
    NotReached(String),
}

impl RequestFailure {
    /// Classifies a response that is no success. `message` returns the vendor's text for display.
    pub(super) fn of_response(
        response: &HttpReply,
        message: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Self {
        match response.status {
            status @ 300..=399 => {
                Self::Unexpected(status, display_text(&redirect_message(&response.headers)))
            }
            400 => Self::BadRequest(message()),
            401 | 403 => Self::Unauthorized(message()),
            413 => Self::TooLarge,
            429 => Self::RateLimited(retry_at(&response.headers, now)),
            status @ (408 | 500..=599) => Self::Unavailable(status),
            status => Self::Unexpected(status, message()),
        }
    }

    /// The same failure without the users of the request in its message: it goes to logs and reports.
    #[must_use]
    pub fn without_users<'a>(mut self, users: impl Iterator<Item = &'a str>) -> Self {
        if let Self::BadRequest(text) | Self::Unauthorized(text) | Self::Unexpected(_, text) = &mut self {
            *text = without_users(text, users);
        }
        self
    }

    /// Whether it has the vendor's message, which may repeat the request.
    #[must_use]
    pub fn has_message(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::Unauthorized(_) | Self::Unexpected(..))
    }

    /// Whether the request may have been done, or may still be done.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Unavailable(_))
    }

    /// The cause of another attempt, as a clause. `None` if another attempt is useless.
    #[must_use]
    pub fn retry_cause(&self, vendor: &str) -> Option<String> {
        match self {
            Self::RateLimited(_) => Some(format!("{vendor} limits the rate (429)")),
            Self::Unavailable(status) => Some(format!("{vendor} responds with status {status}")),
            Self::NoAnswer(why) | Self::NotReached(why) => Some(format!("{vendor} does not answer: {why}")),
            Self::BadRequest(_) | Self::TooLarge | Self::Unauthorized(_) | Self::Unexpected(..) => None,
        }
    }

    /// The code of the failure in the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
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

impl From<&HttpError> for RequestFailure {
    fn from(error: &HttpError) -> Self {
        match error {
            HttpError::NoAnswer(why) => Self::NoAnswer(why.clone()),
            HttpError::NotReached(why) | HttpError::Client(why) => Self::NotReached(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn a_status_has_one_meaning_for_every_vendor() {
        for (status, code, text, may_be_done) in [
            (301, "unexpected", "redirected, without a `Location` header; check `endpoint:`", false),
            (400, "bad_request", "words", false),
            (401, "unauthorized", "words", false),
            (403, "unauthorized", "words", false),
            (404, "unexpected", "words", false),
            (408, "unavailable", "status 408", true),
            (413, "too_large", "too large (413)", false),
            (429, "rate_limited", "the rate limit is used up", false),
            (503, "unavailable", "status 503", true),
        ] {
            let response = HttpReply { status, headers: HeaderMap::new(), body: Vec::new() };
            let failure =
                RequestFailure::of_response(&response, || "words".to_owned(), Timestamp::UNIX_EPOCH);
            let found = (failure.code(), failure.to_string(), failure.may_be_done());
            assert_eq!(found, (code, text.to_owned(), may_be_done), "{status}");
        }
    }

    #[test]
    fn only_a_request_that_was_sent_may_have_been_done() {
        for (error, text, may_be_done) in [
            (HttpError::NoAnswer("timed out".to_owned()), "no answer (timed out)", true),
            (HttpError::NotReached("no route".to_owned()), "not reached (no route)", false),
            (HttpError::Client("no certificates".to_owned()), "not reached (no certificates)", false),
        ] {
            let failure = RequestFailure::from(&error);
            assert_eq!((failure.to_string().as_str(), failure.may_be_done()), (text, may_be_done));
        }
    }
}
