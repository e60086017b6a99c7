//! A file on a web server: its metadata and its bytes, by ranges if the server supports them, otherwise by one plain
//! request.
//!
//! Source: RFC 9110. A weak tag (`W/"…"`) never satisfies `If-Match` (13.1.1), so it is compared with the tag of each
//! answer instead (8.8.3.2).

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    LAST_MODIFIED, RANGE,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tracing::Instrument as _;
use url::Url;

use super::error::error_text;
use super::public;
use super::retried::{AttemptError, READ_RETRY, retried};
use super::thread::{PendingRequest, RequestThread};
use crate::foreign::cleaned;
use crate::wait_log;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Read timeout without any byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Metadata of the content in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentValidators {
    pub(super) len: Option<u64>,
    /// The tag as the server wrote it.
    pub(super) tag: Option<String>,
    pub(super) modified: Option<SystemTime>,
}

/// A file on a web server.
#[derive(Clone, Debug)]
pub(super) struct WebFile {
    client: Client,
    url: Url,
    thread: RequestThread,
    pub(super) metadata: ContentValidators,
    /// The server supports ranges, and its answers identify the content.
    pub(super) has_ranges: bool,
}

impl WebFile {
    /// Requests the file's metadata. Unless `is_allowed`, private addresses are rejected.
    pub(super) fn find(url: &str, is_allowed: bool) -> io::Result<Self> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        // Only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        #[allow(
            clippy::disallowed_methods,
            reason = "files of web servers: redirects are followed, no key is sent"
        )]
        let builder = Client::builder()
            .https_only(url.scheme() == "https")
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        let builder = if is_allowed { builder } else { public::only(builder, &url) };
        let client = builder.build().map_err(transport)?;
        let thread = RequestThread::start()?;
        let (asking, address) = (client.clone(), url.clone());
        let (metadata, has_ranges) =
            thread.wait(async move { with_retries(&address, || fetch_metadata(&asking, &address)).await })?;
        let can_be_tied = metadata.tag.is_some() || metadata.modified.is_some();
        let has_ranges = has_ranges && can_be_tied && metadata.len.is_some();
        Ok(Self { client, url, thread, metadata, has_ranges })
    }

    /// Starts the request of a range.
    pub(super) fn begin(&self, range: Range<u64>) -> PendingRequest<io::Result<Bytes>> {
        let file = self.clone();
        self.thread.begin(async move { with_retries(&file.url, || file.range(&range)).await })
    }

    async fn range(&self, range: &Range<u64>) -> Result<Bytes, WebReadError> {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let mut request = get(&self.client, Method::GET, &self.url).header(RANGE, header);
        if let Some(tag) = self.metadata.tag.as_ref().filter(|tag| !is_weak(tag)) {
            request = request.header(IF_MATCH, tag);
        }
        self.part(send(request).await?, range).await
    }

    /// The bytes of an answer, if they belong to the expected content.
    async fn part(&self, response: Response, range: &Range<u64>) -> Result<Bytes, WebReadError> {
        let of_answer = validators(response.headers());
        let total = content_range(response.headers());
        let is_whole = response.status() == StatusCode::OK;
        let is_same =
            self.metadata.is_same(&ContentValidators { len: total.map(|(_, total)| total), ..of_answer });
        if !is_same || (total.is_none() && !is_whole) {
            return Err(WebReadError::lasting(replaced()));
        }
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let bytes = response.bytes().await.map_err(WebReadError::from)?;
        match total {
            Some((start, _)) if start == range.start && bytes.len() == wanted => Ok(bytes),
            // The server returned the whole file for a range.
            None if usize::try_from(range.end).is_ok_and(|end| end <= bytes.len()) => {
                let start = usize::try_from(range.start).unwrap_or(usize::MAX);
                Ok(bytes.slice(start..start + wanted))
            }
            _ => {
                let what = format!("received {} of {wanted} bytes", bytes.len());
                Err(WebReadError { error: io::Error::other(what), is_transient: true })
            }
        }
    }

    /// Downloads the whole file into a temporary file without a name.
    pub(super) fn download(&self) -> io::Result<File> {
        let file = self.clone();
        self.thread.wait(async move { with_retries(&file.url, || file.whole()).await })
    }

    async fn whole(&self) -> Result<File, WebReadError> {
        let mut response = send(get(&self.client, Method::GET, &self.url)).await?;
        let mut file = tempfile::tempfile().map_err(WebReadError::lasting)?;
        // The HTTP client detects an answer that ends early.
        while let Some(chunk) = response.chunk().await.map_err(WebReadError::from)? {
            file.write_all(&chunk).map_err(WebReadError::lasting)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(WebReadError::lasting)?;
        Ok(file)
    }
}

