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

#[derive(Default)]
struct World {
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
    let tag = format!("\"{:x}\"", xxhash_rust::xxh3::xxh3_64(&bytes));
    let status = match fault {
        Some(Fault::Status(status)) => Some(status),
        _ if wanted.is_some_and(|wanted| wanted != tag) => Some(412),
        _ => None,
    };
    if let Some(status) = status {
        return stream
            .write_all(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .ok();
    }
    let head = |status: &str, len: usize, more: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {len}\r\netag: {tag}\r\n\
             last-modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n{more}\r\n"
        )
    };
    let Some(range) = range.filter(|_| method == "GET") else {
        return stream.write_all(head("200 OK", bytes.len(), "").as_bytes()).ok();
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
