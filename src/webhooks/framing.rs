//! Reads along with an HTTP/1 connection and notices requests whose length is ambiguous: those with both
//! `Content-Length` and `Transfer-Encoding`. A proxy in front may end such a request at another byte than the HTTP
//! library, which drops one of the two headers before anyone can see it.
//!
//! The bytes run through unchanged. After a request with `Transfer-Encoding` the connection is to be closed, so
//! that chunks need not be understood here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a header line that are looked at: enough for the names and a length.
const LINE_LEN_MAX: usize = 256;

/// What was noticed so far.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    ambiguous: AtomicBool,
    last: AtomicBool,
}

impl Noticed {
    /// Whether a request had two lengths.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Whether no further request may follow on the connection.
    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }
}

/// Where in the stream of requests the next byte is.
#[derive(Debug, PartialEq, Eq)]
enum At {
    /// In the head of a request.
    Head,
    /// So many bytes before the end of a body.
    Body(u64),
    /// In the last request.
    Last,
}

/// A stream that is read along with.
pub(super) struct Framed<S> {
    stream: S,
    at: At,
    line: Vec<u8>,
    lines: usize,
    length: Option<Option<u64>>,
    is_encoded: bool,
    noticed: Arc<Noticed>,
}

impl<S> Framed<S> {
    /// `is_h2`: the connection speaks HTTP/2, whose requests have one length.
    pub(super) fn new(stream: S, is_h2: bool) -> Self {
        let (noticed, at) = (Arc::default(), if is_h2 { At::Last } else { At::Head });
        Self { stream, at, line: Vec::new(), lines: 0, length: None, is_encoded: false, noticed }
    }

    pub(super) fn noticed(&self) -> Arc<Noticed> {
        Arc::clone(&self.noticed)
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Last => return,
                At::Body(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= len as u64;
                    bytes = &bytes[len..];
                    if *left == 0 {
                        self.at = At::Head;
                    }
                }
                At::Head => {
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
            self.noticed.ambiguous.store(true, Ordering::Relaxed);
        }
        self.at = match length {
            None if !is_encoded => At::Head,
            Some(Some(0)) if !is_encoded => At::Head,
            Some(Some(length)) if !is_encoded => At::Body(length),
            _ => {
                self.noticed.last.store(true, Ordering::Relaxed);
                At::Last
            }
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..) {
            self.see(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
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

    fn noticed(text: &str) -> (bool, bool) {
        let mut framed = Framed::new((), false);
        // In pieces of any length it says the same.
        for step in [1, 7, text.len()] {
            framed = Framed::new((), false);
            text.as_bytes().chunks(step).for_each(|some| framed.see(some));
        }
        (framed.noticed.is_ambiguous(), framed.noticed.is_last())
    }

    #[test]
    fn two_lengths_are_noticed_in_either_order_and_in_any_request_of_a_connection() {
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
                assert_eq!(noticed(&text), expected, "{text}");
            }
        }
    }
}