/// The file's metadata, and whether the server supports ranges. Servers without HEAD are asked for one byte.
async fn fetch_metadata(client: &Client, url: &Url) -> Result<(ContentValidators, bool), WebReadError> {
    match send(get(client, Method::HEAD, url)).await {
        Ok(head) if length(head.headers()).is_some() => {
            let ranges = head.headers().get(ACCEPT_RANGES).is_some_and(|value| value == "bytes");
            return Ok((validators(head.headers()), ranges));
        }
        _ => {}
    }
    match send(get(client, Method::GET, url).header(RANGE, "bytes=0-0")).await {
        Ok(received) => {
            let total = content_range(received.headers()).map(|(_, total)| total);
            let headers = validators(received.headers());
            Ok((ContentValidators { len: total.or(headers.len), ..headers }, total.is_some()))
        }
        // An empty file has no first byte.
        Err(failed) if failed.error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok((ContentValidators::default(), false))
        }
        Err(failed) => Err(failed),
    }
}

/// Repeats a request to a web server.
async fn with_retries<T, F: Future<Output = Result<T, WebReadError>>>(
    url: &Url,
    attempt: impl FnMut() -> F,
) -> io::Result<T> {
    let host = url.host_str().unwrap_or_default();
    let cause = |error: &io::Error| format!("{host} does not send a file: {error}");
    retried(READ_RETRY, host, cause, attempt).await
}

/// A request for the bytes without content encoding.
fn get(client: &Client, method: Method, url: &Url) -> RequestBuilder {
    client.request(method, url.clone()).header(ACCEPT_ENCODING, "identity")
}

type WebReadError = AttemptError<io::Error>;

impl From<reqwest::Error> for WebReadError {
    fn from(error: reqwest::Error) -> Self {
        Self { is_transient: !error.is_builder() && !error.is_redirect(), error: transport(error) }
    }
}

fn transport(error: reqwest::Error) -> io::Error {
    io::Error::other(error_text(&error.without_url()))
}

async fn send(request: RequestBuilder) -> Result<Response, WebReadError> {
    let (client, request) = request.build_split();
    let request = request?;
    let endpoint = format!("{}{}", request.url().origin().ascii_serialization(), request.url().path());
    let span = wait_log::request_span(request.method().as_str(), &cleaned(&endpoint));
    let logged = async {
        let result = client.execute(request).await;
        match &result {
            Ok(response) => wait_log::log_response(response.status().as_u16(), |name| {
                response.headers().get(name)?.to_str().ok().map(cleaned)
            }),
            Err(_) => wait_log::log_no_response("no response"),
        }
        result
    };
    let response = logged.instrument(span).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let kind = match status.as_u16() {
        404 | 410 => io::ErrorKind::NotFound,
        401 | 403 => io::ErrorKind::PermissionDenied,
        412 => return Err(WebReadError::lasting(replaced())),
        416 => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::Other,
    };
    let is_transient = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    Err(WebReadError {
        error: io::Error::new(kind, format!("the server responds with {status}")),
        is_transient,
    })
}

pub(super) fn replaced() -> io::Error {
    io::Error::new(io::ErrorKind::StaleNetworkFileHandle, "it was replaced while it was read")
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

fn validators(headers: &HeaderMap) -> ContentValidators {
    let modified = text(headers, &LAST_MODIFIED)
        .and_then(|text| jiff::fmt::rfc2822::parse(&text).ok())
        .and_then(|time| u64::try_from(time.timestamp().as_second()).ok())
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    ContentValidators { len: length(headers), tag: text(headers, &ETAG), modified }
}

/// The start of a range, and the length of the whole file.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = text(headers, &CONTENT_RANGE)?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()?))
}

impl ContentValidators {
    /// Whether an answer may belong to the expected content.
    fn is_same(&self, answer: &Self) -> bool {
        let same_len = self.len.zip(answer.len).is_none_or(|(found, now)| found == now);
        let same_tag = match (&self.tag, &answer.tag) {
            (Some(found), Some(now)) => strong_part(found) == strong_part(now),
            // A server that no longer sends tags does not identify its content.
            (Some(_), None) => false,
            (None, _) => self.modified == answer.modified,
        };
        same_len && same_tag
    }
}

/// Whether a tag is weak: it promises equivalence only.
pub(super) fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

/// The tag without its weak marker.
pub(super) fn strong_part(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
