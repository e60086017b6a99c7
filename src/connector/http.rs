//! HTTP client. It follows no redirects and logs no secrets. Its errors distinguish a request that was not sent from one
//! without a response, so that callers never send twice by mistake.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};
use reqwest::{Request, RequestBuilder, Url};
use tracing::Instrument as _;

use super::headers::display_text;
#[cfg(test)]
use super::simulated_network::{SimulatedFailure, SimulatedReply, ThreadNetwork};
use crate::foreign::cleaned;
use crate::model::Timestamp;
use crate::wait_log;

/// Bytes read of a response. Braze's responses to changes have some hundred.
const BODY_LEN_MAX: usize = 1 << 20;
/// Bytes read of a response to a request with a key. The details of a campaign contain all its texts.
const AUTHORIZED_BODY_LEN_MAX: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason for a missing response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server was not reached, so it has done nothing.
    #[error("not reached: {0}")]
    NotReached(String),
    /// The request was sent and has no response: it may have been done.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The client could not be created.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// The authorization of a request.
#[derive(Clone, Copy)]
pub enum HttpAuth<'a> {
    /// Name and password.
    Basic(&'a str, &'a str),
    /// Token.
    Bearer(&'a str),
}

impl HttpAuth<'_> {
    fn apply_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic(name, password) => request.basic_auth(name, Some(password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// A response.
#[derive(Debug)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, cut at 1 MiB, or at 32 MiB for a request with a key.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// The time of the response by the vendor's clock, to the second.
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
    /// Whether the path of the address is secret, and not logged.
    has_secret_path: bool,
    #[cfg(test)]
    simulated: ThreadNetwork,
}

impl HttpClient {
    /// A client for the vendor at `base`. Unencrypted addresses, which are local, use no proxy.
    ///
    /// # Errors
    /// [`HttpError::Client`] when the client cannot be created, for example without usable system certificates.
    pub fn new(base: &str, user_agent: String, timeout: Duration) -> Result<Self, HttpError> {
        Ok(Self {
            client: web_client(base, timeout)?,
            user_agent,
            timeout,
            has_secret_path: false,
            #[cfg(test)]
            simulated: ThreadNetwork::current(),
        })
    }

    /// The same client, which does not log the path of its address.
    #[must_use]
    pub fn with_secret_path(self) -> Self {
        Self { has_secret_path: true, ..self }
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// [`HttpError`] when there is no response.
    pub async fn post_json(&self, url: &str, body: impl Into<reqwest::Body>) -> Result<HttpReply, HttpError> {
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request, BODY_LEN_MAX).await
    }

    /// Posts JSON with authorization.
    ///
    /// # Errors
    /// As [`HttpClient::post_json`].
    pub async fn post_as(
        &self,
        url: &str,
        auth: &HttpAuth<'_>,
        body: Vec<u8>,
    ) -> Result<HttpReply, HttpError> {
        let request = auth.apply_to(self.client.post(url));
        self.send(request.header(CONTENT_TYPE, "application/json").body(body), AUTHORIZED_BODY_LEN_MAX).await
    }

    /// Sends a GET request with authorization.
    ///
    /// # Errors
    /// As [`HttpClient::post_json`].
    pub async fn get_as(&self, url: &str, auth: &HttpAuth<'_>) -> Result<HttpReply, HttpError> {
        self.send(auth.apply_to(self.client.get(url)), AUTHORIZED_BODY_LEN_MAX).await
    }

    /// Sends a GET request without authorization.
    ///
    /// # Errors
    /// As [`HttpClient::post_json`].
    pub async fn get(&self, url: &str) -> Result<HttpReply, HttpError> {
        self.send(self.client.get(url), BODY_LEN_MAX).await
    }

    async fn send(&self, request: RequestBuilder, len_max: usize) -> Result<HttpReply, HttpError> {
        let request = request.header(USER_AGENT, &self.user_agent).timeout(self.timeout);
        let request = request.build().map_err(http_error)?;
        let span = wait_log::request_span(request.method().as_str(), &self.endpoint(request.url()));
        let logged = async {
            let result = self.receive(request, len_max).await;
            match &result {
                Ok(reply) => wait_log::log_response(reply.status, |name| header_text(&reply.headers, name)),
                Err(error) => wait_log::log_no_response(&error.to_string()),
            }
            result
        };
        logged.instrument(span).await
    }

    /// The address for the log, without query, fragment and credentials, which may be secret.
    fn endpoint(&self, url: &Url) -> String {
        let path = if self.has_secret_path { "/…" } else { url.path() };
        display_text(&format!("{}{path}", url.origin().ascii_serialization()))
    }

    async fn receive(&self, request: Request, len_max: usize) -> Result<HttpReply, HttpError> {
        #[cfg(test)]
        if let Some(network) = &self.simulated.0 {
            return simulated_reply(network.exchange(request).await);
        }
        let mut response = self.client.execute(request).await.map_err(http_error)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(http_error)? {
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

#[allow(clippy::disallowed_methods, reason = "the only HTTP client of the program")]
fn web_client(base: &str, timeout: Duration) -> Result<reqwest::Client, HttpError> {
    #[cfg(test)]
    if let Some(client) = ThreadNetwork::unused_client() {
        return Ok(client);
    }
    // A second installation fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .tcp_nodelay(true);
    if base.starts_with("http://") {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| HttpError::Client(reason(e)))
}

#[cfg(test)]
fn simulated_reply(result: Result<SimulatedReply, SimulatedFailure>) -> Result<HttpReply, HttpError> {
    result.map(|(status, headers, body)| HttpReply { status, headers, body }).map_err(|failure| match failure
    {
        SimulatedFailure::NotReached => HttpError::NotReached("no connection".to_owned()),
        SimulatedFailure::NoAnswer => HttpError::NoAnswer("connection closed".to_owned()),
    })
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(display_text)
}

fn http_error(error: reqwest::Error) -> HttpError {
    if error.is_connect() { HttpError::NotReached(reason(error)) } else { HttpError::NoAnswer(reason(error)) }
}

/// The innermost cause, which is the most specific one, without the URL and without secrets.
fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<std::io::Error>() {
        // Without the error number of the operating system.
        Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        _ => cleaned(&cause.to_string()),
    }
}
