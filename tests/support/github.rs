//! GitHub's API for comments of issues: the requests that the action sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Author of the comments that a request creates.
pub(crate) const BOT: &str = "github-actions[bot]";

#[derive(Default)]
struct GitHubState {
    comments: Vec<GitHubComment>,
    requests: Vec<String>,
    /// Status of all responses instead.
    status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GitHubComment {
    pub(crate) id: u64,
    pub(crate) author: String,
    pub(crate) body: String,
}

/// The server, for the repository `acme/cohorts` and its pull request 7.
pub(crate) struct GitHub {
    pub(crate) url: String,
    state: Arc<Mutex<GitHubState>>,
}

impl GitHub {
    pub(crate) fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let state = Arc::new(Mutex::new(GitHubState::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                answer(&stream, &mut shared.lock().unwrap());
            }
        });
        Self { url, state }
    }

    /// A comment that exists before the action runs.
    pub(crate) fn comment(&self, author: &str, body: &str) {
        self.state.lock().unwrap().add(author, body);
    }

    /// All comments of this author.
    pub(crate) fn comments_of(&self, author: &str) -> Vec<GitHubComment> {
        let state = self.state.lock().unwrap();
        state.comments.iter().filter(|comment| comment.author == author).cloned().collect()
    }

    /// Methods and paths since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub(crate) fn answer_with(&self, status: u16) {
        self.state.lock().unwrap().status = Some(status);
    }
}

impl GitHubState {
    fn add(&mut self, author: &str, body: &str) -> Value {
        let id = 1000 + self.comments.len() as u64;
        self.comments.push(GitHubComment { id, author: author.to_owned(), body: body.to_owned() });
        json!({ "id": id })
    }

    fn respond(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        const COMMENTS: &str = "/repos/acme/cohorts/issues/7/comments";
        if let Some(status) = self.status {
            return (status, json!({ "message": "Resource not accessible by integration" }));
        }
        let text = || serde_json::from_str::<Value>(body).unwrap()["body"].as_str().unwrap().to_owned();
        // GitHub rejects longer comments.
        let is_too_long = !body.is_empty() && text().chars().count() > 65_536;
        let id =
            path.strip_prefix("/repos/acme/cohorts/issues/comments/").map(|id| id.parse::<u64>().unwrap());
        match (method, id) {
            _ if is_too_long => (422, json!({ "message": "body is too long" })),
            ("GET", None) => {
                let page = path.strip_prefix(&format!("{COMMENTS}?per_page=100&page=")).unwrap();
                let skipped = 100 * (page.parse::<usize>().unwrap() - 1);
                let shown = self.comments.iter().skip(skipped).take(100);
                let one =
                    |c: &GitHubComment| json!({ "id": c.id, "body": c.body, "user": { "login": c.author } });
                (200, shown.map(one).collect())
            }
            ("POST", None) if path == COMMENTS => (201, self.add(BOT, &text())),
            ("PATCH", Some(id)) => {
                self.comments.iter_mut().find(|comment| comment.id == id).unwrap().body = text();
                (200, json!({}))
            }
            ("DELETE", Some(id)) => {
                self.comments.retain(|comment| comment.id != id);
                (204, Value::Null)
            }
            _ => (404, json!({ "message": "Not Found" })),
        }
    }
}

/// Handles one request. Each connection has one.
fn answer(mut stream: &TcpStream, state: &mut GitHubState) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length, mut is_authorized) = (String::new(), 0, false);
    reader.read_line(&mut head).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => is_authorized = value == "Bearer test-token",
            "expect" => stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    state.requests.push(format!("{method} {path}"));
    let (status, value) = match is_authorized {
        true => state.respond(method, path, std::str::from_utf8(&body).unwrap()),
        false => (401, json!({ "message": "Bad credentials" })),
    };
    let text = if status == 204 { String::new() } else { value.to_string() };
    let length = text.len();
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}");
}
