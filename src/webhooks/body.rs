//! A request's body: read chunk by chunk, within bounds of length, time and memory.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};

use super::EndpointReply;
use super::accept::Receipt;
use crate::config::EndpointLimits;

/// What whoever must come back is told to wait, in seconds.
const RETRY_AFTER_SECONDS: &str = "15";

/// Bytes that are unpacked at a time, and what unpacking needs besides: window, tables and that.
const CHUNK_LEN: usize = 16 << 10;
const UNPACKER_LEN: usize = 64 << 10;

/// How long it takes until whoever gives way has.
const GIVE_WAY: Duration = Duration::from_millis(10);

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// Its body is larger than any may be.
    TooLarge,
    /// Its headers are larger than any may be.
    HeadersTooLarge,
    /// It took too long.
    TooSlow,
    /// It ended before its end.
    Broken,
    /// It is packed in a way that is not taken.
    Packed,
    /// There is no room for it now.
    NoRoom,
    /// It is not authenticated: how that shows.
    BadSignature(&'static str),
    /// It is signed with another secret.
    WrongSignature,
    /// It has no token.
    NoToken,
    /// It has another token.
    WrongToken,
    /// It is no JSON.
    NotJson,
    /// It is nested deeper than any may be.
    TooDeep,
    /// The door takes POST only.
    Method,
    /// There is no such door.
    NoDoor,
    /// It has both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
}

impl BodyRefusal {
    /// The status and the words.
    fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Self::HeadersTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the request took too long"),
            Self::Broken => (StatusCode::BAD_REQUEST, "the body ends before its end"),
            Self::Packed => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gzip can be unpacked"),
            Self::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "there is no room now"),
            Self::BadSignature(what) => (StatusCode::BAD_REQUEST, what),
            Self::WrongSignature => (StatusCode::FORBIDDEN, "Invalid signature"),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "a bearer token is needed"),
            Self::WrongToken => (StatusCode::FORBIDDEN, "the token is not the right one"),
            Self::NotJson => (StatusCode::BAD_REQUEST, "the body is not JSON"),
            Self::TooDeep => (StatusCode::BAD_REQUEST, "the JSON is nested too deep"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "POST it"),
            Self::NoDoor => (StatusCode::NOT_FOUND, "there is nothing here"),
            Self::TwoLengths => {
                (StatusCode::BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
            }
        }
    }

    /// The answer.
    #[must_use]
    pub fn answer(self) -> EndpointReply {
        let (status, words) = self.parts();
        let mut answer = json(status, &format!(r#"{{"error":"{words}"}}"#));
        let headers = answer.headers_mut();
        match self {
            Self::NoRoom => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))),
            Self::Method => drop(headers.insert(hyper::header::ALLOW, HeaderValue::from_static("POST"))),
            // What is left of the body is not waited for.
            Self::TooLarge | Self::HeadersTooLarge | Self::TooSlow | Self::TwoLengths => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        answer
    }
}

/// An answer with JSON in it.
pub(super) fn json(status: StatusCode, text: &str) -> EndpointReply {
    let mut answer = EndpointReply::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Memory for bodies, shared by all that are being received.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<AtomicUsize>);

impl BodyMemory {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// An empty share of it.
    fn share(&self) -> BodyMemoryShare {
        BodyMemoryShare { budget: self.clone(), bytes: 0 }
    }
}

/// What one body has taken of the memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct BodyMemoryShare {
    budget: BodyMemory,
    bytes: usize,
}

impl BodyMemoryShare {
    fn grow(&mut self, bytes: usize) -> Result<(), BodyRefusal> {
        let less = |left: usize| left.checked_sub(bytes);
        self.budget
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .map_err(|_| BodyRefusal::NoRoom)?;
        self.bytes += bytes;
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) {
        let less = bytes.min(self.bytes);
        self.bytes -= less;
        self.budget.0.fetch_add(less, Ordering::Relaxed);
    }
}

