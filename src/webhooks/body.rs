//! Request bodies: read in chunks, within limits of length, time and memory.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;

use super::accept::RequestReceipt;
use super::reply::RequestError;
use crate::config::EndpointLimits;

/// The number of bytes that are decompressed at once.
const CHUNK_LEN: usize = 16 << 10;
/// The memory of the decompressor: window, tables and chunk.
const DECOMPRESSOR_LEN: usize = 64 << 10;

/// The wait for the memory of an evicted connection.
const EVICTION: Duration = Duration::from_millis(10);

/// The memory for all bodies that are being received.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<AtomicUsize>);

impl BodyMemory {
    /// A memory limit in bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A share without memory.
    fn share(&self) -> BodyMemoryShare {
        BodyMemoryShare { memory: self.clone(), bytes: 0 }
    }
}

/// The memory of one body. It is released on drop.
#[derive(Debug)]
pub(super) struct BodyMemoryShare {
    memory: BodyMemory,
    bytes: usize,
}

impl BodyMemoryShare {
    fn grow(&mut self, bytes: usize) -> Result<(), RequestError> {
        let less = |left: usize| left.checked_sub(bytes);
        self.memory
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .map_err(|_| RequestError::Unavailable)?;
        self.bytes += bytes;
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) {
        let less = bytes.min(self.bytes);
        self.bytes -= less;
        self.memory.0.fetch_add(less, Ordering::Relaxed);
    }
}

impl Drop for BodyMemoryShare {
    fn drop(&mut self) {
        self.memory.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body and its share of the memory.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    share: BodyMemoryShare,
}

/// Reads a body without decompressing it.
///
/// # Errors
/// [`RequestError`] when it is too large or too slow, or the memory is full.
pub(super) async fn read(
    parts: &Parts,
    mut body: Incoming,
    limits: &EndpointLimits,
    memory: &BodyMemory,
) -> Result<ReceivedBody, RequestError> {
    let (headers, receipt) = (&parts.headers, parts.extensions.get::<RequestReceipt>());
    let headers_len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers_len > limits.headers_len_max {
        return Err(RequestError::HeadersTooLarge);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > limits.body_len_max) {
        return Err(RequestError::TooLarge);
    }
    let mut received = ReceivedBody { bytes: Vec::new(), share: memory.share() };
    // Headers and read buffer stay in memory as long as the body.
    received.share.grow(headers_len + limits.buffer_len())?;
    let len_max = announced.unwrap_or(limits.body_len_max);
    let all = async {
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame.map_err(|_| RequestError::Broken)?.into_data() else { continue };
            if received.bytes.len() + chunk.len() > limits.body_len_max {
                return Err(RequestError::TooLarge);
            }
            while let Err(full) = received.reserve(chunk.len(), len_max) {
                if !receipt.is_some_and(RequestReceipt::evict_other) {
                    return Err(full);
                }
                tokio::time::sleep(EVICTION).await;
            }
            received.bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    tokio::time::timeout(limits.request_time, all).await.unwrap_or(Err(RequestError::TooSlow))?;
    Ok(received)
}

impl ReceivedBody {
    /// Allocates memory for more bytes. The old and the new buffer count until the bytes are copied.
    fn reserve(&mut self, more: usize, len_max: usize) -> Result<(), RequestError> {
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

    /// Decompresses the body, if its headers name an encoding.
    ///
    /// # Errors
    /// [`RequestError`] when the encoding is not gzip, or the result is too large.
    pub(super) fn decompressed(
        mut self,
        headers: &HeaderMap,
        limits: &EndpointLimits,
    ) -> Result<Self, RequestError> {
        let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        match encoding {
            None | Some(b"" | b"identity") => return Ok(self),
            Some(b"gzip") => {}
            Some(_) => return Err(RequestError::Encoding),
        }
        let compressed = std::mem::take(&mut self.bytes);
        self.share.grow(DECOMPRESSOR_LEN)?;
        let mut decoder = MultiGzDecoder::new(compressed.as_slice());
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            let len = decoder.read(&mut chunk).map_err(|_| RequestError::Broken)?;
            if len == 0 {
                break;
            }
            if self.bytes.len() + len > limits.body_len_max {
                return Err(RequestError::TooLarge);
            }
            self.reserve(len, limits.body_len_max)?;
            self.bytes.extend_from_slice(&chunk[..len]);
        }
        self.share.shrink(compressed.capacity() + DECOMPRESSOR_LEN);
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
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decompression_stops_at_the_limit_and_releases_its_memory() {
        let memory = BodyMemory::new(4 << 20);
        let received = |bytes: &[u8]| {
            let mut received = ReceivedBody { bytes: Vec::new(), share: memory.share() };
            let compressed = gzip(bytes);
            received.reserve(compressed.len(), compressed.len()).unwrap();
            received.bytes.extend_from_slice(&compressed);
            received
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let bomb = received(&vec![0; 64 << 20]);
        assert!(bomb.bytes.len() < 100_000);
        assert_eq!(bomb.decompressed(&headers, &limits()).unwrap_err(), RequestError::TooLarge);
        let small = received(b"{}").decompressed(&headers, &limits()).unwrap();
        assert_eq!(small.bytes, b"{}");
        assert_eq!(small.share.bytes, small.bytes.capacity());
        drop(small);
        assert_eq!(memory.0.load(Ordering::Relaxed), 4 << 20);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
        assert_eq!(received(b"{}").decompressed(&headers, &limits()).unwrap_err(), RequestError::Encoding);
    }
}
