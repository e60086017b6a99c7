//! HTTP listener for notifications: stores every post.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

type Posts = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct Listener {
    url: String,
    posts: Posts,
}

impl Listener {
    pub(crate) fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A listener at this address.
    pub(crate) fn at(address: std::net::SocketAddr) -> Self {
        Self::on(TcpListener::bind(address).unwrap())
    }

    fn on(socket: TcpListener) -> Self {
        let url = format!("http://{}", socket.local_addr().unwrap());
        let posts = Posts::default();
        let stored = Arc::clone(&posts);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut first, mut len) = (String::new(), 0);
                reader.read_line(&mut first).unwrap();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        len = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; len];
                reader.read_exact(&mut body).unwrap();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                stored.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                let mut stream = stream;
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, posts }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Path and body of each post so far.
    pub(crate) fn posts(&self) -> Vec<(String, Value)> {
        self.posts.lock().unwrap().clone()
    }
}
