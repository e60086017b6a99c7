//! Responses, and the errors of requests.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

/// The value of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: &str = "15";

/// A response.
pub type EndpointReply = hyper::Response<Full<Bytes>>;

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The body exceeds the limit.
    TooLarge,
    /// The headers exceed the limit.
    HeadersTooLarge,
    /// The request took too long.
    TooSlow,
    /// The body is incomplete or damaged.
    Broken,
    /// The body has an unsupported encoding.
    Encoding,
    /// Memory or the inbox is full, or this process is not the leader.
    Unavailable,
    /// The signature is missing or malformed, with the reason.
    BadSignature(&'static str),
    /// The signature does not match any secret.
    WrongSignature,
    /// The token is missing.
    NoToken,
    /// The token is wrong.
    WrongToken,
    /// The body is not JSON.
    NotJson,
    /// The JSON is nested too deeply.
    TooDeep,
    /// The endpoint accepts POST only.
    Method,
    /// There is no such endpoint.
    NotFound,
    /// The request has both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
}

impl RequestError {
    /// The status and the text.
    #[must_use]
    pub fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Self::HeadersTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the request took too long"),
            Self::Broken => (StatusCode::BAD_REQUEST, "the body is incomplete or damaged"),
            Self::Encoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported content encoding; only gzip is supported")
            }
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "temporarily unavailable"),
            Self::BadSignature(reason) => (StatusCode::BAD_REQUEST, reason),
            Self::WrongSignature => (StatusCode::FORBIDDEN, "Invalid signature"),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "a bearer token is required"),
            Self::WrongToken => (StatusCode::FORBIDDEN, "the token is wrong"),
            Self::NotJson => (StatusCode::BAD_REQUEST, "the body is not JSON"),
            Self::TooDeep => (StatusCode::BAD_REQUEST, "the JSON is nested too deeply"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "only POST is supported"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found"),
            Self::TwoLengths => {
                (StatusCode::BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
            }
        }
    }

    /// The likely cause of a request that is not authenticated or has no endpoint, and what to do. Other errors have their
    /// cause in the response.
    #[must_use]
    pub fn likely_cause(self) -> Option<&'static str> {
        match self {
            Self::BadSignature(_) => Some(
                "Heap sends no valid `Heap-Hash`: the sender is not Heap, a proxy removes the header or delays the \
                 request, or a clock is wrong",
            ),
            Self::WrongSignature => Some(
                "`webhook_secret` differs from the secret of the webhook in Heap, or a proxy changes the body: copy the \
                 secret from Heap again",
            ),
            Self::NoToken => Some("the sender is not Braze, or a proxy removes the header `Authorization`"),
            Self::WrongToken => {
                Some("`token` differs from the token of the Currents connector: set the same token in Braze")
            }
            Self::NotFound => Some(
                "the URL in Heap or Braze has another path than the endpoint: `syncline doctor` shows the URLs to set \
                 there; scanners of the internet cause such requests too",
            ),
            _ => None,
        }
    }

    /// The response.
    #[must_use]
    pub fn response(self) -> EndpointReply {
        let (status, text) = self.parts();
        let mut response = json(status, &format!(r#"{{"error":"{text}"}}"#));
        let headers = response.headers_mut();
        match self {
            Self::Unavailable => {
                drop(headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)));
            }
            Self::Method => drop(headers.insert(hyper::header::ALLOW, HeaderValue::from_static("POST"))),
            // The rest of the body is not read.
            Self::TooLarge | Self::HeadersTooLarge | Self::TooSlow | Self::TwoLengths => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, text: &str) -> EndpointReply {
    let mut response = EndpointReply::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
