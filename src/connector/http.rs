//! The one HTTP client. It follows no redirect, shows no secret, and tells apart what matters to whoever
//! must not send twice or lose count: not sent, sent without an answer, answered.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};

use crate::foreign::cleaned;
use crate::model::Timestamp;

/// Bytes of an answer to a post that are read. Braze's are some hundred.
const BODY_LEN_MAX: usize = 1 << 20;
/// Bytes of an answer to a question that are read. The details of a campaign hold all its texts.
const TOLD_LEN_MAX: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The peer was not reached, so it has done nothing.
    #[error("not reached: {0}")]
    NotReached(String),
    /// The request went out and no answer came back: it may have been done.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The client itself cannot be made.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// What a request says of who asks.
#[derive(Clone, Copy)]
pub enum Auth<'a> {
    /// A name and a password.
    Basic(&'a str, &'a str),
    /// A token.
    Bearer(&'a str),
}

impl Auth<'_> {
    fn put(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::Basic(name, password) => request.basic_auth(name, Some(password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, cut at 1 MiB, or at 32 MiB where a key was shown.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// When the vendor answered, by its own clock and to the second.
    #[must_use]
    pub fn sent_at(&self) -> Option<Timestamp> {
        super::headers::sent_at(&self.headers)
    }
}

/// Sends requests to one vendor.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    user_agent: String,
    timeout: Duration,
}

impl HttpClient {
    /// A client for the vendor at `base`. For this machine itself no proxy is used.
    ///
    /// # Errors
    /// [`HttpError::Client`] when the system's certificates cannot be used, say.
    #[allow(clippy::disallowed_methods, reason = "the one lawful place")]
    pub fn new(base: &str, user_agent: String, timeout: Duration) -> Result<Self, HttpError> {
        // A second installation is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .tcp_nodelay(true);
        if base.starts_with("http://") {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| HttpError::Client(reason(e)))?;
        Ok(Self { client, user_agent, timeout })
    }

    /// Posts JSON and reads the answer.
    ///
    /// # Errors
    /// [`HttpError`] when there is none; what was not reached has done nothing.
    pub async fn post_json(&self, url: &str, body: impl Into<reqwest::Body>) -> Result<HttpReply, HttpError> {
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request, BODY_LEN_MAX).await
    }

    /// Posts JSON under this authorization and reads the answer.
    ///
    /// # Errors
    /// As [`Http::post_json`].
    pub async fn post_as(&self, url: &str, auth: &Auth<'_>, body: Vec<u8>) -> Result<HttpReply, HttpError> {
        let request = auth.put(self.client.post(url));
        self.send(request.header(CONTENT_TYPE, "application/json").body(body), TOLD_LEN_MAX).await
    }

    /// Gets what is there, under this authorization.
    ///
    /// # Errors
    /// As [`Http::post_json`].
    pub async fn get_as(&self, url: &str, auth: &Auth<'_>) -> Result<HttpReply, HttpError> {
        self.send(auth.put(self.client.get(url)), TOLD_LEN_MAX).await
    }

    /// Gets a page. Its status says little where nothing is known of the page; that there is an answer does.
    ///
    /// # Errors
    /// As [`Http::post_json`].
    pub async fn get(&self, url: &str) -> Result<HttpReply, HttpError> {
        self.send(self.client.get(url), BODY_LEN_MAX).await
    }

    async fn send(&self, request: RequestBuilder, len_max: usize) -> Result<HttpReply, HttpError> {
        let request = request.header(USER_AGENT, &self.user_agent).timeout(self.timeout);
        let mut response = request.send().await.map_err(explain)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            body.extend_from_slice(&chunk[..chunk.len().min(len_max - body.len())]);
            if body.len() == len_max {
                break;
            }
        }
        Ok(HttpReply {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }
}

fn explain(error: reqwest::Error) -> HttpError {
    if error.is_connect() { HttpError::NotReached(reason(error)) } else { HttpError::NoAnswer(reason(error)) }
}

/// The innermost cause, which is the one that says something, without the URL and without secrets.
fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cleaned(&cause.to_string())
}
