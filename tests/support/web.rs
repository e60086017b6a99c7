//! A web server for files, of which a test decides what goes wrong.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What goes wrong with the next request for bytes.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Only half of the bytes are sent.
    Cut,
    /// This status is all that is sent.
    Status(u16),
    /// Before it is answered, the file becomes this.
    Replace(Vec<u8>),
}

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// What stands before its tags; none: it sends no tags.
    pub(crate) tag: Option<&'static str>,
    pub(crate) modified: bool,
    /// Whether it knows HEAD.
    pub(crate) head: bool,
    pub(crate) ranges: bool,
    /// Whether it says how long a file is.
    pub(crate) length: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { tag: Some(""), modified: true, head: true, ranges: true, length: true }
    }
}

#[derive(Default)]
struct World {
    style: Style,
    /// Requests for bytes without a range.
    plain: u64,
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<Fault>,
    /// Ranges that were asked for.
    ranges: Vec<String>,
}

pub(crate) struct Web {
    pub(crate) url: String,
    world: Arc<Mutex<World>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::default()));
        let shared = Arc::clone(&world);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let world = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &world).is_some() {});
            }
        });
        Self { url, world }
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.world.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    /// Another kind of server from now on.
    pub(crate) fn style(&self, style: Style) {
        self.world.lock().unwrap().style = style;
    }

    /// How many requests for all bytes there were since this was last asked.
    pub(crate) fn plain(&self) -> u64 {
        std::mem::take(&mut self.world.lock().unwrap().plain)
    }

    /// What goes wrong with the requests for bytes that follow.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.world.lock().unwrap().faults = faults.iter().rev().cloned().collect();
    }

    /// Ranges that were asked for since this was last asked.
    pub(crate) fn ranges(&self) -> Vec<String> {
        std::mem::take(&mut self.world.lock().unwrap().ranges)
    }
}

/// Answers one request; none at the end of the connection.
fn answer(stream: &TcpStream, world: &Mutex<World>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let (method, path) = (line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.to_owned());
    let (mut range, mut wanted) = (None, None);
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
            wanted = Some(value.to_owned());
        }
    }
    let mut world = world.lock().unwrap();
    let fault = if method == "GET" { world.faults.pop() } else { None };
    if let Some(Fault::Replace(bytes)) = &fault {
        world.files.insert(path.clone(), bytes.clone());
    }
    let mut stream = stream;
    let Some(bytes) = world.files.get(&path).cloned() else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let style = world.style;
    let tag = format!("{}\"{:x}\"", style.tag.unwrap_or_default(), xxhash_rust::xxh3::xxh3_64(&bytes));
    let status = match fault {
        Some(Fault::Status(status)) => Some(status),
        _ if method == "HEAD" && !style.head => Some(405),
        // A weak tag never fulfils the condition.
        _ if wanted.is_some_and(|wanted| wanted != tag || style.tag != Some("")) => Some(412),
        _ => None,
    };
    if let Some(status) = status {
        return stream
            .write_all(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .ok();
    }
    let head = |status: &str, len: usize, more: &str| {
        let mut head = format!("HTTP/1.1 {status}\r\n{more}");
        if style.length {
            head.push_str(&format!("content-length: {len}\r\n"));
        } else {
            head.push_str("connection: close\r\n");
        }
        if style.tag.is_some() {
            head.push_str(&format!("etag: {tag}\r\n"));
        }
        if style.modified {
            head.push_str("last-modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n");
        }
        if style.ranges {
            head.push_str("accept-ranges: bytes\r\n");
        }
        head + "\r\n"
    };
    let Some(range) = range.filter(|_| method == "GET" && style.ranges) else {
        stream.write_all(head("200 OK", bytes.len(), "").as_bytes()).ok()?;
        if method == "GET" {
            world.plain += 1;
            let cut = matches!(fault, Some(Fault::Cut));
            stream.write_all(&bytes[..if cut { bytes.len() / 2 } else { bytes.len() }]).ok()?;
            if cut || !style.length {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return None;
            }
        } else if !style.length {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        return Some(());
    };
    world.ranges.push(range.clone());
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
