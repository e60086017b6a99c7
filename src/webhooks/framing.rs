//! Detection of HTTP request smuggling: finds HTTP/1 requests with both `Content-Length` and `Transfer-Encoding`.
//!
//! A proxy may end such a request at another byte than the HTTP library. The library drops one of the two headers, so the
//! check reads the bytes of the connection; it passes them on unchanged. After a request with `Transfer-Encoding` the
//! connection must be closed, so this module need not parse chunks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The checked length of a header line: enough for the names and a length.
const LINE_LEN_MAX: usize = 256;

/// Findings of a connection so far.
#[derive(Debug, Default)]
pub(super) struct FramingFindings {
    ambiguous: AtomicBool,
    last: AtomicBool,
}

impl FramingFindings {
    /// Whether a request had both headers.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Whether the connection must be closed after this request.
    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }
}

/// The position of the next byte in the stream of requests.
#[derive(Debug, PartialEq, Eq)]
enum FramingPosition {
    /// In the headers of a request.
    Head,
    /// In a body, this number of bytes before its end.
    Body(u64),
    /// In the last checked request.
    Last,
}

/// A stream that checks its bytes as they are read.
pub(super) struct FramedStream<S> {
    stream: S,
    at: FramingPosition,
    line: Vec<u8>,
    lines: usize,
    length: Option<Option<u64>>,
    is_encoded: bool,
    findings: Arc<FramingFindings>,
}

impl<S> FramedStream<S> {
    /// `is_h2`: the connection uses HTTP/2, which has no ambiguous lengths, so nothing is checked.
    pub(super) fn new(stream: S, is_h2: bool) -> Self {
        let (findings, at) =
            (Arc::default(), if is_h2 { FramingPosition::Last } else { FramingPosition::Head });
        Self { stream, at, line: Vec::new(), lines: 0, length: None, is_encoded: false, findings }
    }

    pub(super) fn findings(&self) -> Arc<FramingFindings> {
        Arc::clone(&self.findings)
    }

    fn check(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                FramingPosition::Last => return,
                FramingPosition::Body(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= len as u64;
                    bytes = &bytes[len..];
                    if *left == 0 {
                        self.at = FramingPosition::Head;
                    }
                }
                FramingPosition::Head => {
                    bytes = rest;
                    match first {
                        b'\n' => self.end_line(),
                        byte if self.line.len() < LINE_LEN_MAX => self.line.push(*byte),
                        _ => {}
                    }
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        if line.is_empty() {
            if self.lines > 0 {
                self.end_head();
            }
            return; // empty lines before a request are skipped
        }
        self.lines += 1;
        let Some(colon) = line.iter().position(|byte| *byte == b':').filter(|_| self.lines > 1) else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.length = Some(self.length.unwrap_or(length).filter(|_| length.is_some()));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_encoded = true;
        }
    }

    fn end_head(&mut self) {
        self.lines = 0;
        let (length, is_encoded) = (self.length.take(), std::mem::take(&mut self.is_encoded));
        if is_encoded && length.is_some() {
            self.findings.ambiguous.store(true, Ordering::Relaxed);
        }
        self.at = match length {
            None if !is_encoded => FramingPosition::Head,
            Some(Some(0)) if !is_encoded => FramingPosition::Head,
            Some(Some(length)) if !is_encoded => FramingPosition::Body(length),
            _ => {
                self.findings.last.store(true, Ordering::Relaxed);
                FramingPosition::Last
            }
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FramedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..) {
            self.check(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FramedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> (bool, bool) {
        let mut framed = FramedStream::new((), false);
        // The result does not depend on how the bytes are split.
        for step in [1, 7, text.len()] {
            framed = FramedStream::new((), false);
            text.as_bytes().chunks(step).for_each(|chunk| framed.check(chunk));
        }
        (framed.findings.is_ambiguous(), framed.findings.is_last())
    }

    #[test]
    fn two_lengths_are_found_in_either_order_and_in_any_request_of_a_connection() {
        let (te, cl) = ("Transfer-Encoding: chunked\r\n", "content-length: 5\r\n");
        let first = "POST / HTTP/1.1\r\ncontent-length: 27\r\n\r\ntransfer-encoding: x\r\n\r\nend";
        for before in ["", "\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\n", first] {
            for (headers, expected) in [
                (format!("{te}{cl}"), (true, true)),
                (format!("{cl}{te}"), (true, true)),
                (format!("{cl}x: y\n{te}").to_uppercase(), (true, true)),
                (te.to_owned(), (false, true)),
                (cl.to_owned(), (false, false)),
                (format!("{cl}{cl}"), (false, false)),
                (String::new(), (false, false)),
                (format!("content-length: {}5\r\n", " ".repeat(400)), (false, true)),
            ] {
                let text = format!("{before}POST / HTTP/1.1\r\n{headers}\r\nhello");
                assert_eq!(findings(&text), expected, "{text}");
            }
        }
    }
}
