//! What Heap answered, read for what it means.
//!
//! Source: Heap, "Track": 200, or 400 with a text. No document knows of 413, 429 or 5xx; they are read as HTTP
//! means them. A body is never parsed.

use super::super::headers::{retry_at, shown};
use super::super::http::{self, HttpError};
use crate::model::Timestamp;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
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

impl Answer {
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

pub(super) fn read(result: Result<http::Answer, HttpError>, now: Timestamp) -> Answer {
    let answer = match result {
        Ok(answer) => answer,
        Err(HttpError::NoAnswer(why)) => return Answer::NoAnswer(why),
        Err(HttpError::NotReached(why) | HttpError::Client(why)) => return Answer::NotReached(why),
    };
    let text = || shown(String::from_utf8_lossy(&answer.body).trim(), []);
    match answer.status {
        200..=299 => Answer::Taken,
        400 => Answer::BadRequest(text()),
        401 | 403 => Answer::Unauthorized(text()),
        413 => Answer::TooLarge,
        429 => Answer::RateLimited(retry_at(&answer.headers, now)),
        408 | 500..=599 => Answer::Unavailable(answer.status),
        status => Answer::Unexpected(status, text()),
    }
}