impl Drop for BodyMemoryShare {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body, with the memory that it takes.
#[derive(Debug)]
pub(super) struct Received {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    share: BodyMemoryShare,
}

/// Reads a body as it was sent.
///
/// # Errors
/// [`Refusal`] when it is too large or too slow, or when there is no room for it.
pub(super) async fn read(
    parts: &Parts,
    mut body: Incoming,
    limits: &EndpointLimits,
    budget: &BodyMemory,
) -> Result<Received, BodyRefusal> {
    let (headers, receipt) = (&parts.headers, parts.extensions.get::<Receipt>());
    let headers_len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers_len > limits.headers_len_max {
        return Err(BodyRefusal::HeadersTooLarge);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > limits.body_len_max) {
        return Err(BodyRefusal::TooLarge);
    }
    let mut received = Received { bytes: Vec::new(), share: budget.share() };
    // They stay as long as the body takes, and so does the buffer that it is read into.
    received.share.grow(headers_len + limits.buffer_len())?;
    let len_max = announced.unwrap_or(limits.body_len_max);
    let all = async {
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame.map_err(|_| BodyRefusal::Broken)?.into_data() else { continue };
            if received.bytes.len() + chunk.len() > limits.body_len_max {
                return Err(BodyRefusal::TooLarge);
            }
            while let Err(none) = received.reserve(chunk.len(), len_max) {
                if !receipt.is_some_and(Receipt::make_room) {
                    return Err(none);
                }
                tokio::time::sleep(GIVE_WAY).await;
            }
            received.bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    tokio::time::timeout(limits.request_time, all).await.unwrap_or(Err(BodyRefusal::TooSlow))?;
    Ok(received)
}

impl Received {
    /// Makes room for more bytes. What is counted is what is allocated, while it is moved as well.
    fn reserve(&mut self, more: usize, len_max: usize) -> Result<(), BodyRefusal> {
        let (needed, had) = (self.bytes.len() + more, self.bytes.capacity());
        if needed <= had {
            return Ok(());
        }
        let capacity = (2 * had).min(len_max).max(needed);
        self.share.grow(capacity)?;
        let mut larger = Vec::with_capacity(capacity);
        larger.extend_from_slice(&self.bytes);
        self.bytes = larger;
        self.share.shrink(had);
        Ok(())
    }

    /// Unpacks the body, if its headers say that it is packed.
    ///
    /// # Errors
    /// [`Refusal`] when it is packed in another way than gzip, or becomes too large.
    pub(super) fn unpacked(
        mut self,
        headers: &HeaderMap,
        limits: &EndpointLimits,
    ) -> Result<Self, BodyRefusal> {
        let packed = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        match packed {
            None | Some(b"" | b"identity") => return Ok(self),
            Some(b"gzip") => {}
            Some(_) => return Err(BodyRefusal::Packed),
        }
        let packed = std::mem::take(&mut self.bytes);
        self.share.grow(UNPACKER_LEN)?;
        let mut unpacker = MultiGzDecoder::new(packed.as_slice());
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            let len = unpacker.read(&mut chunk).map_err(|_| BodyRefusal::Broken)?;
            if len == 0 {
                break;
            }
            if self.bytes.len() + len > limits.body_len_max {
                return Err(BodyRefusal::TooLarge);
            }
            self.reserve(len, limits.body_len_max)?;
            self.bytes.extend_from_slice(&chunk[..len]);
        }
        self.share.shrink(packed.capacity() + UNPACKER_LEN);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn limits() -> EndpointLimits {
        let second = std::time::Duration::from_secs(1);
        EndpointLimits {
            body_len_max: 1 << 20,
            headers_len_max: 64 << 10,
            header_time: second,
            request_time: second,
            idle_time: second,
            connections_max: 8,
            streams_max: 8,
            json_depth_max: 8,
            memory_max: 4 << 20,
            inbox_len_max: 1 << 30,
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_gives_its_memory_back() {
        let budget = BodyMemory::new(4 << 20);
        let received = |bytes: &[u8]| {
            let mut received = Received { bytes: Vec::new(), share: budget.share() };
            let packed = gzip(bytes);
            received.reserve(packed.len(), packed.len()).unwrap();
            received.bytes.extend_from_slice(&packed);
            received
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let bomb = received(&vec![0; 64 << 20]);
        assert!(bomb.bytes.len() < 100_000);
        assert_eq!(bomb.unpacked(&headers, &limits()).unwrap_err(), BodyRefusal::TooLarge);
        let small = received(b"{}").unpacked(&headers, &limits()).unwrap();
        assert_eq!(small.bytes, b"{}");
        assert_eq!(small.share.bytes, small.bytes.capacity());
        drop(small);
        assert_eq!(budget.0.load(Ordering::Relaxed), 4 << 20);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
        assert_eq!(received(b"{}").unpacked(&headers, &limits()).unwrap_err(), BodyRefusal::Packed);
    }
}
