//! Web server for source files, with faults and missing features as the test decides.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Fault of the next request for content.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Sends only half of the bytes.
    Cut,
    /// Sends only this status.
    Status(u16),
    /// Replaces the file before the response.
    Replace(Vec<u8>),
}

/// Features of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerFeatures {
    /// Prefix of etags; `None`: no etags.
    pub(crate) tag: Option<&'static str>,
    pub(crate) modified: bool,
    /// Whether it supports HEAD.
    pub(crate) head: bool,
    pub(crate) ranges: bool,
    /// Whether it sends the length of a file.
    pub(crate) length: bool,
}

impl Default for ServerFeatures {
    fn default() -> Self {
        Self { tag: Some(""), modified: true, head: true, ranges: true, length: true }
    }
}

#[derive(Default)]
struct ServerState {
    features: ServerFeatures,
    /// Requests for content without a range.
    plain_requests: u64,
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<Fault>,
    /// Requested ranges.
    ranges: Vec<String>,
}

pub(crate) struct Web {
    pub(crate) url: String,
    state: Arc<Mutex<ServerState>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let state = Arc::new(Mutex::new(ServerState::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        Self { url, state }
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    /// Changes the features of the server.
    pub(crate) fn set_features(&self, features: ServerFeatures) {
        self.state.lock().unwrap().features = features;
    }

    /// Requests for whole files since the last call.
    pub(crate) fn plain_requests(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap().plain_requests)
    }

    /// Faults of the next requests for content.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults = faults.iter().rev().cloned().collect();
    }

    /// Requested ranges since the last call.
    pub(crate) fn ranges(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().ranges)
    }
}

/// Handles one request; `None` at the end of the connection.
fn answer(stream: &TcpStream, state: &Mutex<ServerState>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let (method, path) = (line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.to_owned());
    let (mut range, mut if_match) = (None, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("range: bytes=") {
            range = Some(value.to_owned());
        }
        if let Some(value) = header.strip_prefix("if-match: ") {
            if_match = Some(value.to_owned());
        }
    }
    let mut state = state.lock().unwrap();
    let fault = if method == "GET" { state.faults.pop() } else { None };
    if let Some(Fault::Replace(bytes)) = &fault {
        state.files.insert(path.clone(), bytes.clone());
    }
    let mut stream = stream;
    let Some(bytes) = state.files.get(&path).cloned() else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let features = state.features;
    let tag = format!("{}\"{:x}\"", features.tag.unwrap_or_default(), xxhash_rust::xxh3::xxh3_64(&bytes));
    let status = match fault {
        Some(Fault::Status(status)) => Some(status),
        _ if method == "HEAD" && !features.head => Some(405),
        // A weak etag never matches `If-Match`.
        _ if if_match.is_some_and(|if_match| if_match != tag || features.tag != Some("")) => Some(412),
        _ => None,
    };
    if let Some(status) = status {
        return stream
            .write_all(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .ok();
    }
    let head = |status: &str, len: usize, more: &str| {
        let mut head = format!("HTTP/1.1 {status}\r\n{more}");
        if features.length {
            head.push_str(&format!("content-length: {len}\r\n"));
        } else {
            head.push_str("connection: close\r\n");
        }
        if features.tag.is_some() {
            head.push_str(&format!("etag: {tag}\r\n"));
        }
        if features.modified {
            head.push_str("last-modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n");
        }
        if features.ranges {
            head.push_str("accept-ranges: bytes\r\n");
        }
        head + "\r\n"
    };
    let Some(range) = range.filter(|_| method == "GET" && features.ranges) else {
        stream.write_all(head("200 OK", bytes.len(), "").as_bytes()).ok()?;
        if method == "GET" {
            state.plain_requests += 1;
            let cut = matches!(fault, Some(Fault::Cut));
            stream.write_all(&bytes[..if cut { bytes.len() / 2 } else { bytes.len() }]).ok()?;
            if cut || !features.length {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return None;
            }
        } else if !features.length {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        return Some(());
    };
    state.ranges.push(range.clone());
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let part = &bytes[first..bytes.len().min(last + 1)];
    let more = format!("content-range: bytes {first}-{}/{}\r\n", first + part.len() - 1, bytes.len());
    stream.write_all(head("206 Partial Content", part.len(), &more).as_bytes()).ok()?;
    if matches!(fault, Some(Fault::Cut)) {
        let _ = stream.write_all(&part[..part.len() / 2]);
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return None;
    }
    stream.write_all(part).ok()
}
