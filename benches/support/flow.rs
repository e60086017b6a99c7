//! Exports end to end, as processes: files to Heap, posted events to an endpoint, and Heap failing while the
//! program is killed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::events;
use crate::measure::{Cost, measure, report, rounds};

const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");

/// Concurrent connections.
const POSTERS: usize = 8;
const OPENS: &str = "cur/event_type=users.messages.email.Open/date=2026-01-01-00";

/// A sandbox process, killed on drop.
struct Sandbox(Child, String);

impl Sandbox {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(SYNCLINE);
        command.args(["sandbox", "--port", "0"]).args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().strip_prefix("sandbox on ").unwrap().to_owned())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.1.strip_prefix("http://").unwrap()).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config(home: &Path, heap: &Sandbox, source: &str, more: &str) {
    let text = format!(
        "version: 1
connections:
  heap:
    kind: heap
    endpoint: {}
    app_id: 11
    limits: {{ per_identity: off, per_app: off }}
    retry: {{ attempts: 20, first_wait: 5ms, longest_wait: 2s }}
exports:
  - id: e
    source: {source}
    to: heap
    pii: keep
{more}",
        heap.1
    );
    File::create(home.join("sync.yaml")).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Measures the export of a file to a Heap that accepts every event, without limits.
pub(crate) fn send(file: &Path, events: u64) -> Cost {
    let heap = Sandbox::start(&["--heap-accept-all", "--heap-limits", "off"]);
    let cost = rounds(|| {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(OPENS)).unwrap();
        fs::copy(file, home.path().join(OPENS).join("x.avro")).unwrap();
        config(home.path(), &heap, "{ kind: currents_storage, path: cur }", "");
        measure(home.path(), SYNCLINE, &["export"], "Exported: 1 export")
    });
    report("export to the sandbox", cost);
    println!("{:34} {:8.0} events a second", "", events as f64 / cost.wall);
    cost
}

/// A `watch` process, killed on drop.
struct Watch(Child, String);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(home: &Path) -> Watch {
    let mut command = Command::new(SYNCLINE);
    command.arg("watch").current_dir(home).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("endpoints on ").map(str::to_owned));
    std::thread::spawn(move || lines.for_each(drop));
    let address = address.unwrap();
    // Endpoints open once the process holds the state.
    while post(&mut BufReader::new(TcpStream::connect(&address).unwrap()), b"[]") != 200 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Watch(child, address)
}

/// Sends one request over a persistent connection. Returns its status.
fn post(stream: &mut BufReader<TcpStream>, body: &[u8]) -> u16 {
    let head = format!(
        "POST /currents/e HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
    let (mut status, mut length, mut line) = (0, 0, String::new());
    while stream.read_line(&mut line).unwrap() > 2 {
        if status == 0 {
            status = line.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    status
}

/// Posts bodies of 100 events to an endpoint concurrently. Measures accepted events per second and latency.
pub(crate) fn endpoint(events: u64) {
    let heap = Sandbox::start(&["--heap-accept-all", "--heap-limits", "off"]);
    let home = tempfile::tempdir().unwrap();
    config(
        home.path(),
        &heap,
        "{ kind: currents_http }",
        "watch: { listen: '127.0.0.1:0', admin: '127.0.0.1:0' }\n",
    );
    let watch = watch(home.path());
    let bodies = events::bodies(events, 100);
    let began = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let part = bodies.len().div_ceil(POSTERS);
        let posters: Vec<_> = bodies
            .chunks(part)
            .map(|bodies| {
                scope.spawn(|| {
                    let stream = TcpStream::connect(&watch.1).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut stream = BufReader::new(stream);
                    let post_one = |body: &Vec<u8>| {
                        let began = Instant::now();
                        assert_eq!(post(&mut stream, body), 200);
                        began.elapsed()
                    };
                    bodies.iter().map(post_one).collect::<Vec<_>>()
                })
            })
            .collect();
        posters.into_iter().flat_map(|poster| poster.join().unwrap()).collect()
    });
    let wall = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:34} {:8.0} events a second on disk before the response; p50 {:.1} ms, p99 {:.1} ms",
        "endpoint of watch, bodies of 100",
        events as f64 / wall,
        at(0.5),
        at(0.99)
    );
}

/// Exports shuffled events with duplicates to a Heap that fails one time in five, with twenty kills. Checks
/// that Heap has each event once.
pub(crate) fn faults(events: u64) {
    let heap = Sandbox::start(&["--heap-limits", "off"]);
    let home = tempfile::tempdir().unwrap();
    config(home.path(), &heap, "{ kind: currents_storage, path: cur }", "    anonymous: hash\n");
    let number = events.to_string();
    let make = [
        "sandbox",
        "currents",
        "--out",
        "cur",
        "--ids",
        "ids",
        "--events",
        &number,
        "--duplicates",
        "0.1",
        "--shuffle",
        "--redacted",
        "0",
        "--odd-times",
        "0",
        "--type",
        "users.messages.email.Open",
        "--type",
        "users.messages.email.Send",
        "--type",
        "users.behaviors.CustomEvent",
    ];
    let status = Command::new(SYNCLINE).args(make).current_dir(home.path()).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    heap.request("POST", "/_sandbox/faults", r#"[{"on":"track","times":0,"share":0.05,"do":{"status":503}},
        {"on":"track","times":0,"share":0.05,"do":{"status":429}},{"on":"track","times":0,"share":0.05,"do":"reset"},
        {"on":"track","times":0,"share":0.05,"do":"lose_answer"}]"#);
    let export = || {
        Command::new(SYNCLINE)
            .arg("export")
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut killed = 0;
    for round in 0..20 {
        let mut child = export();
        std::thread::sleep(Duration::from_millis(200 + round * 97 % 700));
        killed += u64::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(export().wait().unwrap().success());
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let (keys, ids) = (
        heap.request("GET", "/_sandbox/heap/events/keys", ""),
        fs::read_to_string(home.path().join("ids")).unwrap(),
    );
    assert!(lines(&keys) == lines(&ids), "{} of {}", lines(&keys).len(), lines(&ids).len());
    let count = heap.request("GET", "/_sandbox/heap/events/count", "");
    println!("{} events, killed {killed} times: each event is stored once; {count:.80}", lines(&ids).len());
}
